"""One job in several processes: its exit status is theirs, and none of them outlives it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dtr.cli import main

TORCHRUN = [sys.executable, "-m", "dtr", "torchrun", "--standalone", "--nproc-per-node", "2"]
# Each process of the job says that it is there and waits; SIGTERM ends it as a suspended training.
WAITING = """
import os, signal, sys, time
from pathlib import Path
from dtr.support.processes import end_with

end_with(int(os.environ["DTR_LAUNCHER"]))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
Path(f"rank{os.environ['RANK']}").write_text(str(os.getpid()))
time.sleep(600)
"""


def start(folder, root, script, *words) -> subprocess.Popen:
    (folder / "job.py").write_text(script)
    return subprocess.Popen(
        [*TORCHRUN, "job.py", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
    )


def ranks(folder, launcher) -> list[psutil.Process]:
    """The two processes of a job, once they are there."""
    files = [folder / "rank0", folder / "rank1"]
    deadline = time.monotonic() + 120
    while not all(file.exists() and file.read_text() for file in files):
        assert time.monotonic() < deadline and launcher.poll() is None
        time.sleep(0.05)
    return [psutil.Process(int(file.read_text())) for file in files]


def test_without_options_it_says_what_it_takes(capsys):
    assert main(["torchrun"]) == 2
    assert capsys.readouterr().err.startswith("dtr torchrun: no options; example: --standalone")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "the following arguments are required: training_script"),
        (["--nproc-per-node", "é", "job.py"], "--nproc-per-node é: accepted: 1 or more, auto"),
        (["--nproc-per-node", "0", "job.py"], "--nproc-per-node 0: accepted: 1 or more, auto"),
    ],
)
def test_words_that_are_none_of_torchrun_are_refused_in_one_line(words, message, capsys):
    assert main(["torchrun", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dtr torchrun: {message}")


def test_the_exit_status_is_that_of_the_processes(root, tmp_path):
    script = "import os, sys, time; os.environ['RANK'] == '1' and sys.exit(75); time.sleep(600)"
    job = start(tmp_path, root, script)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 75
    assert "Traceback" not in errors


def test_refused_input_is_refused_by_all(root, tmp_path):
    answer = subprocess.run(
        [*TORCHRUN, "-m", "--", "dtr", "train", "--no-such-option"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 2
    assert "dtr train: the following arguments are required" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_sigterm_reaches_the_processes_and_is_a_suspension(root, tmp_path):
    job = start(tmp_path, root, WAITING)
    processes = ranks(tmp_path, job)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=120)
    assert job.returncode == 75
    assert "dtr torchrun: stopped by SIGTERM" in errors and "Traceback" not in errors
    assert not any(process.is_running() for process in processes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells a child")
def test_the_processes_of_a_killed_launcher_end_with_it(root, tmp_path):
    job = start(tmp_path, root, WAITING)
    processes = ranks(tmp_path, job)
    job.kill()
    job.communicate()
    psutil.wait_procs(processes, timeout=60)
    assert not any(process.is_running() for process in processes)
