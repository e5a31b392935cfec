"""Cached latents: posterior mean and log-variance of each image and, where valid, of its mirror.

The posterior is sampled anew at every visit, as when the autoencoder runs inside training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtr.assets.autoencoder import encode, load_autoencoder
from dtr.assets.text_encoder import build_text_encoder, write_tokens
from dtr.config.stages import TextEncoderSettings
from dtr.data.captions import flatten
from dtr.data.datasets import ImageDataset, check_files, read_manifest
from dtr.data.rows import EVERY, TrainingData
from dtr.planning.places import ASSET
from dtr.records.schema import AutoencoderRecord, read_record
from dtr.support.files import hash_file, hash_json, replacing, write_json

SHARD_SIZE = 50_000  # images in one memory-mapped file


def cache_latents(
    dataset: ImageDataset,
    autoencoder: Path,
    folder: Path,
    text_encoder: TextEncoderSettings | None = None,
    *,
    device: str = "cpu",
) -> None:
    """Encode the training split; write shards, labels and, last, manifest.json into `folder`.

    A shard is float32 [n, mirrors, 2, C, h, w]: mirrors 1 or 2, then (mean, log-variance). With a
    text encoder also tokens.npy, float32 [captions, T, W], the empty one last, and first.npy,
    int64 [n + 1], where the captions of each image begin.
    """
    model, scale_factor = load_autoencoder(autoencoder, device)
    encoder = read_record(AutoencoderRecord, autoencoder / ASSET[1])
    rows = dataset.positions("train")
    with replacing(folder / "labels.npy") as temporary:
        np.save(temporary, dataset.labels()[rows])
    names = ["labels.npy"]
    if text_encoder is not None:
        names += _cache_captions(dataset.index["captions"].iloc[rows], text_encoder, folder)
    for number, start in enumerate(range(0, len(rows), SHARD_SIZE)):
        images = dataset.images[rows[start : start + SHARD_SIZE]]
        views = [images, images[:, :, ::-1]] if dataset.manifest["mirror"] else [images]
        moments = [np.stack([part.numpy() for part in encode(model, v)], axis=1) for v in views]
        names.append(f"shard-{number:05d}.npy")
        with replacing(folder / names[-1]) as temporary:
            np.save(temporary, np.stack(moments, axis=1))
    files = {name: hash_file(folder / name) for name in names}
    write_json(
        folder / "manifest.json",
        {
            "dataset": dataset.manifest["dataset"],
            "count": len(rows),
            "mirrors": len(views),
            "shape": list(moments[0].shape[2:]),
            "scale_factor": scale_factor,
            "autoencoder_sha256": encoder.weights_sha256,
            "files": files,
            "content_hash": hash_json([files, scale_factor]),
        },
    )


def _cache_captions(captions: pd.Series, settings: TextEncoderSettings, folder: Path) -> list[str]:
    every, first = flatten([list(own) for own in captions])
    write_tokens(build_text_encoder(settings), [*every, ""], folder / "tokens.npy")
    with replacing(folder / "first.npy") as temporary:
        np.save(temporary, first)
    return ["tokens.npy", "first.npy"]


@dataclass(frozen=True, kw_only=True)
class LatentDataset(TrainingData):
    """Memory-mapped moments of the training images, what a model is told of them, the manifest."""

    shards: list[np.ndarray]

    @classmethod
    def open(cls, manifest_path: str | Path) -> "LatentDataset":
        """Open cached latents; a file that differs from the manifest is refused."""
        manifest = read_manifest(manifest_path, "cached latents", "shard-00000.npy")
        folder = Path(manifest_path).parent
        check_files(folder, manifest["files"], redo=f"delete {manifest_path} to encode again")
        arrays = {
            name.removesuffix(".npy"): np.load(folder / name, mmap_mode="r")
            for name in sorted(manifest["files"])
        }
        shards = [array for name, array in arrays.items() if name.startswith("shard-")]
        told = {name: arrays.get(name) for name in ("labels", "tokens", "first")}
        return cls(manifest=manifest, shards=shards, **told)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one latent: (channels, height, width)."""
        return tuple(self.manifest["shape"])

    noisy: ClassVar[bool] = True

    def sample(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """Scaled latents of `rows`, each mirrored with probability 1/2 where mirrors are cached.

        rows: [B] int64.  Returns [b, C, h, w] float32, drawn from the posteriors with `draws`.
        """
        mirror = draws.integers(self.manifest["mirrors"], size=len(rows))
        noise = draws.standard_normal((len(rows), *self.shape), dtype=np.float32)
        moments = self._moments(rows[part], mirror[part])
        std = np.exp(0.5 * moments[:, 1])
        return (moments[:, 0] + std * noise[part]) * np.float32(self.manifest["scale_factor"])

    def stored(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """Mean and log-variance of each row or its mirror: [b, 2, C, h, w]."""
        mirror = draws.integers(self.manifest["mirrors"], size=len(rows))
        return self._moments(rows[part], mirror[part])

    def learned(self, stored: Tensor, noise: Tensor | None) -> Tensor:
        """Scaled latents drawn from the posteriors with `noise`: [b, C, h, w] float32."""
        mean, log_variance = stored.float().unbind(1)
        return (mean + torch.exp(0.5 * log_variance) * noise) * self.manifest["scale_factor"]

    def _moments(self, rows: np.ndarray, mirror: np.ndarray) -> np.ndarray:
        shard, row = np.divmod(rows, SHARD_SIZE)
        return np.stack([self.shards[s][r, m] for s, r, m in zip(shard, row, mirror, strict=True)])
