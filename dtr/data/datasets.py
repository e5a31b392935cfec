"""Images on disk: uint8 shards, one index with labels and split, one small hashed manifest."""

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtr.config.stages import SourceSettings
from dtr.data.captions import check_captions
from dtr.data.readable import ReadableImages
from dtr.data.shards import Shards, check_files, check_room, read_manifest
from dtr.data.streaming import image_file, stream_images
from dtr.data.trees import printable
from dtr.records.workdir import exclusive
from dtr.registry import build, named
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json, replacing, write_json

INDEX, MANIFEST, WORK = "index.parquet", "manifest.json", "preparing"


class Index:
    """Columns of a stored index, each read when it is asked for: a million paths take a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._column = cache(lambda name: pd.read_parquet(path, columns=[name])[name])

    def __contains__(self, name: str) -> bool:
        from pyarrow.parquet import read_schema

        return name in read_schema(self._path).names

    def __getitem__(self, name: str) -> pd.Series:
        return self._column(name)


@dataclass(frozen=True)
class ImageDataset:
    """A prepared dataset: rows uint8 [n, H, W, 3], columns of one row per image, the manifest."""

    images: Shards
    index: Index | pd.DataFrame
    manifest: dict[str, Any]

    @classmethod
    def open(cls, manifest_path: str | Path) -> "ImageDataset":
        """Open a prepared dataset; files that are not there as the manifest says are refused."""
        manifest = read_manifest(manifest_path, "a prepared dataset", INDEX)
        folder = Path(manifest_path).parent
        check_files(folder, manifest, redo=f"delete {manifest_path} to prepare it again")
        names = [name for name in sorted(manifest["files"]) if name.startswith("images")]
        if not names:
            raise Refusal(f"{manifest_path}: lists no images among its files")
        return cls(Shards.open(folder, names), Index(folder / INDEX), manifest)

    def positions(self, split: str) -> np.ndarray:
        """Row numbers of a split ("train" or "test"): [n] int64, ascending."""
        return np.flatnonzero(self.index["split"].to_numpy() == split)

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [n, H, W, 3] and labels [n] int64 of a split, all of them in memory."""
        rows = self.positions(name)
        return self.images[rows], self.labels()[rows]

    def labels(self) -> np.ndarray:
        """Class of every image: [n] int64."""
        return self.index["label"].to_numpy(dtype=np.int64)


def prepare_dataset(
    name: str, settings: SourceSettings, folder: Path, *, classes: int | None = None
) -> None:
    """Write images in shards, index.parquet and, last, manifest.json of a dataset into `folder`.

    A source is a function from its settings to images, uint8 [n, R, R, 3], and an index with a row
    per image: path, label, split ("train" or "test") and, where it has them, captions. Images that
    need not fit into memory are a `ReadableImages` instead, which has its index.
    classes: how many there have to be, None: whatever there are. Another number is refused, before
    an image is read if the source knows it then.
    """
    who = named("source", settings.type)
    made = build("source", settings.type, settings)
    if isinstance(made, ReadableImages):
        _check_classes(name, getattr(made, "num_classes", None), classes)
        _prepare_streamed(name, who, settings, made, folder, classes)
        return
    try:
        images, index = made
    except (TypeError, ValueError):
        raise Refusal(
            f"{who}: returned a {type(made).__name__}; accepted: images and their index"
        ) from None
    _check_source(who, settings, images, index)
    _check_index(who, settings, index)
    _check_classes(name, _found_classes(index), classes)
    _complete(who, index, [hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    check_room(folder, images.nbytes)
    (folder / MANIFEST).unlink(missing_ok=True)
    with replacing(folder / image_file(0)) as temporary:
        np.save(temporary, images)
    files = {image_file(0): hash_file(folder / image_file(0))}
    _finish(folder, index, _manifest(name, settings, index), files)


def _prepare_streamed(
    name: str,
    who: str,
    settings: SourceSettings,
    images: ReadableImages,
    folder: Path,
    classes: int | None,
) -> None:
    """The same of images that are read one at a time; its manifest also says what was left out."""
    for remark in images.remarks:
        print(f"{name}: {printable(remark)}", file=sys.stderr)
    work = folder / WORK
    try:
        with exclusive(work):
            done = stream_images(images, settings.resolution, work, title=f"{name}: images")
            index = images.index(done.kept())
            if len(index) != len(done.sha256):
                raise Refusal(f"{who}: an index of {len(index)} rows for {len(done.sha256)} images")
            _check_index(who, settings, index)
            _check_classes(name, _found_classes(index), classes)
            _complete(who, index, done.sha256)
            manifest = _manifest(name, settings, index)
            left_out = {printable(images.names[n]): why for n, why in done.unreadable.items()}
            manifest["source"] = {**images.facts, "unreadable": left_out}
            (folder / MANIFEST).unlink(missing_ok=True)
            for shard in done.shards:
                os.replace(work / shard.file, folder / shard.file)
            _finish(folder, index, manifest, {shard.file: shard.sha256 for shard in done.shards})
    except OSError as error:
        raise Refusal(f"{folder}: cannot be written ({error.strerror})") from None
    shutil.rmtree(work, ignore_errors=True)


def _finish(
    folder: Path, index: pd.DataFrame, manifest: dict[str, Any], files: dict[str, str]
) -> None:
    """Write the index and, last, the manifest; images of an earlier preparation are removed."""
    for left in folder.glob("images*.npy"):
        if left.name not in files:
            left.unlink()
    with replacing(folder / INDEX) as temporary:
        index.to_parquet(temporary, index=False)
    files[INDEX] = hash_file(folder / INDEX)
    sizes = {file: (folder / file).stat().st_size for file in files}
    if copies := manifest["duplicates"]:
        print(f"{manifest['dataset']}: {copies} images equal another one", file=sys.stderr)
    write_json(folder / MANIFEST, manifest | {"files": files, "sizes": sizes})


def _complete(who: str, index: pd.DataFrame, sha256: list[str]) -> None:
    """Add what every index has: clean captions, numbers and hashes of the images."""
    if "captions" in index:
        index["captions"] = check_captions(index["captions"], index["path"], source=who)
    index.insert(0, "index", np.arange(len(index)))
    index["sha256"] = sha256


def _manifest(name: str, settings: SourceSettings, index: pd.DataFrame) -> dict[str, Any]:
    """What a dataset is, with the hash of its content, which other results refer to."""
    labels = index["label"].to_numpy(dtype=np.int64)
    return {
        "dataset": name,
        "count": len(index),
        "resolution": settings.resolution,
        "num_classes": int(labels.max()) + 1,
        "mirror": settings.mirror,
        "class_counts": np.bincount(labels).tolist(),
        "split_counts": index["split"].value_counts().to_dict(),
        "duplicates": int(index["sha256"].duplicated().sum()),
        "settings": settings.plain(),
        "content_hash": content_hash(index),
    }


def content_hash(index: pd.DataFrame) -> str:
    """Hash of what a dataset is: its images by their hashes, labels, captions if any, and split."""
    told = [index["label"].tolist()]
    if "captions" in index:
        told.append([list(own) for own in index["captions"]])  # a file gives each as an array
    return hash_json([index["sha256"].tolist(), told, index["split"].tolist()])


def _check_source(
    who: str, settings: SourceSettings, images: np.ndarray, index: pd.DataFrame
) -> None:
    side = settings.resolution
    if not isinstance(images, np.ndarray) or not isinstance(index, pd.DataFrame):
        found = f"a {type(images).__name__} and a {type(index).__name__}"
        raise Refusal(f"{who}: returned {found}; accepted: an array and a data frame")
    if images.dtype != np.uint8 or images.shape != (len(index), side, side, 3):
        found = f"{images.dtype} {list(images.shape)} for {len(index)} rows"
        raise Refusal(f"{who}: images {found}; accepted: uint8 [rows, {side}, {side}, 3]")


def _found_classes(index: pd.DataFrame) -> int:
    """By the highest label, as the manifest counts them."""
    labels = index["label"].to_numpy(dtype=np.int64)
    return int(labels.max()) + 1 if len(labels) else 0


def _check_classes(name: str, found: int | None, expected: int | None) -> None:
    if None not in (found, expected) and found != expected:
        raise Refusal(
            f"{name}: images of {found} classes; the slot's num_classes = {expected}: set it to "
            f"{found}, or prepare a dataset of {expected} classes"
        )


def _check_index(who: str, settings: SourceSettings, index: pd.DataFrame) -> None:
    needed = ["path", "label", "split", *(["captions"] if settings.captions_per_image else [])]
    if missing := [name for name in needed if name not in index]:
        raise Refusal(f"{who}: the index has no column {missing[0]!r}")
    if set(index["split"]) - {"train", "test"}:
        raise Refusal(f"{who}: split {sorted(set(index['split']))}; accepted: train, test")
