"""Verbs that look after jobs: locks that a killed Snakemake left."""

import argparse
from pathlib import Path

from dtr.support.errors import Refusal


def unlock(_args: argparse.Namespace) -> None:
    """Remove the lock of a Snakemake that was killed here, unless another is at work here."""
    import psutil

    locks = list(Path(".snakemake/locks").glob("*.lock"))
    here = str(Path.cwd())
    for process in psutil.process_iter(["cmdline", "cwd"]) if locks else ():
        started = [Path(word).name for word in (process.info["cmdline"] or [])[:3]]
        if "snakemake" in started and process.info["cwd"] == here:
            raise Refusal(f"Snakemake is at work in {here} (process {process.pid}); its lock stays")
    for lock in locks:
        lock.unlink(missing_ok=True)
        print(f"unlock: {lock} was left by a Snakemake that is gone")
