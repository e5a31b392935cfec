"""Verbs that look after jobs: locks that a killed Snakemake left.

A lock of Snakemake holds paths and not who made it, and its folder may be shared by several hosts.
So the workflow leaves a note of the process beside it, which tells whether that one is gone.
"""

import argparse
import atexit
import os
import uuid
from pathlib import Path
from typing import Any

from dtr.commands import options
from dtr.support.errors import Refusal
from dtr.support.files import read_json, write_json
from dtr.support.processes import alive, this_process

STATE = Path(".snakemake")
FORCE = "python -m dtr unlock --force"


def note_snakemake() -> Path | None:
    """Note, until this process ends in good order, that its Snakemake works in this folder.

    Returns the note; None where nothing can be written.
    """
    note = (STATE / f"at-work-{uuid.uuid4().hex}.json").absolute()
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not a process forked from it
            note.unlink(missing_ok=True)

    try:
        write_json(note, this_process())
    except (OSError, Refusal):
        return None  # no lock either
    atexit.register(remove)
    return note


def unlock(args: argparse.Namespace) -> None:
    """Remove the lock of a Snakemake that was killed here, unless another may be at work here."""
    locks = list((STATE / "locks").glob("*.lock"))
    # Read after the locks: who makes one has left a note before.
    notes = {path: _read(path) for path in STATE.glob("at-work-*.json")}
    running = {path: alive(process) for path, process in notes.items()}
    if locks:
        _refuse_beside_a_living([notes[path] for path, answer in running.items() if answer])
        if not args.force:
            _refuse_unproven([notes[path] for path, answer in running.items() if answer is None])
            if not notes:
                raise Refusal(
                    f"{STATE / 'locks'}: no note says whose lock it is; if no Snakemake works on "
                    f"{Path.cwd()} on any host, {FORCE}"
                )
    for lock in locks:
        lock.unlink(missing_ok=True)
        print(f"unlock: {lock} was left by a Snakemake that is gone")
    for note, answer in running.items():
        if answer is False or (locks and args.force):
            note.unlink(missing_ok=True)


def _refuse_beside_a_living(noted: list[dict[str, Any]]) -> None:
    """Refuse where a Snakemake is seen at work: by its note, or by its command and folder."""
    import psutil

    here = str(Path.cwd())
    seen = [process["pid"] for process in noted]
    for process in psutil.process_iter(["cmdline", "cwd"]):
        started = [Path(word).name for word in (process.info["cmdline"] or [])[:3]]
        if "snakemake" in started and process.info["cwd"] == here:
            seen.append(process.pid)
    if seen:
        raise Refusal(f"Snakemake is at work in {here} (process {seen[0]}); its lock stays")


def _refuse_unproven(noted: list[dict[str, Any]]) -> None:
    for process in noted:
        raise Refusal(
            f"the Snakemake of process {process.get('pid', '?')} on host "
            f"{process.get('host', '?')} may be at work in {Path.cwd()}, which cannot be seen from "
            f"here; unlock there, or if it is gone, {FORCE}"
        )


def _read(note: Path) -> dict[str, Any]:
    try:
        return read_json(note)
    except Refusal:
        return {}


def add_verbs(verbs: options.Verbs) -> None:
    """Declare the verb of this module, with its option."""
    verb = options.add_verb(verbs, "unlock", unlock)
    verb.add_argument(
        "--force", action="store_true", help="also where nobody can tell whether it is gone"
    )
