"""What a scale says of devices and processes: in the commands of its jobs, and in their results."""

import re

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dtr.support.files import read_json

pytestmark = [pytest.mark.workflow]

TRAINED = "runs/ffhq64-adm-dtr-a4/seed0/step20/train.json"  # of pixels: no autoencoder before it


@pytest.fixture(scope="module")
def smoke(root) -> dict:
    return yaml.safe_load((root / "workflow/config/smoke.yaml").read_text(encoding="utf-8"))


def jobs(project, name: str, scale: dict, *options: str) -> dict[str, str]:
    """What `snakemake -n -p` prints of the first job of each rule."""
    file = project.write_scale(name, scale | {"results": f"results/{name}", "scale": name})
    answer = project.snakemake("-n", "-p", "--configfile", file, *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found: dict[str, str] = {}
    for block in re.split(r"^(?=rule )", answer.stdout + answer.stderr, flags=re.M):
        if match := re.match(r"rule (\w+):", block):
            found.setdefault(match[1], block)
    return found


def test_on_the_cpu_nothing_takes_a_gpu_or_torchrun(project, smoke):
    found = jobs(project, "plain", smoke)
    assert not [rule for rule, block in found.items() if re.search(r"gpu=[1-9]", block)]
    assert "python -m dtr train --run" in found["train"] and "torchrun" not in found["train"]


def test_with_gpus_every_job_that_computes_takes_its_own(project, smoke):
    scale = smoke | {"execution": smoke["execution"] | {"device": "cuda", "processes": 4}}
    found = jobs(project, "cuda", scale, "--cores", "4")
    taken = {
        rule: int(match[1])
        for rule, block in found.items()
        if (match := re.search(r"gpu=(\d+)", block)) and match[1] != "0"
    }
    one = ("cka", "measure", "real_features", "sample")
    assert taken == dict.fromkeys(one, 1) | {"train": 4, "cache_latents": 4}
    assert "--device cuda" in found["sample"] and "threads: 4" in found["train"]
    several = "python -m dtr torchrun --standalone --nproc-per-node 4 -m -- dtr train --run"
    assert several in found["train"]


def test_a_training_on_several_machines_is_started_on_each(project, smoke):
    changes = {"device": "cuda", "processes": 4, "nodes": 2}
    found = jobs(project, "nodes", smoke | {"execution": smoke["execution"] | changes})
    train, latents = found["train"], found["cache_latents"]
    assert "srun --nodes 2 --ntasks 2 --ntasks-per-node 1 --kill-on-bad-exit=1" in train
    assert re.search(r"--cpus-per-task \d+ python -m dtr torchrun", train)
    for asked in ("mpi=srun", "tasks=2", "tasks_per_gpu=0", "slurm_extra=--gpus-per-node=4"):
        assert asked in train and asked not in latents
    assert "python -m dtr torchrun --nnodes 2 --nproc-per-node 4 -m -- dtr train --run" in train
    assert re.search(r"gpu=8\b.*nodes=2\b", train) and "srun" not in latents


@pytest.mark.slow
def test_two_processes_through_the_rule_train_the_same_weights_as_one(project, smoke):
    slots = smoke["slots"]
    longer = {"pixel_unconditional": slots["pixel_unconditional"] | {"steps": 20}}
    trained, records = [], []
    for processes in (1, 2):
        name = f"processes{processes}"
        execution = smoke["execution"] | {"processes": processes}
        own = {"scale": name, "results": f"results/{name}", "slots": slots | longer}
        file = project.write_scale(name, smoke | own | {"execution": execution})
        target = f"results/{name}/{TRAINED}"
        answer = project.snakemake("--cores", "2", "--configfile", file, "--", target)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        record = project.folder / target
        records.append(read_json(record))
        weights = load_file(record.with_name("ema.safetensors"))
        trained.append(dict(sorted(weights.items())))
    assert [record["processes"] for record in records] == [1, 2]
    assert records[0]["fingerprint"] == records[1]["fingerprint"]
    one, two = ([entry["loss"] for entry in record["history"]] for record in records)
    assert len(one) == 2 and two == pytest.approx(one, rel=1e-5)
    # Not weight by weight: a bias that the next norm takes out again has no gradient but rounding,
    # and Adam makes steps of whatever size out of that.
    first, second = (torch.cat([t.float().flatten() for t in own.values()]) for own in trained)
    assert float((first - second).norm() / first.norm()) < 3e-4


@pytest.mark.parametrize("name", ["gpus", "slurm", "slurm-gres"])
def test_a_profile_names_rules_that_there_are(root, name):
    profile = yaml.safe_load((root / "profiles" / name / "config.yaml").read_text(encoding="utf-8"))
    texts = [path.read_text(encoding="utf-8") for path in (root / "workflow/rules").glob("*.smk")]
    rules = {rule for text in texts for rule in re.findall(r"^rule (\w+):", text, re.M)}
    named = {rule for key in ("set-resources", "set-threads") for rule in profile.get(key, {})}
    assert named <= rules
    using = {
        rule
        for text in texts
        for rule, body in re.findall(r"^rule (\w+):\n(.*?)(?=^rule |\Z)", text, re.M | re.S)
        if "gpu=GPUS" in body
    }
    asked = {rule for rule, given in profile.get("set-resources", {}).items() if "gres" in given}
    assert asked == (using if name == "slurm-gres" else set())
