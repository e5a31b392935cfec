"""The training contract: exact resume, fingerprints, refusals, divergence, time budget."""

import fcntl
import json
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dtr.config.stages import RunSettings
from dtr.data.latents import LatentDataset
from dtr.records.workdir import append_log, exclusive, in_use, read_log, running_steps
from dtr.support.errors import Busy, Refusal, Suspended
from dtr.support.files import hash_file, hash_json, read_json, write_json
from dtr.training.checkpoint import load_checkpoint, save_checkpoint
from dtr.training.core import learning_rate
from dtr.training.distributed import World
from dtr.training.loop import Execution, train_run, write_result
from dtr.training.trainer import Trainer


@pytest.fixture
def latents(tmp_path):
    """A few random "latents" in the format of the cache."""
    folder = tmp_path / "latents"
    folder.mkdir()
    draws = np.random.default_rng(0)
    np.save(folder / "labels.npy", np.arange(40) % 10)
    moments = draws.standard_normal((40, 1, 2, 4, 4, 4), dtype=np.float32)
    np.save(folder / "shard-00000.npy", moments)
    files = {name: hash_file(folder / name) for name in ("labels.npy", "shard-00000.npy")}
    manifest = {"dataset": "toy", "count": 40, "mirrors": 1, "shape": [4, 4, 4]}
    write_json(
        folder / "manifest.json",
        manifest | {"scale_factor": 1.0, "files": files, "content_hash": hash_json(files)},
    )
    return folder / "manifest.json"


def settings(**changes) -> RunSettings:
    value = {
        "seed": 0,
        "backbone": {
            "family": "dit",
            "input_size": 4,
            "in_channels": 4,
            "patch_size": 2,
            "width": 16,
            "depth": 2,
            "heads": 2,
            "num_classes": 10,
            "label_dropout": 0.1,
        },
        "routing": {"type": "dtr", "beta": 0.8, "alpha": 4.0, "variant": "code"},
        "weighting": {"type": "vanilla"},
        "timesteps": [0, 1000],
        "diffusion": {"schedule": "cosine", "num_timesteps": 1000},
        "training": {
            "batch_size": 8,
            "learning_rate": 1e-2,
            "warmup_steps": 5,
            "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999],
            "ema_decay": 0.9,
            "label_dropout": 0.1,
            "precision": "float32",
        },
    }
    for path, change in changes.items():
        *parents, name = path.split("__")
        target = value
        for parent in parents:
            target = target[parent]
        target[name] = change
    return RunSettings.model_validate_json(json.dumps(value))


def run_to(step, latents, work, chosen=None, **execution):
    dataset = LatentDataset.open(latents)
    return train_run(
        chosen or settings(),
        dataset,
        step=step,
        work=work,
        execution=Execution(**execution),
        world=World(),
        title="toy",
    )


def assert_same_state(first: Trainer, second: Trainer) -> None:
    assert first.step == second.step
    for name, tensor in first.ema.items():
        assert torch.equal(tensor, second.ema[name]), name
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name


def test_more_steps_continue_the_run_exactly(latents, tmp_path):
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    run_to(13, latents, tmp_path / "parts")
    resumed, *_ = run_to(30, latents, tmp_path / "parts")
    assert_same_state(whole, resumed)


def test_an_earlier_step_can_be_asked_for_later(latents, tmp_path):
    first, *_ = run_to(20, latents, tmp_path / "work")
    run_to(40, latents, tmp_path / "work")
    again, *_ = run_to(20, latents, tmp_path / "work")
    assert again.step == 20
    assert_same_state(first, again)


@pytest.mark.slow
@pytest.mark.parametrize("kill_seed", [0, 1, 2])
def test_sigkill_at_random_moments_leaves_the_same_ema(latents, tmp_path, kill_seed):
    """Three kills -9 of the real command; the EMA file is bit-identical to an undisturbed one."""
    moments = random.Random(kill_seed)

    def command(name: str) -> list[str]:
        return [
            sys.executable, "-m", "dtr", "train", "--run", "toy", "--step", "400",
            "--settings", settings().model_dump_json(), "--data", str(latents),
            "--work", str(tmp_path / name / "work"), "--out", str(tmp_path / name / "out"),
            "--checkpoint-seconds", "0",
        ]  # fmt: skip

    subprocess.run(command("whole"), check=True, capture_output=True)
    for _ in range(3):
        process = subprocess.Popen(
            command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        notes = tmp_path / "killed" / "work"
        seen = len(list(notes.glob("*/step-*.json")))
        deadline = time.monotonic() + 60
        while len(list(notes.glob("*/step-*.json"))) <= min(seen, 1) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command("killed"), check=True, capture_output=True)
    outputs = [tmp_path / name / "out" / "ema.safetensors" for name in ("whole", "killed")]
    assert hash_file(outputs[0]) == hash_file(outputs[1])
    records = [read_json(output.with_name("train.json")) for output in outputs]
    for entry in (*records[0]["history"], *records[1]["history"]):
        del entry["rate"]
    assert records[0]["history"] == records[1]["history"]


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["vanilla", "ant_uw"])
def test_two_processes_train_the_same_weights_as_one(latents, tmp_path, weighting):
    """torchrun with two processes on the CPU: the EMA of one process to 1e-6."""
    own = {"ant_uw": {"clusters": 8, "learning_rate": 0.025}}.get(weighting, {})
    chosen = settings(weighting={"type": weighting, **own}, training__learning_rate=1e-3)

    def run(processes: int) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"{processes}"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={processes}", "-m", "--", "dtr", "train", "--run", "toy",
            "--step", "20",
            "--settings", chosen.model_dump_json(), "--data", str(latents),
            "--work", str(folder / "work"), "--out", str(folder / "out"),
        ]  # fmt: skip
        answer = subprocess.run(command, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        return load_file(folder / "out" / "ema.safetensors")

    one, two = run(1), run(2)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(Refusal, match="batch_size = 8: not divisible by 3 processes"):
        World(0, 3).slice_of(8)


@pytest.mark.parametrize("weighting", ["vanilla", "ant_uw"])
def test_a_batch_in_portions_trains_the_same_weights(latents, tmp_path, weighting):
    own = {"ant_uw": {"clusters": 8, "learning_rate": 0.025}}.get(weighting, {})
    chosen = settings(weighting={"type": weighting, **own}, training__learning_rate=1e-3)
    whole, *_ = run_to(20, latents, tmp_path / "whole", chosen)
    portions, folder, _ = run_to(20, latents, tmp_path / "parts", chosen, accumulation=4)
    for name, tensor in whole.ema.items():
        torch.testing.assert_close(portions.ema[name], tensor, rtol=0, atol=1e-6, msg=name)
    logs = [read_log(one, until=20) for one in (tmp_path / "whole" / folder.name, folder)]
    for name in ("loss", "mse", "vb"):
        first, second = ([entry[name] for entry in log] for log in logs)
        assert second == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("accumulation", [0, 3])
def test_portions_that_do_not_divide_the_batch_are_refused(latents, tmp_path, accumulation):
    with pytest.raises(Refusal, match=f"accumulation = {accumulation}: must divide the 8 images"):
        run_to(20, latents, tmp_path / "work", accumulation=accumulation)
    assert not (tmp_path / "work").exists()


def test_sigterm_saves_and_exits_75(latents, tmp_path):
    command = [
        sys.executable, "-m", "dtr", "train", "--run", "toy", "--step", "1000000",
        "--settings", settings().model_dump_json(), "--data", str(latents),
        "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
        "--checkpoint-seconds", "1",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "work").glob("*/step-*.json")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "stopped by SIGTERM; saved at step" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_time_budget_suspends_with_everything_saved(latents, tmp_path):
    with pytest.raises(Suspended, match="time budget is used up; saved at step 10 of 200"):
        run_to(200, latents, tmp_path / "work", budget_minutes=1e-9)
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    assert_same_state(whole, resumed)


def test_restarts_in_one_cluster_job_share_its_budget(latents, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with pytest.raises(Suspended):
        run_to(200, latents, tmp_path / "work", budget_minutes=1e-9)
    with pytest.raises(Suspended, match="saved at step 20"):
        run_to(200, latents, tmp_path / "work", budget_minutes=1e-9)
    (mark,) = (tmp_path / "work").glob("*/job-17.start")
    mark.write_text(str(time.time() - 3600))
    with pytest.raises(Suspended):
        run_to(200, latents, tmp_path / "work", budget_minutes=30)


def test_a_second_writer_is_refused(latents, tmp_path):
    _, folder, _ = run_to(2, latents, tmp_path / "work")
    with exclusive(folder), pytest.raises(Busy, match="another process"):
        run_to(4, latents, tmp_path / "work")


def test_a_training_that_goes_on_is_seen_with_its_step(latents, tmp_path):
    work = tmp_path / "work" / "toy" / "seed0"
    _, folder, _ = run_to(10, latents, work)
    assert not in_use(folder) and running_steps(tmp_path / "work") == {}
    with exclusive(folder):
        assert running_steps(tmp_path / "work") == {("toy", 0): 10}
    assert not in_use(tmp_path)


def test_a_look_at_the_lock_does_not_stop_a_start(latents, tmp_path, monkeypatch):
    """Somebody else's look takes a moment; the trainer waits for it."""
    monkeypatch.setattr("dtr.records.workdir.PATIENCE", 5.0)  # for a machine that stalls the timer
    _, folder, _ = run_to(2, latents, tmp_path / "work")
    with open(folder / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        threading.Timer(0.1, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        with exclusive(folder):
            pass


def test_other_settings_get_another_folder(latents, tmp_path):
    _, first, _ = run_to(5, latents, tmp_path / "work")
    other = settings(training__learning_rate=2e-2)
    trainer, second, _ = run_to(5, latents, tmp_path / "work", other)
    assert first != second
    assert first.exists()
    assert trainer.step == 5


def test_a_checkpoint_of_another_fingerprint_is_refused(latents, tmp_path):
    _, folder, _ = run_to(5, latents, tmp_path / "work")
    with pytest.raises(Refusal, match="belongs to other settings"):
        load_checkpoint(folder, "0" * 64, at_most=5)
    assert list(folder.glob("step-*.pt"))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(latents, tmp_path, capsys):
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    run_to(20, latents, tmp_path / "work")
    newest = folder / "step-000000020.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    resumed, *_ = run_to(30, latents, tmp_path / "work")
    output = capsys.readouterr()
    assert "step-000000020.pt: damaged, going back to the one before" in output.err
    assert "resumed at step 10" in output.out
    whole, *_ = run_to(30, latents, tmp_path / "whole")
    assert_same_state(whole, resumed)


def test_the_last_two_checkpoints_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, {"step": step, "fingerprint": "f", "w": torch.ones(1)})
    assert sorted(path.name for path in tmp_path.glob("step-*.pt")) == [
        "step-000000003.pt",
        "step-000000004.pt",
    ]
    assert load_checkpoint(tmp_path, "f", at_most=3)["step"] == 3
    assert load_checkpoint(tmp_path, "f", at_most=2) is None


def test_log_survives_cut_lines_and_repeated_steps(tmp_path):
    append_log(tmp_path, {"step": 10, "loss": 1.0})
    append_log(tmp_path, {"step": 20, "loss": 9.0})
    with open(tmp_path / "train.jsonl", "a") as stream:
        stream.write('{"step": 30, "lo\n')
    append_log(tmp_path, {"step": 20, "loss": 2.0})
    assert read_log(tmp_path, until=25) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]


def test_divergence_is_a_status_and_keeps_good_weights(latents, tmp_path, monkeypatch):
    run_to(10, latents, tmp_path / "work")
    original = Trainer.batch

    def poisoned(self):
        x0, *rest = original(self)
        return (x0 * float("nan") if self.step >= 15 else x0, *rest)

    monkeypatch.setattr(Trainer, "batch", poisoned)
    trainer, folder, diverged = run_to(50, latents, tmp_path / "work")
    assert "not finite by step 20" in diverged
    assert trainer.step == 10
    write_result(trainer, folder, tmp_path / "out", run="toy", step=50, diverged=diverged)
    record = read_json(tmp_path / "out" / "train.json")
    assert (record["status"], record["step"], record["reached_step"]) == ("diverged", 50, 10)
    assert all(torch.isfinite(tensor).all() for tensor in trainer.ema.values())


def test_first_steps_learn_and_the_ema_follows(latents, tmp_path):
    start, *_ = run_to(0, latents, tmp_path / "work")
    initial = {name: tensor.clone() for name, tensor in start.ema.items()}
    trainer, folder, _ = run_to(60, latents, tmp_path / "work")
    log = read_log(folder, until=60)
    assert [entry["step"] for entry in log] == [10, 20, 30, 40, 50, 60]
    assert log[-1]["mse"] < log[0]["mse"]
    name = "blocks.0.mlp.fc1.weight"
    live = dict(trainer.model.named_parameters())[name]
    assert not torch.equal(trainer.ema[name], initial[name])
    assert not torch.equal(trainer.ema[name], live)
    assert torch.equal(trainer.ema["pos_embed"], initial["pos_embed"])


def test_one_ema_step_by_hand(latents, tmp_path):
    trainer = Trainer(settings(), LatentDataset.open(latents), "f", World())
    before = {name: tensor.clone() for name, tensor in trainer.ema.items()}
    trainer.train_step()
    for name, parameter in trainer.model.named_parameters():
        expected = 0.9 * before[name] + 0.1 * parameter.detach()
        torch.testing.assert_close(trainer.ema[name], expected, rtol=1e-6, atol=1e-7)


def test_label_dropout_uses_the_null_label(latents):
    trainer = Trainer(
        settings(backbone__label_dropout=0.5), LatentDataset.open(latents), "f", World()
    )
    labels = []
    for trainer.step in range(50):
        labels.append(trainer.batch()[2])
    labels = torch.cat(labels)
    assert 0.4 < (labels == 10).float().mean() < 0.6
    assert set(labels.tolist()) == set(range(11))


def test_timesteps_stay_in_the_runs_range(latents):
    trainer = Trainer(settings(timesteps=[250, 500]), LatentDataset.open(latents), "f", World())
    drawn = torch.cat([trainer.batch()[1] for trainer.step in range(400)])
    assert drawn.min() >= 250
    assert drawn.max() < 500
    assert len(drawn.unique()) == 250


def test_warm_up():
    training = settings().training
    assert learning_rate(training, 0) == pytest.approx(2e-3)
    assert learning_rate(training, 4) == learning_rate(training, 400) == 1e-2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone__input_size": 8}, r"training data of shape \(4, 4, 4\): the backbone takes"),
        ({"training__batch_size": 41}, "batch_size = 41: more than the 40 training images"),
        ({"backbone__num_classes": 5}, "num_classes = 5: the data has label 9"),
    ],
)
def test_data_that_does_not_fit_is_refused(latents, tmp_path, changes, message):
    with pytest.raises(Refusal, match=message):
        run_to(1, latents, tmp_path / "work", settings(**changes))
    assert not (tmp_path / "work").exists()


def test_a_corrupted_shard_is_refused(latents):
    shard = latents.parent / "shard-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(Refusal, match=r"shard-00000\.npy: content differs from its manifest"):
        LatentDataset.open(latents)
    assert shard.exists()
