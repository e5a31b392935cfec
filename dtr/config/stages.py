"""What each stage is told, as JSON: it receives exactly what its result depends on.

This module must stay free of torch: Snakemake reads it in every job.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dtr.config.backbones import Inputs
from dtr.config.references import Reference
from dtr.registry import part_source, settings_of
from dtr.support.errors import Refusal
from dtr.support.files import hash_json
from dtr.support.settings import Count, Name, PartSettings, Positive, Settings, Share

# Bumped by hand when the mathematics of a stage or one of its defaults change, so that results of
# the old code are redone.
REVISIONS = {
    "data": 1,
    "autoencoder": 1,
    "extractor": 1,
    "fetch": 1,
    "latents": 1,
    "train": 2,  # dropout does not depend on the number of processes
    "sample": 2,  # each training seed has noise of its own
    "metrics": 1,
    "throughput": 1,
}


class SourceSettings(PartSettings):
    """What every source of images says."""

    captions_per_image: ClassVar[int] = 0

    resolution: Count
    mirror: bool  # whether a mirrored image is still a valid one (not so for digits)
    # Images kept out of training, of digits the same number of each class.
    num_test: Annotated[int, Field(ge=0)]

    @property
    def expected_images(self) -> int | None:
        """Images in all, None where only preparing them tells."""
        return getattr(self, "count", None)


class TextEncoderSettings(PartSettings):
    """What every frozen text encoder says: the shape of an encoded caption."""

    tokens: Count
    width: Count


class WordsSettings(TextEncoderSettings):
    """The encoder `words` knows the words of the scenes' captions."""

    type: Literal["words"]
    seed: int


class FittedSettings(PartSettings):
    """A network that the workflow trains itself, on the training split of a dataset."""

    dataset: Name
    steps: Count
    batch_size: Count
    learning_rate: Positive  # the peak of a one-cycle schedule
    seed: int


class LatentsSettings(FittedSettings):
    """What every autoencoder says: the shape of its latents, and its loss."""

    latent_channels: Count
    kl_weight: Positive
    scale_factor: Positive | None = None  # None: measured as 1 / std of the training latents

    @property
    def downsampling(self) -> int:
        """Image pixels per latent pixel, on one side."""
        raise Refusal(f"autoencoder {self.type!r}: its settings have no `downsampling`")


class AutoencoderSettings(LatentsSettings):
    """The image <-> latent autoencoder `train`: a small diffusers AutoencoderKL."""

    type: Literal["train"]
    patch_size: Count  # image pixels folded into the channels of one network pixel, per side
    channels: Annotated[list[Count], Field(min_length=1)]  # one per resolution, halved in between
    layers_per_block: Count
    norm_groups: Count

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        for width in self.channels:
            if width % self.norm_groups:
                raise ValueError(f"channels {width} must be divisible by norm_groups")
        return self

    @property
    def downsampling(self) -> int:
        """Image pixels per latent pixel, on one side."""
        return self.patch_size * 2 ** (len(self.channels) - 1)


class ExtractorSettings(FittedSettings):
    """The classifier `digits_cnn`, whose features the metrics compare."""

    type: Literal["digits_cnn"]
    width: Count
    features: Count


class DiffusionSettings(Settings):
    """The forward process (paper: cosine, 1000 timesteps)."""

    schedule: Literal["cosine", "linear"] = "cosine"
    num_timesteps: Literal[1000] = 1000


class OptimisationSettings(Settings):
    """AdamW at a constant rate after a linear warm-up, EMA of all parameters."""

    batch_size: Count
    learning_rate: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    adam_betas: tuple[Share, Share]
    ema_decay: Share
    label_dropout: Share
    # Of the network's products; float16, the authors' own, with a loss scale that adapts itself.
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


class RunSettings(Settings):
    """What the result of one training depends on, apart from its data."""

    seed: int
    backbone: settings_of("backbone")
    inputs: Inputs
    routing: settings_of("routing")
    weighting: settings_of("weighting")
    timesteps: tuple[int, int]
    diffusion: DiffusionSettings
    training: OptimisationSettings

    def fingerprint(self, dataset_hash: str, parts: dict[str, str]) -> str:
        """SHA-256 that keys the checkpoints: settings, data, the code's revision and its parts.

        dataset_hash: of the content of the training data.  parts: what identifies parts whose
        settings do not say everything, by family: masks by their hash, parts from outside.
        """
        return hash_json([self.essence(), dataset_hash, REVISIONS["train"], parts])


def outside_sources(settings: RunSettings) -> dict[str, str]:
    """SHA-256 of the files of the run's parts from outside, by family: an edit is noticed."""
    families = ("backbone", "routing", "weighting")
    found = {name: part_source(name, getattr(settings, name).type) for name in families}
    return {name: source for name, source in found.items() if source is not None}


class Protocol(Settings):
    """Everything that makes two measured numbers comparable; its hash is in every path."""

    dataset: Name
    autoencoder: Name | None = None
    text_encoder: Name | None = None
    extractor: Name
    n_samples: Count
    guidance: Positive | None = None
    guidance_channels: Literal["all", "first3"]
    sampler: Literal["ddpm"] = "ddpm"
    sampling_steps: Count
    x0_clamp: Positive | None = None
    labels: Literal["random", "balanced"]
    seed: int
    neighbours: Count
    kid_subset: Count
    inception_split: Count
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the network's products in sampling
    # Not written where the training images alone are the reference, as they were before.
    reference: Reference | None = Field(default=None, exclude_if=lambda value: value is None)

    @property
    def id(self) -> str:
        """Readable and unique, e.g. `n2000-cfg1.5-1f0c9a2b`."""
        guidance = "uncond" if self.guidance is None else f"cfg{self.guidance:g}"
        return f"n{self.n_samples}-{guidance}-{hash_json(self.essence())[:8]}"
