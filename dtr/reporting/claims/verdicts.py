"""The words for what comparisons show, and how a comparison and a claim come to theirs.

With two seeds or more, a comparison is an effect with an interval (`statistics`). One seed says
nothing about the spread of training, so it never yields more than "agrees" or "disagrees", and not
even that while the difference lies within the sampling noise of the two values. Free of torch.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    REPRODUCED,
    SMALLER,
    Support,
    decide,
    sameness,
    support,
)
from dtr.reporting.claims.statistics import Effect, Spread, contrast
from dtr.reporting.published import UNKNOWN

UNTESTABLE = "not testable here"  # at this scale: its budget would decide, and not the method
NOT_RUN = "not run"
ONE_SEED = {
    REPRODUCED: "agrees (1 seed)",
    CONTRADICTED: "disagrees (1 seed)",
    INCONCLUSIVE: "inconclusive (1 seed)",
}
VERDICTS = (
    *(REPRODUCED, SMALLER, NO_EFFECT, CONTRADICTED, INCONCLUSIVE),
    *(*ONE_SEED.values(), UNTESTABLE, NOT_RUN),
)


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; NaN bounds are unknown, bounds on the value mean exact."""

    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def bounded(self) -> bool:
        """Whether there is an interval to show."""
        return self.low < self.high


def exact(value: float) -> Estimate:
    """A value that a trained network has without any sampling."""
    return Estimate(value, value, value)


def combination(parts: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """A weighted sum of values with separate intervals (MOVER; Zou & Donner 2008).

    The distances of the bounds add in quadrature. For values that share their noise this is the
    wider, cautious interval.
    """
    value = math.fsum(w * part.value for w, part in zip(weights, parts, strict=True))
    below = above = 0.0
    for weight, part in zip(weights, parts, strict=True):
        down, up = part.value - part.low, part.high - part.value
        down, up = (down, up) if weight > 0 else (up, down)
        below, above = math.hypot(below, weight * down), math.hypot(above, weight * up)
    return Estimate(value, value - below, value + above)


def logarithm(estimate: Estimate) -> Estimate:
    """Unknown where a value is not positive; of a bound that is not, that side is."""
    numbers = (estimate.value, estimate.low, estimate.high)
    return Estimate(*(math.log(number) if number > 0 else math.nan for number in numbers))


def judge(
    effect: Estimate, *, claimed: str, threshold: float = 0.0, seeds: int | None = None
) -> str:
    """The verdict of an interval on an effect claimed to be "lower" or "higher" than `threshold`.

    seeds: how many stand behind it; None where the measurement knows no seeds.
    """
    if effect.high < threshold:
        outcome = REPRODUCED if claimed == "lower" else CONTRADICTED
    elif effect.low > threshold:
        outcome = REPRODUCED if claimed == "higher" else CONTRADICTED
    else:  # also where the interval is unknown
        outcome = INCONCLUSIVE
    return ONE_SEED[outcome] if seeds == 1 else outcome


def combine(verdicts: Iterable[str]) -> str:
    """The verdict on a claim that needs all of its comparisons, where they have no p-values.

    Not run if one is missing; else contradicted if one is, the one they share if they do, and
    inconclusive otherwise. It rests on one seed as soon as a comparison that decides it does.
    """
    found = set(verdicts)
    if not found or NOT_RUN in found:
        return NOT_RUN
    for verdict in (CONTRADICTED, ONE_SEED[CONTRADICTED]):
        if verdict in found:
            return verdict
    if len(found) == 1:
        return found.pop()
    undecided = found - {REPRODUCED, ONE_SEED[REPRODUCED]}
    outcome = INCONCLUSIVE if undecided else REPRODUCED
    return ONE_SEED[outcome] if (undecided or found) & set(ONE_SEED.values()) else outcome


@dataclass
class Evidence:
    """One value per seed of one model, and for the other seeds the reason why there is none."""

    values: dict[int, Estimate] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[int, float]:
        """The values without their intervals."""
        return {seed: one.value for seed, one in self.values.items()}


@dataclass
class Comparison:
    """`first` is claimed to be "lower" or "higher" than `second`, or "equal" to it.

    `here` are the means of both sides over the seeds. `effect` is the change from second to first:
    in per cent with `log`, else their difference, or what is held against `threshold` where that
    is not 0; `analysis` and `support` are its statistics where two seeds or more stand behind it.
    `paper` are the published values of both sides, NaN where unknown, `expected` the effect they
    make, and `strength` how many standard deviations of retrained networks that is.
    """

    first: str
    second: str
    quantity: str
    claimed: str
    verdict: str = NOT_RUN
    reason: str = ""
    here: tuple[float, float] | None = None
    effect: Estimate | None = None
    analysis: Effect | None = None
    support: Support | None = None
    log: bool = False
    margin: float = math.nan
    interval: str = ""
    threshold: float = 0.0
    seeds: tuple[int, ...] = ()
    chosen: tuple[str, ...] = ()  # of a selection: the runs that may be the best
    sides: str = ""  # both in words, where the title of the claim does not say which they are
    protocol_id: str = ""
    paper: tuple[float, float] | None = None
    expected: float | None = None
    strength: float | None = None
    source: str = ""
    decimals: int = 3  # of both sides; an effect that is no percentage has one more

    @property
    def effect_text(self) -> str:
        return "" if self.effect is None else self.change(self.effect.value)

    @property
    def interval_text(self) -> str:
        if self.effect is None or not self.effect.bounded:
            return ""
        bounds = (self.effect.low, self.effect.high)
        return "[{}, {}]".format(*(self.change(bound, bare=True) for bound in bounds))

    @property
    def here_text(self) -> str:
        return self._sides(self.here)

    @property
    def paper_text(self) -> str:
        return self._sides(self.paper)

    def change(self, value: float, *, bare: bool = False) -> str:
        """An effect as it is read: a signed percentage, or a difference; bare: without "%"."""
        if not self.log:
            return self._text(value, self.decimals + 1)
        if math.isnan(value):
            return UNKNOWN
        sign = "" if round(value, 1) == 0 else "+" if value > 0 else "−"
        return f"{sign}{abs(value):,.1f}" + ("" if bare else " %")

    def _sides(self, values: tuple[float, float] | None) -> str:
        shown = (values or ())[: 1 if self.threshold else 2]  # a threshold is nobody's value
        return " and ".join(self._text(value, self.decimals) for value in shown)

    @staticmethod
    def _text(value: float, decimals: int) -> str:
        if math.isnan(value):
            return UNKNOWN
        return f"{value:,.{decimals}f}".replace("-", "−")

    @property
    def paper_agrees(self) -> bool | None:
        """Whether the published values point the claimed way or are equal; None: not known."""
        if self.paper is None or any(map(math.isnan, self.paper)) or self.claimed == "equal":
            return None
        first, second = self.paper
        return first <= second if self.claimed == "lower" else first >= second


def settle(
    comparison: Comparison,
    evidence: Mapping[str, Evidence],
    weights: Sequence[float] = (1, -1),
    *,
    spread: Spread | None = None,
    sides: Callable[..., tuple[float, float]] = lambda first, second: (first, second),
) -> Comparison:
    """Fill in effect and verdict from the seeds that every model of `evidence` has a value for.

    weights: of the models in the sum that is the effect, of logarithms where the comparison says
    so.  sides: both sides of the comparison from the mean of each model.
    """
    everyone = list(evidence.values())
    seeds = sorted(set.intersection(*(set(one.values) for one in everyone)))
    gaps = "; ".join(_gaps(evidence))
    if not seeds:
        comparison.reason = gaps or "no seed is shared"
        return comparison
    comparison.seeds = tuple(seeds)
    means = [math.fsum(one.values[seed].value for seed in seeds) / len(seeds) for one in everyone]
    comparison.here = sides(*means)
    if gaps:
        comparison.reason = f"without {gaps}"
    numbers = [{seed: one.values[seed].value for seed in seeds} for one in everyone]
    if comparison.log and min(value for own in numbers for value in own.values()) <= 0:
        comparison.verdict = INCONCLUSIVE if len(seeds) > 1 else ONE_SEED[INCONCLUSIVE]
        comparison.reason = "a value is not above 0"
        return comparison
    if len(seeds) == 1:
        return _one_seed(comparison, [one.values[seeds[0]] for one in everyone], weights)
    found = contrast(numbers, weights, spread=spread, log=comparison.log)
    return with_effect(comparison, found, spread)


def with_effect(comparison: Comparison, found: Effect, spread: Spread | None) -> Comparison:
    """Fill in an effect of two seeds or more, and what it supports."""
    comparison.analysis = found
    comparison.effect = Estimate(found.percent, found.low, found.high)
    comparison.interval = f"t-interval, {found.seeds} seeds"
    if spread is not None:
        comparison.interval += (
            f", spread of all runs of the network ({spread.freedom} degrees of freedom)"
        )
    if comparison.claimed == "equal":
        comparison.support = sameness(found, comparison.margin)
    else:
        comparison.support = support(
            found,
            sign=-1 if comparison.claimed == "lower" else 1,
            margin=comparison.margin,
            expected=comparison.expected,
        )
    comparison.verdict = decide(comparison.support)
    return comparison


def _one_seed(
    comparison: Comparison, values: Sequence[Estimate], weights: Sequence[float]
) -> Comparison:
    parts = [logarithm(one) for one in values] if comparison.log else values
    effect = combination(parts, weights)
    if comparison.log:
        numbers = (effect.value, effect.low, effect.high)
        effect = Estimate(*(100 * math.expm1(number) for number in numbers))
    comparison.effect = effect
    comparison.interval = "bootstrap, 1 seed" if effect.bounded else ""
    if comparison.claimed == "equal":
        comparison.verdict = ONE_SEED[INCONCLUSIVE]
    else:
        comparison.verdict = judge(effect, claimed=comparison.claimed, seeds=1)
    return comparison


def _gaps(evidence: Mapping[str, Evidence]) -> Iterator[str]:
    """What is missing: models without any value by name, others with their seeds."""
    models: dict[str, dict[str, list[int]]] = {}
    for model, one in evidence.items():
        for seed, why in one.missing.items():
            models.setdefault(why, {}).setdefault(model, []).append(seed)
    for why, seeds in models.items():
        names = [
            model
            if len(missing) == len(evidence[model].missing) and not evidence[model].values
            else f"{model} (seed {', '.join(map(str, missing))})"
            for model, missing in seeds.items()
        ]
        yield f"{', '.join(names)}: {why}"
