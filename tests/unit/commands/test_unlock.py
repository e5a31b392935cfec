"""The lock of a killed Snakemake goes, that of a living one stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtr.cli import main
from dtr.commands.cluster import note_snakemake
from dtr.support.files import write_json
from dtr.support.processes import this_process

GONE = 2**22 + 1  # more than any process number


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock in a folder of its own, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def note(name: str = "a", **changes) -> Path:
    """The note of a Snakemake that was killed here, or of another one by `changes`."""
    path = Path(".snakemake") / f"at-work-{name}.json"
    write_json(path, this_process() | {"pid": GONE} | changes)
    return path


def test_a_lock_that_was_left_behind_is_removed(lock, capsys):
    left = note()
    assert main(["unlock"]) == 0
    assert not lock.exists() and not left.exists()
    assert "0.output.lock was left by a Snakemake that is gone" in capsys.readouterr().out
    assert main(["unlock"]) == 0


def test_a_lock_without_a_note_stays_until_it_is_forced(lock, capsys):
    assert main(["unlock"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no note says whose lock it is" in line and "dtr unlock --force" in line
    assert lock.exists()
    assert main(["unlock", "--force"]) == 0
    assert not lock.exists()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}])
def test_the_lock_of_a_snakemake_that_cannot_be_seen_stays(lock, changes, capsys):
    """On another host or in a container; another one's end proves nothing about it."""
    unseen, ended = note("unseen", **changes), note("ended")
    assert main(["unlock"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    host = changes.get("host", this_process()["host"])
    assert f"process {GONE} on host {host} may be at work in" in line
    assert "dtr unlock --force" in line
    assert lock.exists() and unseen.exists() and ended.exists()
    assert main(["unlock", "--force"]) == 0
    assert not lock.exists() and not unseen.exists() and not ended.exists()


def test_a_damaged_note_proves_nothing(lock):
    note().write_text("")
    assert main(["unlock"]) == 2
    assert lock.exists()


def test_by_its_note_a_snakemake_of_any_name_is_seen_and_not_forced(lock, capsys):
    note(pid=os.getpid())
    assert main(["unlock", "--force"]) == 2
    assert f"(process {os.getpid()}); its lock stays" in capsys.readouterr().err
    assert lock.exists()


def test_without_a_lock_notes_of_the_living_and_the_unseen_stay(lock):
    lock.unlink()
    left, mine, unseen = note("left"), note("mine", pid=os.getpid()), note("unseen", host="else")
    assert main(["unlock"]) == 0
    assert not left.exists() and mine.exists() and unseen.exists()


def test_a_note_is_there_until_its_process_ends(lock):
    program = (
        "import os; from pathlib import Path; from dtr.commands.cluster import note_snakemake;"
        "note_snakemake(); print(*Path('.snakemake').glob('at-work-*'), flush=True);"
        "os.fork() or exit(); os.wait(); print(*Path('.snakemake').glob('at-work-*'))"
    )
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.count("at-work-") == 2  # also after a child has ended
    assert not list(Path(".snakemake").glob("at-work-*"))


def test_where_nothing_can_be_written_there_is_no_note(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").touch()  # no folder
    note_snakemake()
    assert capfd.readouterr().err == ""


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
