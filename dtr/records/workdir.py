"""The work directory of a training: one writer at a time, and a log that survives kills.

Free of torch: the report looks here for what is going on.
"""

import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from dtr.records.lease import holder, leased
from dtr.support.errors import Busy

LOCK, LOG = "lock", "train.jsonl"
PATIENCE = 0.5  # seconds to wait for the lock: longer than a look whether somebody holds it
# What a file system says that has no locks: some of Lustre, NFS without its lock service.
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def exclusive(folder: Path, *, job: str | None = None) -> Iterator[None]:
    """Hold the work directory; a second process is refused. Released even by SIGKILL.

    By a lock of the kernel, where the file system has them, and by a lease, which also tells other
    hosts and names the cluster job `job`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "w") as lock:
        locked = _locked(lock, folder)
        with leased(folder, job, locked=locked):
            yield


def _locked(lock: IO[str], folder: Path) -> bool:
    """Lock the work directory; False where the file system has no locks."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                owner = holder(folder, locked=False)
                who = " (process {pid} on {host})".format_map(owner) if owner else ""
                raise Busy(
                    f"{folder}: another process is working here{who}; wait for it or stop it"
                ) from None
        except OSError as error:
            _accept_no_locks(error)
            return False
        time.sleep(PATIENCE / 10)


def in_use(folder: Path) -> bool:
    """Whether a process trains in the work directory at this moment, on any host."""
    locked = True
    try:
        with open(folder / LOCK) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        _accept_no_locks(error)
        locked = False
    return holder(folder, locked=locked) is not None


def _accept_no_locks(error: OSError) -> None:
    if error.errno not in NO_LOCKS:
        raise error
    _say_no_locks(error.strerror)


@cache
def _say_no_locks(reason: str) -> None:
    """One line for a process, however many work directories it looks at."""
    print(
        f"flock: {reason} on the file system of the work directories; "
        "leases with a heartbeat alone keep two processes apart",
        file=sys.stderr,
    )


def append_log(folder: Path, entry: dict[str, Any]) -> None:
    """Add one line to the durable training log of a work directory.

    A line that was cut off, by a full disk or a kill, is ended first.
    """
    with open(folder / LOG, "ab+") as stream:
        if stream.tell() and stream.seek(-1, os.SEEK_END) >= 0 and stream.read(1) != b"\n":
            stream.write(b"\n")
        stream.write(json.dumps(entry).encode() + b"\n")


def read_log(folder: Path, *, until: int | None = None) -> list[dict[str, Any]]:
    """Log entries up to step `until`, each step once (the last writing wins), in order.

    A line cut off by a kill is skipped; the steps after a resume are logged again.
    """
    entries = {}
    path = folder / LOG
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            entries[entry["step"]] = entry
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return [entries[step] for step in sorted(entries) if until is None or step <= until]


def running_steps(root: Path) -> dict[tuple[str, int], int]:
    """The last logged step of every training going on below work folder `root`, by (run, seed)."""
    steps = {}
    for lock in sorted(root.glob(f"*/seed*/*/{LOCK}")):
        folder = lock.parent
        run, seed = folder.parts[-3], folder.parts[-2].removeprefix("seed")
        if seed.isdecimal() and in_use(folder):
            log = read_log(folder)
            steps[run, int(seed)] = log[-1]["step"] if log else 0
    return steps
