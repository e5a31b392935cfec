"""Feature files: what the metrics need of a set of images, written once per set.

A file holds `features` float32 [n, d], `logits` float32 [n, classes], `extractor` (SHA-256 of the
network's weights), where the images have classes `labels` int64 [n], and of generated images
`samples`, the SHA-256 of their file. Extractors that give them: `spatial` float32 [n, s], and
`clean` float32 [n, c], the features of clean-fid's own network. A reference
(`dtr.metrics.reference`) also holds statistics of images that are not in the file.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from dtr.data.datasets import ImageDataset
from dtr.data.shards import Chosen
from dtr.metrics.gaussians import Gaussian
from dtr.planning.places import ASSET
from dtr.records.schema import ExtractorRecord, read_record
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_npz, replacing

PER_IMAGE = ("features", "logits", "labels", "spatial", "clean")
# Of a reference: names of the mean and the covariance of all of its images, by kind of features.
STATISTICS = {
    "features": ("mu", "sigma"),
    "spatial": ("mu_s", "sigma_s"),
    "clean": ("mu_clean", "sigma_clean"),
}


@dataclass(frozen=True)
class Features:
    """A set of images as the metrics see it; rows belong to images."""

    features: np.ndarray
    logits: np.ndarray
    labels: np.ndarray | None
    extractor: str
    spatial: np.ndarray | None = None
    clean: np.ndarray | None = None
    mu: np.ndarray | None = None  # of a reference, as STATISTICS says
    sigma: np.ndarray | None = None
    mu_s: np.ndarray | None = None
    sigma_s: np.ndarray | None = None
    mu_clean: np.ndarray | None = None
    sigma_clean: np.ndarray | None = None
    reference: str | None = None  # where these statistics come from, as JSON

    def gaussian(self, part: str = "features") -> Gaussian | None:
        """The known statistics of one kind of features (a key of STATISTICS), else their own.

        None where there are neither. Images of a reference are a part of those that it is of, so
        what it has no statistics of is not taken from them.
        """
        mean, covariance = (getattr(self, name) for name in STATISTICS[part])
        if mean is not None:
            return Gaussian(mean, covariance)
        values = getattr(self, part)
        if self.mu is not None or values is None or len(values) < 2:
            return None
        return Gaussian.of(values)

    def __len__(self) -> int:
        return len(self.features)

    def rows(self, positions: np.ndarray) -> "Features":
        """The images at `positions`, in that order."""

        def of(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[positions]

        own = {name: of(getattr(self, name)) for name in PER_IMAGE}
        return replace(self, **own)


def sample_features(
    samples: Path, extractor_folder: Path, folder: Path, *, device: str = "cpu"
) -> Path:
    """Features of one sample file (`arr_0` uint8 [n, H, W, 3], `labels` [n] if any) in `folder`.

    A feature file of the same images and extractor weights is used again; where the images were
    not kept, there has to be one.
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
    if (drawn := int(arrays.get("drawn", 0))) > len(arrays["arr_0"]):
        raise Refusal(
            f"{samples}: keeps {len(arrays['arr_0'])} of {drawn} images, and their features are "
            "not there; delete it to have them drawn again"
        )
    extra = {"samples": np.array(content)}
    _write(arrays["arr_0"], arrays.get("labels"), samples, extractor_folder, out, device, extra)
    return out


def keep_features(
    samples: Path, extractor_folder: Path, folder: Path, *, keep: int, device: str = "cpu"
) -> None:
    """Write the features of a sample file and then leave the first `keep` of its images in it.

    `drawn` says how many there were. A file of which images diverged stays as it is.
    """
    arrays = read_npz(samples)
    count = len(arrays["arr_0"])
    if int(arrays.get("lost", 0)) or count <= keep:
        return
    features = read_npz(sample_features(samples, extractor_folder, folder, device=device))
    cut = {name: arrays[name][:keep] for name in ("arr_0", "labels", "captions") if name in arrays}
    with replacing(samples) as temporary:
        np.savez(temporary, **(arrays | cut | {"drawn": np.array(count)}))
        # Before the images go: a kill in between costs the features, which can be taken again.
        with replacing(folder / samples.name) as told:
            np.savez(told, **(features | {"samples": np.array(hash_file(temporary))}))


def sampling_seconds(samples: Sequence[Path]) -> float:
    """Seconds that drawing the sample files took together; NaN where any of them does not say."""
    if not samples:
        return math.nan
    try:
        told = [read_npz(path, only="seconds").get("seconds", math.nan) for path in samples]
    except Refusal:  # whoever needs the images says what is wrong with the file
        return math.nan
    return float(sum(told))


def reference_of(real: Path) -> dict[str, Any] | None:
    """Where the statistics in a file of real images come from; None where it has no others'."""
    try:
        told = read_npz(real, only="reference").get("reference")
    except Refusal:  # whoever needs the features says what is wrong with the file
        return None
    return None if told is None else json.loads(str(told))


def sampling_rng(samples: Sequence[Path]) -> str:
    """Where the noise of the sample files was drawn: "host", "device", or "mixed"."""
    try:
        told = {str(read_npz(path, only="rng").get("rng", "host")) for path in samples}
    except Refusal:
        told = set()
    return "mixed" if len(told) > 1 else next(iter(told), "host")


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
    images, labels = Chosen(dataset.images, rows), dataset.labels()[rows]
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
    if len(parts) == 1:
        return parts[0]
    joined = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in PER_IMAGE
        if getattr(parts[0], name) is not None
    }
    return replace(parts[0], **joined)


def same_extractor(first: Features, second: Features, *, where: Path) -> None:
    """Refuse features of two different sets of extractor weights: they live in other spaces."""
    if first.extractor != second.extractor:
        raise Refusal(
            f"{where}: features of extractor weights {first.extractor[:12]}, "
            f"the others are of {second.extractor[:12]}; extract them with one extractor"
        )


def _load(path: Path) -> Features:
    arrays = read_npz(path)
    missing = [name for name in ("features", "logits", "extractor") if name not in arrays]
    if missing:
        raise Refusal(f"{path}: no array {missing[0]!r}; it is not a feature file")
    for name in {"extractor", "reference"} & arrays.keys():
        arrays[name] = str(arrays[name])
    return Features(**{field.name: arrays.get(field.name) for field in fields(Features)})


def _write(
    images, labels, source, extractor_folder: Path, out: Path, device: str, extra: dict
) -> None:
    from dtr.assets.extractor import extract, load_extractor

    extractor = load_extractor(extractor_folder, device)
    arrays = extract(extractor, images, source=source, shown=True) | extra
    if labels is not None and getattr(extractor, "knows_labels", True):
        arrays["labels"] = np.asarray(labels, dtype=np.int64)
    with replacing(out) as temporary:
        np.savez(temporary, extractor=np.array(extractor_hash(extractor_folder)), **arrays)
