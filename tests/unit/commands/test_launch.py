"""One job in several processes: its exit status is theirs, and none of them outlives it."""

import os
import random
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from dtr.bench.training_cases import cached_latents
from dtr.cli import main
from dtr.gpucheck.training import digits_run
from dtr.support.files import canonical_json
from dtr.support.nodes import meeting

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


@pytest.mark.parametrize("nodes", ["0", "two", "2:", "1.5"])
def test_a_number_of_machines_that_is_none_is_refused(nodes, capsys):
    assert main(["torchrun", "--nnodes", nodes, "job.py"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"dtr torchrun: --nnodes {nodes}: accepted: a number of machines, or MIN:MAX"


def test_several_machines_without_slurm_are_told_where_to_meet(monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    assert main(["torchrun", "--nnodes", "2", "--nproc-per-node", "1", "job.py"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtr torchrun: --nnodes 2: no SLURM step") and "HOST:PORT" in line


def step_of_two(job: int) -> dict[str, str]:
    """What SLURM tells the tasks of a step on two machines, of which both are this one."""
    told = {"JOB_ID": job, "STEP_ID": 0, "STEP_NUM_TASKS": 2, "STEP_NUM_NODES": 2}
    return {f"SLURM_{name}": str(value) for name, value in told.items()} | {
        "SLURM_STEP_NODELIST": "localhost,elsewhere",
        "SLURMD_NODENAME": "localhost",
    }


def free_job(monkeypatch) -> int:
    """A number of a job whose meeting place is free here."""
    while True:
        job = random.randrange(1, 10**6)
        for name, value in step_of_two(job).items():
            monkeypatch.setenv(name, value)
        port = int(meeting(2).endpoint.split(":")[1])
        try:
            socket.create_server(("localhost", port)).close()
        except OSError:
            continue
        return job


def on_two_machines(folder, root, job, *words) -> list[subprocess.Popen]:
    """The launchers of two machines, each with one process."""
    launcher = [sys.executable, "-m", "dtr", "torchrun", "--nnodes", "2", "--nproc-per-node", "1"]
    return [
        subprocess.Popen(
            [*launcher, *words],
            cwd=folder,
            env=os.environ | step_of_two(job) | {"PYTHONPATH": str(root)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]


@pytest.mark.slow
def test_two_machines_train_the_same_weights_as_two_processes(root, tmp_path, monkeypatch):
    """Bit for bit, also when both are stopped on the way and one of them is told so alone."""
    data = cached_latents(tmp_path / "latents", 64, (4, 4, 4))
    chosen = canonical_json(digits_run(batch_size=8).plain())

    def train(name: str) -> list[str]:
        return [
            "-m", "--", "dtr", "train", "--run", "toy", "--step", "60", "--settings", chosen,
            "--data", str(data), "--work", str(tmp_path / name / "work"),
            "--out", str(tmp_path / name / "out"), "--checkpoint-seconds", "0",
        ]  # fmt: skip

    job = free_job(monkeypatch)
    subprocess.run([*TORCHRUN, *train("one")], cwd=tmp_path, check=True, capture_output=True,
                   env=os.environ | {"PYTHONPATH": str(root)})  # fmt: skip
    pair = on_two_machines(tmp_path, root, job, *train("two"))
    work = tmp_path / "two" / "work"
    deadline = time.monotonic() + 300
    while len(list(work.glob("*/step-*.json"))) < 2:
        assert time.monotonic() < deadline and pair[0].poll() is None
        time.sleep(0.01)
    pair[1].send_signal(signal.SIGTERM)
    said = [launcher.communicate(timeout=300)[1] for launcher in pair]
    statuses = [launcher.returncode for launcher in pair]
    assert statuses in ([75, 75], [0, 0]), said  # 0: it had ended before
    pair = on_two_machines(tmp_path, root, job + 1, *train("two"))
    said = [launcher.communicate(timeout=300)[1] for launcher in pair]
    assert [launcher.returncode for launcher in pair] == [0, 0], said
    one, two = (load_file(tmp_path / name / "out" / "ema.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
