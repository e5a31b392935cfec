"""How far measured differences support a claim: intervals and verdicts. Free of torch.

Two models are compared seed by seed, since equal seeds mean equal data order and equal noise.
With two seeds or more, the mean of the differences has a t-interval over seeds. One seed says
nothing about the spread of training, so it never yields more than "agrees" or "disagrees", and
not even that while the difference lies within the sampling noise of the two values. Either way
the 95 % interval has to exclude no difference. Nothing is corrected for the number of claims.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from dtr.metrics.intervals import LEVEL
from dtr.reporting.published import UNKNOWN

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
NOT_RUN = "not run"
ONE_SEED = {
    REPRODUCED: "agrees (1 seed)",
    CONTRADICTED: "disagrees (1 seed)",
    INCONCLUSIVE: "inconclusive (1 seed)",
}
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, *ONE_SEED.values(), NOT_RUN)


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


def difference(first: Estimate, second: Estimate) -> Estimate:
    """first - second of values with separate intervals (MOVER; Zou & Donner 2008).

    The distances of the bounds add in quadrature. For values that share their noise this is the
    wider, cautious interval.
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - below, value + above)


def relative_gain(routed: Estimate, plain: Estimate) -> Estimate:
    """1 - routed/plain, in per cent: `difference` of their logarithms.

    Unknown where a value is not positive; of a bound that is not, the interval is.
    """
    ratio = difference(_log(routed), _log(plain))
    value, low, high = (
        100 * (1 - math.exp(bound)) for bound in (ratio.value, ratio.high, ratio.low)
    )
    return Estimate(value, low, high)


def _log(estimate: Estimate) -> Estimate:
    numbers = (estimate.value, estimate.low, estimate.high)
    return Estimate(*(math.log(number) if number > 0 else math.nan for number in numbers))


def over_seeds(effects: Sequence[Estimate]) -> Estimate:
    """Mean of one effect per seed with its t-interval; a single one keeps its own interval."""
    if len(effects) == 1:
        return effects[0]
    values = np.array([effect.value for effect in effects])
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    half = float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * spread / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half)


def judge(
    effect: Estimate, *, claimed: str, threshold: float = 0.0, seeds: int | None = None
) -> str:
    """The verdict on an effect that is claimed to be "lower" or "higher" than `threshold`.

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
    """The verdict on a claim that needs all of its comparisons.

    Not run if one is missing; else contradicted if one is, reproduced if all are, and
    inconclusive otherwise. It rests on one seed as soon as a comparison that decides it does.
    """
    found = set(verdicts)
    if not found or NOT_RUN in found:
        return NOT_RUN
    for verdict in (CONTRADICTED, ONE_SEED[CONTRADICTED]):
        if verdict in found:
            return verdict
    undecided = found & {INCONCLUSIVE, ONE_SEED[INCONCLUSIVE]}
    outcome = INCONCLUSIVE if undecided else REPRODUCED
    return ONE_SEED[outcome] if (undecided or found) & set(ONE_SEED.values()) else outcome


@dataclass
class Evidence:
    """One value per seed of one model, and for the other seeds the reason why there is none."""

    values: dict[int, Estimate] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)


@dataclass
class Comparison:
    """`first` is claimed to be "lower" or "higher" than `second`, or "equal" to it.

    `here` are the means of both sides over the seeds; `effect` is first - second, or what is
    held against `threshold` where that is not 0; `paper` are the published values of both sides,
    NaN where unknown.
    """

    first: str
    second: str
    quantity: str
    claimed: str
    verdict: str = NOT_RUN
    reason: str = ""
    here: tuple[float, float] | None = None
    effect: Estimate | None = None
    interval: str = ""
    threshold: float = 0.0
    seeds: tuple[int, ...] = ()
    protocol_id: str = ""
    paper: tuple[float, float] | None = None
    source: str = ""
    decimals: int = 3  # of both sides; an effect has one more

    @property
    def effect_text(self) -> str:
        return "" if self.effect is None else self._text(self.effect.value, self.decimals + 1)

    @property
    def interval_text(self) -> str:
        if self.effect is None or not self.effect.bounded:
            return ""
        bounds = (self.effect.low, self.effect.high)
        return "[{}, {}]".format(*(self._text(bound, self.decimals + 1) for bound in bounds))

    @property
    def here_text(self) -> str:
        return self._sides(self.here)

    @property
    def paper_text(self) -> str:
        return self._sides(self.paper)

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
        if self.paper is None or any(map(math.isnan, self.paper)):
            return None
        first, second = self.paper
        return first <= second if self.claimed == "lower" else first >= second


def settle(
    comparison: Comparison,
    evidence: Mapping[str, Evidence],
    sides: Callable[..., tuple[Estimate, Estimate]],
) -> Comparison:
    """Fill in effect and verdict from the seeds that every model of `evidence` has a value for.

    sides: both sides of the comparison from one value per model, in the order of `evidence`.
    """
    everyone = list(evidence.values())
    seeds = sorted(set.intersection(*(set(one.values) for one in everyone)))
    gaps = "; ".join(_gaps(evidence))
    if not seeds:
        comparison.reason = gaps or "no seed is shared"
        return comparison
    pairs = [sides(*(one.values[seed] for one in everyone)) for seed in seeds]
    comparison.seeds = tuple(seeds)
    comparison.here = tuple(
        float(np.mean([side.value for side in column])) for column in zip(*pairs, strict=True)
    )
    comparison.effect = over_seeds([difference(*pair) for pair in pairs])
    if len(seeds) > 1:
        comparison.interval = f"t-interval, {len(seeds)} seeds"
    elif comparison.effect.bounded:
        comparison.interval = "bootstrap, 1 seed"
    if gaps:
        comparison.reason = f"without {gaps}"
    comparison.verdict = judge(
        comparison.effect,
        claimed=comparison.claimed,
        threshold=comparison.threshold,
        seeds=len(seeds),
    )
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
