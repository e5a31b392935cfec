"""How long a training may go on: its time budget, its cluster job, the signals that stop it.

The only place that knows how schedulers name their jobs in the environment.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dtr.support.files import write_text

MARGIN_SECONDS = 60  # of the time budget, left for the last checkpoint
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
SGE = ("SGE_TASK_ID", "JOB_ID")  # the second, if the first shows that it is Grid Engine's


def scheduler_job() -> str | None:
    """Name of the cluster job that this process is part of; None if there is none."""
    names = (*JOB_VARIABLES, SGE[1]) if os.environ.get(SGE[0]) else JOB_VARIABLES
    return next(filter(None, map(os.environ.get, names)), None)


def deadline(folder: Path, budget_minutes: float | None) -> float:
    """When to stop by ourselves, as time.monotonic(); infinite without a budget.

    Restarts inside one SLURM job share that job's budget, counted from its first start. A clock
    that is set back meanwhile gives no more time than the budget.
    """
    if budget_minutes is None:
        return float("inf")
    now = begun = time.time()
    if start := _slurm_start():
        mark = folder / f"job-{start}.start"
        try:
            begun = float(mark.read_text())
        except (FileNotFoundError, ValueError):
            write_text(mark, str(begun))
    spent = max(0.0, now - begun)
    left = 60 * budget_minutes - min(MARGIN_SECONDS, 6 * budget_minutes) - spent
    return time.monotonic() + left


def _slurm_start() -> str | None:
    """The SLURM job and which of its starts this is: one that was requeued has its time again.

    Other schedulers keep a job's name when they start it anew, and do not say that they did.
    """
    values = [os.environ.get(name) for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")]
    return re.sub(r"[^\w.-]", "_", "-".join(filter(None, values))) if values[0] else None


@contextmanager
def interruptible() -> Iterator[list[str]]:
    """Collect SIGTERM and SIGINT, so that the loop can save before it stops."""
    received: list[str] = []

    def note(number: int, _frame: object) -> None:
        received.append(f"stopped by {signal.Signals(number).name}")

    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, note) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)
