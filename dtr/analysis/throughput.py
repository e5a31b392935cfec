"""What routing costs per training step: steps with DTR and without, in turn, in one process.

One model serves both: its masks are taken out and put back between steps, so that parameters,
gradients, optimiser state and EMA exist once (9.2 GB for DiT-L/2), in the same memory for both.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from dtr.analysis.complexity import IN_CHANNELS, PATCH, PRESETS, TOKENS, parameter_count
from dtr.config.backbones import DiTSize, Inputs
from dtr.config.stages import DiffusionSettings, OptimisationSettings, RunSettings
from dtr.data.rows import EVERY, TrainingData
from dtr.records.provenance import provenance
from dtr.records.schema import Speed, ThroughputRecord, write_record
from dtr.routing import Windows
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.progress import Progress
from dtr.training.distributed import World
from dtr.training.means import MEANS, Means
from dtr.training.trainer import Trainer
from dtr.weighting import Unweighted

CLASSES = 1000
RESAMPLES = 2000
# Weights, gradient, two moments and EMA in float32, and a tenth for the rest.
BYTES_PER_PARAMETER = 22
SMALLEST_PAIRS = 2  # one pair has no interval


@dataclass(frozen=True, kw_only=True)
class NoiseLatents(TrainingData):
    """Latents of the right shape; their content does not change how long a step takes."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.manifest["shape"])

    def sample(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        return draws.standard_normal((len(rows), *self.shape), dtype=np.float32)[part]


def noise_trainer(
    settings: RunSettings,
    device: str = "cpu",
    means: Means = MEANS,
    *,
    world: World | None = None,
) -> Trainer:
    """A run of `settings` on noise, at its start; its routing may be any but "none".

    world: the processes that it is cut over, on their own devices; None: this one, on `device`.
    """
    inputs, count = settings.inputs, max(1024, settings.training.batch_size)
    text = {}
    if inputs.text_tokens is not None:
        shape = (count + 1, inputs.text_tokens, inputs.text_width)
        tokens = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        text = {"tokens": tokens, "first": np.arange(count + 1)}
    data = NoiseLatents(
        manifest={"shape": list(inputs.shape), "content_hash": "noise"},
        labels=np.arange(count) % inputs.num_classes,
        **text,
    )
    trainer = Trainer(settings, data, world or World(device=device), means=means)
    trainer.model.train()
    return trainer


def interleaved_seconds(
    trainer: Trainer, *, pairs: int, steps: int = 1, warmup: int = 1, at_least: float = 0.0
) -> np.ndarray:
    """Seconds per step with routing and without: [pairs or more, 2] float64.

    A pair is a block of `steps` steps of each; which comes first alternates. `warmup` blocks of
    each are not counted. Pairs are added until they have taken `at_least` seconds.
    """
    if pairs < SMALLEST_PAIRS:
        raise Refusal(f"pairs = {pairs}: at least {SMALLEST_PAIRS} are needed for an interval")
    masks = trainer.model.routing
    blocks: list[tuple[float, float]] = []
    spent = 0.0
    try:
        with Progress("throughput: pairs", warmup + pairs) as progress:
            while len(blocks) < warmup + pairs or spent < at_least:
                taken = [0.0, 0.0]
                for column in (0, 1) if len(blocks) % 2 else (1, 0):
                    trainer.model.routing = (masks, None)[column]
                    taken[column] = _block_seconds(trainer, steps)
                spent += sum(taken) if len(blocks) >= warmup else 0.0
                blocks.append((taken[0] / steps, taken[1] / steps))
                rest = math.ceil((at_least - spent) / sum(taken)) if spent < at_least else 0
                progress.expect(max(warmup + pairs, len(blocks) + rest))
                progress.advance()
    finally:
        trainer.model.routing = masks
    return np.array(blocks[warmup:])


def _block_seconds(trainer: Trainer, steps: int) -> float:
    begun = _now(trainer.world.device)
    for _ in range(steps):
        trainer.train_step()
    return _now(trainer.world.device) - begun


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def summarise(seconds: np.ndarray, *, seed: int = 0) -> Speed:
    """Medians of [pairs, 2] seconds per step, and the ratio's 95 % bootstrap interval over pairs.

    The ratio is the median over pairs of the time with routing divided by that without.
    """
    routed, plain = np.median(seconds, axis=0).tolist()
    ratios = seconds[:, 0] / seconds[:, 1]
    drawn = generator(seed, "throughput").integers(len(ratios), size=(RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [2.5, 97.5]).tolist()
    return Speed(
        seconds_per_step={"dtr": routed, "none": plain},
        iterations_per_second={"dtr": 1 / routed, "none": 1 / plain},
        ratio=float(np.median(ratios)),
        low=low,
        high=high,
    )


def paper_settings(backbone: str, batch_size: int) -> RunSettings:
    """Class-conditional training of one of the paper's DiT sizes with DTR, as on ImageNet."""
    if backbone not in PRESETS:
        raise Refusal(f"backbone {backbone!r}: unknown; known: {', '.join(PRESETS)}")
    if batch_size < 1:
        raise Refusal(f"batch_size = {batch_size}: at least 1")
    size = PRESETS[backbone]
    return RunSettings(
        seed=0,
        backbone=DiTSize(
            type="dit", patch_size=PATCH, width=size.width, depth=size.depth, heads=size.heads
        ),
        inputs=Inputs(
            input_size=PATCH * round(TOKENS**0.5),
            in_channels=IN_CHANNELS,
            num_classes=CLASSES,
            label_dropout=0.1,
        ),
        routing=Windows(type="dtr", beta=0.8, alpha=4.0),
        weighting=Unweighted(type="vanilla"),
        timesteps=(0, 1000),
        diffusion=DiffusionSettings(),
        training=OptimisationSettings(
            batch_size=batch_size,
            learning_rate=1e-4,
            warmup_steps=0,
            weight_decay=0.0,
            adam_betas=(0.9, 0.999),
            ema_decay=0.9999,
            label_dropout=0.1,
        ),
    )


def measure_throughput(
    backbone: str,
    out: Path,
    *,
    batch_size: int,
    pairs: int,
    seconds: float = 0.0,
    device: str = "cpu",
) -> str | None:
    """Write the training speed of one of the paper's DiT sizes with and without DTR as JSON.

    batch_size: of one process; the paper's is 256 over 8 GPUs (Table 7). Threads are torch's.
    pairs: of steps at least, and more until `seconds` are spent on them.
    Without enough memory the record has status "failed" and the reason, which is returned.
    """
    started = time.perf_counter()
    settings = paper_settings(backbone, batch_size)
    reason = _too_little_memory(backbone, device)
    speed = None
    if reason is None:
        trainer = noise_trainer(settings, device)
        taken = interleaved_seconds(trainer, pairs=pairs, at_least=seconds)
        pairs, speed = len(taken), summarise(taken)
    record = ThroughputRecord(
        backbone=backbone,
        status="ok" if reason is None else "failed",
        reason=reason,
        batch_size=batch_size,
        precision=settings.training.precision,
        threads=torch.get_num_threads(),
        device=device,
        pairs=pairs,
        speed=speed,
        settings=settings.plain(),
        provenance=provenance(device),
        wall_seconds=time.perf_counter() - started,
    )
    write_record(out, record)
    return reason


def _too_little_memory(backbone: str, device: str) -> str | None:
    """Why a size does not fit on this machine; found out before the kernel kills the job."""
    if device != "cpu":
        return None
    needed = BYTES_PER_PARAMETER * parameter_count(backbone, trainable=False)
    free = psutil.virtual_memory().available
    if free >= needed:
        return None
    return f"needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
