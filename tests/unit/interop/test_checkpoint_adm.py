"""Checkpoints of ADM: no null class, and two orders of attention."""

import argparse
import json

import pytest
import torch

from dtr.config.stages import RunSettings
from tests.unit.interop.conftest import (
    ROUTINGS,
    imported,
    network_of,
    refused,
    released,
    settings_of,
)


def test_official_adm_has_no_null_class(tmp_path):
    state, settings, _ = released("adm_class_none")
    inputs = settings.inputs.plain() | {"label_dropout": 0.1}
    network = network_of(settings) | {"inputs": inputs}
    new = {"attention_order": "new"}
    message = refused(state, settings_of(network, ROUTINGS["none"]), tmp_path, **new)
    assert "label_emb.weight [10, 128] instead of [11, 128]: it has no row for 'no label'" in (
        message
    )
    assert "label_dropout 0" in message
    assert "no routing masks" in refused(
        state, settings_of(network_of(settings), ROUTINGS["dtr"]), tmp_path, **new
    )


def legacy_rows(state: dict, settings: RunSettings) -> dict:
    """The same network as made with use_new_attention_order=False: rows of qkv heads first."""
    changed = dict(state)
    for name, value in state.items():
        if ".qkv." in name:
            heads = len(value) // 3 // settings.backbone.num_head_channels
            changed[name] = value.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
    return changed


@torch.inference_mode()
def test_adm_of_the_legacy_order_gives_its_own_output(tmp_path):
    state, settings, tensors = released("adm_class_none")
    legacy, out = legacy_rows(state, settings), tensors["out"]
    inputs = (tensors["x"], tensors["t"], tensors["y"])
    error = {}
    for order in ("new", "legacy"):
        (tmp_path / order).mkdir()
        model = imported(legacy, settings, tmp_path / order, attention_order=order)
        error[order] = (model(*inputs) - out).abs().max() / out.abs().max()
    assert error["legacy"] <= 1e-4 < 1e-3 < error["new"]
    record = json.loads((tmp_path / "legacy/out/train.json").read_text())
    assert record["settings"]["backbone"]["attention_order"] == "heads_first"


def test_the_order_of_adms_attention_is_asked_for(tmp_path):
    state, settings, _ = released("adm_class_none")
    message = refused(state, settings, tmp_path)
    assert "--attention-order: needed" in message
    assert "accepted: new (made with use_new_attention_order=True" in message
    told = settings.backbone.plain() | {"attention_order": "heads_first"}
    told = settings_of(network_of(settings) | {"backbone": told}, ROUTINGS["none"])
    message = refused(state, told, tmp_path, attention_order="new")
    assert "--attention-order says 'qkv_first', --settings says 'heads_first'" in message
    stored = {"model": state, "args": {"use_new_attention_order": True}}
    assert "--settings says 'heads_first'" in refused(stored, told, tmp_path)
    imported(state, told, tmp_path)
    state, settings, _ = released("dit_class_none")
    (tmp_path / "dit").mkdir()
    message = refused(state, settings, tmp_path / "dit", attention_order="new")
    assert "of ADM only, not of 'dit'" in message


@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_the_order_is_taken_from_a_stored_configuration(kind, tmp_path):
    state, settings, _ = released("adm_class_none")
    stored = {"ema": state, "args": kind(use_new_attention_order=False, lr=1e-4)}
    imported(stored, settings, tmp_path)
    record = json.loads((tmp_path / "out/train.json").read_text())
    assert record["settings"]["backbone"]["attention_order"] == "heads_first"
