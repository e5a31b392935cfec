"""The lock of a killed Snakemake goes, that of a living one stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from dtr.cli import main


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock in a folder of its own, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_lock_that_was_left_behind_is_removed(lock, capsys):
    assert main(["unlock"]) == 0
    assert not lock.exists()
    assert "0.output.lock was left by a Snakemake that is gone" in capsys.readouterr().out
    assert main(["unlock"]) == 0


def test_a_living_snakemake_keeps_its_lock(lock, tmp_path, capsys):
    program = tmp_path / "snakemake"
    program.write_text("print(flush=True); input()")
    process = subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    try:
        assert main(["unlock"]) == 2
    finally:
        process.communicate(b"")
    assert lock.exists()
    assert f"(process {process.pid}); its lock stays" in capsys.readouterr().err
