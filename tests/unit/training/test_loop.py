"""The training contract: exact resume, fingerprints, refusals, divergence."""

import errno
import fcntl
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dtr.data.latents import LatentDataset
from dtr.records.workdir import exclusive, in_use, read_log, running_steps
from dtr.support.errors import Busy, Refusal
from dtr.support.files import hash_file, read_json
from dtr.training.checkpoint import load_checkpoint, save_checkpoint
from dtr.training.core import learning_rate
from dtr.training.distributed import World
from dtr.training.loop import _check_data, write_result
from dtr.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state, run_to, settings


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
    trainer = Trainer(settings(), LatentDataset.open(latents), World())
    before = {name: tensor.clone() for name, tensor in trainer.ema.items()}
    trainer.train_step()
    for name, parameter in trainer.model.named_parameters():
        expected = 0.9 * before[name] + 0.1 * parameter.detach()
        torch.testing.assert_close(trainer.ema[name], expected, rtol=1e-6, atol=1e-7)


def test_label_dropout_uses_the_null_label(latents):
    chosen = settings(inputs__label_dropout=0.5)
    trainer = Trainer(chosen, LatentDataset.open(latents), World())
    labels = []
    for trainer.step in range(50):
        labels.append(trainer.batch()[2])
    labels = torch.cat(labels)
    assert 0.4 < (labels == 10).float().mean() < 0.6
    assert set(labels.tolist()) == set(range(11))


def test_timesteps_stay_in_the_runs_range(latents):
    trainer = Trainer(settings(timesteps=[250, 500]), LatentDataset.open(latents), World())
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
        ({"inputs__input_size": 8}, r"training data of shape \(4, 4, 4\): the backbone takes"),
        ({"training__batch_size": 41}, "batch_size = 41: more than the 40 training images"),
        ({"inputs__num_classes": 5}, "num_classes = 5: the data has label 9"),
        ({"inputs__num_classes": 12}, "num_classes = 12: the data has 10 classes; set it to 10"),
    ],
)
def test_data_that_does_not_fit_is_refused(latents, tmp_path, changes, message):
    with pytest.raises(Refusal, match=message):
        run_to(1, latents, tmp_path / "work", settings(**changes))
    assert not (tmp_path / "work").exists()


def test_captions_of_another_size_are_refused(latents, tmp_path):
    tokens = np.zeros((41, 3, 5), np.float32)
    data = replace(LatentDataset.open(latents), tokens=tokens, first=np.arange(41))
    told = settings()
    inputs = told.inputs.model_copy(update={"text_tokens": 3, "text_width": 6})
    with pytest.raises(Refusal, match="captions with 3 tokens of width 5: the backbone takes 3 of"):
        _check_data(told.model_copy(update={"inputs": inputs}), data)


def test_a_corrupted_shard_is_refused(latents):
    shard = latents.parent / "shard-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(Refusal, match=r"shard-00000\.npy: content differs from its manifest"):
        LatentDataset.open(latents)
    assert shard.exists()


def test_without_locks_a_run_trains_and_a_second_writer_is_refused(latents, tmp_path, monkeypatch):
    def missing(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    _, folder, _ = run_to(10, latents, tmp_path / "work")
    with exclusive(folder), pytest.raises(Busy, match="another process"):
        run_to(20, latents, tmp_path / "work")
    assert run_to(20, latents, tmp_path / "work")[0].step == 20
    assert not list(folder.glob("lease-*"))
