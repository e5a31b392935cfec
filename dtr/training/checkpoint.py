"""Checkpoints of a training run: whole or absent, checked on load, the last two kept."""

import sys
import time
from pathlib import Path
from typing import Any

import torch

from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json, replacing, write_json

KEPT = 2
LOOK = 0.5  # seconds between looks for a file that another machine has written


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values; with "step" and "fingerprint"), prune older ones.

    The small JSON beside the tensors is written last: it makes the checkpoint exist.
    """
    step = state["step"]
    path = folder / f"step-{step:09d}.pt"
    for unfinished in folder.glob(".step-*"):  # of a process that was killed; we alone write here
        unfinished.unlink(missing_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        torch.save(state, stream)
    note = {"step": step, "fingerprint": state["fingerprint"], "sha256": hash_file(path)}
    write_json(path.with_suffix(".json"), note)
    older = [number for number in _steps(folder) if number <= step]
    for number in older[:-KEPT]:
        for suffix in (".json", ".pt"):
            (folder / f"step-{number:09d}{suffix}").unlink(missing_ok=True)


def load_checkpoint(
    folder: Path, fingerprint: str, *, at_most: int, device: str = "cpu"
) -> dict[str, Any] | None:
    """The newest sound checkpoint up to step `at_most`, None if there is none.

    A damaged one is passed over with a line on stderr; another fingerprint is refused.
    """
    for step in reversed([number for number in _steps(folder) if number <= at_most]):
        path = folder / f"step-{step:09d}.pt"
        try:
            note = read_json(path.with_suffix(".json"))
            sound = hash_file(path) == note["sha256"]
        except (OSError, Refusal, KeyError, TypeError):
            sound = False
        if not sound:
            print(f"{path}: damaged, going back to the one before", file=sys.stderr, flush=True)
            continue
        state = torch.load(path, map_location=device, weights_only=True)
        if state["fingerprint"] != fingerprint:  # the note's may be damaged: it has no hash
            raise Refusal(
                f"{path}: belongs to other settings (fingerprint {state['fingerprint'][:12]}, "
                f"expected {fingerprint[:12]}); move it away to train here"
            )
        return state
    return None


def wait_for_checkpoint(folder: Path, step: int, *, seconds: float) -> bool:
    """Whether the checkpoint of `step`, which another machine has seen, is seen here in time."""
    until = time.monotonic() + seconds
    while step not in _steps(folder):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK)
    return True


def _steps(folder: Path) -> list[int]:
    names = (path.stem.removeprefix("step-") for path in folder.glob("step-*.json"))
    return sorted(int(name) for name in names if name.isdecimal())
