"""A hundred steps of every kind of network on made-up data: the losses are those of before.

The curves are data; CPUs and versions of torch round differently, hence the tolerance. Where a
change of the mathematics is meant, write them anew by

    python tests/conformance/test_golden_losses.py
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dtr.config.checks import load_scale
from dtr.config.resolve import run_settings
from dtr.data.rows import TrainingData
from dtr.planning.runs import all_runs
from dtr.training.distributed import World
from dtr.training.trainer import Trainer

GOLDEN = Path(__file__).with_name("golden_losses.json")
SMOKE = Path(__file__).parents[2] / "workflow/config/smoke.yaml"
RUNS = ("in256-l2-dtr-a4", "ffhq256-b2-maxroaming", "coco256-b2-dtr-a4", "in64-adm-dtr-a4")
STEPS, EVERY, IMAGES = 100, 10, 64
KEPT = ("loss", "mse", "vb")


class Bumps(TrainingData):
    """Smooth images, each with its own wave, so that there is something to learn."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.manifest["shape"])

    def sample(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = slice(None)
    ) -> np.ndarray:
        channels, side, _ = self.shape
        rows = rows[part]
        waves = np.sin(np.arange(side) * (1 + rows[:, None] % 7) / side)
        images = waves[:, None, :, None] * waves[:, None, None, :]
        return np.repeat(images, channels, axis=1).astype(np.float32)


def curve(name: str) -> dict[str, list[float]]:
    """Mean loss, noise error and variational term of every ten steps of a tiny run."""
    torch.set_num_threads(1)
    scale = load_scale(yaml.safe_load(SMOKE.read_text(encoding="utf-8")), source=SMOKE.name)
    settings = run_settings(scale, all_runs(scale)[name], 0)
    inputs, text = settings.inputs, {}
    if inputs.text_tokens is not None:
        size = (IMAGES + 1, inputs.text_tokens, inputs.text_width)
        tokens = np.random.default_rng(1).standard_normal(size, np.float32)
        text = {"tokens": tokens, "first": np.arange(IMAGES + 1)}
    manifest = {"shape": list(inputs.shape), "content_hash": "bumps"}
    data = Bumps(manifest=manifest, labels=np.arange(IMAGES) % 10, **text)
    trainer = Trainer(settings, data, World())
    trainer.model.train()
    steps = torch.stack([trainer.train_step() for _ in range(STEPS)])
    means = steps.view(-1, EVERY, len(KEPT)).mean(dim=1)
    return {key: means[:, column].tolist() for column, key in enumerate(KEPT)}


@pytest.mark.parametrize("name", RUNS)
def test_the_losses_are_those_of_before(name):
    golden, now = json.loads(GOLDEN.read_text(encoding="utf-8"))[name], curve(name)
    for key in KEPT:
        assert now[key] == pytest.approx(golden[key], rel=1e-3, abs=1e-5), key
    assert now["mse"][-1] < 0.8 * now["mse"][0]


if __name__ == "__main__":
    curves = {name: curve(name) for name in RUNS}
    GOLDEN.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
