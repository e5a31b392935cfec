"""GPUs of one machine, shared out among jobs that know nothing of each other.

Snakemake counts GPUs, but names none. So each job locks those that it takes, a file for each; the
kernel frees the locks with the process, whatever ended it.
"""

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dtr.support.errors import Refusal

VARIABLE = "CUDA_VISIBLE_DEVICES"
LAUNCHER = "DTR_LAUNCHER"  # process that started this one, and holds the GPUs for it
LOCKS = "DTR_GPU_LOCKS"  # where the locks are, if not in FOLDER
FOLDER = "/tmp/dtr-gpus"  # not $TMPDIR, which may differ between users and jobs of one machine
LOOK = 0.5  # seconds between looks at whether a GPU is free

_held: list[int] = []  # files of locks, open until the process ends


def take_gpus(count: int) -> list[str]:
    """Take `count` free GPUs until this process ends, and show it only these; waits for them.

    Only of those that CUDA_VISIBLE_DEVICES names, where it is set. Call it before CUDA is touched,
    which reads the variable once. Where it is not and nvidia-smi is missing, no GPU is known and
    none is taken: empty.
    """
    if LAUNCHER in os.environ:
        return os.environ.get(VARIABLE, "").split(",")
    known = _installed()
    named = _named()
    if named is None and known is None:
        return []
    names = known if named is None else named
    if len(names) < count:
        where = "nvidia-smi" if named is None else f"{VARIABLE} = {os.environ[VARIABLE]!r}"
        raise Refusal(f"{where}: GPUs that a job may take: {len(names)}; this one needs {count}")
    chosen = _lock(names, [_identity(name, known or []) for name in names], count)
    os.environ[VARIABLE] = ",".join(chosen)
    return chosen


def _installed() -> list[str] | None:
    """UUIDs of the GPUs that this process may see, in the order of their numbers."""
    query = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def _named() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES names; None where it is not set. -1 ends the list, as for CUDA."""
    if (text := os.environ.get(VARIABLE)) is None:
        return None
    names = [name.strip() for name in text.split(",")]
    ends = [place for place, name in enumerate(names) if name in ("", "-1")]
    return names[: ends[0]] if ends else names


def _identity(name: str, known: Sequence[str]) -> str:
    """The UUID behind a number or the beginning of a UUID; otherwise the name itself.

    Jobs of a scheduler may each call their own GPU 0, so a number is no identity.
    """
    if name.isdecimal() and int(name) < len(known):
        return known[int(name)]
    return next((uuid for uuid in known if uuid.startswith(name)), name)


def _lock(names: Sequence[str], identities: Sequence[str], count: int) -> list[str]:
    """Lock `count` of the GPUs, all or none of them at a time; their names."""
    said = False
    while True:
        with _one_at_a_time():
            taken: dict[str, int] = {}
            for name, identity in zip(names, identities, strict=True):
                if len(taken) < count and (lock := _try(identity)) is not None:
                    taken[name] = lock
            if len(taken) == count:
                _held.extend(taken.values())
                return list(taken)
            for lock in taken.values():
                os.close(lock)
        if not said:
            print(f"waiting for {count} of {len(names)} GPUs to be free", file=sys.stderr)
            said = True
        time.sleep(LOOK)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """So that two jobs that need several never hold each other up with a part of them."""
    lock = _open("choosing")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _try(identity: str) -> int | None:
    lock = _open(identity)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _open(name: str) -> int:
    """A lock file, which other users of the machine may have made."""
    folder = Path(os.environ.get(LOCKS) or FOLDER)
    path = folder / re.sub(r"[^\w.-]", "_", name)
    try:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o1777)
        while True:
            try:
                # Not O_CREAT at once: Linux refuses that for files of others in such a folder.
                return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                try:
                    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o644)
                except FileExistsError:
                    continue
    except OSError as error:
        raise Refusal(
            f"{path}: the lock of a GPU cannot be opened ({error.strerror}); {LOCKS} names "
            "another folder"
        ) from None
