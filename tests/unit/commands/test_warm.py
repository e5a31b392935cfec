"""Jobs of a warm process behave as jobs of their own: output, status, folder, signals."""

import os
import subprocess
import sys
import time

import psutil
import pytest

WARM = [sys.executable, "-m", "dtr", "warm", "--"]
JOB = f"{sys.executable} -m dtr"
# Reading a pipe that nobody writes to, a job waits for ever; it is a child of the warm process.
WAITING = f"{JOB} settings --scale pipe & job=$!; sleep 1;"
JOBS = "pgrep -P $PPID | grep -v $$"
STEPS = (
    f"{JOB} complexity > table.txt",
    f"{JOB} settings --scale scale.yaml; echo refused with $?",
    f"{JOB} nothing; echo unknown with $?",
    f"DTR_WARM=/absent {JOB} --version | tee cold.txt",
    # Cold, it meets the stand-in.
    f"SLURM_JOB_ID=17 PYTHONPATH=stand-in:$PYTHONPATH {JOB} throughput --backbone none --out x.json"
    " 2> other.txt; echo other job $?",
    # A stand-in for torch is not met by a job: torch was imported long before.
    f"PYTHONPATH=stand-in:$PYTHONPATH {JOB} throughput --backbone none --out x.json; echo warm $?",
    f"{WAITING} kill -9 $({JOBS}); wait $job; echo killed with $?",
    f"{WAITING} kill -TERM $job; wait $job; echo stopped with $?",
    f"sleep 1; {JOBS} || echo no job is left",
    "exit 7",
)


@pytest.fixture(scope="module")
def session(root, tmp_path_factory):
    """One warm session with several jobs, in a folder of its own."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "scale.yaml").write_text("[]")
    (folder / "stand-in").mkdir()
    (folder / "stand-in" / "torch.py").write_text("raise ImportError('imported again')")
    os.mkfifo(folder / "pipe")
    answer = subprocess.run(
        [*WARM, "bash", "-c", "; ".join(STEPS)],
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return folder, answer


def test_the_status_is_the_commands(session):
    assert session[1].returncode == 7


def test_jobs_write_where_they_were_told_to(session):
    folder, answer = session
    assert "DiT-XL/2" in (folder / "table.txt").read_text()
    assert "DiT-XL/2" not in answer.stdout
    assert (folder / "cold.txt").read_text().strip() in answer.stdout


def test_a_refused_job_says_why_and_has_its_status(session):
    _, answer = session
    assert "dtr settings: scale.yaml: not a mapping of settings" in answer.stderr
    assert "refused with 2" in answer.stdout
    assert "invalid choice: 'nothing'" in answer.stderr
    assert "unknown with 2" in answer.stdout
    assert "Traceback" not in answer.stderr


def test_jobs_have_torch_already(session):
    _, answer = session
    assert "backbone 'none': unknown" in answer.stderr
    assert "warm 2" in answer.stdout


def test_another_cluster_job_does_its_work_itself(session):
    """The socket is handed on with the environment; that process is in another allocation."""
    folder, answer = session
    assert "other job 1" in answer.stdout
    assert "imported again" in (folder / "other.txt").read_text()


def test_within_one_cluster_job_jobs_are_warm(root, tmp_path):
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "torch.py").write_text("raise ImportError('imported again')")
    job = f"PYTHONPATH=stand-in:$PYTHONPATH {JOB} throughput --backbone none --out x.json"
    answer = subprocess.run(
        [*WARM, "bash", "-c", f"{job}; echo in the job $?; unset SLURM_JOB_ID; {job}"],
        env=os.environ | {"PYTHONPATH": str(root), "SLURM_JOB_ID": "17"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "in the job 2" in answer.stdout
    assert (answer.returncode, "imported again" in answer.stderr) == (1, True)


def test_a_killed_job_is_reported_and_the_others_go_on(session):
    _, answer = session
    assert "killed with 1" in answer.stdout
    assert "the process of this job was killed" in answer.stderr


def test_sigterm_reaches_the_job(session):
    _, answer = session
    assert "stopped with 1" in answer.stdout
    assert "no job is left" in answer.stdout


def test_jobs_of_a_killed_command_stop(root, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    command = f"{JOB} --version; {WAITING} kill -9 $$"
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run([*WARM, "bash", "-c", command], env=environment, cwd=tmp_path, timeout=100)
    # The job is gone; the client that asked for it needs a moment to notice.
    deadline = time.monotonic() + 20
    while left := [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(tmp_path)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_an_unknown_command_is_one_line(root):
    answer = subprocess.run([*WARM, "no-such-command"], capture_output=True, text=True, cwd=root)
    assert answer.returncode == 127
    assert answer.stderr == "dtr warm: no-such-command: not found\n"


@pytest.mark.parametrize("length", [60, 200])
def test_jobs_are_warm_below_a_temporary_folder_of_any_length(length, root, tmp_path):
    """The path of a socket may have 107 bytes."""
    temporary = tmp_path / ("n" * length) / ("o" * length)
    temporary.mkdir(parents=True)
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in" / "torch.py").write_text("raise ImportError('imported again')")
    job = f"PYTHONPATH=stand-in:$PYTHONPATH {JOB} throughput --backbone none --out x.json"
    answer = subprocess.run(
        [*WARM, "bash", "-c", f"echo $DTR_WARM; {job}"],
        env=os.environ | {"PYTHONPATH": str(root), "TMPDIR": str(temporary)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 2, answer.stderr
    assert str(temporary) in answer.stdout
    (line,) = answer.stderr.splitlines()
    assert "backbone 'none': unknown" in line


def test_a_missing_temporary_folder_is_replaced(root, tmp_path):
    answer = subprocess.run(
        [*WARM, "bash", "-c", f"{JOB} --version"],
        env=os.environ | {"PYTHONPATH": str(root), "TMPDIR": str(tmp_path / "absent")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
