"""From effects to decisions: what p-values allow to say, of one effect, a claim, and a family."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dtr.reporting.claims.statistics import TAIL, Effect

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
NO_EFFECT = "no effect"  # larger than the margin
SMALLER = "smaller than published"  # if there is one at all


@dataclass(frozen=True)
class Support:
    """One-sided p-values of what may be said about an effect; small ones allow to say it.

    `smaller`: than the paper's; 1 where that is unknown or points the other way.
    """

    claimed: float
    against: float
    equivalent: float
    smaller: float


def support(effect: Effect, *, sign: int, margin: float, expected: float | None) -> Support:
    """How far an effect supports each verdict.

    sign: -1 where the claim is that the effect is below 0, 1 where above.  margin, expected
    (the paper's effect): shown values, per cent for a logarithm; margin > 0.
    """
    below, above = effect.p_below(0.0), effect.p_above(0.0)
    claimed, against = (below, above) if sign < 0 else (above, below)
    # The same factor both ways: 5 % more is the inverse of 4.8 % less.
    lower = effect.shown(-effect.analysed(margin))
    equivalent = max(effect.p_above(lower), effect.p_below(margin))
    smaller = 1.0
    if expected is not None and expected * sign > 0:
        smaller = effect.p_below(expected) if sign > 0 else effect.p_above(expected)
    return Support(claimed, against, equivalent, smaller)


def all_of(parts: Sequence[Support | None]) -> Support:
    """Of a claim that needs all of its comparisons; None: of one that supports nothing yet.

    That all hold is the intersection of its parts, whose largest p-value needs no correction;
    that one is contradicted is their union, which does (Bonferroni, the first step of Holm's).
    """
    known = [part or Support(1.0, 1.0, 1.0, 1.0) for part in parts]
    return Support(
        claimed=max(part.claimed for part in known),
        against=min(1.0, len(known) * min(part.against for part in known)),
        equivalent=max(part.equivalent for part in known),
        smaller=max(part.smaller for part in known),
    )


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: he holds down the error of a whole family."""
    found = list(p_values)
    order = sorted(range(len(found)), key=found.__getitem__)
    adjusted, largest = [0.0] * len(found), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(found) - rank) * found[index]))
        adjusted[index] = largest
    return adjusted


def family_adjusted(members: Sequence[Support]) -> list[Support]:
    """The claims of a family, each kind of finding held to its error rate over all of them."""
    columns = {
        name: holm(getattr(member, name) for member in members)
        for name in ("claimed", "against", "equivalent", "smaller")
    }
    return [
        Support(**{name: column[i] for name, column in columns.items()})
        for i in range(len(members))
    ]


def sameness(found: Effect, margin: float) -> Support:
    """Of a claim that there is no effect: within the margin either way, or beyond it."""
    lower = found.shown(-found.analysed(margin))
    within = max(found.p_above(lower), found.p_below(margin))
    beyond = min(found.p_below(lower), found.p_above(margin))
    return Support(claimed=within, against=beyond, equivalent=1.0, smaller=1.0)


def decide(found: Support) -> str:
    """The verdict that p-values allow, the strongest first."""
    for p_value, verdict in (
        (found.claimed, REPRODUCED),
        (found.against, CONTRADICTED),
        (found.equivalent, NO_EFFECT),
        (found.smaller, SMALLER),
    ):
        if p_value <= TAIL:
            return verdict
    return INCONCLUSIVE
