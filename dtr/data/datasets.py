"""Images on disk: one uint8 array, one index with labels and split, one small hashed manifest."""

import hashlib
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtr.config.stages import SourceSettings
from dtr.data.captions import check_captions
from dtr.data.readable import ReadableImages
from dtr.data.streaming import stream_images
from dtr.data.trees import printable
from dtr.records.workdir import exclusive
from dtr.registry import build, named
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json, read_json, replacing, write_json


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

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 [n, H, W, 3] and labels [n] int64 of a split."""
        rows = self.positions(name)
        return np.asarray(self.images[rows]), self.labels()[rows]

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


def prepare_dataset(name: str, settings: SourceSettings, folder: Path) -> None:
    """Write images.npy, index.parquet and, last, manifest.json of a dataset into `folder`.

    A source is a function from its settings to images, uint8 [n, R, R, 3], and an index with a row
    per image: path, label, split ("train" or "test") and, where it has them, captions. Images that
    need not fit into memory are a `ReadableImages` instead, which has its index.
    """
    who = named("source", settings.type)
    made = build("source", settings.type, settings)
    if isinstance(made, ReadableImages):
        _prepare_streamed(name, who, settings, made, folder)
        return
    try:
        images, index = made
    except (TypeError, ValueError):
        raise Refusal(
            f"{who}: returned a {type(made).__name__}; accepted: images and their index"
        ) from None
    _check_source(who, settings, images, index)
    _check_index(who, settings, index)
    _complete(who, index, [hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    with replacing(folder / "images.npy") as temporary:
        np.save(temporary, images)
    with replacing(folder / "index.parquet") as temporary:
        index.to_parquet(temporary, index=False)
    files = {file: hash_file(folder / file) for file in ("images.npy", "index.parquet")}
    write_json(folder / "manifest.json", _manifest(name, settings, index, files))


def _prepare_streamed(
    name: str, who: str, settings: SourceSettings, images: ReadableImages, folder: Path
) -> None:
    """The same of images that are read one at a time; its manifest also says what was left out."""
    for remark in images.remarks:
        print(f"{name}: {printable(remark)}", file=sys.stderr)
    work = folder / "preparing"
    try:
        with exclusive(work):
            done = stream_images(images, settings.resolution, work, title=f"{name}: images")
            index = images.index(done.kept())
            if len(index) != len(done.sha256):
                raise Refusal(f"{who}: an index of {len(index)} rows for {len(done.sha256)} images")
            _check_index(who, settings, index)
            _complete(who, index, done.sha256)
            files = {"images.npy": hash_file(work / "images.npy")}
            with replacing(folder / "index.parquet") as temporary:
                index.to_parquet(temporary, index=False)
            files["index.parquet"] = hash_file(folder / "index.parquet")
            os.replace(work / "images.npy", folder / "images.npy")
            left_out = {printable(images.names[n]): why for n, why in done.unreadable.items()}
            source = {"source": {**images.facts, "unreadable": left_out}}
            write_json(folder / "manifest.json", _manifest(name, settings, index, files) | source)
    except OSError as error:
        raise Refusal(f"{folder}: cannot be written ({error.strerror})") from None
    shutil.rmtree(work, ignore_errors=True)


def _complete(who: str, index: pd.DataFrame, sha256: list[str]) -> None:
    """Add what every index has: clean captions, numbers and hashes of the images."""
    if "captions" in index:
        index["captions"] = check_captions(index["captions"], index["path"], source=who)
    index.insert(0, "index", np.arange(len(index)))
    index["sha256"] = sha256


def _manifest(
    name: str, settings: SourceSettings, index: pd.DataFrame, files: dict[str, str]
) -> dict[str, Any]:
    """What a dataset is, with the hash of its content, which other results refer to."""
    labels = index["label"].to_numpy(dtype=np.int64)
    told = [index[column].tolist() for column in ("label", "captions") if column in index]
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
        "files": files,
        "content_hash": hash_json([index["sha256"].tolist(), told, index["split"].tolist()]),
    }


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


def _check_index(who: str, settings: SourceSettings, index: pd.DataFrame) -> None:
    needed = ["path", "label", "split", *(["captions"] if settings.captions_per_image else [])]
    if missing := [name for name in needed if name not in index]:
        raise Refusal(f"{who}: the index has no column {missing[0]!r}")
    if set(index["split"]) - {"train", "test"}:
        raise Refusal(f"{who}: split {sorted(set(index['split']))}; accepted: train, test")
