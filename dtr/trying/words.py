"""What a difference means, in sentences: the verdict, and what these seeds could have seen."""

from dtr.reporting.claims.shared import MARGIN_PERCENT
from dtr.trying.numbers import IDENTICAL, NO_VALUE, ONE_SEED, Difference, Result

MANY = 100  # seeds, above which the number is not worth printing


def percent(value: float) -> str:
    """A signed number of per cent, with a real minus: one decimal, or more to show a digit."""
    if value == 0:
        return "0\u00a0%"
    text = f"{value:+,.1f}" if abs(value) >= 0.1 else f"{value:+.1g}"
    return f"{text}\u00a0%".replace("-", "−")  # not broken over two lines


def verdict_sentence(name: str, one: Difference) -> str:
    """Whether the method is better than the other, and by how much of FID."""
    seeds = _seeds(len(one.seeds))
    if one.verdict == NO_VALUE:
        return f"No seed has a value of both {name} and {one.label}."
    if one.verdict == IDENTICAL:
        return f"{name} and {one.label} have the same FID with each of {seeds}, to the last digit."
    if one.verdict == ONE_SEED:
        return (
            f"With its one seed {name} differs from {one.label} by {percent(one.percent)} in FID. "
            "How far that moves with another seed is unknown: nothing is concluded from it."
        )
    by = f"its FID is {_amount(one.percent)}"
    interval = f"95 % interval {percent(one.low)} to {percent(one.high)}, {seeds}"
    if one.verdict in ("better", "worse"):
        return f"{name} is {one.verdict} than {one.label}: {by} ({interval})."
    if one.verdict == "inconclusive":
        return (
            f"Whether {name} is better or worse than {one.label} cannot be told from {seeds}: "
            f"{by} on average, but it may be anything from {percent(one.low)} to "
            f"{percent(one.high)} (95 % interval)."
        )
    return (
        f"{name} and {one.label} differ by less than {MARGIN_PERCENT:g}\u00a0% in FID: {by} on "
        f"average ({interval})."
    )


def power_sentence(one: Difference, result: Result) -> str:
    """What so many seeds see, and how many an effect of the paper's size needs; '' if unknown."""
    if one.detectable is None:
        return ""
    paper = result.place.published
    few = one.needed is not None and one.needed <= MANY
    needed = f"{one.needed} seeds" if few else f"more than {MANY} seeds"
    seen = percent(one.detectable).removeprefix("+")
    return (
        f"At this spread over seeds, {_seeds(len(one.seeds))} see a difference of {seen} in four "
        "of five tries. The paper’s own effect in this place, "
        f"FID {paper['none']:g} without routing and {paper['dtr']:g} with DTR "
        f"({percent(one.expected)}), would need {needed}."
    )


def badge(verdict: str) -> str:
    """The class of a verdict's badge on the page."""
    return {"better": "agrees", "worse": "disagrees", "inconclusive": "inconclusive"}.get(
        verdict, "not-run" if verdict == NO_VALUE else "one-seed"
    )


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _amount(value: float) -> str:
    size = percent(abs(value)).removeprefix("+")
    return f"{size} {'lower' if value < 0 else 'higher'}"
