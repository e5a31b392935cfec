"""A device that is not there is refused in one line, by every verb that takes one."""

import argparse

import pytest
import torch

from dtr.cli import MODULES, main
from dtr.support.devices import check_device, use_device

# Options of these verbs that have no default; none of the files exists.
REQUIRED = {
    "train": "run step settings data work out",
    "sample": "model protocol shard shard-size out",
    "measure": "slot real protocol out",
    "measure-images": "images extractor real out",
    "cka": "model data out",
    "cache-latents": "data autoencoder out",
    "real-features": "data extractor out",
    "throughput": "backbone out",
    "reference": "reference settings extractor out",
    "bench": "",
    "gpucheck": "",
}


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (False, "device = cuda: this build of torch has no CUDA; accepted here: cpu"),
        (True, "device = cuda: this machine has no CUDA device; accepted here: cpu"),
    ],
)
@pytest.mark.parametrize("verb", REQUIRED)
def test_every_verb_refuses_cuda_where_there_is_none(
    verb, built, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("dtr.support.gpus._installed", lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    arguments = [word for flag in REQUIRED[verb].split() for word in (f"--{flag}", "1")]
    assert main([verb, *arguments, "--device", "cuda"]) == 2
    assert capsys.readouterr().err == f"dtr {verb}: {message}\n"
    assert not list(tmp_path.iterdir())


def test_these_are_all_verbs_that_take_a_device():
    verbs = argparse.ArgumentParser().add_subparsers()
    for module in MODULES:
        module.add_verbs(verbs)
    taking = {name for name, verb in verbs.choices.items() if "--device" in verb.format_usage()}
    assert taking == set(REQUIRED)


def test_what_is_there_is_accepted(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    use_device("cpu")
    check_device("cpu")
    check_device("cuda")


def test_where_gpus_cannot_be_told_apart_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("dtr.support.gpus._installed", lambda: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    use_device("cuda")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nvidia-smi: not found, so other jobs may use the same GPU")


@pytest.mark.parametrize(("size", "asked"), [("", [1]), ("1", [1]), ("2", []), ("two", [])])
def test_a_process_of_several_leaves_the_choice_to_its_launcher(size, asked, monkeypatch):
    counts = []
    monkeypatch.setattr("dtr.support.devices.take_gpus", lambda count: counts.append(count) or [0])
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", size)
    use_device("cuda")
    assert counts == asked
