"""What the page says first: the answer to its question, and every claim as a line of a picture."""

import math
from collections.abc import Sequence

from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    REPRODUCED,
    SMALLER,
)
from dtr.reporting.claims.judged import ClaimResult
from dtr.reporting.claims.sentences import telling
from dtr.reporting.claims.verdicts import NOT_RUN, ONE_SEED, UNTESTABLE, Comparison
from dtr.reporting.figures.forest import Line

MAIN = "dtr"  # the claim that the whole page is about
ANSWERS = {
    REPRODUCED: "Yes, at this scale it does",
    SMALLER: "Not that we could see: if it does at this scale, then by less than the paper says",
    NO_EFFECT: "No: at this scale it makes no difference worth speaking of",
    CONTRADICTED: "No: at this scale it makes them worse",
    INCONCLUSIVE: "This many seeds cannot tell",
}
FROM_ONE_SEED = "One seed cannot tell, because trainings of the same model differ from each other"
NOTHING = "Nothing has been measured yet"


def answer(results: Sequence[ClaimResult]) -> str:
    """One sentence on whether routing helps, over all datasets together."""
    main = next(one for one in results if one.claim.id == MAIN)
    if main.verdict == UNTESTABLE:
        return main.sentence
    if main.verdict != NOT_RUN:
        shown = main.comparisons[0]
        return f"{ANSWERS[main.verdict]}. {_numbers(shown)}"
    places = [
        one.comparisons[0]
        for one in results
        if one.claim.id.startswith(f"{MAIN}-") and one.verdict in ONE_SEED.values()
    ]
    if not places:
        return f"{NOTHING}."
    lower = sum(one.effect.value < 0 for one in places)
    return (
        f"{FROM_ONE_SEED}. FID came out lower with DTR on {lower} of {len(places)} datasets, "
        f"higher on {len(places) - lower}."
    )


def _numbers(one: Comparison) -> str:
    bounds = f"{one.change(one.effect.low, bare=True)} to {one.change(one.effect.high)}"
    return (
        f"Over the models of Table 1 together, FID changes by {one.effect_text} with DTR (95 % "
        f"interval {bounds}); in the paper by {one.change(one.expected)}."
    )


def lines(results: Sequence[ClaimResult]) -> list[Line]:
    """The claims that have an effect in per cent, in the order of the page."""
    found = []
    for result in results:
        if result.verdict in (NOT_RUN, UNTESTABLE):
            continue
        one = telling(result.verdict, result.comparisons)
        if not one.log or one.effect is None or not math.isfinite(one.effect.value):
            continue
        low, high = (one.effect.low, one.effect.high) if one.effect.bounded else (math.nan,) * 2
        seen = None if one.analysis is None else one.analysis.detectable
        found.append(
            Line(
                result.claim.title,
                result.verdict,
                one.effect.value,
                low,
                high,
                one.expected,
                seen,
            )
        )
    return found
