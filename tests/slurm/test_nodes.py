"""A training over two nodes of a real SLURM, and work that it refuses.

The short part of `make test-slurm`: two or three minutes on two cores.
"""

import os
import re

import pytest

from dtr.support.files import hash_file, read_json
from tests.slurm.conftest import LOG, RUNS, WANTED, cut_down, shell, sweeping, wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get(WANTED), reason="on request: make test-slurm"),
]

STEPS = 120


def jobs_of(project, rule: str) -> set[str]:
    """Numbers of the jobs that were submitted for a rule."""
    log = (project.folder / LOG).read_text()
    return set(re.findall(rf"SLURM jobid (\d+) .*rule_{rule}/", log))


def test_two_nodes_train_what_two_processes_of_one_train(cluster, project, root, tmp_path):
    """And go on after a scancel, in another job."""
    run, model = RUNS[0], f"runs/{RUNS[0]}/seed0/step{STEPS}"
    options = {"steps": STEPS, "checkpoint_seconds": 2, "processes": 1, "nodes": 2}
    scale = project.write_scale("nodes", cut_down(root, "nodes", **options))
    record = tmp_path / "results/nodes" / model / "train.json"
    work = tmp_path / "results/nodes/work"

    def under_way() -> str | None:
        """The job of the training, once it has a checkpoint; or that it was faster than this."""
        if record.is_file():
            return "done"
        saved = list(work.glob(f"{run}/seed0/*/step-*.json"))
        return next((job for job, _ in cluster.training() if saved), None)

    target = str(record.relative_to(tmp_path))
    with sweeping(project, scale, target) as snakemake:
        job = wait_for("a training with a checkpoint", under_way)
        if job != "done":
            nodes = shell("squeue", "-h", "-o", "%D", "-j", job).strip()
            print(f"job {job} on {nodes} nodes; cancelled", flush=True)
            shell("scancel", job)
        status = snakemake.wait(timeout=900)
    said = (tmp_path / LOG).read_text()
    assert status == 0, said[-5000:]
    if job != "done":
        assert nodes == "2" and len(jobs_of(project, "train")) > 1
        log = tmp_path / f"results/nodes/logs/train/{run}-seed0-step{STEPS}.log"
        assert "resumed at step" in log.read_text()
    assert read_json(record)["processes"] == 2

    options |= {"processes": 2, "nodes": 1}
    scale = project.write_scale("node", cut_down(root, "node", **options))
    weights = f"results/node/{model}/ema.safetensors"
    answer = project.snakemake("--cores", "2", "--configfile", scale, "--", weights)
    assert answer.returncode == 0, answer.stderr
    assert hash_file(tmp_path / weights) == hash_file(record.with_name("ema.safetensors"))


def test_refused_work_is_one_job(cluster, project, root, tmp_path):
    """Although the profile has sixty retries: the job's log says that none would help."""
    scale = cut_down(root, "refused", steps=STEPS)
    scale["datasets"]["digits16"] |= {"num_test": 7}
    configfile = project.write_scale("refused", scale)
    with sweeping(project, configfile, "results/refused/data/digits16/manifest.json") as job:
        assert job.wait(timeout=900) == 1
    said = (tmp_path / LOG).read_text()
    assert "num_test = 7" in said and "not tried again" in said
    assert len(jobs_of(project, "prepare_data")) == 1, said[-5000:]
