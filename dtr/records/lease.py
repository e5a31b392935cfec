"""Holding a folder where the file system has no flock: a file with a heartbeat, for one process.

Leases are numbered, and the highest number holds. An old one is taken over by creating the next,
which the file system grants to one process only; so two that see the same old lease cannot both
have it, whatever the moment.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dtr.support.errors import Busy
from dtr.support.processes import alive, this_process

PREFIX = "lease-"
INTERVAL = 30.0  # seconds between two heartbeats
MISSED = 10  # heartbeats, after which a lease is old


@contextmanager
def leased(folder: Path, job: str | None) -> Iterator[None]:
    """Hold the folder by a lease that names this process and its cluster job; Busy if another does.

    If another process takes it over, this one having stood still, this one is sent SIGTERM.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    text = json.dumps(this_process() | {"job": job, "time": now})
    path = _take(folder, text)
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, text, over), daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()
        if _read(path) == text:
            path.unlink(missing_ok=True)


def refuse_if_leased(folder: Path) -> None:
    """Busy if a lease of the folder is held, by the clock of this machine."""
    _ended(folder, time.time())


def _take(folder: Path, text: str) -> Path:
    """Create the lease of the highest number, once every other one there has ended."""
    while True:
        with tempfile.TemporaryFile(dir=folder) as probe:
            # The clock of a file server is not that of this machine.
            now = os.fstat(probe.fileno()).st_mtime
        ended = _ended(folder, now)
        path = folder / f"{PREFIX}{max(map(_number, ended), default=0) + 1}"
        try:
            with open(path, "x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError:
            continue  # another process was faster: look again
        # A folder that changes may be read incompletely: it is read again with our lease in it.
        if _number(path) < max(map(_number, _leases(folder))):
            path.unlink()
            continue
        for old, why in ended.items():
            print(f"{folder}: taken over from {why}", file=sys.stderr)
            old.unlink(missing_ok=True)
        return path


def _ended(folder: Path, now: float) -> dict[Path, str]:
    """Leases that hold no more, each with its owner and why, at file time `now`; Busy if one does.

    Not known to have ended is held: a process on another host shows by its heartbeat only.
    """
    ended = {}
    for path in _leases(folder):
        try:
            age = now - path.stat().st_mtime
        except FileNotFoundError:
            continue
        owner = _owner(path)
        who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        if owner.get("job"):
            who += f", job {owner['job']}"
        if age > MISSED * INTERVAL:
            ended[path] = f"{who}: its heartbeat is {age:.0f} s old"
        elif alive(owner) is False:
            ended[path] = f"{who}: it was killed"
        else:
            raise Busy(
                f"{folder}: another process is working here ({who}, heartbeat {max(age, 0):.0f} s "
                "ago); wait for it or stop it"
            )
    return ended


def _beat(path: Path, text: str, over: threading.Event) -> None:
    while not over.wait(INTERVAL):
        try:
            held = path.read_text(encoding="utf-8") == text
            if held:
                os.utime(path)
        except FileNotFoundError:
            held = False
        except OSError:
            continue  # a file server that does not answer now may do so at the next beat
        if not held:
            print(f"{path}: taken over by another process; stopping", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGTERM)
            return


def _leases(folder: Path) -> list[Path]:
    names = [name for name in os.listdir(folder) if name.startswith(PREFIX)]
    return sorted((folder / name for name in names if _number(Path(name)) > 0), key=_number)


def _number(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX)
    return int(digits) if digits.isdecimal() else 0


def _owner(path: Path) -> dict[str, Any]:
    """Who holds a lease; empty while it is being written."""
    try:
        return json.loads(_read(path) or "{}")
    except json.JSONDecodeError:
        return {}


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
