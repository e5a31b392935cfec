"""The end of a job that no longer answers: a device or a file server that hangs, a lost process."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dtr.support.errors import Suspended

GRACE_SECONDS = 300.0  # beyond the budget, for a last checkpoint on a slow disk


@contextmanager
def ended_after(budget_minutes: float | None, title: str) -> Iterator[None]:
    """End this process, as suspended, if it still runs well after its time budget.

    The training itself stops before that and saves, unless it hangs. Its last checkpoint is whole
    at any moment, so a new start goes on from there.
    """
    if budget_minutes is None:
        yield
        return
    timer = threading.Timer(60 * budget_minutes + GRACE_SECONDS, _end, [title, budget_minutes])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(title: str, budget_minutes: float) -> None:
    print(
        f"dtr train: {title}: hangs, {GRACE_SECONDS:g} s after its budget of {budget_minutes:g} "
        "min; ended, a new start goes on from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
    os._exit(Suspended.exit_status)  # whatever the other threads wait for
