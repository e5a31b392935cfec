"""Processes that are killed, interrupted or hang, at random moments: what comes out is the same."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dtr.cli import main
from dtr.support.files import canonical_json, hash_file, read_json
from tests.faults.conftest import train_arguments
from tests.unit.sampling.test_shards import PIXEL, write_run

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
INJECTED = 20  # signals for one run
ORDERLY = {0, 75, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}


def undisturbed(starter, arguments: list[str]) -> float:
    """Run a verb; returns the seconds that it took on this machine, busy as it is."""
    begun = time.monotonic()
    starter.start(arguments)
    assert starter.wait() == 0
    return time.monotonic() - begun


def harass(starter, arguments: list[str], moments: random.Random, longest: float) -> None:
    """Run a verb to its end through up to INJECTED signals, at random moments of `longest` s."""
    for _ in range(INJECTED):
        child = starter.start(arguments)
        time.sleep(moments.uniform(0, longest))
        os.kill(child, moments.choice(SIGNALS))
        status = starter.wait()
        assert status in ORDERLY, f"ended with {status}"
        if status == 0:
            return  # it was faster than the signal
        print(f"{arguments[0]}: ended with {status}")
    starter.start(arguments)
    assert starter.wait() == 0


@pytest.mark.slow
def test_a_training_through_twenty_signals_ends_with_the_same_weights(latents, tmp_path, starter):
    took = undisturbed(starter, train_arguments(latents, tmp_path / "whole", 300))
    killed = train_arguments(latents, tmp_path / "killed", 300)
    harass(starter, killed, random.Random(0), took / 3)
    folders = [tmp_path / name / "out" for name in ("whole", "killed")]
    assert len({hash_file(folder / "ema.safetensors") for folder in folders}) == 1
    histories = [read_json(folder / "train.json")["history"] for folder in folders]
    for entry in (*histories[0], *histories[1]):
        del entry["rate"]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_a_sampler_through_twenty_signals_draws_the_same_images(tmp_path, starter):
    model = write_run(tmp_path / "model", PIXEL)
    protocol = {
        "dataset": "digits", "extractor": "digits-cnn", "n_samples": 16, "guidance": 1.5,
        "guidance_channels": "all", "sampling_steps": 10, "x0_clamp": 1.0, "labels": "balanced",
        "seed": 0, "neighbours": 3, "kid_subset": 10, "inception_split": 10,
    }  # fmt: skip

    def arguments(folder: str, shard: int) -> list[str]:
        return [
            "sample", "--model", str(model), "--protocol", canonical_json(protocol),
            "--shard", str(shard), "--shard-size", "8",
            "--out", str(tmp_path / folder / f"shard-{shard}.npz"),
        ]  # fmt: skip

    moments = random.Random(0)
    for shard in range(2):
        took = undisturbed(starter, arguments("whole", shard))
        harass(starter, arguments("killed", shard), moments, took / 3)
        files = [tmp_path / name / f"shard-{shard}.npz" for name in ("whole", "killed")]
        whole, killed = map(np.load, files)
        for name in ("arr_0", "labels", "lost"):
            assert np.array_equal(whole[name], killed[name])


def test_an_interrupt_is_one_line_and_no_traceback(latents, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("dtr.training.loop.train_run", interrupted)
    assert main(train_arguments(latents, tmp_path, 10)) == 130
    assert capsys.readouterr().err == "dtr train: interrupted\n"


def test_a_job_that_hangs_is_ended_by_its_budget(root):
    code = (
        "import time; from dtr.training import watchdog; watchdog.GRACE_SECONDS = 0.1\n"
        "with watchdog.ended_after(1e-6, 'toy'):\n"
        "    time.sleep(600)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert answer.returncode == 75
    assert answer.stderr.startswith("dtr train: toy: hangs, ")


def test_a_job_that_ends_in_time_is_left_alone(root):
    code = (
        "import threading; from dtr.training.watchdog import ended_after\n"
        "with ended_after(1e-6, 'toy'), ended_after(None, 'toy'):\n"
        "    assert threading.active_count() == 2\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


@pytest.mark.slow
def test_of_two_writers_one_trains_and_the_other_is_told(latents, tmp_path):
    arguments = [sys.executable, "-m", "dtr", *train_arguments(latents, tmp_path, 100)]
    pair = [
        subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in pair]
    statuses = [process.returncode for process in pair]
    # The second may have come when the first was done: then it finds all of it there.
    assert sorted(statuses) in ([0, 76], [0, 0])
    for status, error in zip(statuses, errors, strict=True):
        assert ("another process is working here" in error) == (status == 76)
    assert read_json(tmp_path / "out/train.json")["reached_step"] == 100
