"""Faults that are injected, and a process that starts many others quickly."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.training.conftest import latents  # noqa: F401

# Imports once, forks for every command, says who runs and, when asked, how it ended: until then a
# process that is done keeps its number, so that a signal can meet no other.
FORKER = """
import json, os, sys
import dtr.data.batches, dtr.sampling.shards, dtr.training.loop
from dtr.cli import run_verb
for line in iter(sys.stdin.readline, ""):
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        os._exit(run_verb(json.loads(line)))
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Starter:
    """Runs verbs one after the other, each in a process of its own that a test may kill."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def start(self, arguments: list[str]) -> int:
        """The number of a process that has begun."""
        return self._ask(json.dumps(arguments))

    def wait(self) -> int:
        """How it ended: its status, or the signal that killed it as a negative number."""
        return self._ask("")

    def _ask(self, line: str) -> int:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture
def starter(root, tmp_path) -> Iterator[Starter]:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKER],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "said.txt").open("w"),
        text=True,
    )
    yield Starter(process)
    process.stdin.close()
    process.wait(60)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: as a full disk, without needing one of one's own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of its own with some options, or again with others; needs rights."""
    folder, mounted = tmp_path / "disk", []
    folder.mkdir()

    def mount(options: str) -> Path:
        again = ["-o", f"remount,{options}"] if mounted else ["-o", options]
        command = ["mount", "-t", "tmpfs", *again, "tmpfs", str(folder)]
        if os.geteuid() or shutil.which("mount") is None:
            pytest.skip("mounting needs rights that this process does not have")
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("nothing can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def train_arguments(data: Path, folder: Path, steps: int, *options: str) -> list[str]:
    """`dtr train` of the toy run with work and result below a folder."""
    from tests.unit.training.conftest import settings

    return [
        "train", "--run", "toy", "--step", str(steps), "--settings", settings().model_dump_json(),
        "--data", str(data), "--work", str(folder / "work"), "--out", str(folder / "out"),
        "--checkpoint-seconds", "0", *options,
    ]  # fmt: skip
