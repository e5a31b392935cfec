"""What a launcher says in the environment: taken whole, or refused in one line."""

import socket

import pytest
import torch

from dtr.cli import main
from dtr.support.errors import Refusal
from dtr.training.distributed import World, world
from tests.unit.training.conftest import settings

WHOLE = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}
UNSET = "not set, although WORLD_SIZE = 2; .* or unset WORLD_SIZE"


@pytest.fixture
def launcher(monkeypatch):
    """Set the variables of a launcher, and no others."""

    def set_all(variables: dict[str, str]) -> None:
        for name in WHOLE:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"WORLD_SIZE": ""},
        {"WORLD_SIZE": "1"},
        {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
        {"RANK": "3"},  # of something else, as nobody says of how many
    ],
)
def test_without_a_launcher_there_is_one_process(variables, launcher):
    launcher(variables)
    with world("cpu") as processes:
        assert processes == World()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_half_a_launcher_is_refused(name, launcher):
    launcher({key: value for key, value in WHOLE.items() if key != name})
    with pytest.raises(Refusal, match=f"^{name}: {UNSET}"), world("cpu"):
        pass


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("WORLD_SIZE", "two", "WORLD_SIZE = 'two': accepted is a whole number from 1"),
        ("WORLD_SIZE", "0", "WORLD_SIZE = '0': accepted is a whole number from 1"),
        ("WORLD_SIZE", "1", "RANK = 1: accepted are 0 to 0, as WORLD_SIZE = 1"),
        ("RANK", "-1", "RANK = '-1': accepted is a whole number from 0"),
        ("RANK", "2", "RANK = 2: accepted are 0 to 1, as WORLD_SIZE = 2"),
        ("LOCAL_RANK", "0.5", r"LOCAL_RANK = '0\.5': accepted"),
        ("MASTER_PORT", "http", "MASTER_PORT = 'http': accepted"),
    ],
)
def test_a_value_that_cannot_be_is_refused(name, value, message, launcher):
    launcher(WHOLE | {name: value})
    with pytest.raises(Refusal, match=f"^{message}"), world("cpu"):
        pass


def test_more_processes_than_devices_are_refused(launcher, monkeypatch):
    launcher(WHOLE | {"LOCAL_RANK": "1"})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused = pytest.raises(Refusal, match=r"^LOCAL_RANK = 1: this machine has 1 CUDA devices")
    with refused, world("cuda"):
        pass


def test_a_port_that_is_taken_is_refused(launcher):
    with socket.create_server(("localhost", 0)) as other:
        port = other.getsockname()[1]
        launcher(WHOLE | {"RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": str(port)})
        refused = pytest.raises(Refusal, match=rf"MASTER_PORT = localhost:{port}: no meeting there")
        with refused, world("cpu"):
            pass


def test_the_verb_says_it_in_one_line(latents, tmp_path, launcher, capsys):
    launcher({"WORLD_SIZE": "2"})
    out = tmp_path / "out"
    arguments = [
        "train", "--run", "toy", "--step", "10", "--settings", settings().model_dump_json(),
        "--data", str(latents), "--work", str(tmp_path / "work"), "--out", str(out),
    ]  # fmt: skip
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtr train: RANK: not set, although WORLD_SIZE = 2")
    assert not out.exists() and not (tmp_path / "work").exists()
