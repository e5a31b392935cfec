"""The time budget, the cluster job and the signals that end a training in good order."""

import os
import signal
import subprocess
import sys
import time
import uuid

import psutil
import pytest

from dtr.support.errors import Suspended
from dtr.training import budget
from dtr.training.budget import JOB_VARIABLES, deadline, interruptible, scheduler_job
from tests.unit.training.conftest import assert_same_state, run_to, settings


def test_sigterm_saves_and_exits_75(latents, tmp_path):
    command = [
        sys.executable, "-m", "dtr", "train", "--run", "toy", "--step", "1000000",
        "--settings", settings().model_dump_json(), "--data", str(latents),
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
        "--checkpoint-seconds", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "work").glob("*/step-*.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped by SIGTERM; saved at step" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_time_budget_suspends_with_everything_saved(latents, tmp_path):
    with pytest.raises(Suspended, match="time budget is used up; saved at step 10 of 200"):
        run_to(200, latents, tmp_path / "work", budget_minutes=1e-9)
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    assert_same_state(whole, resumed)


@pytest.fixture
def job(monkeypatch):
    """A cluster job of which another process has run for an hour already, and this one begins."""
    name = f"job-{uuid.uuid4()}"
    process = subprocess.Popen(["sleep", "600"], env=os.environ | {"SLURM_JOB_ID": name})
    began = psutil.Process(process.pid).create_time()
    monkeypatch.setenv("SLURM_JOB_ID", name)
    # The clock is an hour on, or whatever a test says.
    ahead = {"seconds": 3600.0}
    monkeypatch.setattr(budget.time, "time", lambda: began + ahead["seconds"])
    yield ahead, process
    process.kill()
    process.wait()


def minutes_left(budget_minutes: float) -> float:
    return (deadline(budget_minutes) - time.monotonic()) / 60


def test_the_budget_is_that_of_the_cluster_job(job):
    assert 28 < minutes_left(90) < 30


def test_an_allocation_that_outlives_the_budget_is_not_its_job(job):
    """All trainings of a workflow that runs inside it would stop at once otherwise."""
    assert 28 < minutes_left(30) < 30
    ahead, _ = job
    ahead["seconds"] = 60 * 29.5  # in the margin for the last checkpoint
    assert 28 < minutes_left(30) < 30


def test_a_job_that_was_started_anew_has_its_whole_time_again(job):
    _, process = job
    process.kill()
    process.wait()
    assert 28 < minutes_left(30) < 30


def test_a_clock_that_was_set_back_gives_no_more_than_the_budget(job):
    ahead, _ = job
    ahead["seconds"] = -3600.0
    assert 28 < minutes_left(30) < 30


def test_outside_of_a_cluster_the_budget_begins_with_the_training(monkeypatch):
    for name in JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert 28 < minutes_left(30) < 30
    assert deadline(None) == float("inf")


@pytest.mark.parametrize("name", JOB_VARIABLES)
def test_the_job_of_a_scheduler_is_known(name, monkeypatch):
    for other in JOB_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    assert scheduler_job() is None
    monkeypatch.setenv(name, "17.server")
    assert scheduler_job() == "17.server"


def test_grid_engine_is_known_by_two_names(monkeypatch):
    for other in JOB_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.delenv("SGE_TASK_ID", raising=False)
    monkeypatch.setenv("JOB_ID", "17")
    assert scheduler_job() is None  # other programs have such a variable too
    monkeypatch.setenv("SGE_TASK_ID", "undefined")
    assert scheduler_job() == "17"


def test_signals_are_collected_and_then_have_their_old_meaning():
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert received == ["stopped by SIGTERM", "stopped by SIGINT"]
    assert signal.getsignal(signal.SIGTERM) is before
