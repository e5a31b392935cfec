"""Streams are functions of their key alone; the golden values fix them for good."""

import subprocess
import sys

import numpy as np
import pytest

from dtr.seeding import batch_indices, epoch_permutation, generator

KEYS = [
    (0,),
    (1,),
    (0, "noise"),
    (0, "noise", 0),
    (0, "noise", 1),
    (1, "noise", 0),
    (0, "labels", 0),
    (0, "noise", "0"),
    (0, 1, 2),
    (0, 12),
    (-1,),
    (2**64,),
]


def test_same_key_same_stream():
    first, second = (generator(3, "noise", 7).standard_normal(100) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_different_keys_give_unrelated_streams():
    draws = np.stack([generator(*key).standard_normal(4000) for key in KEYS])
    correlation = np.corrcoef(draws) - np.eye(len(KEYS))
    assert np.abs(correlation).max() < 0.1  # six standard errors
    assert len(np.unique(draws[:, 0])) == len(KEYS)


def test_no_stream_repeats_over_many_images():
    """The first 64 bits of 50,000 streams: the chance of one repetition is below 1e-10."""
    first = [int(generator(0, "image", i).bit_generator.random_raw()) for i in range(50_000)]
    assert len(set(first)) == len(first)


def test_streams_do_not_depend_on_the_process(root):
    code = "from dtr.seeding import generator; print(generator(0, 'noise', 5).random())"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={"PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert answers == {f"{generator(0, 'noise', 5).random()}\n"}


def test_golden_values():
    """A change here changes every result: raise the revisions in dtr/config.py with it."""
    np.testing.assert_allclose(
        generator(0, "noise", 0).standard_normal(3),
        [1.699490413083464, 1.1831696483834384, -0.5948121277319909],
        rtol=1e-12,
    )
    assert generator(0, "labels", 0).integers(10, size=8).tolist() == [0, 8, 7, 2, 6, 3, 4, 5]
    assert epoch_permutation(0, 0, 10).tolist() == [7, 0, 9, 6, 4, 1, 3, 2, 8, 5]
    assert batch_indices(0, 3, size=10, batch_size=4).tolist() == [6, 9, 3, 5]


@pytest.mark.parametrize(("size", "batch_size"), [(60, 12), (64, 64), (7, 1)])
def test_an_epoch_visits_every_item_once(size, batch_size):
    steps = size // batch_size
    for epoch in range(3):
        visited = np.concatenate(
            [
                batch_indices(5, epoch * steps + step, size=size, batch_size=batch_size)
                for step in range(steps)
            ]
        )
        np.testing.assert_array_equal(np.sort(visited), np.arange(size))


def test_the_incomplete_last_batch_is_dropped():
    batches = [batch_indices(0, step, size=10, batch_size=4) for step in range(4)]
    assert all(batch.shape == (4,) for batch in batches)
    for epoch in (0, 1):
        visited = np.concatenate(batches[2 * epoch : 2 * epoch + 2])
        np.testing.assert_array_equal(visited, epoch_permutation(0, epoch, 10)[:8])


def test_epochs_and_seeds_are_shuffled_differently():
    orders = {tuple(epoch_permutation(seed, epoch, 50)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert tuple(range(50)) not in orders


def test_a_batch_does_not_depend_on_the_batches_before_it():
    alone = batch_indices(2, 17, size=100, batch_size=8)
    for step in range(17):
        batch_indices(2, step, size=100, batch_size=8)
    np.testing.assert_array_equal(alone, batch_indices(2, 17, size=100, batch_size=8))
