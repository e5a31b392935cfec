"""Feature files: what the metrics need of a set of images, written once per set.

A file holds `features` float32 [n, d], `logits` float32 [n, classes], `extractor` (SHA-256 of the
network's weights), where the images have classes `labels` int64 [n], and of generated images
`samples`, the SHA-256 of their file.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from dtr.data.datasets import ImageDataset
from dtr.planning.places import ASSET
from dtr.records.schema import ExtractorRecord, read_record
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_npz, replacing


@dataclass(frozen=True)
class Features:
    """A set of images as the metrics see it; rows belong to images."""

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray | None
    extractor: str

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, positions: np.ndarray) -> "Features":
        """The images at `positions`, in that order."""
        labels = None if self.labels is None else self.labels[positions]
        return Features(self.features[positions], self.logits[positions], labels, self.extractor)


def sample_features(
    samples: Path, extractor_folder: Path, folder: Path, *, device: str = "cpu"
) -> Path:
    """Features of one sample file (`arr_0` uint8 [n, H, W, 3], `labels` [n] if any) in `folder`.

    A feature file of the same images and extractor weights is used again.
    """
    content, out = hash_file(samples) if samples.is_file() else "", folder / samples.name
    if out.is_file():
        known = read_npz(out)
        if (str(known.get("samples")), str(known.get("extractor"))) == (
            content,
            extractor_hash(extractor_folder),
        ):
            return out
    arrays = read_npz(samples)
    if "arr_0" not in arrays:
        raise Refusal(f"{samples}: no array 'arr_0' (found: {', '.join(arrays) or 'nothing'})")
    if lost := int(arrays.get("lost", 0)):
        raise Refusal(f"{samples}: {lost} of {len(arrays['arr_0'])} images diverged in sampling")
    extra = {"samples": np.array(content)}
    _write(arrays["arr_0"], arrays.get("labels"), samples, extractor_folder, out, device, extra)
    return out


def sampling_seconds(samples: Sequence[Path]) -> float:
    """Seconds that drawing the sample files took together; NaN where any of them does not say."""
    if not samples:
        return math.nan
    try:
        told = [read_npz(path, only="seconds").get("seconds", math.nan) for path in samples]
    except Refusal:  # whoever needs the images says what is wrong with the file
        return math.nan
    return float(sum(told))


def extractor_hash(folder: Path) -> str:
    """SHA-256 of an extractor's weights, by its record."""
    return read_record(ExtractorRecord, folder / ASSET[1]).weights_sha256


def write_real_features(
    dataset: ImageDataset,
    extractor_folder: Path,
    out: Path,
    *,
    split: str = "train",
    device: str = "cpu",
) -> None:
    """Features of the real images of one split, in the order of `positions(split)` -> `out`."""
    rows = dataset.positions(split)
    images, labels = np.asarray(dataset.images[rows]), dataset.labels()[rows]
    named = dataset.manifest.get("dataset", "dataset")
    _write(images, labels, named, extractor_folder, out, device, {})


def load_features(paths: Sequence[Path]) -> Features:
    """The images of several feature files one after the other; damaged ones are refused."""
    if not paths:
        raise Refusal("feature files: none given, at least one is needed")
    parts = [_load(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        same_extractor(part, parts[0], where=path)
        if (part.labels is None) != (parts[0].labels is None):
            raise Refusal(f"{path}: labels in some files only ({paths[0]} differs)")
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("features", "logits")
    }
    labels = None
    if parts[0].labels is not None:
        labels = np.concatenate([part.labels for part in parts])
    return Features(**joined, labels=labels, extractor=parts[0].extractor)


def same_extractor(first: Features, second: Features, *, where: Path) -> None:
    """Refuse features of two different sets of extractor weights: they live in other spaces."""
    if first.extractor != second.extractor:
        raise Refusal(
            f"{where}: features of extractor weights {first.extractor[:12]}, "
            f"the others are of {second.extractor[:12]}; extract them with one extractor"
        )


def _load(path: Path) -> Features:
    arrays = read_npz(path)
    missing = [
        field.name
        for field in fields(Features)
        if field.name != "labels" and field.name not in arrays
    ]
    if missing:
        raise Refusal(f"{path}: no array {missing[0]!r}; it is not a feature file")
    arrays["extractor"] = str(arrays["extractor"])
    return Features(**{field.name: arrays.get(field.name) for field in fields(Features)})


def _write(
    images, labels, source, extractor_folder: Path, out: Path, device: str, extra: dict
) -> None:
    from dtr.assets.extractor import extract, load_extractor

    extractor = load_extractor(extractor_folder, device)
    arrays = extract(extractor, images, source=source) | extra
    if labels is not None:
        arrays["labels"] = np.asarray(labels, dtype=np.int64)
    with replacing(out) as temporary:
        np.savez(temporary, extractor=np.array(extractor_hash(extractor_folder)), **arrays)
