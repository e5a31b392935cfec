"""Checkpoints of the released code with random weights, and their import."""

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dtr.backbones.saved import load_model
from dtr.config.stages import RunSettings
from dtr.interop.checkpoints import import_checkpoint
from dtr.routing import dtr_masks
from dtr.support.errors import Refusal

FIXTURES = Path(__file__).parents[2] / "parity/fixtures"
ROUTINGS = {
    "none": {"type": "none"},
    "dtr": {"type": "dtr", "beta": 0.8, "alpha": 4.0},
    "random": {"type": "random", "beta": 0.8, "seed": 0},
}
WIDTH = 48  # of the DiT fixtures, which have two blocks


def settings_of(network: dict, routing: dict) -> RunSettings:
    """network: backbone and inputs."""
    value = {
        "seed": 3,
        **network,
        "routing": routing,
        "weighting": {"type": "vanilla"},
        "timesteps": [0, 1000],
        "diffusion": {"schedule": "cosine", "num_timesteps": 1000},
        "training": {
            "batch_size": 8, "learning_rate": 1e-4, "warmup_steps": 0, "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999], "ema_decay": 0.9999, "label_dropout": 0.1,
        },
    }  # fmt: skip
    return RunSettings.model_validate_json(json.dumps(value))


def released(name: str) -> tuple[dict, RunSettings, dict]:
    """Parameters and masks as the released code stores them, settings, inputs and output."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    state = {key[6:]: value for key, value in tensors.items() if key.startswith("state.")}
    classes = int(metadata["num_classes"])
    if name.startswith("adm"):
        numbers = ("model_channels", "num_res_blocks", "num_head_channels")
        backbone = {key: int(metadata[key]) for key in numbers} | {
            "type": "adm",
            "channel_mult": list(ast.literal_eval(metadata["channel_mult"])),
            "attention_downsampling": list(ast.literal_eval(metadata["attention_downsampling"])),
            "dropout": 0.1,
        }
        inputs = {"input_size": int(metadata["image_size"]), "in_channels": 3}
        dropout = 0.0
    else:
        backbone = {key: int(metadata[key]) for key in ("patch_size", "depth")} | {
            "type": "dit",
            "width": int(metadata["hidden"]),
            "heads": int(metadata["heads"]),
        }
        inputs = {"input_size": int(metadata["input_size"]), "in_channels": 4}
        dropout = 0.1 if classes > 1 else 0.0
    inputs |= {"num_classes": classes, "label_dropout": dropout}
    network = {"backbone": backbone, "inputs": inputs}
    if metadata["routing"] == "dtr":
        masks = torch.from_numpy(dtr_masks(1000, WIDTH, beta=0.8, alpha=4.0))
        tensors["masks"] = masks.expand(2, -1, -1)
    if "masks" in tensors:
        state |= with_masks(tensors["masks"])
    return state, settings_of(network, ROUTINGS[metadata["routing"]]), tensors


def network_of(settings: RunSettings) -> dict:
    """Backbone and inputs of settings, to make others of them."""
    return {"backbone": settings.backbone.plain(), "inputs": settings.inputs.plain()}


def with_masks(masks: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"blocks.{i}.routing._unit_mapping": mask.float() for i, mask in enumerate(masks)}


def imported(content, settings: RunSettings, folder: Path, **options):
    source = folder / "0400000.pt"
    torch.save(content, source)
    import_checkpoint(source, settings, folder / "out", run="a-run", **options)
    return load_model(folder / "out")[0]


def refused(content, settings: RunSettings, folder: Path, **options) -> str:
    with pytest.raises(Refusal) as refusal:
        imported(content, settings, folder, **options)
    assert not (folder / "out").exists()
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def routed(settings: RunSettings, **routing) -> RunSettings:
    return settings_of(network_of(settings), routing)
