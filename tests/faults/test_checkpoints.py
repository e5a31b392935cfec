"""Checkpoints that a crash, a disk or somebody has damaged: the training goes on, bit for bit."""

import os
import shutil
import time
from pathlib import Path

import pytest

from dtr.cli import main
from dtr.support.files import hash_file
from tests.faults.conftest import train_arguments
from tests.unit.training.conftest import assert_same_state, run_to


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def halve(path: Path) -> None:
    """As after a crash of the machine whose disk had only a part of it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))


def zero(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = [truncate, halve, zero, empty, remove, turn_a_bit]


@pytest.mark.parametrize("suffix", [".pt", ".json"], ids=["tensors", "note"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_newest_checkpoint_costs_one_interval(latents, tmp_path, damage, suffix):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    run_to(20, latents, tmp_path / "work")
    damage(folder / f"step-000000020{suffix}")
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    assert_same_state(whole, resumed)


def test_if_all_are_damaged_it_begins_anew_and_says_so(latents, tmp_path, capsys):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    run_to(20, latents, tmp_path / "work")
    for path in folder.glob("step-*.pt"):
        zero(path)
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    assert capsys.readouterr().err.count("damaged, going back to the one before") == 2
    assert_same_state(whole, resumed)


def test_what_a_kill_left_half_written_is_cleared_away(latents, tmp_path):
    """Each would be as large as a checkpoint, and nobody else would ever remove it."""
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    for number in range(3):
        (folder / f".step-000000020.pt.{number}.pt").write_bytes(b"half")
    resumed, *_ = run_to(20, latents, tmp_path / "work")
    assert resumed.step == 20
    assert not list(folder.glob(".step-*"))


def test_a_name_that_is_no_step_is_passed_over(latents, tmp_path):
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    (folder / "step-000000010 (copy).json").write_text("{}")
    resumed, *_ = run_to(20, latents, tmp_path / "work")
    assert resumed.step == 20


def test_the_newest_is_told_by_its_step_and_not_by_a_clock(latents, tmp_path, capsys):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    run_to(20, latents, tmp_path / "work")
    for path in folder.glob("step-000000010.*"):
        os.utime(path, (time.time() + 1e6, time.time() + 1e6))
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    assert "resumed at step 20" in capsys.readouterr().out
    assert_same_state(whole, resumed)


def test_a_clock_that_is_set_back_changes_nothing(latents, tmp_path, monkeypatch):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    run_to(10, latents, tmp_path / "work", budget_minutes=600)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - 86_400)
    resumed, *_ = run_to(30, latents, tmp_path / "work", budget_minutes=600)
    assert_same_state(whole, resumed)


def test_a_folder_that_was_moved_goes_on(latents, tmp_path, capsys):
    """Data, work and results together, as when a disk is full: no path is kept anywhere."""
    for name, steps in (("whole", 30), ("first", 20)):
        shutil.copytree(latents.parent, tmp_path / name / "data")
        data = tmp_path / name / "data/manifest.json"
        assert main(train_arguments(data, tmp_path / name, steps)) == 0
    shutil.move(tmp_path / "first", tmp_path / "second")
    data = tmp_path / "second/data/manifest.json"
    assert main(train_arguments(data, tmp_path / "second", 30)) == 0
    assert "resumed at step 20" in capsys.readouterr().out
    files = [tmp_path / name / "out/ema.safetensors" for name in ("whole", "second")]
    assert hash_file(files[0]) == hash_file(files[1])
