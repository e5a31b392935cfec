"""A sweep on a real SLURM, which is started here, and everything that happens on a cluster.

On request only (`make test-slurm`): as root, where slurm-wlm, munge and the executor plugin are
installed and nobody's SLURM is configured. Takes about 20 minutes on two cores.
"""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from dtr.support.files import hash_file
from tests.slurm.conftest import (
    LOG,
    LOG_EVERY,
    RUNS,
    WANTED,
    Watch,
    cut_down,
    shell,
    sweeping,
    wait_for,
)

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not os.environ.get(WANTED), reason="on request: make test-slurm"),
]

STEPS, SLICE = 1000, 2  # of each training; minutes of walltime, in which none is finished
RESULTS = Path("results/slurm")


@pytest.mark.slow
def test_a_sweep_survives_what_happens_on_a_cluster(cluster, project, root, tmp_path):
    options = {"steps": STEPS, "checkpoint_seconds": 12}
    scale = project.write_scale("slurm", cut_down(root, "slurm", **options))
    work = tmp_path / RESULTS / "work"
    watch, happened, begun = Watch(work), [], time.monotonic()
    everywhere = ",".join(cluster.nodes)

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

    with sweeping(project, scale, runtime=SLICE) as snakemake:
        watch.start()
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

        shell("scontrol", "update", f"nodename={everywhere}", "state=drain", "reason=test")
        note("node set to drain")
        wait_for("the node to be empty", lambda: not cluster.training())
        time.sleep(10)
        shell("scontrol", "update", f"nodename={everywhere}", "state=resume")
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
    watch.over.set()
    log = (tmp_path / LOG).read_text()
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
    quiet = project.write_scale("quiet", cut_down(root, "quiet", **options))
    answer = project.snakemake(
        "--cores", "2", "--configfile", quiet, "--", f"results/quiet/{weights}"
    )
    assert answer.returncode == 0, answer.stderr
    assert hash_file(tmp_path / RESULTS / weights) == hash_file(
        tmp_path / "results/quiet" / weights
    )
    note(f"{cancelled}: the weights of an undisturbed training, bit for bit")
