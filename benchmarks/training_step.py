"""What routing costs per training step: blocks of steps with DTR and without, in turn."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import yaml

from dtr.config import load_scale
from dtr.data.training_data import TrainingData
from dtr.distributed import World
from dtr.planning import find_run, train_settings
from dtr.trainer import Trainer

DIGITS = Path(__file__).parents[1] / "workflow" / "config" / "digits.yaml"


class Noise(TrainingData):
    """Latents of the right shape; their content does not change how long a step takes."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.manifest["shape"])

    def sample(self, rows: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        return draws.standard_normal((len(rows), *self.shape), dtype=np.float32)


def trainer_of(run: str) -> Trainer:
    scale = load_scale(yaml.safe_load(DIGITS.read_text()), source=str(DIGITS))
    settings = train_settings(scale, find_run(scale, run), 0)
    size = settings.backbone.input_size
    data = Noise(
        manifest={"shape": [settings.backbone.in_channels, size, size]},
        labels=np.arange(4500) % 10,
    )
    return Trainer(settings, data, "benchmark", World())


def seconds(trainer: Trainer, steps: int) -> float:
    begun = time.perf_counter()
    for _ in range(steps):
        trainer.train_step()
    return time.perf_counter() - begun


def compare(pairs: int, steps: int) -> dict[str, float]:
    """Median of the paired time ratios with / without DTR and its 95 % bootstrap interval."""
    routed, plain = trainer_of("in256-l2-dtr-a4"), trainer_of("in256-l2-none")
    for trainer in (routed, plain):
        seconds(trainer, steps)
    ratios = []
    for pair in range(pairs):
        first, second = (routed, plain) if pair % 2 else (plain, routed)
        times = {id(trainer): seconds(trainer, steps) for trainer in (first, second)}
        ratios.append(times[id(routed)] / times[id(plain)])
    draws = np.random.default_rng(0).choice(ratios, (2000, pairs))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return {"ratio": float(np.median(ratios)), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--steps", type=int, default=20, help="in a block")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = compare(arguments.pairs, arguments.steps)
    if arguments.json:
        print(json.dumps(result))
    else:
        print("step with DTR / without: {ratio:.3f} [{low:.3f}, {high:.3f}]".format(**result))
