"""What a scale (workflow/config/*.yaml) may say; `dtr.planning` resolves it for each run.

This module must stay free of torch: Snakemake reads it in every job.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dtr.config.references import ReferenceSettings
from dtr.config.stages import DiffusionSettings, OptimisationSettings
from dtr.experiments import FIGURES, SLOTS, TABLES, Run
from dtr.registry import settings_of
from dtr.routing import Beta
from dtr.support.settings import Count, Name, Positive, Settings


class SlotSettings(Settings):
    """What fills the place of one of the paper's datasets."""

    dataset: Name
    extractor: Name
    reference: Name | None = None  # None: the features of all training images
    autoencoder: Name | None = None  # None: the model works on pixels
    text_encoder: Name | None = None  # of the slot that is told captions
    num_classes: Count = 1
    steps: Count  # stands for the paper's iterations of this slot
    batch_size: Count | None = None  # None: that of `training`


class RoutingDefaults(Settings):
    """Constants that a scale gives to every routing that has them and whose run is silent."""

    beta: Beta
    variant: Literal["code", "eq4"] = "code"
    seed: int | None = None  # of random masks; None: that of the training
    period: Count | None = None  # steps; None: so that roaming lasts the whole run


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
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the network's products in sampling

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


Gpu = Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(GPU|MIG)-[\w/-]+$")]
Stored = Literal["float32", "float16"]


class CacheSettings(Settings):
    """How what is computed once for all runs is stored; float16 takes half the disk."""

    latents: Stored = "float32"
    tokens: Stored = "float32"  # encoded captions


class ExecutionSettings(Settings):
    """Where and in what portions the work is done; results depend on it by rounding at most."""

    device: Literal["cpu", "cuda"]
    # GPUs of one machine that jobs share out, as CUDA_VISIBLE_DEVICES names them: numbers or UUIDs.
    # None: all there are. The variable itself goes first, where it is set.
    devices: Annotated[list[Gpu], Field(min_length=1)] | None = None
    processes: Count = 1  # of one training on one machine, by torchrun; each takes a device
    nodes: Count = 1  # machines of one training, with so many processes each; under SLURM
    accumulation: Count = 1  # portions of a batch, one after the other, where memory is short
    # Images that an autoencoder encodes or decodes at once; None: 500 of 32 x 32 pixels, 7 of 256.
    autoencoder_batch: Count | None = None
    # Images of each sample file that stay once its features are taken; None: all of them.
    keep_samples: Count | None = None
    throughput_threads: Count  # CPU threads of the jobs that measure speed
    checkpoint_seconds: Count  # of work that a kill may cost
    runtime_minutes: Count  # of one training job; longer runs go on in the next
    # Where the noise of trainings and samples is drawn; auto: on the device, of a CPU on the host.
    rng: Literal["auto", "host", "device"] = "auto"
    # Of a network in training, one by one; reduce-overhead: as CUDA graphs, for small networks.
    compile: Literal["nothing", "blocks", "blocks-reduce-overhead"] = "nothing"
    recompute: Literal["nothing", "blocks"] = "nothing"  # activations, where memory is short
    # ordered: a GPU repeats a training bit for bit, slower; a CPU does anyway.
    attention: Literal["fast", "ordered"] = "fast"
    # Of images inside networks of convolutions (ADM) in training; weights are stored as ever.
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"

    @model_validator(mode="after")
    def _graphs_of_whole_batches(self) -> Self:
        given = {"device": self.device, "recompute": self.recompute}
        given["accumulation"] = self.accumulation
        needed = {"device": "cuda", "recompute": "nothing", "accumulation": 1}
        for name, value in given.items():
            if self.compile == "blocks-reduce-overhead" and value != needed[name]:
                raise ValueError(f"compile {self.compile} needs {name} {needed[name]}, not {value}")
        return self

    @model_validator(mode="after")
    def _enough_devices(self) -> Self:
        if self.devices is None:
            return self
        if self.device != "cuda":
            raise ValueError(f"devices {self.devices} are of no use with device {self.device}")
        if self.nodes > 1:
            raise ValueError(f"devices {self.devices} are of one machine, with nodes {self.nodes}")
        if len(self.devices) < self.processes:
            raise ValueError(f"processes {self.processes} exceeds the devices {self.devices}")
        return self


class Scale(Settings):
    """One size of the whole benchmark; deviations from the paper's protocol are part of it."""

    scale: Name
    rehearsal: bool = False  # its numbers mean nothing: every heading of its page says so
    results: str
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    targets: list[Literal[TABLES + FIGURES]]
    extra_runs: list[Run] = Field(default_factory=list)
    datasets: dict[Name, settings_of("source")]
    autoencoders: dict[Name, settings_of("autoencoder")]
    extractors: dict[Name, settings_of("extractor")]
    text_encoders: dict[Name, settings_of("text_encoder")] = Field(default_factory=dict)
    references: dict[Name, ReferenceSettings] = Field(default_factory=dict)
    slots: dict[Literal[tuple(SLOTS)], SlotSettings]
    backbones: dict[str, settings_of("backbone")]
    routing: RoutingDefaults
    weighting: dict[str, dict[str, Any]] = Field(default_factory=dict)  # constants, by weighting
    diffusion: DiffusionSettings
    training: OptimisationSettings
    evaluation: EvaluationSettings
    analysis: AnalysisSettings
    cache: CacheSettings = Field(default_factory=CacheSettings)
    execution: ExecutionSettings
    untestable: dict[Name, str] = Field(default_factory=dict)  # claims that its budget would decide
    deviations: list[str]  # $names of `stated_facts` are filled in


def stated_facts(scale: Scale) -> dict[str, Any]:
    """What the text of a deviation may name, as planned; the page prefers what was recorded."""
    return {
        "cka_images": scale.analysis.cka_images,
        "throughput_batch_size": scale.analysis.throughput_batch_size,
        "throughput_device": scale.execution.device,
        "throughput_threads": scale.execution.throughput_threads,
    }
