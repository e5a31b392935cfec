"""Whose lock it is: the note that Snakemake leaves, and what `unlock` makes of it."""

import os
import signal
import subprocess
import time

import pytest

from dtr.support.files import read_json, write_json

pytestmark = pytest.mark.workflow

LOCKS, NOTES = ".snakemake/locks/*.lock", ".snakemake/at-work-*.json"


def start(project) -> subprocess.Popen:
    """Snakemake at work on the dataset of digits, with its lock."""
    process = subprocess.Popen(
        ["snakemake", "--cores", "1", "--", "results/digits/data/digits/manifest.json"],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(project.folder.glob(LOCKS)):
        assert process.poll() is None, "Snakemake ended before its lock was seen"
        time.sleep(0.01)
    return process


def test_a_killed_snakemake_is_unlocked_on_its_own_host_only(project):
    process = start(project)
    (note,) = project.folder.glob(NOTES)
    assert read_json(note)["pid"] == process.pid
    # As another host sees it, while it lives and when it is gone.
    noted = read_json(note)
    write_json(note, noted | {"host": "elsewhere"})
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    refused = project.run("python", "-m", "dtr", "unlock")
    assert refused.returncode == 2
    assert "on host elsewhere may be at work" in refused.stderr
    assert list(project.folder.glob(LOCKS))
    write_json(note, noted)
    # A second Snakemake, refused by the lock, takes no note away but its own.
    second = project.snakemake("--cores", "1", "results/digits/data/digits/manifest.json")
    assert second.returncode != 0 and "cannot be locked" in second.stderr
    assert list(project.folder.glob(NOTES)) == [note]
    answer = project.run("python", "-m", "dtr", "unlock")
    assert "was left by a Snakemake" in answer.stdout
    assert not [*project.folder.glob(LOCKS), *project.folder.glob(NOTES)]


def test_a_snakemake_that_ends_by_itself_leaves_no_note(project):
    assert project.snakemake("-n").returncode == 0
    answer = project.snakemake("--cores", "1", "results/digits/data/digits/manifest.json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not list(project.folder.glob(NOTES))
