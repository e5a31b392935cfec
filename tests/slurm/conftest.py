"""A SLURM of two nodes on this machine, which is started for these tests, and a sweep on it."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import yaml

from tests.workflow.conftest import Project

WANTED = "DTR_TEST_SLURM"  # 1: has to work; try: what stands in the way is no failure
CONF, MARK = Path("/etc/slurm/slurm.conf"), "# Of the tests of the DTR benchmark"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol")
RUNS = ("ffhq64-adm-none", "ffhq64-adm-rtr", "ffhq64-adm-dtr-a4")  # trainings on pixels
LOG = "snakemake.log"
LOG_EVERY = 10  # steps between two lines of a training log
OPTIONS = (
    "--set-threads", "sample=1", "--default-resources", "mem_mb=1500", "runtime=30", "nodes=1",
    "--latency-wait", "10", "--seconds-between-status-checks", "5",
    "--slurm-init-seconds-before-status-checks", "5", "--slurm-status-command", "squeue",
    "--no-hooks",  # no page of a sweep that is to fail
)  # fmt: skip


def shell(*words: str) -> str:
    """What a command prints; it has to succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def answers(*words: str) -> bool:
    """Whether a command succeeds."""
    return subprocess.run(words, capture_output=True).returncode == 0


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
    """A SLURM of two nodes, both this machine, which share its cores."""

    def __init__(self, folder: Path) -> None:
        self.folder, host = folder, socket.gethostname()
        self.nodes = ("127.0.0.1", "127.0.0.2")  # addresses, so that they find each other
        self.controller: subprocess.Popen | None = None
        self._daemons: list[subprocess.Popen] = []
        cores = max(1, (os.cpu_count() or 1) // 2)
        memory = min(6000, psutil.virtual_memory().total // (2 << 20))
        (folder / "state").mkdir()
        CONF.parent.mkdir(exist_ok=True)
        CONF.write_text(
            "\n".join(
                (
                    MARK,
                    "ClusterName=dtr",
                    f"SlurmctldHost={host}(127.0.0.1)",
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
                    "SlurmdParameters=config_overrides",
                    f"StateSaveLocation={folder / 'state'}",
                    f"SlurmdSpoolDir={folder / 'spool-%n'}",
                    f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
                    f"SlurmdPidFile={folder / 'slurmd-%n.pid'}",
                    *(
                        f"NodeName={name} NodeHostname={name} NodeAddr={name} Port={port} "
                        f"CPUs={cores} RealMemory={memory} State=UNKNOWN"
                        for port, name in enumerate(self.nodes, 17_001)
                    ),
                    "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP",
                    "",
                )
            )
        )

    def start(self, *command: str, user: str = "root") -> subprocess.Popen:
        """Start a daemon; what it says goes to a file of its name."""
        with open(self.folder / f"{command[0]}.log", "a") as log:
            made = subprocess.Popen(
                command, stdout=log, stderr=log, user=user, group=user, start_new_session=True
            )
        self._daemons.append(made)
        return made

    def start_all(self) -> None:
        """Start munge, where it is not there, the controller and the nodes, and run one job."""
        if not answers("munge", "-n"):
            Path("/run/munge").mkdir(exist_ok=True)
            shutil.chown("/run/munge", "munge", "munge")
            self.start("munged", "--foreground", user="munge")
            wait_for("munge", lambda: answers("munge", "-n"), 60)
        self.controller = self.start("slurmctld", "-D")
        for name in self.nodes:
            self.start("slurmd", "-D", "-N", name)
        wait_for("the controller", lambda: self.up() or self.fatal(), 60)
        if why := self.fatal():
            raise OSError(why)
        count = str(len(self.nodes))
        trial = ("srun", "--immediate=60", "--nodes", count, "--ntasks-per-node", "1", "true")
        wait_for("a first job", lambda: answers(*trial), 120)

    def stop_all(self) -> None:
        """End all jobs and daemons, and take the configuration away."""
        subprocess.run(["scancel", "--user", "root"], capture_output=True)
        time.sleep(3)
        for daemon in reversed(self._daemons):
            if daemon.poll() is None:
                daemon.terminate()
                try:
                    daemon.wait(30)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
        CONF.unlink()

    def up(self) -> bool:
        """Whether the controller answers."""
        answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
        return "is UP" in answer.stdout

    def fatal(self) -> str | None:
        """What a daemon said as it gave up."""
        logs = "".join(path.read_text() for path in self.folder.glob("slurm*.log"))
        return next((line for line in logs.splitlines() if "fatal: " in line), None)

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


def in_the_way() -> str | None:
    """Why no SLURM can be started here."""
    if os.geteuid():
        return "the daemons of SLURM are started as root"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"apt-get install slurm-wlm munge: missing {', '.join(missing)}"
    if not find_spec("snakemake_executor_plugin_slurm"):
        return "pip install -e '.[slurm]'"
    if CONF.exists() and not CONF.read_text().startswith(MARK):
        return f"{CONF}: somebody's SLURM is configured here; it is left alone"
    return None


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """A SLURM that answers; where none can be had that is a failure, unless it was only tried."""
    give_up = pytest.skip if os.environ.get(WANTED) == "try" else pytest.fail
    if why := in_the_way():
        give_up(why)
    try:
        made = Cluster(tmp_path_factory.mktemp("slurm"))
    except OSError as error:
        give_up(f"{CONF}: cannot be written ({error.strerror})")
    try:
        try:
            made.start_all()
        except (AssertionError, LookupError, OSError) as error:  # as where no daemons are allowed
            give_up(f"SLURM does not start here: {str(error).splitlines()[0]}")
        yield made
    finally:
        made.stop_all()


@pytest.fixture
def project(root, tmp_path) -> Project:
    """A copy of the project, whose Snakemake sees a cluster with accounting."""
    made = Project(root, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sacct").write_text(SACCT)
    (tmp_path / "bin/sacct").chmod(0o755)
    return made


@contextmanager
def sweeping(
    project: Project, scale: str, *targets: str, runtime: int = 30
) -> Iterator[subprocess.Popen]:
    """Snakemake at work on the cluster; its log lies in the project.

    runtime: minutes of walltime of a training.
    """
    environment = project.environment
    environment["PATH"] = f"{project.folder / 'bin'}{os.pathsep}{environment['PATH']}"
    command = ["snakemake", "--profile", "profiles/slurm", "--configfile", scale, *OPTIONS]
    # In place of those of the profile, for machines that are larger.
    command += ["--set-resources", f"train:runtime={runtime}", "train:mem_mb=1500", "--", *targets]
    with open(project.folder / LOG, "w") as output:
        snakemake = subprocess.Popen(
            command, cwd=project.folder, env=environment, stdout=output, stderr=output
        )
    try:
        yield snakemake
    finally:
        if snakemake.poll() is None:
            snakemake.kill()
            snakemake.wait()


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


def cut_down(root: Path, name: str, *, steps: int, **execution: object) -> dict:
    """The smoke scale with no more than trainings on pixels that take a while."""
    scale = yaml.safe_load((root / "workflow/config/smoke.yaml").read_text(encoding="utf-8"))
    slot = scale["slots"]["pixel_unconditional"] | {"steps": steps}
    own = {"scale": name, "results": f"results/{name}", "targets": ["table1"]}
    own["execution"] = scale["execution"] | execution
    return scale | own | {"slots": {"pixel_unconditional": slot}}
