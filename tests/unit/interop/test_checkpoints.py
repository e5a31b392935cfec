"""Checkpoints of the released code as trained models of ours, and the verb that imports them."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dtr.assets.autoencoder import small_kl
from dtr.backbones.build import build_backbone
from dtr.cli import main
from dtr.config.resolve import run_settings
from dtr.config.stages import Protocol
from dtr.planning.evaluations import protocol
from dtr.planning.places import ASSET
from dtr.planning.runs import find_run
from dtr.records.schema import AutoencoderRecord, ModelRecord, read_record
from dtr.records.weights import write_weights
from dtr.routing import hash_masks
from dtr.sampling.shards import write_samples
from dtr.support.files import canonical_json, hash_file
from tests.unit.interop.conftest import (
    WIDTH,
    imported,
    refused,
    released,
    with_masks,
)


@pytest.mark.parametrize(
    "name",
    [
        "dit_class_none",
        "dit_class_dtr",
        "dit_class_random",
        "dit_uncond_dtr",
        "adm_class_none",
    ],
)
@torch.inference_mode()
def test_an_imported_model_gives_the_output_of_the_released_one(name, tmp_path):
    state, settings, tensors = released(name)
    order = {"attention_order": "new"} if name.startswith("adm") else {}
    model = imported(state, settings, tmp_path, **order)
    out = model(tensors["x"], tensors["t"], tensors["y"])
    assert (out - tensors["out"]).abs().max() <= 1e-4 * tensors["out"].abs().max()


def test_weights_and_masks_are_taken_over_bit_by_bit(tmp_path):
    state, settings, tensors = released("dit_class_random")
    model = imported(state, settings, tmp_path)
    stored = model.state_dict()
    assert torch.equal(stored.pop("routing.table"), tensors["masks"].bool())
    assert stored.keys() == {name for name in state if "_unit_mapping" not in name}
    assert all(torch.equal(stored[name], state[name]) for name in stored)
    own = build_backbone(settings.backbone, settings.inputs, settings.routing).routing
    assert not torch.equal(model.routing.table, own.table)


def test_the_record_says_where_the_weights_are_from(tmp_path):
    state, settings, _ = released("dit_class_random")
    model = imported({"ema": state}, settings, tmp_path)
    record = json.loads((tmp_path / "out/train.json").read_text())
    assert read_record(ModelRecord, tmp_path / "out/train.json").status == "ok"
    assert (record["run"], record["seed"], record["step"]) == ("a-run", 3, 400_000)
    assert record["settings"] == settings.plain()
    assert record["history"] == []
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert record["parts"] == {"routing": hash_masks(model.routing.table.numpy())}
    source = tmp_path / "0400000.pt"
    expected = {"file": "0400000.pt", "sha256": hash_file(source), "part": "ema"}
    assert record["imported_from"] == expected


def test_everything_that_does_not_fit_is_in_one_line(tmp_path):
    state, settings, _ = released("dit_class_random")
    for name in [name for name in state if name.startswith("blocks.1.")]:
        del state[name]
    state["extra\nname"] = torch.zeros(1)
    state["pos_embed"] = torch.zeros(1, 4, WIDTH)
    message = refused(state, settings, tmp_path)
    assert (
        "11 missing (blocks.1.attn.qkv.weight, blocks.1.attn.qkv.bias, blocks.1.attn.proj.weight,"
        " 8 more); 1 unexpected (extra name); 1 of another shape"
        " (pos_embed [1, 4, 48] instead of [1, 16, 48])"
    ) in message


@pytest.fixture
def digits_checkpoint(scale, tmp_path) -> Path:
    """A routed model of the digits scale as the released training script would save it."""
    settings = run_settings(scale, find_run(scale, "in256-l2-dtr-a4"), 0)
    model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    state = dict(model.named_parameters())
    state |= with_masks(model.routing.table.expand(len(model.blocks), -1, -1))
    source = tmp_path / "0001200.pt"
    torch.save({"model": state, "ema": state, "opt": {}, "args": argparse.Namespace(a=1)}, source)
    return source


def test_the_verb_imports_a_run_of_a_scale(digits_checkpoint, scale, root, tmp_path):
    out = tmp_path / "out"
    arguments = ["--source", str(digits_checkpoint), "--run", "in256-l2-dtr-a4", "--out", str(out)]
    file = str(root / "workflow/config/digits.yaml")
    assert main(["import-checkpoint", *arguments, "--scale", file, "--seed", "2"]) == 0
    record = json.loads((out / "train.json").read_text())
    assert (record["run"], record["seed"], record["step"]) == ("in256-l2-dtr-a4", 2, 1200)
    content = protocol(scale, "class_conditional").plain()
    content |= {"n_samples": 2, "sampling_steps": 2}
    decoder = tmp_path / content["autoencoder"]
    settings = scale.autoencoders[decoder.name]
    write_weights(
        decoder, ASSET, small_kl(settings).state_dict(), AutoencoderRecord,
        settings=settings.plain(), scale_factor=1.0, test_psnr_db=20.0, dataset_hash="data",
        provenance={},
    )  # fmt: skip
    samples = tmp_path / "shard.npz"
    write_samples(
        [out],
        Protocol.model_validate(content),
        samples,
        shard=0,
        shard_size=2,
        batch_size=2,
        device="cpu",
        autoencoder_folder=decoder,
    )
    assert np.load(samples)["arr_0"].shape == (2, 32, 32, 3)


def test_the_verb_imports_with_settings(digits_checkpoint, scale, tmp_path, capsys):
    settings = run_settings(scale, find_run(scale, "in256-l2-dtr-a4"), 4)
    out = tmp_path / "out"
    arguments = ["import-checkpoint", "--source", str(digits_checkpoint), "--run", "theirs"]
    arguments += ["--out", str(out), "--settings", canonical_json(settings.plain())]
    assert main([*arguments, "--seed", "5"]) == 2
    assert "--settings have seed 4" in capsys.readouterr().err
    assert main([*arguments, "--step", "9"]) == 0
    record = json.loads((out / "train.json").read_text())
    assert (record["run"], record["seed"], record["step"]) == ("theirs", 4, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--scale, --settings: one of them"),
        (["--settings", "{}", "--scale", "x.yaml"], "--scale, --settings: one of them"),
        (["--scale", "DIGITS", "--run", "in256-l2-none"], "of the channels active"),
        (["--scale", "DIGITS", "--run", "ffhq256-b2-none"], "does not fit the network"),
        (["--scale", "DIGITS", "--run", "nobody"], "run 'nobody': unknown"),
        (["--scale", "SOURCE"], "0001200.pt: line 1: not UTF-8 text"),
        (["--scale", "BROKEN"], "not readable as YAML"),
    ],
)
def test_what_the_verb_refuses(options, message, digits_checkpoint, root, tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2\n")
    places = {
        "DIGITS": str(root / "workflow/config/digits.yaml"),
        "SOURCE": str(digits_checkpoint),
        "BROKEN": str(broken),
    }
    options = [places.get(option, option) for option in options]
    arguments = ["import-checkpoint", "--source", str(digits_checkpoint)]
    arguments += ["--run", "in256-l2-dtr-a4", "--out", str(tmp_path / "out"), *options]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error
    assert not (tmp_path / "out").exists()
