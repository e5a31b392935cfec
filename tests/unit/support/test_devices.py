"""A device that is not there is refused in one line, by every verb that takes one."""

import pytest
import torch

from dtr.cli import VERBS, main
from dtr.support.devices import check_device

# Options of these verbs that have no default; none of the files exists.
REQUIRED = {
    "train": "run step settings data work out",
    "sample": "model protocol shard shard-size out",
    "measure": "slot real protocol out",
    "measure-images": "images extractor real out",
    "cka": "model data out",
    "throughput": "backbone out",
}


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (False, "device = cuda: this build of torch has no CUDA; accepted here: cpu"),
        (True, "device = cuda: this machine has no CUDA device; accepted here: cpu"),
    ],
)
@pytest.mark.parametrize("verb", [name for name, _, options in VERBS if "device" in options])
def test_every_verb_refuses_cuda_where_there_is_none(
    verb, built, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = [word for flag in REQUIRED[verb].split() for word in (f"--{flag}", "1")]
    assert main([verb, *arguments, "--device", "cuda"]) == 2
    assert capsys.readouterr().err == f"dtr {verb}: {message}\n"
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_accepted(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device("cpu")
    check_device("cuda")
