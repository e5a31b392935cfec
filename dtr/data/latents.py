"""Cached latents: posterior mean and log-variance of each image and, where valid, of its mirror.

The posterior is sampled anew at every visit, as when the autoencoder runs inside training.
`dtr.data.caching` writes them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dtr.data.rows import EVERY, TrainingData
from dtr.data.shards import Shards, check_files, read_manifest
from dtr.planning.places import ASSET
from dtr.records.schema import AutoencoderRecord, TextEncoderRecord, read_record
from dtr.support.errors import Refusal


@dataclass(frozen=True, kw_only=True)
class LatentDataset(TrainingData):
    """Memory-mapped moments of the training images, what a model is told of them, the manifest."""

    noisy: ClassVar[bool] = True

    moments: Shards  # [n, mirrors, 2, C, h, w]: mean and log-variance

    @classmethod
    def open(cls, manifest_path: str | Path) -> "LatentDataset":
        """Open cached latents; refused if files are not there as the manifest says.

        Refused too if they are of other weights than the autoencoder they are named after has.
        """
        manifest = read_manifest(manifest_path, "cached latents", "shard-00000.npy")
        folder = Path(manifest_path).parent
        check_files(folder, manifest, redo=f"delete {manifest_path} to encode again")
        _check_networks(Path(manifest_path), manifest)
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


def _check_networks(manifest_path: Path, manifest: dict[str, Any]) -> None:
    """Refuse what other weights have encoded than those that now lie where the results have them.

    That is the autoencoder that the latents are named after, and the folder that the text encoder
    says; what is not there cannot be compared.
    """
    own = manifest_path.absolute().parent
    name = own.name.partition("--")[2] or "-"
    encoder = manifest.get("text_encoder", {})
    for what, kind, folder, known in (
        (
            "latents of autoencoder",
            AutoencoderRecord,
            own.parents[1] / "autoencoders" / name if len(own.parents) > 1 else own,
            manifest.get("autoencoder_sha256"),
        ),
        (
            "captions of text encoder",
            TextEncoderRecord,
            Path(encoder.get("settings", {}).get("folder") or own),
            encoder.get("weights_sha256"),
        ),
    ):
        record = folder / ASSET[1]
        if known is None or not record.is_file():
            continue
        found = read_record(kind, record).weights_sha256
        if found != known:
            raise Refusal(
                f"{manifest_path}: {what} weights {known[:12]}, {record} has {found[:12]}; delete "
                f"{manifest_path} to encode again"
            )
