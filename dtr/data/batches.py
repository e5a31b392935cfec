"""What a training run reads: images or latents, and what the model is told about them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtr.config.backbones import BackboneSettings
from dtr.data.captions import draw_captions
from dtr.data.datasets import ImageDataset
from dtr.support.files import read_json


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Base of the kinds of training data; `shape` and `sample` belong to each kind.

    labels: [n] int64; tokens: encoded captions [m, T, W] float32, the empty one last, and first:
    [n + 1] int64, where the captions of each image begin (None without captions).
    """

    manifest: dict[str, Any]
    labels: np.ndarray
    tokens: np.ndarray | None = None
    first: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def null_tokens(self) -> np.ndarray:
        """The encoded empty caption: [T, W] float32."""
        return self.tokens[-1]

    def conditions(
        self, rows: np.ndarray, draws: np.random.Generator, backbone: BackboneSettings
    ) -> np.ndarray:
        """What the model is told of `rows`, replaced by nothing with the backbone's probability.

        Returns labels [B] int64, zeros for an unconditional model, or one caption of each image,
        drawn anew, as tokens [B, T, W] float32.
        """
        dropped = draws.random(len(rows)) < backbone.label_dropout
        if self.tokens is not None:
            tokens = self.tokens[draw_captions(self.first, rows, draws)]
            tokens[dropped] = self.null_tokens
            return tokens
        if backbone.num_classes == 1:
            return np.zeros(len(rows), dtype=np.int64)
        return np.where(dropped, backbone.num_classes, self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class PixelDataset(TrainingData):
    """The training split as pixels in [-1, 1], for models that need no autoencoder."""

    images: np.ndarray  # uint8 [n, H, W, 3]

    @classmethod
    def open(cls, manifest_path: str | Path) -> "PixelDataset":
        """Open a prepared dataset; files that differ from its manifest are refused."""
        dataset = ImageDataset.open(manifest_path)
        rows = dataset.positions("train")
        return cls(
            manifest=dataset.manifest, labels=dataset.labels()[rows], images=dataset.images[rows]
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image: (3, height, width)."""
        return (3, *self.images.shape[1:3])

    def sample(self, rows: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Images of `rows`, mirrored with probability 1/2 where valid: [B, 3, H, W] float32."""
        images = self.images[rows]
        if self.manifest["mirror"]:
            mirrored = draws.random(len(rows)) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        return images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1


def open_training_data(manifest_path: str | Path) -> TrainingData:
    """Cached latents or, where the manifest is a dataset's, its pixels."""
    from dtr.data.latents import LatentDataset

    manifest = read_json(manifest_path)
    cached = isinstance(manifest, dict) and "scale_factor" in manifest
    return (LatentDataset if cached else PixelDataset).open(manifest_path)
