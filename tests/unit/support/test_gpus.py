"""GPUs are shared out among jobs: never twice, not to the dead, only those that are named.

The GPUs are fake: a program called nvidia-smi names them.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from dtr.support import gpus
from dtr.support.errors import Refusal
from dtr.support.gpus import take_gpus

UUIDS = ("GPU-aa11", "GPU-bb22", "GPU-cc33")
# A job that takes GPUs, marks them as its own, which fails if they are another job's, and says so.
JOB = """
import os, sys, time
from pathlib import Path
from dtr.support.gpus import take_gpus

count, seconds = int(sys.argv[1]), float(sys.argv[2])
taken = take_gpus(count)
assert os.environ["CUDA_VISIBLE_DEVICES"] == ",".join(taken) and len(taken) == count
for gpu in taken:
    os.mkdir(f"used-{gpu}")
print(*taken, flush=True)
time.sleep(seconds)
for gpu in taken:
    os.rmdir(f"used-{gpu}")
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with three GPUs that nobody uses."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n" + "".join(f"echo {uuid}\n" for uuid in UUIDS))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DTR_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("DTR_LAUNCHER", raising=False)
    # Set and removed, so that what a test's own take_gpus sets is undone.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    return tmp_path


@pytest.fixture
def taking(monkeypatch):
    """Locks that this process takes, given back when the test ends."""
    held = []
    monkeypatch.setattr(gpus, "_held", held)
    yield take_gpus
    for lock in held:
        os.close(lock)


def start(folder, root, count=1, seconds=0.2, **environment) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", JOB, str(count), str(seconds)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_jobs_on_three_gpus_never_share_one(machine, root):
    jobs = [start(machine, root) for _ in range(8)]
    for job in jobs:
        printed, errors = job.communicate(timeout=120)
        assert job.returncode == 0, errors
        assert printed.strip() in UUIDS
    assert not list(machine.glob("used-*"))


def test_jobs_of_several_gpus_do_not_hold_each_other_up(machine, root):
    jobs = [start(machine, root, count) for count in (2, 2, 3, 1, 2)]
    for job in jobs:
        assert job.wait(timeout=120) == 0, job.communicate()
    assert not list(machine.glob("used-*"))


def test_a_killed_job_frees_its_own(machine, root):
    killed = start(machine, root, count=3, seconds=600)
    assert len(killed.stdout.readline().split()) == 3
    other = start(machine, root, count=2)
    assert "waiting for 2 of 3 GPUs" in other.stderr.readline()
    assert other.poll() is None
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    for left in machine.glob("used-*"):
        left.rmdir()
    assert other.wait(timeout=60) == 0
    assert len(other.communicate()[0].split()) == 2


def test_only_the_gpus_that_are_named_are_taken(machine, root):
    jobs = [start(machine, root, CUDA_VISIBLE_DEVICES="2,0") for _ in range(3)]
    answers = {job.communicate(timeout=60)[0].strip() for job in jobs}
    assert answers <= {"0", "2"}
    # By another name it is the same one.
    first = start(machine, root, seconds=600, CUDA_VISIBLE_DEVICES="1")
    assert first.stdout.readline().strip() == "1"
    second = start(machine, root, seconds=600, CUDA_VISIBLE_DEVICES="GPU-bb")
    assert "waiting for 1 of 1 GPUs" in second.stderr.readline()
    for job in (first, second):
        job.kill()
        job.communicate()


def test_the_lowest_free_one_is_taken(machine, taking, monkeypatch):
    assert taking(1) == ["GPU-aa11"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-aa11"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert taking(2) == ["1", "2"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"


@pytest.mark.parametrize(
    ("named", "found"), [("", 0), ("-1", 0), ("0", 1), ("1,-1,2", 1), ("GPU-aa11,", 1)]
)
def test_too_few_are_refused(machine, named, found, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    message = f"CUDA_VISIBLE_DEVICES = {named!r}: GPUs that a job may take: {found}; .* needs 2"
    with pytest.raises(Refusal, match=message):
        take_gpus(2)


def test_more_than_the_machine_has_are_refused(machine):
    with pytest.raises(Refusal, match="nvidia-smi: GPUs that a job may take: 3; this one needs 4"):
        take_gpus(4)


def test_a_process_of_a_launcher_takes_nothing_of_its_own(machine, monkeypatch):
    monkeypatch.setenv("DTR_LAUNCHER", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bb22")
    assert take_gpus(1) == ["GPU-bb22"]
    assert not (machine / "locks").exists()


def test_without_nvidia_smi_names_are_locked_as_they_are(machine, taking, root, monkeypatch):
    (machine / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert taking(1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert taking(1) == ["4"]
    job = start(machine, root, CUDA_VISIBLE_DEVICES="4,5")
    assert job.communicate(timeout=60)[0].strip() == "5"


def test_a_folder_that_cannot_be_made_is_refused_by_name(machine, monkeypatch):
    (machine / "file").touch()
    monkeypatch.setenv("DTR_GPU_LOCKS", str(machine / "file" / "locks"))
    with pytest.raises(
        Refusal, match=r"file/locks/.*cannot be opened \(Not a directory\); DTR_GPU"
    ):
        take_gpus(1)


def test_waiting_is_said_once(machine, taking, root, monkeypatch, capsys):
    monkeypatch.setattr(gpus, "LOOK", 0.01)
    job = start(machine, root, count=3, seconds=1)
    job.stdout.readline()
    began = time.monotonic()
    assert len(taking(3)) == 3 and time.monotonic() > began
    assert capsys.readouterr().err.count("waiting for 3 of 3 GPUs") == 1
    job.communicate()
