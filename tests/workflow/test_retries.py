"""What Snakemake's `retries` repeat: work that was stopped, and no work that was refused."""

import os

import pytest

pytestmark = pytest.mark.workflow

DATA = "results/digits/data/digits/manifest.json"
OPTIONS = ("--cores", "1", "--retries", "2")


def test_a_refusal_is_not_repeated(project):
    answer = project.snakemake(*OPTIONS, "--config", "datasets={digits: {num_test: 7}}", "--", DATA)
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0
    assert "num_test = 7" in said and "; not tried again" in said
    assert "Trying to restart" not in said


def test_work_that_was_stopped_is_repeated(project):
    """Here by a verb that is always suspended; of others the exit status is not looked at."""
    bin, count = project.folder / "bin", project.folder / "count"
    bin.mkdir()
    (bin / "python").write_text(
        f'#!/bin/sh\necho "$3" >>"{count}"\necho "dtr $3: it ended" >&2\nexit 75\n'
    )
    (bin / "python").chmod(0o755)
    path = f"{bin}{os.pathsep}{project.environment['PATH']}"
    answer = project.snakemake(*OPTIONS, "--", DATA, PATH=path)
    assert answer.returncode != 0
    assert count.read_text().split().count("prepare-data") == 3
