"""The batches of a training: which rows, which noise, which timesteps, as functions of the step."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dtr.config.stages import RunSettings
from dtr.data.latents import LatentDataset
from dtr.data.rows import PixelDataset, TrainingData
from dtr.seeding import batch_indices, generator
from dtr.support.files import read_json
from dtr.weighting import Weighting


class Batch(NamedTuple):
    """One batch on the host."""

    x0: np.ndarray  # [B, C, H, W] float32
    t: np.ndarray  # [B] int64
    y: np.ndarray  # labels [B] int64, or captions [B, T, W] float32
    noise: np.ndarray  # [B, C, H, W] float32


def open_training_data(manifest_path: str | Path) -> TrainingData:
    """Cached latents or, where the manifest is a dataset's, its pixels."""
    manifest = read_json(manifest_path)
    cached = isinstance(manifest, dict) and "scale_factor" in manifest
    return (LatentDataset if cached else PixelDataset).open(manifest_path)


def draw_batch(
    data: TrainingData, settings: RunSettings, weighting: Weighting, step: int, part: slice
) -> Batch:
    """The `part` of the global batch of training step `step` (from 0) that one process computes.

    The whole batch is drawn from (seed, step) and then cut, so that it is the same for any number
    of processes.
    """
    size = settings.training.batch_size
    draws = generator(settings.seed, "step", step)
    rows = batch_indices(settings.seed, step, size=len(data), batch_size=size)
    x0 = data.sample(rows, draws)
    noise = draws.standard_normal(x0.shape, dtype=np.float32)
    t = weighting.draw_timesteps(draws, size, settings.timesteps)
    y = data.conditions(rows, draws, settings.inputs)
    return Batch(x0[part], t[part], y[part], noise[part])
