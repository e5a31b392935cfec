"""The batches of a training: which rows, which noise, which timesteps, as functions of the step."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from dtr.config.stages import RunSettings
from dtr.data.latents import LatentDataset
from dtr.data.rows import PixelDataset, TrainingData
from dtr.seeding import batch_indices, generator, stream_words
from dtr.support.files import read_json
from dtr.weighting import Weighting

DEVICE_USES = ("device noise", "device posterior", "device dropout")


class Batch(NamedTuple):
    """One batch on the host."""

    x0: np.ndarray  # [B, C, H, W] float32
    t: np.ndarray  # [B] int64
    y: np.ndarray  # labels [B] int64, or captions [B, T, W] float32
    noise: np.ndarray  # [B, C, H, W] float32


class Rows(NamedTuple):
    """The same, but for what a device draws itself."""

    stored: np.ndarray  # what `TrainingData.learned` takes
    t: np.ndarray
    y: np.ndarray
    streams: np.ndarray  # int64 [3, 4]: keys of the noise of each use, see `dtr.support.philox`


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
    of processes; only the rows of the part are read.
    """
    size = settings.training.batch_size
    draws = generator(settings.seed, "step", step)
    rows = batch_indices(settings.seed, step, size=len(data), batch_size=size)
    x0 = data.sample(rows, draws, part)
    noise = draws.standard_normal((size, *x0.shape[1:]), dtype=np.float32)
    t = weighting.draw_timesteps(draws, size, settings.timesteps)
    y = data.conditions(rows, draws, settings.inputs, part)
    return Batch(x0, t[part], y, noise[part])


def draw_rows(
    data: TrainingData, settings: RunSettings, weighting: Weighting, step: int, part: slice
) -> Rows:
    """The `part` of step `step` where large noise is drawn on the device, from keys given here.

    The rows are those of `draw_batch`; all else is drawn anew, from (seed, step) as well.
    """
    size = settings.training.batch_size
    draws = generator(settings.seed, "rows", step)
    rows = batch_indices(settings.seed, step, size=len(data), batch_size=size)
    stored = data.stored(rows, draws, part)
    t = weighting.draw_timesteps(draws, size, settings.timesteps)
    y = data.conditions(rows, draws, settings.inputs, part)
    streams = [stream_words(settings.seed, use, step) for use in DEVICE_USES]
    return Rows(stored, t[part], y, np.array(streams))
