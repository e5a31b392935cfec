"""Verdicts as a person would say them: one sentence per claim."""

import math
from collections.abc import Sequence

from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    REPRODUCED,
    SMALLER,
)
from dtr.reporting.claims.verdicts import NOT_RUN, ONE_SEED, Comparison

WORDS = {
    "fid": "FID",
    "fid, mean change": "On average, FID",
    "inception_score": "the Inception score",
    "ratio of FIDs": "the ratio of FIDs",
}
NOISE = 2.0  # standard deviations of retrained networks; below, one published seed may be luck


def sentence(verdict: str, comparisons: Sequence[Comparison]) -> str:
    """What a claim's comparisons say together; the reason where there is no verdict."""
    text = _said(verdict, comparisons)
    return text[0].upper() + text[1:]


def _said(verdict: str, comparisons: Sequence[Comparison]) -> str:
    if verdict == NOT_RUN:
        return _missing(comparisons)
    shown = telling(verdict, comparisons)
    if shown.effect is None or math.isnan(shown.effect.value):
        return "Nothing could be compared."
    if shown.threshold:
        return (
            f"The ratio is {shown.effect_text} {shown.interval_text}, against {shown.threshold:g}."
        )
    if verdict in ONE_SEED.values():
        return f"One seed: {_change(shown)}. It says nothing about the spread of trainings."
    if shown.chosen:
        return _selected(verdict, shown)
    if shown.analysis is None:
        return f"{_change(shown)}."
    found = {
        REPRODUCED: _reproduced,
        CONTRADICTED: _contradicted,
        NO_EFFECT: _no_effect,
        SMALLER: _smaller,
        INCONCLUSIVE: _inconclusive,
    }
    if verdict == INCONCLUSIVE and len(comparisons) > 1 and shown.verdict in (NO_EFFECT, SMALLER):
        weakest = found[shown.verdict](shown)
        text = f"Not all {len(comparisons)} came out alike. The weakest: "
        return text + weakest[0].lower() + weakest[1:]
    return found[verdict](shown)


def _missing(comparisons: Sequence[Comparison]) -> str:
    reasons = dict.fromkeys(one.reason for one in comparisons if one.verdict == NOT_RUN)
    return f"Not run: {'; '.join(filter(None, reasons))}."


def telling(verdict: str, comparisons: Sequence[Comparison]) -> Comparison:
    """The comparison that decides: the one that came out like the claim, the weakest of them."""
    same = [one for one in comparisons if one.verdict == verdict] or list(comparisons)
    if same[0].support is None:
        return same[0]
    if verdict == CONTRADICTED:
        return min(same, key=lambda one: one.support.against if one.support else 1.0)
    return max(same, key=lambda one: one.support.claimed if one.support else 0.0)


def _change(one: Comparison) -> str:
    name = WORDS.get(one.quantity.split("@")[0], one.quantity.split("@")[0])
    value = one.effect.value
    if not one.log:
        return f"{name} differs by {one.effect_text} {one.interval_text}".rstrip()
    direction = "lower" if value < 0 else "higher"
    bounds = ""
    if one.effect.bounded:
        bounds = f" ({one.change(one.effect.low, bare=True)} to {one.change(one.effect.high)})"
    return f"{name} is {abs(value):.1f} % {direction}{bounds} {one.sides}".rstrip()


def _published(one: Comparison) -> str:
    if one.expected is None:
        return ""
    weak = one.strength is not None and abs(one.strength) < NOISE
    return f"; the paper: {one.change(one.expected)}" + (
        ", within the noise of one seed" if weak else ""
    )


def _selected(verdict: str, one: Comparison) -> str:
    """Of a selection among several runs."""
    if verdict == REPRODUCED:
        return f"The best alone: {_change(one)} than {one.second}{_published(one)}."
    if verdict == CONTRADICTED:
        return f"Not among those that may be the best: {', '.join(one.chosen)}."
    rivals = [name for name in one.chosen if name != one.first]
    everyone = one.second == f"the best of {len(rivals)} others"
    names = "any of the others" if everyone else " or ".join(rivals)
    return f"It may be the best, but so may {names}: they cannot be told apart."


def _reproduced(one: Comparison) -> str:
    if one.claimed == "equal":
        return f"No difference larger than {_size(one, one.margin)}: {_change(one)}."
    return f"{_change(one)}{_published(one)}."


def _contradicted(one: Comparison) -> str:
    return (
        f"The opposite: {_change(one)}{_published(one)}."
        if one.claimed != "equal"
        else (
            f"They differ by more than {_size(one, one.margin)}: {_change(one)}{_published(one)}."
        )
    )


def _no_effect(one: Comparison) -> str:
    return f"No effect larger than {_size(one, one.margin)}: {_change(one)}{_published(one)}."


def _smaller(one: Comparison) -> str:
    if not _alone(one):
        start = "If there is an effect, it is smaller than the paper's"
    elif (one.effect.value < 0) == (one.claimed == "lower"):
        start = "Smaller than the paper's, and among several claims perhaps chance"
    else:
        start = "If anything the opposite, and among several claims perhaps chance"
    return f"{start}: {_change(one)}{_published(one)}."


def _inconclusive(one: Comparison) -> str:
    found = one.analysis
    why = ", since several claims of this group are tested" if _alone(one) else ""
    text = f"Not told apart{why}: {_change(one)}. "
    text += f"{found.seeds} seeds would have shown {_size(one, found.detectable)} or more"
    asked = one.expected and one.claimed != "equal"
    needed = found.seeds_for(one.expected) if asked else None
    if needed is not None:
        text += f"; the paper's {one.change(one.expected)} needs {needed}"
    return text + "."


def _alone(one: Comparison) -> bool:
    """Whether its interval excludes no change, which only the number of claims outweighs."""
    return one.claimed != "equal" and (one.effect.low > 0 or one.effect.high < 0)


def _size(one: Comparison, value: float) -> str:
    return f"{value:.0f} %" if one.log else f"{value:.{one.decimals}f}"
