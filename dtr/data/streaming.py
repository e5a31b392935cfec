"""Images that are read one at a time, written to one .npy as they come; a kill costs one block.

The unfinished file lies beside a log with one line per block of images: their hashes, and what was
unreadable. A new start believes no more than what has these hashes, so neither has to be flushed.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from dtr.data.readable import ReadableImages, Unreadable
from dtr.data.trees import printable
from dtr.support.errors import Refusal
from dtr.support.files import hash_json
from dtr.support.progress import Progress

BLOCK = 512  # images, which are written down as done together
MOST_THREADS = 16
NAMED = 3  # unreadable images that a refusal names
IMAGES, LOG = "images.npy", "blocks.jsonl"


@dataclass
class Streamed:
    """What has been read so far: hashes of the images in the file, reasons of the others."""

    sha256: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Images that were looked at."""
        return len(self.sha256) + len(self.unreadable)

    def kept(self) -> np.ndarray:
        """Numbers of the images in the file: [n] int64, ascending."""
        numbers = np.arange(self.done)
        return np.delete(numbers, list(self.unreadable))


def stream_images(images: ReadableImages, side: int, folder: Path, *, title: str) -> Streamed:
    """Write all images, uint8 [n, side, side, 3], to `folder`/images.npy, or go on writing them.

    Images are decoded in several threads. More unreadable ones than allowed are refused, after the
    block they are in; what came before is kept.
    """
    identity = hash_json([images.identity, len(images.names), side])
    folder.mkdir(parents=True, exist_ok=True)
    for name in (IMAGES, LOG):
        (folder / name).touch()
    with open(folder / IMAGES, "r+b") as file, open(folder / LOG, "r+b") as log:
        start = _write_header(file, len(images.names), side)
        found = _resume(images, identity, side, file, log)
        file.seek(start + len(found.sha256) * side * side * 3)
        file.truncate()
        if not found.done:
            _write_line(log, {"identity": identity})
        with (
            Progress(title, len(images.names), done=found.done, unit="image") as progress,
            ThreadPoolExecutor(threads()) as pool,
        ):
            while found.done < len(images.names):
                block = Streamed()
                numbers = range(found.done, min(found.done + BLOCK, len(images.names)))
                read = pool.map(lambda number: _read(images, number, side), numbers)
                for number, (image, outcome) in zip(numbers, read, strict=True):
                    if image is None:
                        block.unreadable[number] = outcome
                    else:
                        file.write(image)
                        block.sha256.append(outcome)
                    progress.advance()
                _check(images, found, block)
                file.flush()
                _write_line(
                    log, {"sha256": block.sha256, "unreadable": [*block.unreadable.items()]}
                )
                _add(found, block)
        if not found.sha256:
            raise Refusal(f"{title}: all {len(images.names)} images are unreadable")
        _write_header(file, len(found.sha256), side)  # as long: NumPy leaves room for the count
        file.flush()
        os.fsync(file.fileno())
    return found


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


def _add(found: Streamed, block: Streamed) -> None:
    found.sha256 += block.sha256
    found.unreadable |= block.unreadable


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
    images: ReadableImages, identity: str, side: int, file: IO[bytes], log: IO[bytes]
) -> Streamed:
    """The blocks of an interrupted work that are there as its log says; the rest is cut off."""
    found, end = Streamed(), 0
    for block, place in _blocks(identity, log):
        if len(found.unreadable) + len(block.unreadable) > images.allow_unreadable:
            break  # looked at again, and refused by name if it is still so
        stored = (file.read(side * side * 3) for _ in block.sha256)
        if any(
            hashlib.sha256(content).hexdigest() != expected
            for content, expected in zip(stored, block.sha256, strict=True)
        ):
            break
        _add(found, block)
        end = place
    log.seek(end)
    log.truncate()
    return found


def _blocks(identity: str, log: IO[bytes]) -> Iterator[tuple[Streamed, int]]:
    """Each whole line of the log of the same work, and where it ends."""
    place = 0
    for line in log:
        place += len(line)
        try:
            entry = json.loads(line)
            if place == len(line):  # the first one
                if entry["identity"] != identity:
                    return
                continue
            block = Streamed(entry["sha256"], dict(entry["unreadable"]))
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            return
        if not line.endswith(b"\n"):
            return
        yield block, place
