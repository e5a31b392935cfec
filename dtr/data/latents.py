"""Cached latents: posterior mean and log-variance of each image and, where valid, of its mirror.

The posterior is sampled anew at every visit, as when the autoencoder runs inside training.
`dtr.data.caching` writes them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dtr.data.rows import EVERY, TrainingData
from dtr.data.shards import Shards, check_files, read_manifest
from dtr.planning.places import ASSET
from dtr.records.schema import AutoencoderRecord, read_record
from dtr.support.errors import Refusal


@dataclass(frozen=True, kw_only=True)
class LatentDataset(TrainingData):
    """Memory-mapped moments of the training images, what a model is told of them, the manifest."""

    moments: Shards  # [n, mirrors, 2, C, h, w]: mean and log-variance

    @classmethod
    def open(cls, manifest_path: str | Path) -> "LatentDataset":
        """Open cached latents; refused if files are not there as the manifest says.

        Refused too if they are of other weights than the autoencoder they are named after has.
        """
        manifest = read_manifest(manifest_path, "cached latents", "shard-00000.npy")
        folder = Path(manifest_path).parent
        check_files(folder, manifest, redo=f"delete {manifest_path} to encode again")
        _check_autoencoder(Path(manifest_path), manifest.get("autoencoder_sha256"))
        files = sorted(manifest["files"])
        tokens = [name for name in files if name.startswith("tokens")]
        told = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("labels", "first")
            if f"{name}.npy" in files
        }
        return cls(
            manifest=manifest,
            moments=Shards.open(folder, [name for name in files if name.startswith("shard-")]),
            tokens=Shards.open(folder, tokens) if tokens else None,
            **told,
        )

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
        noise = draws.standard_normal((len(rows), *self.shape), dtype=np.float32)[part]
        moments = self.moments.take(rows[part], mirror[part]).astype(np.float32, copy=False)
        std = np.exp(0.5 * moments[:, 1])
        return (moments[:, 0] + std * noise) * np.float32(self.manifest["scale_factor"])

    def stored(
        self, rows: np.ndarray, draws: np.random.Generator, part: slice = EVERY
    ) -> np.ndarray:
        """Mean and log-variance of each row or its mirror, as stored: [b, 2, C, h, w]."""
        mirror = draws.integers(self.manifest["mirrors"], size=len(rows))
        return self.moments.take(rows[part], mirror[part])

    def learned(self, stored: Tensor, noise: Tensor | None) -> Tensor:
        """Scaled latents drawn from the posteriors with `noise`: [b, C, h, w] float32."""
        mean, log_variance = stored.float().unbind(1)
        return (mean + torch.exp(0.5 * log_variance) * noise) * self.manifest["scale_factor"]


def _check_autoencoder(manifest_path: Path, encoded_by: str | None) -> None:
    """Refuse latents beside which, in the same results, lies another autoencoder of their name."""
    manifest_path = manifest_path.absolute()
    name, results = manifest_path.parent.name.partition("--")[2], manifest_path.parents[1].parent
    record = results / "autoencoders" / name / ASSET[1]
    if not name or encoded_by is None or not record.is_file():
        return
    found = read_record(AutoencoderRecord, record).weights_sha256
    if found != encoded_by:
        raise Refusal(
            f"{manifest_path}: encoded by autoencoder weights {encoded_by[:12]}, {record} has "
            f"{found[:12]}; delete {manifest_path} to encode again"
        )
