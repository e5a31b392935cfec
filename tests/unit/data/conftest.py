"""A source of noise for the tests of images that are read one at a time."""

import numpy as np
import pandas as pd
import pytest

from dtr.data import datasets, streaming
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.data.readable import Unreadable
from dtr.data.sources.mnist import MnistSettings

SIDE, COUNT = 4, 50
SETTINGS = MnistSettings(type="mnist", resolution=SIDE, mirror=False, num_test=5)


class Pictures:
    """Noise, of which some is unreadable; `asked` says which images were read.

    kinds: of different images, which follow each other again and again.
    """

    def __init__(self, damaged=(), allowed=0, *, stop_at=None, identity="these", kinds=COUNT):
        self.names = [f"{number}.png" for number in range(COUNT)]
        self.identity, self.allow_unreadable = identity, allowed
        self.remarks, self.facts = ["look: \n there"], {"found": COUNT}
        self.damaged, self.stop_at, self.kinds = damaged, stop_at, kinds
        self.asked = set()

    def read(self, number):
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.asked.add(number)
        if number in self.damaged:
            raise Unreadable("mud")
        draws = np.random.default_rng(number % self.kinds)
        return draws.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)

    def index(self, kept):
        split = np.where(np.arange(len(kept)) < 5, "test", "train")
        return pd.DataFrame({"path": [self.names[n] for n in kept], "label": 0, "split": split})


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    """Prepares pictures in blocks of 16; returns the dataset."""
    monkeypatch.setattr(streaming, "BLOCK", 16)

    def prepared(pictures, folder=tmp_path / "data"):
        monkeypatch.setattr(datasets, "build", lambda *_: pictures)
        prepare_dataset("noise", SETTINGS, folder)
        return ImageDataset.open(folder / "manifest.json")

    return prepared
