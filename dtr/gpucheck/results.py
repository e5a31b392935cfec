"""What a check found: one line to read, and the numbers behind it."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dtr.support.errors import Refusal

Value = float | int | str | bool | None


class Check(BaseModel):
    """One property, found as it should be, not so, or not looked at and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    status: Literal["ok", "failed", "left out"]
    says: str
    values: dict[str, Value] = {}


def judged(name: str, good: bool, says: str, **values: Value) -> Check:
    """A check that was made."""
    return Check(name=name, status="ok" if good else "failed", says=says, values=values)


def left_out(name: str, why: str) -> Check:
    """A check that cannot be made here."""
    return Check(name=name, status="left out", says=why)


def guarded(name: str, function: Callable[[], Check]) -> Check:
    """The result of a check; whatever it raises is its result, so that the others are made."""
    try:
        return function()
    except Refusal as refusal:
        return left_out(name, str(refusal))
    except Exception as error:  # drivers, compilers and kernels raise anything
        reason = " ".join(str(error).split())[:500] or "no reason given"
        return Check(name=name, status="failed", says=f"{type(error).__name__}: {reason}")
