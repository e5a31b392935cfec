"""The rows of a training set: what a model learns of each image, and what it is told of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dtr.config.backbones import Inputs
from dtr.data.captions import draw_captions
from dtr.data.datasets import ImageDataset
from dtr.data.shards import Shards

if TYPE_CHECKING:
    from torch import Tensor

EVERY = slice(None)  # of a batch


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Base of the kinds of training data; `shape` and `sample` belong to each kind.

    What is drawn of a batch is drawn of the whole batch and then cut to the `part` that a process
    computes; only the rows of that part are read.

    labels: [n] int64; tokens: encoded captions [m, T, W], the empty one last, and first: [n + 1]
    int64, where the captions of each image begin (None without captions).
    """

    noisy: ClassVar[bool] = False  # whether `learned` takes noise

    manifest: dict[str, Any]
    labels: np.ndarray
    tokens: np.ndarray | Shards | None = None
    first: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def null_tokens(self) -> np.ndarray:
        """The encoded empty caption: [T, W] float32."""
        return self.tokens[-1].astype(np.float32, copy=False)

    def sample(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """What the model learns of the `part` of `rows`: [b, *shape] float32."""
        raise NotImplementedError

    def stored(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """What `learned` makes the same of on a device, as small as it can be moved there."""
        return self.sample(rows, draws, part)

    def learned(self, stored: "Tensor", noise: "Tensor | None") -> "Tensor":
        """What the model learns of `stored` rows: [b, *shape] float32; noise: as large, or None."""
        return stored

    def conditions(
        self, rows: np.ndarray, draws: np.random.Generator, inputs: Inputs, part: slice = EVERY
    ) -> np.ndarray:
        """What the model is told of the `part` of `rows`, each by chance replaced by nothing.

        Returns labels [b] int64, zeros for an unconditional model, or one caption of each image,
        drawn anew, as tokens [b, T, W] float32.
        """
        dropped = draws.random(len(rows)) < inputs.label_dropout
        if self.tokens is not None:
            captions = draw_captions(self.first, rows, draws)[part]
            tokens = self.tokens[captions].astype(np.float32, copy=False)
            tokens[dropped[part]] = self.null_tokens
            return tokens
        if inputs.num_classes == 1:
            return np.zeros(len(rows[part]), dtype=np.int64)
        return np.where(dropped[part], inputs.num_classes, self.labels[rows[part]])


@dataclass(frozen=True, kw_only=True)
class PixelDataset(TrainingData):
    """The training split as pixels in [-1, 1], for models that need no autoencoder."""

    images: Shards  # uint8 [all, H, W, 3]
    positions: np.ndarray  # [n] int64, which of them

    @classmethod
    def open(cls, manifest_path: str | Path) -> "PixelDataset":
        """Open a prepared dataset; files that are not there as its manifest says are refused."""
        dataset = ImageDataset.open(manifest_path)
        rows = dataset.positions("train")
        labels = dataset.labels()[rows]
        return cls(manifest=dataset.manifest, labels=labels, images=dataset.images, positions=rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: (3, height, width)."""
        return (3, *self.images.shape[1:3])

    def sample(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """Images of `rows`, mirrored with probability 1/2 where valid: [b, 3, H, W] float32."""
        images = self.stored(rows, draws, part)
        return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1

    def stored(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """The same as pixels: uint8 [b, H, W, 3]."""
        images = self.images[self.positions[rows[part]]]
        if self.manifest["mirror"]:
            mirrored = (draws.random(len(rows)) < 0.5)[part]
            images[mirrored] = images[mirrored, :, ::-1]
        return images

    def learned(self, stored: "Tensor", noise: "Tensor | None") -> "Tensor":
        """Pixels in [-1, 1]: [b, 3, H, W] float32."""
        return stored.permute(0, 3, 1, 2).float() / 127.5 - 1
