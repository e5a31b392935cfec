"""How long a training may go on: its time budget, its cluster job, the signals that stop it.

The only place that knows how schedulers name their jobs in the environment.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

MARGIN_SECONDS = 60  # of the time budget, left for the last checkpoint
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
SGE = ("SGE_TASK_ID", "JOB_ID")  # the second, if the first shows that it is Grid Engine's


def scheduler_job() -> str | None:
    """Name of the cluster job that this process is part of; None if there is none."""
    return _job_of(os.environ)


def deadline(budget_minutes: float | None) -> float:
    """When to stop by ourselves, as time.monotonic(); infinite without a budget.

    The budget is that of the cluster job, where there is one: it has begun with the job's first
    process on this machine, some time before this one and perhaps with others in between. A job
    that has outlived it has another walltime, as an allocation has in which all of the workflow
    runs: there the budget is this process's own. A clock that is set back gives no more time than
    the budget.
    """
    if budget_minutes is None:
        return float("inf")
    job, now = scheduler_job(), time.time()
    spent = 0.0 if job is None else max(0.0, now - min(_starts(job), default=now))
    whole = 60 * budget_minutes - min(MARGIN_SECONDS, 6 * budget_minutes)
    return time.monotonic() + (whole - spent if spent < whole else whole)


def _job_of(environment: Mapping[str, str]) -> str | None:
    names = (*JOB_VARIABLES, SGE[1]) if environment.get(SGE[0]) else JOB_VARIABLES
    return next(filter(None, map(environment.get, names)), None)


def _starts(job: str) -> Iterator[float]:
    """When the processes of a cluster job that still run here began, as time.time().

    A job that its scheduler has started anew keeps its name, but none of its processes.
    """
    for process in psutil.process_iter():
        try:
            if _job_of(process.environ()) == job:
                yield process.create_time()
        except (psutil.Error, OSError):
            continue  # it has ended, or is somebody else's


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
