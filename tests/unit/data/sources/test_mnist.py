"""The digits: all of them, at every size, evenly split, and refused where they are damaged."""

import numpy as np
import pytest

from dtr.data.sources.mnist import (
    MnistSettings,
    check_images,
    digits,
    mnist_digits,
    stratified_split,
)
from dtr.support.errors import Refusal

MNIST = MnistSettings(type="mnist", resolution=32, mirror=False, num_test=500)


@pytest.fixture(scope="module")
def prepared():
    return digits(MNIST)


def test_digits_are_the_5000_real_ones(prepared):
    images, index = prepared
    assert images.shape == (5000, 32, 32, 3)
    assert images.dtype == np.uint8
    labels, split = index["label"].to_numpy(), index["split"].to_numpy()
    assert np.bincount(labels).tolist() == [500] * 10
    assert np.bincount(labels[split == "test"]).tolist() == [50] * 10
    assert (split == "train").sum() == 4500
    assert index["path"].is_unique
    grey = images[7]
    assert (grey == grey[..., :1]).all()
    assert grey[:2].max() == grey[:, :2].max() == 0  # the margin around 28 x 28 pixels


def test_halved_digits_are_means_of_four_pixels():
    large, small = mnist_digits(32)[0], mnist_digits(16)[0]
    assert small.shape == (5000, 16, 16, 3)
    assert abs(small.mean() - large.mean()) < 0.1
    assert small[3, 8, 8, 0] == round(float(large[3, 16:18, 16:18, 0].mean()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda images, labels: (images[:-1], labels), "expected uint8"),
        (lambda images, labels: (images.astype(np.float32), labels), "expected uint8"),
        (lambda images, labels: (images // 2, labels), r"values span 0\.\.127"),
        (lambda images, labels: (images, np.roll(labels, 1) * 0), "class counts"),
    ],
)
def test_planted_damage_is_refused(prepared, damage, message):
    images, index = prepared
    with pytest.raises(Refusal, match=message):
        check_images(*damage(images, index["label"].to_numpy()), resolution=32)


@pytest.mark.parametrize("num_test", [505, 5000])
def test_a_split_that_cannot_be_fair_is_refused(num_test):
    with pytest.raises(Refusal, match=f"num_test = {num_test}"):
        stratified_split(np.arange(5000) % 10, num_test)


def test_small_digits_are_means_of_squares() -> None:
    large, labels = mnist_digits(32)
    for side in (16, 8):
        small, same = mnist_digits(side)
        factor = 32 // side
        squares = large.reshape(-1, side, factor, side, factor, 3).astype(float)
        assert small.shape == (5000, side, side, 3) and (labels == same).all()
        assert np.abs(small - squares.mean((2, 4))).max() <= 0.5
