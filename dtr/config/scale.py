"""What a scale (workflow/config/*.yaml) may say; `dtr.planning.runs` resolves it for each run.

This module must stay free of torch: Snakemake reads it in every job.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from dtr.config.backbones import AdmSize, DiTSize, TextDiTSize
from dtr.config.checks import problems
from dtr.config.stages import (
    AutoencoderSettings,
    DatasetSettings,
    DiffusionSettings,
    ExtractorSettings,
    TextEncoderSettings,
    TrainingSettings,
)
from dtr.experiments import BACKBONES, FIGURES, SLOTS, TABLES, FractionOfChannels, Run
from dtr.support.errors import Refusal
from dtr.support.settings import Count, Name, Positive, Settings, parse


class SlotSettings(Settings):
    """What fills the place of one of the paper's datasets."""

    dataset: Name
    extractor: Name
    autoencoder: Name | None = None  # None: the model works on pixels
    text_encoder: Name | None = None  # of the slot that is told captions
    num_classes: Count = 1
    steps: Count  # stands for the paper's iterations of this slot
    batch_size: Count | None = None  # None: that of `training`


def _family(size: Any) -> str:
    """Which kind of network a size is meant for, told by its keys."""
    keys = size if isinstance(size, dict) else type(size).model_fields
    return "adm" if "model_channels" in keys else "dit_text" if "adaln_chunks" in keys else "dit"


BackboneSize = Annotated[
    Annotated[DiTSize, Tag("dit")]
    | Annotated[TextDiTSize, Tag("dit_text")]
    | Annotated[AdmSize, Tag("adm")],
    Discriminator(_family),
]


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


ShareDone = Annotated[float, Field(gt=0, le=1)]


class EvaluationSettings(Settings):
    """How samples are drawn and measured; becomes one `Protocol` per run."""

    n_samples: Count
    n_samples_reduced: Count  # of Table 2's FFHQ half and Fig. 5: 10,000 of 50,000 in the paper
    guidance: Positive
    guidance_sweep: Annotated[list[Positive], Field(min_length=1)]  # Fig. 3
    # Fig. 5: shares of a training at which it is measured.
    convergence: Annotated[list[ShareDone], Field(min_length=1)]
    guidance_channels: Literal["all", "first3"]
    sampling_steps: Annotated[int, Field(gt=1, le=1000)]
    x0_clamp: Positive | None
    labels: Literal["random", "balanced"]
    seed: int
    neighbours: Count
    kid_subset: Count
    inception_split: Count
    bootstrap: Count
    batch_size: Count  # images sampled at once; changes them by rounding only
    shard_size: Count  # images per sample file; changes them by rounding only

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        fewest = min(self.n_samples, self.n_samples_reduced)
        if self.kid_subset > fewest:
            raise ValueError(f"kid_subset {self.kid_subset} exceeds n_samples {fewest}")
        return self


class AnalysisSettings(Settings):
    """Fig. 6 (CKA between timesteps) and Table 7 (training speed)."""

    cka_images: Count
    cka_batch_size: Annotated[int, Field(ge=4)]  # the unbiased estimator divides by n - 3
    throughput_batch_size: Count  # of one process; 256 over 8 GPUs in the paper
    throughput_pairs: Annotated[int, Field(ge=2)]  # steps with DTR, each beside one without
    throughput_seconds: Annotated[float, Field(ge=0)] = 0.0  # pairs are added until they took it

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.cka_images % self.cka_batch_size:
            raise ValueError(
                f"cka_images {self.cka_images} must be a multiple of cka_batch_size "
                f"{self.cka_batch_size}"
            )
        return self


class ExecutionSettings(Settings):
    """Where and in what portions the work is done; results depend on it by rounding at most."""

    device: Literal["cpu", "cuda"]
    accumulation: Count = 1  # portions of a batch, one after the other, where memory is short
    throughput_threads: Count  # CPU threads of the jobs that measure speed
    checkpoint_seconds: Count  # of work that a kill may cost
    runtime_minutes: Count  # of one training job; longer runs go on in the next


class Scale(Settings):
    """One size of the whole benchmark; deviations from the paper's protocol are part of it."""

    scale: Name
    results: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    targets: list[Literal[TABLES + FIGURES]]
    extra_runs: list[Run] = Field(default_factory=list)
    datasets: dict[Name, DatasetSettings]
    autoencoders: dict[Name, AutoencoderSettings]
    extractors: dict[Name, ExtractorSettings]
    text_encoders: dict[Name, TextEncoderSettings] = Field(default_factory=dict)
    slots: dict[Literal[tuple(SLOTS)], SlotSettings]
    backbones: dict[Literal[tuple(BACKBONES)], BackboneSize]
    routing: RoutingDefaults
    weighting: WeightingDefaults = WeightingDefaults()
    diffusion: DiffusionSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    analysis: AnalysisSettings
    execution: ExecutionSettings
    deviations: list[str]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for problem in problems(self):
            raise ValueError(problem)
        return self


def load_scale(value: Mapping[str, Any], *, source: str) -> Scale:
    """Check the content of a scale file and the folder it wants to write to."""
    scale = parse(Scale, dict(value), source=source)
    folder = Path(scale.results).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise Refusal(f"{source}: results = {scale.results!r}: {existing} cannot be written to")
    return scale
