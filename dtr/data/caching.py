"""Writing cached latents and encoded captions: piece by piece, by one process or by several.

A piece is one .npy file. Beside it, until the manifest is written, lies a note of what it was made
from and of its hash: a piece with another note, or without, is made again.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from dtr.assets.autoencoder import CHUNK_PIXELS, encode, load_autoencoder
from dtr.assets.text_encoder import build_text_encoder
from dtr.config.stages import TextEncoderSettings
from dtr.data.captions import flatten
from dtr.data.datasets import ImageDataset
from dtr.data.shards import check_room
from dtr.planning.places import ASSET
from dtr.records.schema import AutoencoderRecord, TextEncoderRecord, read_record
from dtr.records.workdir import exclusive, in_use
from dtr.registry import part_identity
from dtr.support.errors import Busy, Refusal
from dtr.support.files import hash_file, hash_json, read_json, replacing, write_json
from dtr.support.progress import Progress

SHARD_SIZE = 50_000  # images in one file at most
SHARD_BYTES = 1 << 28  # of one file, about
CAPTIONS = 1000  # encoded at once
LOOK_SECONDS = 1.0  # between two looks whether the others are ready
NOTES, MANIFEST = "encoding", "manifest.json"


@dataclass(frozen=True)
class Caching:
    """How latents are stored, and on what they are computed.

    dtype, tokens_dtype: "float32" or "float16".  share: (number from 1, of how many): which pieces
    this process makes; None: all that are missing, and the manifest.
    """

    dtype: str = "float32"
    tokens_dtype: str = "float32"
    device: str = "cpu"
    batch_size: int | None = None  # images encoded at once; None: as memory allows
    share: tuple[int, int] | None = None
    finish: bool = False  # of a share: wait for the others, which run now, and write the manifest


class Piece(NamedTuple):
    """One file: how many rows it has, what it is made from, and how."""

    name: str
    rows: int
    identity: str
    write: Callable[[np.ndarray, Progress], None]  # into an array of its rows


def cache_latents(
    dataset: ImageDataset,
    autoencoder: Path,
    folder: Path,
    text_encoder: TextEncoderSettings | None = None,
    how: Caching = Caching(),
) -> None:
    """Encode the training split; write shards, labels and, last, manifest.json into `folder`.

    A shard is [n, mirrors, 2, C, h, w]: mirrors 1 or 2, then (mean, log-variance). With a text
    encoder also tokens [captions, T, W], the empty one last, and first.npy, int64 [n + 1], where
    the captions of each image begin. With `how.share` only the pieces of that share are made.
    """
    notes = folder / NOTES
    rows = dataset.positions("train")
    parts: list[_Latents | _Captions] = [_Latents(dataset, autoencoder, rows, how)]
    if text_encoder is not None:
        parts.append(_Captions(dataset, text_encoder, rows, how))
    with _working(notes, how.share):
        for part in parts:
            pieces, (first, step) = list(part.pieces()), how.share or (1, 1)
            _make(pieces[first - 1 :: step], part, folder)
        if how.share is None:
            _finish(dataset, rows, parts, folder)
    if how.share is not None:
        if not how.finish:
            return
        missing = [piece for part in parts for piece in part.pieces()]
        while missing := [piece for piece in missing if _note(folder, piece) is None]:
            time.sleep(LOOK_SECONDS)
        while any(in_use(other) for other in notes.glob("share-*")):
            time.sleep(LOOK_SECONDS)
        with _working(notes, None):
            _finish(dataset, rows, parts, folder)
    rmtree(notes, ignore_errors=True)


@contextmanager
def _working(notes: Path, share: tuple[int, int] | None) -> Iterator[None]:
    """Hold a share, or everything: never both at once."""
    if share is not None:
        if in_use(notes):
            raise Busy(f"{notes}: another process makes all that is missing; wait for it")
        with exclusive(notes / f"share-{share[0]}-of-{share[1]}"):
            yield
        return
    for other in sorted(notes.glob("share-*")):
        if in_use(other):
            raise Busy(f"{other}: another process is working here; wait for it or stop it")
    with exclusive(notes):
        yield


class _Latents:
    """Moments of the training images `rows`, in shards."""

    def __init__(
        self, dataset: ImageDataset, autoencoder: Path, rows: np.ndarray, how: Caching
    ) -> None:
        self.dataset, self.rows, self.dtype = dataset, rows, np.dtype(how.dtype)
        self.title = f"{dataset.manifest['dataset']}: latents{_part_of(how.share)}"
        self.unit = "image"
        self._folder = autoencoder
        self._model, self.scale_factor = load_autoencoder(autoencoder, how.device)
        self._weights = read_record(AutoencoderRecord, autoencoder / ASSET[1]).weights_sha256
        self._mirrors = 2 if dataset.manifest["mirror"] else 1
        pixels = dataset.images.shape[1] * dataset.images.shape[2]
        self._batch = how.batch_size or max(1, CHUNK_PIXELS // pixels)
        self._shape = tuple(encode(self._model, dataset.images[:1])[0].shape[1:])
        self.row_shape = (self._mirrors, 2, *self._shape)

    def pieces(self) -> Iterator[Piece]:
        size = min(SHARD_SIZE, _rows_of(self.row_shape, self.dtype))
        source = [self.dataset.manifest["content_hash"], self._weights, str(self.dtype), size]
        for number, start in enumerate(range(0, len(self.rows), size)):
            rows = self.rows[start : start + size]
            identity = hash_json([*source, self._mirrors, start])
            write = partial(self._write, rows)
            yield Piece(f"shard-{number:05d}.npy", len(rows), identity, write)

    def _write(self, rows: np.ndarray, into: np.ndarray, progress: Progress) -> None:
        for start in range(0, len(rows), self._batch):
            chosen = rows[start : start + self._batch]
            images = self.dataset.images[chosen]
            for mirror, view in enumerate((images, images[:, :, ::-1])[: self._mirrors]):
                moments = encode(self._model, view, batch_size=self._batch)
                for place, part in enumerate(moments):
                    with np.errstate(over="ignore"):  # refused below
                        values = part.numpy().astype(self.dtype, copy=False)
                    if not np.isfinite(values).all():
                        raise Refusal(
                            f"{self._folder}: encodes one of images {chosen[0]} to {chosen[-1]} "
                            f"of {self.dataset.manifest['dataset']} to what is no {self.dtype}"
                        )
                    into[start : start + len(chosen), mirror, place] = values
            progress.advance(len(chosen))

    def facts(self) -> dict[str, Any]:
        """What the manifest says of them."""
        return {
            "mirrors": self._mirrors,
            "shape": list(self._shape),
            "dtype": str(self.dtype),
            "scale_factor": self.scale_factor,
            "autoencoder_sha256": self._weights,
        }


class _Captions:
    """Encoded captions of the training images `rows`, and the empty one, in shards."""

    def __init__(
        self, dataset: ImageDataset, settings: TextEncoderSettings, rows: np.ndarray, how: Caching
    ) -> None:
        if "captions" not in dataset.index:
            name = dataset.manifest["dataset"]
            raise Refusal(f"--text-encoder: given, but the images of {name} have no captions")
        own = dataset.index["captions"].iloc[rows]
        self._captions, self.first = flatten([list(captions) for captions in own])
        self._captions.append("")
        self.dtype, self._settings = np.dtype(how.tokens_dtype), settings
        self.title = f"{dataset.manifest['dataset']}: captions{_part_of(how.share)}"
        self.unit = "caption"
        self._encoder = build_text_encoder(settings, how.device)
        self.row_shape = (settings.tokens, settings.width)

    def pieces(self) -> Iterator[Piece]:
        size = _rows_of(self.row_shape, self.dtype)
        source = [self.facts(), size]
        starts = range(0, len(self._captions), size)
        for number, start in enumerate(starts):
            captions = self._captions[start : start + size]
            # One file where all fit into it, as the caches of 0.2 have it.
            name = "tokens.npy" if len(starts) == 1 else f"tokens-{number:05d}.npy"
            write = partial(self._write, captions)
            yield Piece(name, len(captions), hash_json([*source, captions]), write)

    def _write(self, captions: Sequence[str], into: np.ndarray, progress: Progress) -> None:
        for start in range(0, len(captions), CAPTIONS):
            some = captions[start : start + CAPTIONS]
            encoded = self._encoder.encode(some)
            if encoded.shape != (len(some), *self.row_shape):
                raise Refusal(
                    f"text encoder {self._settings.type!r}: made {list(encoded.shape)} of "
                    f"{len(some)} captions; its settings say {list(self.row_shape)} of each"
                )
            into[start : start + len(some)] = encoded
            progress.advance(len(some))

    def facts(self) -> dict[str, Any]:
        """What the manifest says of them."""
        kind, encoder = self._settings.type, {"settings": self._settings.plain()}
        if (part := part_identity("text_encoder", kind)) is not None:
            encoder["part"] = part
        if folder := getattr(self._settings, "folder", None):  # of a network of others
            record = read_record(TextEncoderRecord, Path(folder) / ASSET[1])
            encoder["weights_sha256"] = record.weights_sha256
        return {"text_encoder": encoder, "tokens_dtype": str(self.dtype)}


def _part_of(share: tuple[int, int] | None) -> str:
    return "" if share is None else f", part {share[0]} of {share[1]}"


def _rows_of(row_shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How many rows a file has."""
    return max(1, SHARD_BYTES // (math.prod(row_shape) * dtype.itemsize))


def _make(pieces: Sequence[Piece], part: _Latents | _Captions, folder: Path) -> None:
    """Write those pieces that are not there yet."""
    missing = [piece for piece in pieces if _note(folder, piece) is None]
    rows = sum(piece.rows for piece in missing)
    check_room(folder, rows * math.prod(part.row_shape) * part.dtype.itemsize)
    if missing:
        (folder / MANIFEST).unlink(missing_ok=True)
    total = sum(piece.rows for piece in pieces)
    with Progress(part.title, total, done=total - rows, unit=part.unit) as progress:
        for piece in missing:
            path = folder / piece.name
            with replacing(path) as temporary:
                shape = (piece.rows, *part.row_shape)
                into = open_memmap(temporary, "w+", part.dtype, shape)
                piece.write(into, progress)
                into.flush()
                del into
            made = {"identity": piece.identity, "sha256": hash_file(path)}
            write_json(folder / NOTES / f"{piece.name}.json", made)


def _note(folder: Path, piece: Piece) -> dict[str, Any] | None:
    """What was noted of a piece when it was made, None if it is not there or another one."""
    note, path = folder / NOTES / f"{piece.name}.json", folder / piece.name
    if not (note.is_file() and path.is_file()):
        return None
    found = read_json(note)
    return found if found.get("identity") == piece.identity else None


def _finish(
    dataset: ImageDataset, rows: np.ndarray, parts: list[_Latents | _Captions], folder: Path
) -> None:
    """Write what is small and, last, the manifest; what an earlier work left is removed."""
    small = {"labels.npy": dataset.labels()[rows]}
    facts: dict[str, Any] = {}
    files: dict[str, str] = {}
    for part in parts:
        facts |= part.facts()
        files |= {piece.name: _note(folder, piece)["sha256"] for piece in part.pieces()}
        if isinstance(part, _Captions):
            small["first.npy"] = part.first
    for name, array in small.items():
        with replacing(folder / name) as temporary:
            np.save(temporary, array)
        files[name] = hash_file(folder / name)
    for left in folder.glob("*.npy"):
        if left.name not in files:
            left.unlink()
    told = {"dataset": dataset.manifest["dataset"], "count": len(rows), **facts}
    sizes = {name: (folder / name).stat().st_size for name in files}
    content = {"content_hash": hash_json([files, facts["scale_factor"]])}
    write_json(folder / MANIFEST, told | {"files": files, "sizes": sizes} | content)
