"""Refused work is not tried again: bad input gets the same answer however often it is asked.

Snakemake repeats every job that failed up to `retries` times, which a training in slices of
walltime needs, and on a cluster never learns how a job ended. So a job that may be repeated says at
the end of a refusal's line that it is final, and the Snakemake that finds this in the job's log
takes that attempt for the last one.
"""

import logging
import os
import re
from pathlib import Path
from typing import Any

from dtr.support.errors import Busy, Refusal, Unwritable

REPEATED = "DTR_REPEATED"  # set for jobs that Snakemake would repeat
FINAL = "; not tried again"
LAST_BYTES = 1 << 14  # of a log, in which its last lines are looked for


def ending(outcome: Exception) -> str:
    """What is said after the line of a verb that ended early: whether that is final.

    No room on a disk, or another process at work, may be over at the next attempt.
    """
    passing = not isinstance(outcome, Refusal) or isinstance(outcome, (Busy, Unwritable))
    return "" if passing or not os.environ.get(REPEATED) else FINAL


class _NotAgain(logging.Handler):
    """Hears of each job that starts or fails, before Snakemake decides whether to repeat it."""

    def __init__(self, workflow: Any, since: Path | None) -> None:
        super().__init__()
        self._workflow, self._since = workflow, since

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        try:
            if event == "job_info" and self._workflow.execution_settings.retries:
                os.environ[REPEATED] = "1"
            elif event == "job_error":
                self._look_at(record.jobid)
        except (AttributeError, KeyError):
            return  # of another version of Snakemake, whose jobs are repeated as ever

    def _look_at(self, number: int) -> None:
        dag = self._workflow.dag
        for job in dag.jobs:
            if dag.jobid(job) == number and any(
                is_final(Path(log), self._since) for log in job.log
            ):
                # Not by its property, which has the resources of a job computed anew, here for an
                # attempt that it never made.
                job._attempt = max(job.attempt, job.restart_times + 1)


def is_final(log: Path, since: Path | None = None) -> bool:
    """Whether a log ends in a refusal that need not be repeated; an older one than `since` not."""
    try:
        if since is not None and log.stat().st_mtime < since.stat().st_mtime:
            return False  # of an earlier start; this job has not come so far as to write its log
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LAST_BYTES))
            text = stream.read().decode(errors="replace")
    except OSError:
        return False
    return re.search(rf"(?:^|\r)dtr [\w-]+: .*{FINAL}$", text, re.MULTILINE) is not None


def repeat_no_refusals(workflow: Any, since: Path | None) -> None:
    """Have the Snakemake of this process repeat no job that was refused.

    since: a file written when it began, by whose time logs of earlier starts are told.
    """
    from snakemake.logging import logger

    logger.addHandler(_NotAgain(workflow, since))
