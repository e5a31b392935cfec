"""Whose code may run: while somebody else's results are read, none but this package's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from dtr.support.errors import Refusal

_only_ours: ContextVar[bool] = ContextVar("only_ours", default=False)


@contextmanager
def only_our_code() -> Iterator[None]:
    """Refuse within it every part from outside, whose file or package would have to be run."""
    token = _only_ours.set(True)
    try:
        yield
    finally:
        _only_ours.reset(token)


def check_trusted(what: str) -> None:
    """Refuse `what`, code from outside this package, where only our own may run."""
    if _only_ours.get():
        raise Refusal(f"{what}: code from outside this package, which is not run here")
