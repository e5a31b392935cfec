"""Who holds a folder, for other hosts too: a file with a heartbeat, for one process.

A lock of the kernel is often not seen by other hosts that share the folder, so a lease stands
beside it. Leases are numbered, and the highest number holds. An old one is taken over by creating
the next, which the file system grants to one process only; so two that see the same old lease
cannot both have it, whatever the moment. No clocks are compared: a heart has stopped if it is
watched and does not beat, so a clock that is set neither ends a lease nor prolongs it.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from dtr.support.errors import Busy
from dtr.support.processes import alive, this_process

PREFIX = "lease-"
INTERVAL = 30.0  # seconds between two heartbeats
MISSED = 10  # heartbeats, after which a lease is old


class _Lease(NamedTuple):
    """A lease as it is found: its file, who wrote it, and the time of its last heartbeat."""

    path: Path
    owner: dict[str, Any]
    beat: int  # nanoseconds, of the file server's clock

    @property
    def who(self) -> str:
        job = f", job {self.owner['job']}" if self.owner.get("job") else ""
        return f"process {self.owner.get('pid', '?')} on {self.owner.get('host', '?')}{job}"


@contextmanager
def leased(folder: Path, job: str | None, *, locked: bool) -> Iterator[None]:
    """Hold the folder by a lease that names this process and its job; Busy if another does.

    locked: whether this process holds a lock of the kernel on the folder, too.  Waits where only
    time tells whether the holder is alive. If another process takes the lease over, this one having
    stood still, this one is sent SIGTERM.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    text = json.dumps(this_process() | {"job": job, "time": now})
    path = _take(folder, text, locked)
    try:
        with regularly(INTERVAL, lambda: _beat(path, text)):
            yield
    finally:
        if _read(path) == text:
            path.unlink(missing_ok=True)


@contextmanager
def regularly(seconds: float, action: Callable[[], bool]) -> Iterator[None]:
    """Do something every so many seconds beside the block, for as long as it returns True."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds) and action():
            pass

    heart = threading.Thread(target=repeat, daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()


def holder(folder: Path, *, locked: bool) -> dict[str, Any] | None:
    """Who holds the folder, as far as one look tells: host, pid, job, time; None if nobody does.

    locked: whether a lock of the kernel on the folder could have been had.  A process that cannot
    be seen from here is judged by its last heartbeat and the clock of this machine.
    """
    for lease in _leases(folder):
        living = _living(lease, locked)
        if living or (living is None and time.time() - lease.beat / 1e9 <= MISSED * INTERVAL):
            return lease.owner
    return None


def _take(folder: Path, text: str, locked: bool) -> Path:
    """Create the lease of the highest number, once every other one there has ended."""
    watched: dict[Path, tuple[int, float]] = {}
    while True:
        ended = _ended(folder, locked, watched)
        if ended is None:
            time.sleep(min(1.0, INTERVAL / 10))
            continue
        path = folder / f"{PREFIX}{max(map(_number, ended), default=0) + 1}"
        if not _create(path, text):
            continue  # another process was faster: look again
        # A folder that changes may be read incompletely: it is read again with our lease in it.
        if _number(path) < max(_number(lease.path) for lease in _leases(folder)):
            path.unlink()
            continue
        for old, why in ended.items():
            print(f"{folder}: taken over from {why}", file=sys.stderr, flush=True)
            old.unlink(missing_ok=True)
        return path


def _ended(
    folder: Path, locked: bool, watched: dict[Path, tuple[int, float]]
) -> dict[Path, str] | None:
    """Leases that hold no more, each with its owner and why; None if one must be watched longer.

    watched: the heartbeat that each was first seen with, and when.  Busy if one holds.
    """
    ended, waiting = {}, False
    for lease in _leases(folder):
        living = _living(lease, locked)
        if living is False:
            ended[lease.path] = f"{lease.who}: it was killed"
            continue
        first = lease.path not in watched
        beat, since = watched.setdefault(lease.path, (lease.beat, time.monotonic()))
        if living or lease.beat != beat:
            raise Busy(
                f"{folder}: another process is working here ({lease.who}); wait for it or stop it"
            )
        if time.monotonic() - since >= (patience := _patience(folder, lease)):
            ended[lease.path] = f"{lease.who}: its heart has stopped"
            continue
        waiting = True
        if first:
            print(
                f"{folder}: held by {lease.who}, which cannot be seen from here; waiting up to "
                f"{patience:.0f} s for a heartbeat",
                file=sys.stderr,
                flush=True,
            )
    return None if waiting else ended


def _living(lease: _Lease, locked: bool) -> bool | None:
    """Whether the holder still runs; None if only its heartbeat tells."""
    living = alive(lease.owner)
    here = this_process()
    if living is None and locked and all(lease.owner.get(k) == here[k] for k in ("host", "boot")):
        return False  # in another container of this machine, whose kernel gave us its lock
    return living


def _patience(folder: Path, lease: _Lease) -> float:
    """Seconds without a heartbeat after which a lease that is watched has ended.

    An old one needs fewer; but no clock alone ends a lease.
    """
    with tempfile.TemporaryFile(dir=folder) as probe:
        # The clock of a file server is not that of this machine.
        age = (os.fstat(probe.fileno()).st_mtime_ns - lease.beat) / 1e9
    return max(2 * INTERVAL, MISSED * INTERVAL - max(age, 0.0))


def _create(path: Path, text: str) -> bool:
    """Create a file with its content at once: no kill leaves it empty. False if it exists."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with open(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.chmod(name, 0o644)  # for whoever looks
    try:
        os.link(name, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            with open(path, "x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            return False
    finally:
        os.unlink(name)
    return True


def _beat(path: Path, text: str) -> bool:
    """Renew the time of the lease; False, and stop this process, if it is another's now."""
    try:
        held = path.read_text(encoding="utf-8") == text
        if held:
            os.utime(path)
    except FileNotFoundError:
        held = False
    except OSError:
        return True  # a file server that does not answer now may do so at the next beat
    if not held:
        print(f"{path}: taken over by another process; stopping", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGTERM)
    return held


def _leases(folder: Path) -> list[_Lease]:
    """Every lease of the folder, by its number."""
    found = []
    for name in os.listdir(folder):
        path = folder / name
        if name.startswith(PREFIX) and _number(path) > 0:
            try:
                # Opened first: a file server is asked anew then, and not a cache.
                with open(path, encoding="utf-8", errors="replace") as stream:
                    beat, text = os.fstat(stream.fileno()).st_mtime_ns, stream.read()
            except FileNotFoundError:
                continue
            found.append(_Lease(path, _owner(text), beat))
    return sorted(found, key=lambda lease: _number(lease.path))


def _number(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX)
    return int(digits) if digits.isdecimal() else 0


def _owner(text: str) -> dict[str, Any]:
    """Who wrote a lease; empty while it is being written."""
    try:
        return dict(json.loads(text))
    except (json.JSONDecodeError, TypeError, ValueError):
        return {}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
