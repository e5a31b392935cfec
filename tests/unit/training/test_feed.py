"""Batches made ahead of time, and noise drawn on the device: the same whatever the cutting."""

import numpy as np
import pytest
import torch

from dtr.data.latents import LatentDataset
from dtr.data.rows import PixelDataset
from dtr.seeding import epoch_permutation
from dtr.support.errors import Refusal
from dtr.support.files import read_json
from dtr.training import feed
from dtr.training.distributed import World
from dtr.training.feed import Ahead, build_feed
from dtr.training.loop import write_result
from dtr.training.means import Means
from dtr.training.trainer import Trainer
from dtr.weighting import build_weighting
from tests.unit.training.conftest import assert_same_state, run_to, settings

ALONE = World()


def feed_of(data, world=ALONE, **options):
    chosen = settings()
    return build_feed(data, chosen, build_weighting(chosen.weighting, None), world, **options)


def joined(parts) -> list[torch.Tensor]:
    return [torch.cat(values) for values in zip(*parts, strict=True)]


def test_results_are_those_of_the_step_in_any_order():
    made = []

    def make(step: int) -> tuple[int]:
        made.append(step)
        return (step,)

    ahead = Ahead(make, 3)
    asked = [0, 1, 2, 7, 8, 3, 3]
    assert [ahead.at(step)[0] for step in asked] == asked
    assert max(made) <= 8 + 3
    made.clear()
    assert Ahead(make, 0).at(5) == (5,) and made == [5]


def test_trouble_of_the_thread_is_told_where_the_batch_is_asked_for():
    def make(step: int) -> tuple:
        if step == 2:
            raise Refusal("shard-00001.npy: gone")
        return ()

    ahead = Ahead(make, 2)
    ahead.at(0), ahead.at(1)
    with pytest.raises(Refusal, match=r"shard-00001\.npy: gone"):
        ahead.at(2)


@pytest.mark.parametrize("rng", ["host", "device"])
def test_batches_made_ahead_train_the_same_weights(latents, tmp_path, rng):
    means = [Means(rng=rng, ahead=count) for count in (0, 3)]
    now, later = (
        run_to(30, latents, tmp_path / str(own.ahead), means=own)[0] for own in means
    )  # fmt: skip
    assert_same_state(now, later)


@pytest.mark.parametrize("rng", ["host", "device"])
def test_parts_of_two_processes_are_the_whole_batch(latents, rng):
    data = LatentDataset.open(latents)
    whole = feed_of(data, rng=rng)
    halves = [feed_of(data, World(rank, 2), rng=rng) for rank in (0, 1)]
    for step in (0, 3):
        parts = joined(half.batch(step) for half in halves)
        for found, expected in zip(parts, whole.batch(step), strict=True):
            assert torch.equal(found, expected)


def test_dropout_of_two_processes_is_that_of_the_whole_batch(latents):
    data = LatentDataset.open(latents)
    whole, half = feed_of(data, rng="device"), feed_of(data, World(1, 2), rng="device")
    whole.batch(4), half.batch(4)
    expected = whole.dropout(4, slice(6, 8))
    for found, values in zip(half.dropout(4, slice(2, 4)), expected, strict=True):
        assert torch.equal(found, values)


def test_a_devices_posteriors_have_the_cached_moments(latents, monkeypatch):
    data, chosen = LatentDataset.open(latents), settings()
    monkeypatch.setattr(feed, "normal", lambda keys, numbers, shape: torch.zeros(len(keys), *shape))
    x0, t, y, noise = feed_of(data, rng="device").batch(0)
    rows = epoch_permutation(chosen.seed, 0, len(data))[:8]
    assert x0.shape == noise.shape == (8, 4, 4, 4) and not noise.any()
    cached = np.load(latents.parent / "shard-00000.npy")
    assert np.array_equal(x0.numpy(), cached[rows, 0, 0])
    assert t.dtype == torch.int64 and len(t) == 8
    told = y.numpy()
    assert ((told == data.labels[rows]) | (told == 10)).all()


def test_pixels_become_the_same_values_on_a_device():
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    values = {"images": images, "labels": np.zeros(6, np.int64), "manifest": {"mirror": True}}
    if "positions" in PixelDataset.__dataclass_fields__:
        values["positions"] = np.arange(6)
    data, rows = PixelDataset(**values), np.array([5, 0, 0, 2, 1, 3])
    sampled = data.sample(rows, np.random.default_rng(1))
    stored = torch.from_numpy(data.stored(rows, np.random.default_rng(1)))
    assert np.array_equal(data.learned(stored, None).numpy(), sampled)


def test_the_next_order_is_made_while_an_epoch_lasts(latents):
    data = LatentDataset.open(latents)
    epoch_permutation.cache_clear()
    ahead = feed_of(data, ahead=1)
    ahead.batch(2)  # of the five batches of an epoch: with one ahead, the second epoch is far
    ahead._orders.shutdown(wait=True)
    ahead._ahead._pool.shutdown(wait=True)
    hits = epoch_permutation.cache_info().hits
    epoch_permutation(0, 1, len(data))
    assert epoch_permutation.cache_info().hits == hits + 1


def test_where_noise_was_drawn_is_recorded(latents, tmp_path):
    def record(step: int, rng: str) -> str:
        trainer, folder, _ = run_to(step, latents, tmp_path / "work", means=Means(rng=rng))
        write_result(trainer, folder, tmp_path / "out", run="toy", step=step, diverged=None)
        return read_json(tmp_path / "out" / "train.json")["rng"]

    assert record(5, "auto") == "host"
    assert record(10, "device") == "mixed"
    assert record(15, "host") == "mixed"


def test_noise_of_a_device_resumes_exactly(latents, tmp_path):
    means = Means(rng="device")
    whole, *_ = run_to(30, latents, tmp_path / "whole", means=means)
    run_to(13, latents, tmp_path / "parts", means=means)
    resumed, *_ = run_to(30, latents, tmp_path / "parts", means=means)
    assert_same_state(whole, resumed)
    assert whole.rng == resumed.rng == "device"
    assert isinstance(whole, Trainer)
