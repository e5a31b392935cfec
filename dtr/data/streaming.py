"""Images that are read one at a time, written to shards as they come; a kill costs one block.

Beside the shards lies a log: a line per block of images with their hashes and with what was
unreadable, a line per finished shard. A new start believes finished shards by their size, and of
the unfinished one no more than what has these hashes, so its blocks need not be flushed to disk.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from dtr.data.readable import ReadableImages, Unreadable
from dtr.data.shards import check_room
from dtr.data.trees import printable
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json
from dtr.support.progress import Progress

BLOCK = 512  # images, which are written down as done together
SHARD_BYTES = 1 << 30  # of images in one file, about
MOST_THREADS = 16
NAMED = 3  # unreadable images that a refusal names
LOG = "blocks.jsonl"


def image_file(number: int) -> str:
    """Name of the file with shard `number` of the images."""
    return f"images-{number:05d}.npy"


class Shard(NamedTuple):
    """A finished file of images."""

    file: str
    count: int
    size: int  # bytes
    sha256: str


@dataclass
class Streamed:
    """What has been read so far: hashes of the images written, reasons of the others, shards."""

    sha256: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)
    shards: list[Shard] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Images that were looked at."""
        return len(self.sha256) + len(self.unreadable)

    @property
    def loose(self) -> int:
        """Images written that are not in a finished shard."""
        return len(self.sha256) - sum(shard.count for shard in self.shards)

    def kept(self) -> np.ndarray:
        """Numbers of the images written: [n] int64, ascending."""
        numbers = np.arange(self.done)
        return np.delete(numbers, list(self.unreadable))

    def add(self, block: "Streamed") -> None:
        """Go on by what was read of the next images."""
        self.sha256 += block.sha256
        self.unreadable |= block.unreadable


def stream_images(images: ReadableImages, side: int, folder: Path, *, title: str) -> Streamed:
    """Write all images, uint8 [n, side, side, 3], into shards in `folder`, or go on writing them.

    Images are decoded in several threads. More unreadable ones than allowed are refused, after the
    block they are in; what came before is kept.
    """
    total = len(images.names)
    per_shard = max(1, SHARD_BYTES // (BLOCK * side * side * 3)) * BLOCK
    identity = hash_json([images.identity, total, side, per_shard])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOG).touch()
    with open(folder / LOG, "r+b") as log:
        found = _resume(images, identity, side, folder, log)
        check_room(folder, (total - found.done) * side * side * 3)
        if not found.done:
            _write_line(log, {"identity": identity})
        with (
            Progress(title, total, done=found.done, unit="image") as progress,
            ThreadPoolExecutor(threads()) as pool,
        ):
            work = _Work(images, side, folder, log, found, pool, progress)
            while found.done < total or found.loose:
                # A kill may have come between the last block of a shard and its own line.
                begun = -(-found.done // per_shard) if found.loose else found.done // per_shard + 1
                work.write_shard(min(begun * per_shard, total))
    if not found.sha256:
        raise Refusal(f"{title}: all {total} images are unreadable")
    return found


@dataclass
class _Work:
    """Shards being written."""

    images: ReadableImages
    side: int
    folder: Path
    log: IO[bytes]
    found: Streamed
    pool: ThreadPoolExecutor
    progress: Progress

    def write_shard(self, end: int) -> None:
        """Write, or go on writing, the images before number `end` that no shard has yet."""
        found, path = self.found, self.folder / image_file(len(self.found.shards))
        path.touch()
        with open(path, "r+b") as file:
            start = _write_header(file, found.loose, self.side)
            file.seek(start + found.loose * self.side**2 * 3)
            file.truncate()
            while found.done < end:
                self._write_block(file, range(found.done, min(found.done + BLOCK, end)))
            count = found.loose
            _write_header(file, count, self.side)  # as long: NumPy leaves room for the count
            file.flush()
            os.fsync(file.fileno())
        if count == 0:
            return  # all unreadable: the next images take its place
        found.shards.append(Shard(path.name, count, path.stat().st_size, hash_file(path)))
        _write_line(self.log, {"shard": found.shards[-1]})

    def _write_block(self, file: IO[bytes], numbers: range) -> None:
        block = Streamed()
        read = self.pool.map(lambda number: _read(self.images, number, self.side), numbers)
        for number, (image, outcome) in zip(numbers, read, strict=True):
            if image is None:
                block.unreadable[number] = outcome
            else:
                file.write(image)
                block.sha256.append(outcome)
            self.progress.advance()
        _check(self.images, self.found, block)
        file.flush()
        _write_line(self.log, {"sha256": block.sha256, "unreadable": [*block.unreadable.items()]})
        self.found.add(block)


def threads() -> int:
    """Threads that decode: as many as this process has cores, within reason."""
    mine = getattr(os, "sched_getaffinity", None)  # not on macOS
    return min(MOST_THREADS, len(mine(0)) if mine else os.cpu_count() or 1)


def _read(images: ReadableImages, number: int, side: int) -> tuple[bytes | None, str]:
    """An image's bytes and their SHA-256, or None and the reason why it is unreadable."""
    try:
        image = images.read(number)
    except Unreadable as error:
        return None, str(error)
    except Exception as error:  # whatever somebody else's code may raise
        reason = " ".join(str(error).split()) or "no reason given"
        where = printable(images.names[number])
        raise Refusal(f"{where}: raised {type(error).__name__}: {reason}") from None
    if image.dtype != np.uint8 or image.shape != (side, side, 3):
        raise Refusal(
            f"{printable(images.names[number])}: read as {image.dtype} {list(image.shape)}; "
            f"accepted: uint8 [{side}, {side}, 3]"
        )
    content = image.tobytes()
    return content, hashlib.sha256(content).hexdigest()


def _check(images: ReadableImages, found: Streamed, block: Streamed) -> None:
    """Refuse more unreadable images than are allowed, with the names of the first."""
    every = found.unreadable | block.unreadable
    if len(every) <= images.allow_unreadable:
        return
    reasons = [f"{printable(images.names[n])} ({why})" for n, why in every.items()][:NAMED]
    more = ", ..." if len(every) > NAMED else ""
    raise Refusal(
        f"{len(every)} of the first {found.done + block.done} images unreadable: "
        f"{', '.join(reasons)}{more}; accepted: allow_unreadable = {images.allow_unreadable}"
    )


def _write_line(log: IO[bytes], entry: dict) -> None:
    log.write(json.dumps(entry).encode() + b"\n")
    log.flush()


def _write_header(file: IO[bytes], count: int, side: int) -> int:
    """Write the header of an array of `count` images; returns where the first one begins."""
    shape = (count, side, side, 3)
    file.seek(0)
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return file.tell()


def _resume(
    images: ReadableImages, identity: str, side: int, folder: Path, log: IO[bytes]
) -> Streamed:
    """What an interrupted work has done as its log says and its files show; the rest is cut off."""
    entries = list(_entries(identity, log))
    believed = 0  # entries up to the last of the shards that are all there
    for number, (entry, _) in enumerate(entries, start=1):
        if isinstance(entry, Shard):
            path = folder / entry.file
            if not path.is_file() or path.stat().st_size != entry.size:
                break
            believed = number
    found, end = Streamed(), 0
    for number, (entry, place) in enumerate(entries):
        if isinstance(entry, Shard):
            if number >= believed:
                break
            found.shards.append(entry)
        else:
            if len(found.unreadable) + len(entry.unreadable) > images.allow_unreadable:
                break  # looked at again, and refused by name if it is still so
            if number >= believed and not _stored(folder, found, entry, side):
                break
            found.add(entry)
        end = place
    log.seek(end)
    log.truncate()
    return found


def _stored(folder: Path, found: Streamed, block: Streamed, side: int) -> bool:
    """Whether the images of a block lie where they were written, behind those in `found`."""
    try:
        with open(folder / image_file(len(found.shards)), "rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            file.seek(file.tell() + found.loose * side * side * 3)
            return all(
                hashlib.sha256(file.read(side * side * 3)).hexdigest() == expected
                for expected in block.sha256
            )
    except (OSError, ValueError):
        return False


def _entries(identity: str, log: IO[bytes]) -> Iterator[tuple[Streamed | Shard, int]]:
    """Each whole line of the log of the same work, and where it ends."""
    place = 0
    for line in log:
        place += len(line)
        try:
            entry: dict[str, Any] = json.loads(line)
            if place == len(line):  # the first one
                if entry["identity"] != identity:
                    return
                continue
            if "shard" in entry:
                read = Shard(*entry["shard"])
            else:
                read = Streamed([*entry["sha256"]], dict(entry["unreadable"]))
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            return
        if not line.endswith(b"\n"):
            return
        yield read, place
