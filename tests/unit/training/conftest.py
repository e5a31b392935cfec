"""A toy training for the tests of this folder: a few latents, a tiny network."""

import json

import numpy as np
import pytest
import torch

from dtr.config.stages import RunSettings
from dtr.data.latents import LatentDataset
from dtr.support.files import hash_file, hash_json, write_json
from dtr.training.distributed import World
from dtr.training.loop import Execution, train_run
from dtr.training.trainer import Trainer


@pytest.fixture
def latents(tmp_path):
    """A few random "latents" in the format of the cache."""
    folder = tmp_path / "latents"
    folder.mkdir()
    draws = np.random.default_rng(0)
    np.save(folder / "labels.npy", np.arange(40) % 10)
    moments = draws.standard_normal((40, 1, 2, 4, 4, 4), dtype=np.float32)
    np.save(folder / "shard-00000.npy", moments)
    files = {name: hash_file(folder / name) for name in ("labels.npy", "shard-00000.npy")}
    manifest = {"dataset": "toy", "count": 40, "mirrors": 1, "shape": [4, 4, 4]}
    write_json(
        folder / "manifest.json",
        manifest | {"scale_factor": 1.0, "files": files, "content_hash": hash_json(files)},
    )
    return folder / "manifest.json"


def settings(**changes) -> RunSettings:
    value = {
        "seed": 0,
        "backbone": {
            "type": "dit",
            "patch_size": 2,
            "width": 16,
            "depth": 2,
            "heads": 2,
        },
        "inputs": {"input_size": 4, "in_channels": 4, "num_classes": 10, "label_dropout": 0.1},
        "routing": {"type": "dtr", "beta": 0.8, "alpha": 4.0, "variant": "code"},
        "weighting": {"type": "vanilla"},
        "timesteps": [0, 1000],
        "diffusion": {"schedule": "cosine", "num_timesteps": 1000},
        "training": {
            "batch_size": 8,
            "learning_rate": 1e-2,
            "warmup_steps": 5,
            "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999],
            "ema_decay": 0.9,
            "label_dropout": 0.1,
            "precision": "float32",
        },
    }
    for path, change in changes.items():
        *parents, name = path.split("__")
        target = value
        for parent in parents:
            target = target[parent]
        target[name] = change
    return RunSettings.model_validate_json(json.dumps(value))


def run_to(step, latents, work, chosen=None, **execution):
    dataset = LatentDataset.open(latents)
    return train_run(
        chosen or settings(),
        dataset,
        step=step,
        work=work,
        execution=Execution(**execution),
        world=World(),
        title="toy",
    )


def assert_same_state(first: Trainer, second: Trainer) -> None:
    assert first.step == second.step
    for name, tensor in first.ema.items():
        assert torch.equal(tensor, second.ema[name]), name
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
