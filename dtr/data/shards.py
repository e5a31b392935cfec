"""Arrays that are cut along their first axis into files, and read by rows through memory maps."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json
from dtr.support.progress import Progress

GIB = 1 << 30
SMALL = GIB // 4  # bytes that are read at every start


class Shards:
    """The rows of several arrays one after the other; what is not asked for is not read.

    arrays: at least one, alike but for their first axis. Indexed by a number, a slice or numbers
    [B] int64 it gives copies; `take` also indexes the axes behind the first.
    """

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        # A memmap's own indexing costs microseconds; a plain view of it does not.
        self._arrays = [np.asarray(array) for array in arrays]
        counts = [len(array) for array in self._arrays]
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts
        self.shape = (int(self._ends[-1]), *self._arrays[0].shape[1:])
        self.dtype = self._arrays[0].dtype

    @classmethod
    def open(cls, folder: Path, names: Sequence[str]) -> "Shards":
        """Those in the .npy files `names` of a folder, mapped; damaged and unlike ones refused."""
        arrays = []
        for name in names:
            try:
                arrays.append(np.load(folder / name, mmap_mode="r"))
            except (OSError, ValueError, EOFError) as error:
                reason = " ".join(str(error).split())
                raise Refusal(f"{folder / name}: not readable as an array ({reason})") from None
            first, last = arrays[0], arrays[-1]
            if (last.dtype, last.shape[1:]) != (first.dtype, first.shape[1:]):
                raise Refusal(
                    f"{folder / name}: {last.dtype} {list(last.shape[1:])}, {names[0]} holds "
                    f"{first.dtype} {list(first.shape[1:])}; accepted: one kind of rows"
                )
        return cls(arrays)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            if len(self._arrays) == 1:
                return self._arrays[0][rows].copy()
            return self.take(np.arange(*rows.indices(len(self))))
        if isinstance(rows, int | np.integer):
            return self.take(np.array([rows + len(self) if rows < 0 else rows]))[0]
        return self.take(np.asarray(rows))

    def take(self, rows: np.ndarray, *inner: np.ndarray) -> np.ndarray:
        """Copies of `rows` [B] int64, of the next axes only the entries `inner`, each [B]."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        if len(self._arrays) == 1:
            return self._arrays[0][(rows, *inner)]
        which = np.searchsorted(self._ends, rows, side="right")
        places = zip(
            (rows - self._starts[which]).tolist(), *(i.tolist() for i in inner), strict=True
        )
        taken = np.empty((len(rows), *self.shape[1 + len(inner) :]), self.dtype)
        for row, shard, place in zip(taken, which.tolist(), places, strict=True):
            row[...] = self._arrays[shard][place]
        return taken


class Chosen:
    """Some rows of an array or of `Shards` as an array that is cut into slices, each read then."""

    def __init__(self, images: Shards | np.ndarray, rows: np.ndarray) -> None:
        self._images, self._rows = images, rows
        self.shape, self.dtype = (len(rows), *images.shape[1:]), images.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._images[self._rows[rows]]


def read_manifest(path: str | Path, kind: str, file: str) -> dict[str, Any]:
    """The manifest of what `kind` says, told by one of its files; any other JSON is refused."""
    manifest = read_json(path)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or file not in files or "content_hash" not in manifest:
        raise Refusal(f"{path}: not the manifest of {kind}, which lists {file} among its files")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], *, redo: str) -> None:
    """Refuse a file of the manifest that is missing or not as long as it says.

    Contents are compared too where all files together are small. Reading 250 GB at every start of
    every process is another matter: `check_content`.
    """
    sizes = {}
    for name in manifest["files"]:
        path = folder / name
        if not path.is_file():
            raise Refusal(f"{path}: missing; {redo}")
        sizes[name] = path.stat().st_size
        if sizes[name] != (recorded := manifest.get("sizes", sizes).get(name)):  # 0.2 had none
            raise Refusal(f"{path}: {sizes[name]} bytes, its manifest says {recorded}; {redo}")
    if sum(sizes.values()) <= SMALL:
        for name in manifest["files"]:
            _check_hash(folder / name, manifest["files"][name], redo)


def check_content(manifest_path: Path) -> int:
    """Read every file that a manifest lists and compare its hash; returns how many they are."""
    manifest = read_json(manifest_path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise Refusal(f"{manifest_path}: not a manifest, which lists `files`")
    folder, redo = manifest_path.parent, f"delete {manifest_path} to make it again"
    check_files(folder, manifest, redo=redo)
    with Progress(f"{manifest_path}", len(manifest["files"]), unit="file") as progress:
        for name, expected in manifest["files"].items():
            _check_hash(folder / name, expected, redo)
            progress.advance()
    return len(manifest["files"])


def _check_hash(path: Path, expected: str, redo: str) -> None:
    if hash_file(path) != expected:
        raise Refusal(f"{path}: content differs from its manifest (corrupted?); {redo}")


def check_room(folder: Path, needed: int) -> None:
    """Refuse work that needs more bytes than the file system of `folder` has left."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    if (free := shutil.disk_usage(existing).free) < needed:
        raise Refusal(f"{folder}: {needed / GIB:.1f} GiB are needed, {free / GIB:.1f} GiB are free")
