"""Throughput: what alternates, what is shared, the interval, the record; no absolute times."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dtr.analysis import throughput
from dtr.analysis.complexity import PRESETS, Preset, parameter_count
from dtr.analysis.throughput import (
    interleaved_seconds,
    measure_throughput,
    noise_trainer,
    paper_settings,
    summarise,
)
from dtr.backbones.build import build_backbone
from dtr.cli import main
from dtr.support.errors import Refusal
from dtr.support.files import read_json
from dtr.training.trainer import Trainer

TINY = Preset(2, 32, 2, printed_gflops=None, printed_gflops_dtr=None)


@pytest.fixture
def tiny(monkeypatch):
    """The name of a size small enough to train here."""
    monkeypatch.setitem(PRESETS, "DiT-tiny/2", TINY)
    return "DiT-tiny/2"


@pytest.fixture
def trainer(tiny):
    return noise_trainer(paper_settings(tiny, 2))


@pytest.mark.parametrize("preset", ["DiT-S/2", "DiT-B/2", "DiT-L/2"])
def test_sizes_are_the_papers(preset):
    settings = paper_settings(preset, 1)
    with torch.device("meta"):
        model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == parameter_count(preset)
    assert (settings.inputs.input_size, settings.inputs.in_channels) == (32, 4)
    assert settings.routing.type == "dtr"


def test_routing_is_switched_in_turn_and_restored(trainer, monkeypatch):
    routed = []
    monkeypatch.setattr(
        Trainer, "train_step", lambda self: routed.append(self.model.routing is not None)
    )
    masks = trainer.model.routing
    seconds = interleaved_seconds(trainer, pairs=3, steps=2, warmup=1)
    assert seconds.shape == (3, 2)
    off, on = [False] * 2, [True] * 2
    assert routed == off + on + on + off + off + on + on + off
    assert trainer.model.routing is masks


def test_times_belong_to_their_column(trainer, monkeypatch):
    """A clock that says 3 s per routed step and 2 s per other step."""
    clock = [0.0]

    def step(self):
        clock[0] += 2.0 if self.model.routing is None else 3.0

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(throughput, "_now", lambda device: clock[0])
    seconds = interleaved_seconds(trainer, pairs=5, steps=4)
    assert seconds.tolist() == [[3.0, 2.0]] * 5
    result = summarise(seconds)
    assert result.seconds_per_step == {"dtr": 3.0, "none": 2.0}
    assert result.iterations_per_second == {"dtr": 1 / 3, "none": 1 / 2}
    assert (result.ratio, result.low, result.high) == (1.5, 1.5, 1.5)


def test_pairs_are_added_until_the_time_is_spent(trainer, monkeypatch, capsys):
    """Steps of 1 s: 3 pairs at least, and 10 s need 5 of them; the warm-up does not count."""
    clock = iter(range(1000))
    monkeypatch.setattr(Trainer, "train_step", lambda self: None)
    monkeypatch.setattr(throughput, "_now", lambda device: float(next(clock)))
    monkeypatch.setattr("dtr.support.progress.PLAIN_SECONDS", 0.0)
    assert len(interleaved_seconds(trainer, pairs=3)) == 3
    assert len(interleaved_seconds(trainer, pairs=3, at_least=10.0)) == 5
    said = [
        line.split(":")[2].split(",")[0].strip()
        for line in capsys.readouterr().err.split("\n")[:-1]
    ]
    assert said[-6:] == ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]


def test_routing_is_restored_when_a_step_fails(trainer, monkeypatch):
    def fail(self):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Trainer, "train_step", fail)
    masks = trainer.model.routing
    with pytest.raises(RuntimeError):
        interleaved_seconds(trainer, pairs=2)
    assert trainer.model.routing is masks


def test_steps_are_whole_training_steps_of_one_model(trainer):
    """Parameters, optimiser state and EMA advance with every step of either kind."""
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    average = {name: tensor.clone() for name, tensor in trainer.ema.items()}
    interleaved_seconds(trainer, pairs=2, steps=1, warmup=1)
    assert trainer.step == 6
    name = "blocks.0.adaLN_modulation.1.weight"
    assert not torch.equal(before[name], trainer.model.get_parameter(name))
    assert not torch.equal(average[name], trainer.ema[name])
    parameter = trainer.model.get_parameter(name)
    assert trainer.optimizer.state[parameter]["step"] == 6


def test_interval_is_repeatable_and_covers():
    """Log-normal ratios around 1.02: the interval of the median contains it 95 times in 100."""
    draws = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        plain = draws.uniform(1, 2, 40)
        routed = plain * 1.02 * np.exp(0.05 * draws.standard_normal(40))
        seconds = np.stack([routed, plain], axis=1)
        result = summarise(seconds)
        assert result.low <= result.ratio <= result.high
        covered += result.low <= 1.02 <= result.high
    assert 180 <= covered <= 199
    assert summarise(seconds) == result
    assert summarise(seconds, seed=1) != result


def test_record(tiny, tmp_path):
    out = tmp_path / "throughput.json"
    command = ["throughput", "--backbone", tiny, "--batch-size", "2", "--pairs", "2"]
    assert main([*command, "--out", str(out)]) == 0
    record = read_json(out)
    told = ("backbone", "status", "batch_size", "threads", "device", "pairs", "precision")
    assert [record[key] for key in told] == [tiny, "ok", 2, 1, "cpu", 2, "float32"]
    speed = record["speed"]
    assert 0 < speed["low"] <= speed["ratio"] <= speed["high"]
    for routing in ("dtr", "none"):
        rate = speed["iterations_per_second"][routing]
        assert rate * speed["seconds_per_step"][routing] == pytest.approx(1)
    assert record["settings"]["backbone"]["width"] == 32
    assert record["provenance"]["threads"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "DiT-H/2"}, "backbone 'DiT-H/2': unknown; known: DiT-S/2, DiT-B/2"),
        ({"batch_size": 0}, "batch_size = 0: at least 1"),
        ({"pairs": 1}, "pairs = 1: at least 2"),
    ],
)
def test_what_cannot_be_measured(arguments, message, tiny, tmp_path):
    given = {"backbone": tiny, "batch_size": 2, "pairs": 2} | arguments
    with pytest.raises(Refusal, match=message):
        measure_throughput(out=tmp_path / "o.json", **given)
    assert not (tmp_path / "o.json").exists()


def test_a_size_that_does_not_fit_is_a_failed_record_and_says_so(tiny, tmp_path, monkeypatch):
    free = SimpleNamespace(available=1_000)
    monkeypatch.setattr("dtr.analysis.throughput.psutil.virtual_memory", lambda: free)
    monkeypatch.setattr(throughput, "noise_trainer", None)  # nothing is allocated
    measure_throughput(tiny, tmp_path / "o.json", batch_size=2, pairs=2)
    record = read_json(tmp_path / "o.json")
    assert record["status"] == "failed"
    assert record["reason"].endswith("GB of memory, 0.0 GB are free")
    assert "ratio" not in record


def test_complexity_prints_the_papers_values(capsys):
    assert main(["complexity"]) == 0
    _, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["DiT-S/2", "32.9M", "6.0581", "6.06", "6.0617", "6.06"],
        ["DiT-B/2", "130.3M", "23.0100", "23.01", "23.0171", "23.02"],
        ["DiT-L/2", "457.8M", "80.7105", "80.71", "80.7293", "80.73"],
        ["DiT-XL/2", "674.8M", "118.6382", "118.64", "118.6630", "-"],
    ]
