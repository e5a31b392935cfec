"""The time budget, the cluster job and the signals that end a training in good order."""

import os
import signal
import subprocess
import sys
import time

import pytest

from dtr.support.errors import Suspended
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


def test_restarts_in_one_cluster_job_share_its_budget(latents, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(Suspended):
        run_to(200, latents, tmp_path / "work", budget_minutes=1e-9)
    with pytest.raises(Suspended, match="saved at step 20"):
        run_to(200, latents, tmp_path / "work", budget_minutes=1e-9)
    (mark,) = (tmp_path / "work").glob("*/job-17.start")
    mark.write_text(str(time.time() - 3600))
    with pytest.raises(Suspended):
        run_to(200, latents, tmp_path / "work", budget_minutes=30)


def test_a_requeued_job_has_its_whole_time_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    (tmp_path / "job-17.start").write_text(str(time.time() - 3600))
    assert deadline(tmp_path, 30) < time.monotonic()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert deadline(tmp_path, 30) > time.monotonic() + 25 * 60


def test_a_clock_that_was_set_back_gives_no_more_than_the_budget(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    (tmp_path / "job-17.start").write_text(str(time.time() + 3600))
    assert deadline(tmp_path, 30) <= time.monotonic() + 30 * 60


def test_a_mark_that_a_kill_left_empty_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    mark = tmp_path / "job-17.start"
    mark.touch()
    assert deadline(tmp_path, 30) > time.monotonic()
    assert time.time() - float(mark.read_text()) < 60


def test_without_a_budget_there_is_no_deadline_and_no_mark(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    assert deadline(tmp_path, None) == float("inf")
    assert not list(tmp_path.iterdir())


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
