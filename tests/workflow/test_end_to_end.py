"""The whole chain at a tiny size: killed once, finished, then asked what it would do again."""

import copy
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from dtr.support.files import hash_file, read_json
from tests.conftest import table1_of

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

RESULTS = Path("results/tiny")
KILLED = RESULTS / "runs/own-random/seed0/step1000"
TRAINED = {  # folder below runs/: the routing of its model
    "in256-l2-none/seed0/step0": "none",
    "in256-l2-none/seed0/step20": "none",
    "in256-l2-dtr-a4/seed0/step20": "dtr",
    "own-random/seed0/step1000": "random",
}


def tiny(digits: dict) -> dict:
    """digits.yaml with every size cut down: two runs of the paper and one of our own."""
    digits |= {"scale": "tiny", "results": str(RESULTS), "targets": ["table5"]}
    digits["datasets"]["digits"]["num_test"] = 2500
    digits["autoencoders"]["digits-vae"] |= {"channels": [8, 8, 8], "steps": 10, "batch_size": 8}
    digits["extractors"]["digits-cnn"] |= {"width": 4, "features": 8, "steps": 10}
    for slot in digits["slots"].values():
        slot["steps"] = 20
    digits["backbones"] = {
        "DiT-L/2": {"type": "dit", "patch_size": 2, "width": 16, "depth": 2, "heads": 2}
    }
    digits["training"] |= {"batch_size": 8, "warmup_steps": 5}
    digits["evaluation"] |= {
        "n_samples": 60,
        "n_samples_reduced": 60,
        "shard_size": 40,
        "sampling_steps": 3,
        "kid_subset": 20,
        "bootstrap": 2,
    }
    digits["execution"]["checkpoint_seconds"] = 1
    digits["extra_runs"] = [
        {
            "id": "own-random",
            "slot": "unconditional",
            "backbone": "DiT-L/2",
            "routing": "random",
            "iterations": 5_000_000,  # 50 times the slot's 20 steps: long enough to be killed
        }
    ]
    return digits


def kill_while_training(project, scale: str) -> None:
    """Start one training through Snakemake, SIGKILL all of it once a checkpoint is there."""
    process = subprocess.Popen(
        ["snakemake", "--cores", "2", "--configfile", scale, "--", str(KILLED / "train.json")],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    work = project.folder / RESULTS / "work"
    while not list(work.glob("own-random/*/*/step-*.json")):
        assert process.poll() is None, "Snakemake ended before the first checkpoint"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def scale(project, _digits) -> str:
    return project.write_scale("tiny", tiny(table1_of(copy.deepcopy(_digits))))


@pytest.fixture(scope="module")
def finished(project, scale):
    """The project after the whole chain ran once; tests leave it as they found it."""
    kill_while_training(project, scale)
    assert not (project.folder / KILLED / "train.json").exists()
    assert "was left by a Snakemake" in project.run("python", "-m", "dtr", "unlock").stdout
    answer = project.snakemake("--cores", "2", "--configfile", scale)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return project


def contents(folder: Path) -> dict[Path, str]:
    return {path: hash_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_killed_training_went_on_from_its_checkpoint(finished):
    log = finished.folder / RESULTS / "logs/train/own-random-seed0-step1000.log"
    assert re.search(r"resumed at step [1-9]\d+", log.read_text())
    record = read_json(finished.folder / KILLED / "train.json")
    assert (record["status"], record["reached_step"]) == ("ok", 1000)
    assert [entry["step"] for entry in record["history"]] == list(range(10, 1001, 10))


def test_every_model_and_control_is_measured_and_the_page_exists(finished):
    results = finished.folder / RESULTS
    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    for folder, routing in TRAINED.items():
        record = read_json(results / "runs" / folder / "train.json")
        assert record["settings"]["routing"]["type"] == routing
        (metrics,) = (results / "runs" / folder / "metrics").glob("*.json")
        measured = read_json(metrics)
        assert measured["status"] == "ok", measured["reason"]
        assert {metric["n"] for metric in measured["metrics"]} == {60}
    controls = sorted(path.parts[-4] for path in results.glob("controls/*/real/metrics/*.json"))
    assert controls == ["class_conditional", "unconditional"]
    assert "own-random" in page


def test_afterwards_there_is_nothing_to_do(finished, scale):
    answer = finished.snakemake("-n", "--configfile", scale)
    assert answer.returncode == 0
    assert "Nothing to be done" in answer.stdout + answer.stderr


def test_the_results_are_what_they_say(finished, tmp_path):
    """Those of a killed and finished workflow, and their archive."""
    archive = str(tmp_path / "results.zip")
    for arguments in (["verify", str(RESULTS)], ["pack", str(RESULTS), "--out", archive]):
        answer = finished.run("python", "-m", "dtr", *arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr
    answer = finished.run("python", "-m", "dtr", "verify", archive)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_how_the_sweep_stands_is_told(finished, scale):
    answer = finished.run("python", "-m", "dtr", "status", "--configfile", scale)
    assert answer.returncode == 0, answer.stderr
    assert re.search(r"^(\d+) of \1 trainings, (\d+) of \2 cells\.$", answer.stdout, re.M)


def test_editing_the_readme_or_a_module_redoes_nothing(finished, scale):
    (finished.folder / "README.md").touch()
    module = finished.folder / "dtr" / "training" / "loop.py"
    module.write_text(module.read_text() + "\n# Edited.\n")
    assert finished.planned("--configfile", scale) == []


def test_another_beta_retrains_the_routed_runs_only(finished, digits):
    changed = tiny(digits)
    changed["routing"]["beta"] = 0.5
    jobs = finished.planned("--configfile", finished.write_scale("other-beta", changed))
    trained = {out for rule, out in jobs if rule == "train"}
    assert trained == {
        f"{RESULTS}/runs/{folder}/train.json"
        for folder, routing in TRAINED.items()
        if routing != "none"
    }
    redone = {rule for rule, _ in jobs}
    assert redone == {"train", "sample", "measure", "table", "verdicts", "page"}


def test_another_learning_rate_retrains_all_but_nothing_before(finished, digits):
    changed = tiny(digits)
    changed["training"]["learning_rate"] = 1e-3
    jobs = finished.planned("--configfile", finished.write_scale("other-rate", changed))
    trained = {out for rule, out in jobs if rule == "train"}
    assert trained == {f"{RESULTS}/runs/{folder}/train.json" for folder in TRAINED}
    assert not {"prepare_data", "train_autoencoder", "cache_latents", "real_features"} & {
        rule for rule, _ in jobs
    }


def test_more_checkpoints_or_time_redo_nothing(finished, digits):
    changed = tiny(digits)
    changed["execution"] |= {"checkpoint_seconds": 5, "runtime_minutes": 600}
    jobs = finished.planned("--configfile", finished.write_scale("other-times", changed))
    assert "train" not in {rule for rule, _ in jobs}


def test_one_lost_record_is_measured_again_and_the_page_does_not_wait(finished, scale):
    folder = finished.folder / RESULTS / "runs/in256-l2-dtr-a4/seed0/step20/metrics"
    (lost,) = folder.glob("*.json")
    values = read_json(lost)["metrics"]
    lost.unlink()
    settings = finished.run("python", "-m", "dtr", "settings", "--scale", scale).stdout
    partial = finished.run("python", "-m", "dtr", "report", "--settings", settings)
    assert partial.returncode == 0, partial.stderr
    assert not lost.exists()
    jobs = finished.planned("--configfile", scale)
    assert sorted(rule for rule, _ in jobs) == ["measure", "page", "table", "verdicts"]
    answer = finished.snakemake("--cores", "2", "--configfile", scale)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert read_json(lost)["metrics"] == values


def test_a_corrupted_latent_shard_is_refused_and_nothing_is_deleted(finished, scale):
    latents = finished.folder / RESULTS / "latents" / "digits--digits-vae"
    shard = latents / "shard-00000.npy"
    sound = shard.read_bytes()
    shard.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    before = contents(latents)
    target = RESULTS / "runs/in256-l2-none/seed1/step20/train.json"
    page = finished.folder / RESULTS / "report/index.html"
    built = page.read_bytes()
    page.unlink()
    now = finished.folder / RESULTS / "now/report/index.html"
    now.unlink(missing_ok=True)
    try:
        answer = finished.snakemake("--cores", "1", "--configfile", scale, "--", str(target))
        assert contents(latents) == before
    finally:
        shard.write_bytes(sound)
    assert answer.returncode != 0
    log = (finished.folder / RESULTS / "logs/train/in256-l2-none-seed1-step20.log").read_text()
    assert len(log.splitlines()) == 1
    assert "shard-00000.npy: content differs from its manifest (corrupted?)" in log
    assert not (finished.folder / target).exists()
    assert now.is_file()  # of what there is, although a job failed
    assert f"report: {now.relative_to(finished.folder)}" in answer.stdout + answer.stderr
    assert not page.exists()  # it is another job's to make
    page.write_bytes(built)
