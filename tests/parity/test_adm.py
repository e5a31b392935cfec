"""Our U-Net against outputs of ADM's released code: 1e-4 relative in float32."""

import ast
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dtr.backbones.adm import ADM
from dtr.config.backbones import AdmSize, Inputs
from dtr.routing import Unrouted, Windows

FIXTURES = Path(__file__).parent / "fixtures"


def released(name: str, **changes) -> tuple[ADM, dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    settings = {
        "type": "adm",
        "model_channels": int(metadata["model_channels"]),
        "channel_mult": list(ast.literal_eval(metadata["channel_mult"])),
        "num_res_blocks": int(metadata["num_res_blocks"]),
        "attention_downsampling": list(ast.literal_eval(metadata["attention_downsampling"])),
        "num_head_channels": int(metadata["num_head_channels"]),
        "dropout": 0.1,
    }
    inputs = Inputs(
        input_size=int(metadata["image_size"]),
        in_channels=3,
        num_classes=int(metadata["num_classes"]),
        label_dropout=0.0,
    )
    routing = Unrouted(type="none")
    if metadata["routing"] != "none":
        routing = Windows(
            type=metadata["routing"], beta=float(metadata["beta"]), alpha=float(metadata["alpha"])
        )
    model = ADM(AdmSize(**(settings | changes)), inputs, routing, num_timesteps=1000).eval()
    state = {key[6:]: value for key, value in tensors.items() if key.startswith("state.")}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert all(name.startswith("routing.") for name in missing)
    return model, tensors, metadata


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize("name", ["adm_class_none", "adm_class_dtr"])
@torch.inference_mode()
def test_output(name):
    model, tensors, metadata = released(name)
    places = 0 if model.routing is None else len(model.routing.widths)
    assert places == int(metadata["masked_norms"])
    assert error(model(tensors["x"], tensors["t"], tensors["y"]), tensors["out"]) <= 1e-4


@pytest.mark.parametrize("where", ["both_norms", "plain_blocks_only"])
@torch.inference_mode()
def test_the_tolerance_tells_mask_places_apart(where):
    model, tensors, _ = released("adm_class_dtr", mask_place=where)
    assert error(model(tensors["x"], tensors["t"], tensors["y"]), tensors["out"]) > 1e-2
