"""A run whose parts a test chooses, and its training on noise."""

import numpy as np

from dtr.config.checks import load_scale
from dtr.config.resolve import run_settings
from dtr.data.rows import TrainingData
from dtr.planning.runs import all_runs
from dtr.training.distributed import World
from dtr.training.trainer import Trainer

ROW = {"id": "mine", "slot": "unconditional", "backbone": "DiT-B/2", "iterations": 10}


def scale_with(digits: dict, **run):
    return load_scale(digits | {"extra_runs": [ROW | run]}, source="test")


def settings_with(digits: dict, **run):
    scale = scale_with(digits, **run)
    return run_settings(scale, all_runs(scale)["mine"], 0)


class Noise(TrainingData):
    """Latents of the right shape."""

    @property
    def shape(self):
        return (4, 4, 4)

    def sample(self, rows, draws, part=slice(None)):
        return draws.standard_normal((len(rows), *self.shape), dtype=np.float32)[part]


def trainer_of(settings) -> Trainer:
    data = Noise(manifest={"content_hash": "noise"}, labels=np.zeros(128, dtype=np.int64))
    return Trainer(settings, data, World())
