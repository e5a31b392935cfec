"""Files that hold a released checkpoint, or something else; none of their code is run."""

import argparse
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from dtr.backbones.saved import load_model
from dtr.cli import main
from dtr.interop.checkpoints import import_checkpoint
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json
from tests.unit.interop.conftest import (
    imported,
    refused,
    released,
)


def test_no_code_of_a_training_configuration_is_run(tmp_path, monkeypatch):
    """The release stores an OmegaConf configuration, which need not be installed here."""

    class Content:
        def __init__(self, **content):
            self.__dict__.update(content)

        def __setstate__(self, _state):
            raise AssertionError("built")

    for module, name in [("dictconfig", "DictConfig"), ("base", "ContainerMetadata")]:
        kind = type(name, (Content,), {"__module__": f"omegaconf.{module}"})
        monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        stored = types.ModuleType(f"omegaconf.{module}")
        setattr(stored, name, kind)
        monkeypatch.setitem(sys.modules, f"omegaconf.{module}", stored)
    from omegaconf.base import ContainerMetadata
    from omegaconf.dictconfig import DictConfig

    state, settings, _ = released("dit_class_none")
    told = DictConfig(_content={"lr": 1e-4}, _metadata=ContainerMetadata(element_type=dict))
    options = argparse.Namespace(model="DiT-XL/2", data_path=None)
    content = {"ema": state, "opt": {"state": {}}, "config": told, "args": options}
    allowed = set(torch.serialization.get_safe_globals())
    imported(content, settings, tmp_path)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_ema_is_preferred_to_model(tmp_path):
    state, settings, _ = released("dit_class_none")
    other = {name: value + 1 for name, value in state.items()}
    model = imported({"model": other, "ema": state, "opt": {}}, settings, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_model_is_read_where_there_is_no_ema(tmp_path):
    state, settings, _ = released("dit_class_none")
    model = imported({"model": state}, settings, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])
    assert json.loads((tmp_path / "out/train.json").read_text())["imported_from"]["part"] == "model"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_stripped(prefix, tmp_path):
    state, settings, _ = released("dit_class_dtr")
    model = imported({prefix + name: v for name, v in state.items()}, settings, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_half_precision_becomes_float32(tmp_path):
    state, settings, _ = released("adm_class_none")
    half = {name: value.half() for name, value in state.items()}
    model = imported(half, settings, tmp_path, attention_order="new")
    weight = model.time_embed[0].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["time_embed.0.weight"].half().float())


def test_the_older_file_format_and_shared_storage_are_read(tmp_path):
    state, settings, _ = released("dit_uncond_dtr")
    state["blocks.1.mlp.fc2.bias"] = state["blocks.0.mlp.fc2.bias"]
    source = tmp_path / "0000050.pt"
    torch.save(state, source, _use_new_zipfile_serialization=False)
    import_checkpoint(source, settings, tmp_path / "out", run="a-run")
    blocks = load_model(tmp_path / "out")[0].blocks
    assert torch.equal(blocks[1].mlp.fc2.bias, state["blocks.0.mlp.fc2.bias"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"pos_embed": state["pos_embed"].double()}, "is of torch.float64"),
        (lambda state: {"pos_embed": state["pos_embed"] / 0}, "not finite"),
        (lambda state: {"pos_embed": state["pos_embed"].to_sparse()}, "'pos_embed' is no tensor"),
        (lambda state: {"pos_embed": 5}, "'pos_embed' is no tensor; the network has one"),
        (lambda state: {"module.pos_embed": state["pos_embed"]}, "'pos_embed' twice"),
        (lambda state: {5: state["pos_embed"]}, "5 is no name"),
        (lambda state: {"extra": state["pos_embed"]}, "1 unexpected (extra)"),
    ],
)
def test_values_that_are_no_weights(change, message, tmp_path):
    state, settings, _ = released("dit_class_none")
    assert message in refused(state | change(state), settings, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({}, "holds no tensors"),
        ({"ema": {}}, "ema: holds no tensors"),
        ({"state_dict": {}}, "holds no tensors (found: state_dict)"),
        ({"ema": {}, "args": Path("x")}, "holds a pickled object of pathlib"),
        ({"ema": {}, "do": print}, "holds a pickled object of print"),
    ],
)
def test_files_that_hold_something_else(content, message, tmp_path):
    _, settings, _ = released("dit_class_none")
    assert message in refused(content, settings, tmp_path)


def test_an_object_that_would_run_a_command(tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    _, settings, _ = released("dit_class_none")
    assert "not a checkpoint" in refused({"ema": {}, "x": Evil()}, settings, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "folder", "absent"])
def test_files_that_are_no_checkpoints(damage, tmp_path):
    state, settings, _ = released("dit_class_none")
    source = tmp_path / "0400000.pt"
    torch.save(state, source)
    whole = source.read_bytes()
    source.unlink()
    if damage == "folder":
        source.mkdir()
    elif damage != "absent":
        source.write_bytes({"text": b"hello\n", "empty": b"", "cut": whole[:-500]}[damage])
    with pytest.raises(Refusal) as refusal:
        import_checkpoint(source, settings, tmp_path / "out", run="a-run")
    assert len(str(refusal.value).splitlines()) == 1
    assert str(source) in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_the_step_is_in_the_file_name_or_has_to_be_told(tmp_path):
    state, settings, _ = released("dit_class_none")
    names = {"0400000.pt": 400_000, "ema_0.9999_540000.pt": 540_000}
    for number, (name, step) in enumerate(names.items()):
        torch.save(state, tmp_path / name)
        out = tmp_path / str(number)
        import_checkpoint(tmp_path / name, settings, out, run="a-run")
        assert json.loads((out / "train.json").read_text())["step"] == step
    source = tmp_path / "DiT-XL-2-256x256.pt"
    torch.save(state, source)
    with pytest.raises(Refusal, match="--step: needed"):
        import_checkpoint(source, settings, tmp_path / "out", run="a-run")
    import_checkpoint(source, settings, tmp_path / "out", run="a-run", step=7_000_000)
    for taken in (tmp_path / "out", source):
        with pytest.raises(Refusal, match="is a file or holds a model already"):
            import_checkpoint(source, settings, taken, run="a-run", step=7_000_000)
    with pytest.raises(Refusal, match="--step -1: accepted: 0 or more"):
        import_checkpoint(source, settings, tmp_path / "new", run="a-run", step=-1)


def test_what_is_no_weight_is_left_out_and_named(tmp_path, capsys):
    state, settings, _ = released("dit_class_dtr")
    content = {"ema": state | {"step": 3, "decay": 0.9}, "opt": {}, "epoch": 7}
    torch.save(content, tmp_path / "0400000.pt")
    arguments = ["--source", str(tmp_path / "0400000.pt"), "--run", "theirs"]
    arguments += ["--settings", canonical_json(settings.plain()), "--out", str(tmp_path / "out")]
    assert main(["import-checkpoint", *arguments]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("0400000.pt: not read: opt, epoch, step, decay")
    model = load_model(tmp_path / "out")[0]
    assert torch.equal(model.pos_embed, state["pos_embed"])
    torch.save(state, tmp_path / "0400001.pt")
    assert import_checkpoint(tmp_path / "0400001.pt", settings, tmp_path / "new", run="a") == []
