"""Networks that others have trained: what each is, where it comes from, what its files are called.

Nothing here is downloaded or read; `dtr.assets.pretrained` does that. Free of torch.
"""

from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from dtr.config.stages import TextEncoderSettings
from dtr.support.settings import Count, PartSettings, Positive, Settings, Sha256


class Origin(NamedTuple):
    """Where a network of others comes from."""

    what: str
    licence: str
    files: tuple[str, ...]  # all of them are needed
    repository: str | None = None  # of Hugging Face
    urls: dict[str, str] = {}  # noqa: RUF012 - of files that are in no such repository
    prefixes: dict[str, str] = {}  # noqa: RUF012 - how the SHA-256 of a file is known to begin

    @property
    def source(self) -> str:
        """The place as a person would look it up."""
        if self.repository is not None:
            return f"huggingface.co/{self.repository}"
        return ", ".join(self.urls.values())


class PretrainedSettings(Settings):
    """What is said of every network of others, beside its shape."""

    origin: ClassVar[Origin]

    path: str  # folder of its files; what is missing there is downloaded if that is allowed
    download: bool = False
    sha256: dict[str, Sha256] = Field(default_factory=dict)  # expected, by file name
    rehearsal: bool = False  # files of noise: the hash that a name promises is not theirs
    network: dict[str, Any] | None = None  # its own configuration, known once it was read


class SdVaeSettings(PretrainedSettings, PartSettings):
    """The autoencoder `sd_vae`: Stable Diffusion's, with the decoder fine-tuned on an EMA."""

    origin: ClassVar = Origin(
        "Stable Diffusion's autoencoder sd-vae-ft-ema",
        "MIT",
        ("config.json", "diffusion_pytorch_model.safetensors"),
        repository="stabilityai/sd-vae-ft-ema",
    )

    type: Literal["sd_vae"]
    path: str = "results/assets/sd-vae-ft-ema"
    latent_channels: Count = 4
    downsampling: Count = 8
    scale_factor: Positive = 0.18215


class ClipSettings(PretrainedSettings, TextEncoderSettings):
    """The text encoder `clip`: CLIP ViT-L/14's, all tokens after the final norm."""

    origin: ClassVar = Origin(
        "the text encoder of CLIP ViT-L/14",
        "MIT",
        ("config.json", "model.safetensors", "vocab.json", "merges.txt"),
        repository="openai/clip-vit-large-patch14",
    )

    type: Literal["clip"]
    path: str = "results/assets/clip-vit-large-patch14"
    tokens: Count = 77
    width: Count = 768
    folder: str | None = None  # of the fetched network; the workflow says it


CLEAN_FID = "inception-2015-12-05.pt"  # as clean-fid calls its file


class InceptionSettings(PretrainedSettings, PartSettings):
    """The extractor `inception`: the Inception v3 of 2015 that FID is defined by.

    batch: images at once.  dims: which layer's features, as pytorch-fid's --dims; FID is that of
    2048, and only there are sFID's.
    resize: to 299 pixels as the evaluators of ADM and torch-fidelity do, as pytorch-fid does, or as
    clean-fid does.
    """

    origin: ClassVar = Origin(
        "torch-fidelity's port of the Inception network of 2015-12-05",
        "Apache-2.0",
        ("weights-inception-2015-12-05-6726825d.pth",),
        urls={
            "weights-inception-2015-12-05-6726825d.pth": "https://github.com/toshas/torch-fidelity/"
            "releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
        },
        prefixes={"weights-inception-2015-12-05-6726825d.pth": "6726825d"},
    )

    type: Literal["inception"]
    path: str = "results/assets/inception"
    resize: Literal["tensorflow", "pytorch", "clean"] = "tensorflow"
    batch: Count = 50
    dims: Literal[64, 192, 768, 2048] = 2048

    @property
    def features(self) -> int:
        """Numbers that are kept of an image: FID's, and where there are any, sFID's."""
        return self.dims + (17 * 17 * 7 if self.dims == 2048 else 0)


class InceptionCleanSettings(InceptionSettings):
    """The extractor `inception_clean`: `inception`, and clean-fid's own network beside it.

    Its features make a second column, `fid-clean-own`; the others are those of `inception`.
    """

    origin: ClassVar = Origin(
        "the Inception network of 2015-12-05 as torch-fidelity and as clean-fid have it",
        "Apache-2.0; the TorchScript of NVIDIA, which clean-fid uses, states none of its own",
        (*InceptionSettings.origin.files, CLEAN_FID),
        urls=InceptionSettings.origin.urls
        | {
            CLEAN_FID: "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
            "inception-2015-12-05.pt"
        },
        # NVIDIA publishes none; k-diffusion, among others, expects this one.
        prefixes=InceptionSettings.origin.prefixes
        | {CLEAN_FID: "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"},
    )

    type: Literal["inception_clean"]
    dims: Literal[2048] = 2048

    @property
    def features(self) -> int:
        """Numbers that are kept of an image."""
        return super().features + self.dims


def is_pretrained(settings: Any) -> bool:
    """Whether a part is fetched instead of trained."""
    return isinstance(settings, PretrainedSettings)
