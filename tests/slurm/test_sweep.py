"""A sweep on a real SLURM, which is started here, and everything that happens on a cluster.

On request only (`make test-slurm`): as root, where slurm-wlm, munge and the executor plugin are
installed and nobody's SLURM is configured. Takes about 20 minutes on two cores.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from dtr.support.files import hash_file
from tests.workflow.conftest import Project

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get("DTR_TEST_SLURM"), reason="on request: make test-slurm"),
]

CONF, MARK = Path("/etc/slurm/slurm.conf"), "# Of the tests of the DTR benchmark"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
STEPS, SLICE = 1000, 2  # of each training; minutes of walltime, in which none is finished
RESULTS = Path("results/slurm")
RUNS = ("ffhq64-adm-none", "ffhq64-adm-rtr", "ffhq64-adm-dtr-a4")
LOG_EVERY = 10  # steps between two lines of a training log
OPTIONS = (
    "--set-threads", "sample=1", "--set-resources", f"train:runtime={SLICE}", "train:mem_mb=1500",
    "--default-resources", "mem_mb=1500", "runtime=30", "nodes=1", "--latency-wait", "10",
    "--seconds-between-status-checks", "5", "--slurm-init-seconds-before-status-checks", "5",
    "--slurm-status-command", "squeue",
)  # fmt: skip


def shell(*words: str) -> str:
    """What a command prints; it has to succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def wait_for(what: str, condition: Callable[[], object], seconds: float = 900) -> object:
    """Wait until the condition is something; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.5)
    return value


# There is no accounting here. While the controller is away the plugin asks sacct, in all attempts
# of that check, and forgets its jobs if none is answered; so sacct answers from the queue.
SACCT = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --name ] && name=$2; shift; done
exec squeue --states=all --noheader --format='%i|%T' --name "${name:?}"
"""


class Cluster:
    """A SLURM of one node on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.host = folder, socket.gethostname()
        self.controller: subprocess.Popen | None = None
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        CONF.parent.mkdir(exist_ok=True)
        CONF.write_text(
            "\n".join(
                (
                    MARK,
                    "ClusterName=dtr",
                    f"SlurmctldHost={self.host}(127.0.0.1)",
                    "SlurmUser=root",
                    "AuthType=auth/munge",
                    "ProctrackType=proctrack/linuxproc",
                    "TaskPlugin=task/none",
                    "SelectType=select/cons_tres",
                    "SelectTypeParameters=CR_CPU",
                    "AccountingStorageType=accounting_storage/none",
                    "ReturnToService=2",
                    "MinJobAge=3600",
                    "KillWait=10",
                    # Steps that end while the controller is away are not taken for unkillable.
                    "UnkillableStepTimeout=600",
                    f"StateSaveLocation={folder / 'state'}",
                    f"SlurmdSpoolDir={folder / 'spool'}",
                    f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
                    f"SlurmdPidFile={folder / 'slurmd.pid'}",
                    f"NodeName={self.host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} "
                    "RealMemory=6000 State=UNKNOWN",
                    "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
                    "",
                )
            )
        )

    def start(self, *command: str, user: str = "root") -> subprocess.Popen:
        with open(self.folder / f"{command[0]}.log", "a") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, user=user, group=user, start_new_session=True
            )

    def up(self) -> bool:
        """Whether the controller answers."""
        answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
        return "is UP" in answer.stdout

    def training(self) -> list[tuple[str, str]]:
        """(job, run) of every training that runs."""
        rows = [
            line.split(maxsplit=2) for line in shell("squeue", "-h", "-o", "%i %T %k").split("\n")
        ]
        running = [(row[0], row[2]) for row in rows if len(row) == 3 and row[1] == "RUNNING"]
        return [
            (job, run)
            for job, comment in running
            for run in RUNS
            if f"train_wildcards_{run}" in comment
        ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    assert os.geteuid() == 0, "the daemons of SLURM are started as root"
    assert not missing, f"apt-get install slurm-wlm munge: missing {', '.join(missing)}"
    assert find_spec("snakemake_executor_plugin_slurm"), "pip install -e '.[slurm]'"
    ours = not CONF.exists() or CONF.read_text().startswith(MARK)
    assert ours, f"{CONF}: somebody's SLURM is configured here; it is left alone"
    made, munge = Cluster(tmp_path_factory.mktemp("slurm")), None
    if subprocess.run(["munge", "-n"], capture_output=True).returncode:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        munge = made.start("munged", "--foreground", user="munge")
        wait_for(
            "munge", lambda: not subprocess.run(["munge", "-n"], capture_output=True).returncode
        )
    made.controller, node = made.start("slurmctld", "-D"), made.start("slurmd", "-D")
    try:
        wait_for("the controller", made.up, 60)
        yield made
    finally:
        subprocess.run(["scancel", "--user", "root"], capture_output=True)
        time.sleep(3)
        for daemon in filter(None, (node, made.controller, munge)):
            daemon.terminate()
            daemon.wait(30)
        CONF.unlink()


class Watch(threading.Thread):
    """Notes, for every training, the newest checkpoint beside the length of its log."""

    def __init__(self, work: Path) -> None:
        super().__init__(daemon=True)
        self.work, self.seen, self.over = work, {run: [] for run in RUNS}, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            for run, seen in self.seen.items():
                notes = sorted(self.work.glob(f"{run}/seed0/*/step-*.json"))
                # The log is read after: a checkpoint that is seen was there at this length of it.
                if notes:
                    seen.append((int(notes[-1].stem[5:]), len(self.log(run))))

    def log(self, run: str) -> list[dict]:
        lines = []
        for path in self.work.glob(f"{run}/seed0/*/train.jsonl"):
            for line in path.read_text().splitlines():
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return lines

    def again(self, run: str) -> list[tuple[int, int, int]]:
        """Of every resume: the step it was at, where it went on, the checkpoint of that moment."""
        steps = [line["step"] for line in self.log(run)]
        found = []
        for number in range(1, len(steps)):
            if steps[number] <= steps[number - 1]:
                known = [newest for newest, length in self.seen[run] if length <= number]
                resumed = steps[number] - LOG_EVERY
                found.append((steps[number - 1], resumed, max(known, default=0)))
        return found


def sweep(root: Path) -> dict:
    """The smoke scale, cut down to three trainings on pixels that take some minutes."""
    scale = yaml.safe_load((root / "workflow/config/smoke.yaml").read_text(encoding="utf-8"))
    slot = scale["slots"]["pixel_unconditional"] | {"steps": STEPS}
    own = {"scale": "slurm", "results": str(RESULTS), "targets": ["table1"]}
    execution = scale["execution"] | {"checkpoint_seconds": 12}
    return scale | own | {"slots": {"pixel_unconditional": slot}, "execution": execution}


def test_a_sweep_survives_what_happens_on_a_cluster(cluster, root, tmp_path):
    project = Project(root, tmp_path)
    scale = project.write_scale("slurm", sweep(root))
    work = tmp_path / RESULTS / "work"
    watch, happened, begun = Watch(work), [], time.monotonic()

    def note(text: str) -> None:
        happened.append(f"{time.monotonic() - begun:6.0f} s  {text}")
        print(happened[-1], flush=True)

    def under_way(*, others: tuple[str, ...] = ()) -> tuple[str, str] | None:
        """A training that runs and has a checkpoint."""
        return next(
            (
                (job, run)
                for job, run in cluster.training()
                if run not in others and list(work.glob(f"{run}/seed0/*/step-*.json"))
            ),
            None,
        )

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sacct").write_text(SACCT)
    (tmp_path / "bin/sacct").chmod(0o755)
    environment = project.environment
    environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{environment['PATH']}"
    command = ["snakemake", "--profile", "profiles/slurm", "--configfile", scale, *OPTIONS]
    with open(tmp_path / "snakemake.log", "w") as output:
        snakemake = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=output, stderr=output
        )
    watch.start()
    try:
        job, cancelled = wait_for("a training with a checkpoint", under_way)
        shell("scancel", job)
        note(f"scancel of job {job}, {cancelled} at step {watch.log(cancelled)[-1]['step']}")

        job, requeued = wait_for("another training", lambda: under_way(others=(cancelled,)))
        shell("scontrol", "requeue", job)
        note(f"scontrol requeue of job {job}, {requeued} at {watch.log(requeued)[-1]['step']}")

        # A controller that goes away while jobs end leaves them to time out, one after the other.
        wait_for(
            "the jobs to be gone", lambda: "COMPLETING" not in shell("squeue", "-h", "-o", "%T")
        )
        wait_for("a training", cluster.training)
        time.sleep(15)  # it saves its state every five seconds, and starts again what it forgot
        cluster.controller.send_signal(signal.SIGKILL)
        cluster.controller.wait()
        note("slurmctld killed")
        time.sleep(15)
        cluster.controller = cluster.start("slurmctld", "-D")
        wait_for("the controller", cluster.up, 120)
        note("slurmctld started again")

        shell("scontrol", "update", f"nodename={cluster.host}", "state=drain", "reason=test")
        note("node set to drain")
        wait_for("the node to be empty", lambda: not cluster.training())
        time.sleep(10)
        shell("scontrol", "update", f"nodename={cluster.host}", "state=resume")
        note("node resumed")

        def ahead() -> tuple[str, str] | None:
            """A training that has logged steps after its newest checkpoint."""
            for job, run in cluster.training():
                newest = max((step for step, _ in watch.seen[run]), default=None)
                if newest is not None and watch.log(run)[-1]["step"] > newest:
                    return job, run
            return None

        job, killed = wait_for("a training ahead of its checkpoint", ahead)
        shell("scancel", "--signal=KILL", "--full", job)
        note(f"SIGKILL of job {job}, {killed} at step {watch.log(killed)[-1]['step']}")
        status = snakemake.wait(timeout=2400)
    finally:
        if snakemake.poll() is None:
            snakemake.kill()
        watch.over.set()
    log = (tmp_path / "snakemake.log").read_text()
    assert status == 0, log[-5000:]
    assert (tmp_path / RESULTS / "report/index.html").is_file()
    jobs = re.findall(r"SLURM jobid (\d+) .*rule_train/([\w-]+?)_0_(\d+)/", log)
    for run in RUNS:
        own = [number for number, name, step in jobs if name == run and int(step) == STEPS]
        steps = {line["step"] for line in watch.log(run)}
        assert steps >= set(range(LOG_EVERY, STEPS + 1, LOG_EVERY)), (
            "steps are missing from the log"
        )
        for reached, resumed, checkpoint in watch.again(run):
            note(f"{run}: at step {reached}, went on at {resumed}, checkpoint {checkpoint}")
            assert resumed >= checkpoint, "trained again although a checkpoint was there"
        note(f"{run}: {len(own)} jobs")
    assert len(jobs) > len(RUNS) + 1, "no training took more than one job"
    note(f"suspended at the end of a slice: {len(set(re.findall(r'saved at step .*', log)))} lines")

    # Undisturbed, it ends in the same weights, bit for bit.
    weights = f"runs/{cancelled}/seed0/step{STEPS}/ema.safetensors"
    quiet = project.write_scale(
        "quiet", sweep(root) | {"scale": "quiet", "results": "results/quiet"}
    )
    answer = project.snakemake(
        "--cores", "2", "--configfile", quiet, "--", f"results/quiet/{weights}"
    )
    assert answer.returncode == 0, answer.stderr
    assert hash_file(tmp_path / RESULTS / weights) == hash_file(
        tmp_path / "results/quiet" / weights
    )
    note(f"{cancelled}: the weights of an undisturbed training, bit for bit")
