"""What values per run and seed say about an effect: estimates, intervals, power, error rates.

The model: the logarithm of a metric is run + seed + residual. Runs with equal seeds share their
data order, noise and masks, which the seed term takes out; the residual's spread is estimated from
all runs of a slot together, since three seeds of two runs alone say little about it. Free of torch.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from dtr.metrics.intervals import LEVEL

POWER = 0.8  # with which the smallest detectable effect is detected
TAIL = (1 - LEVEL) / 2  # error of one-sided tests, so that they agree with the intervals
MOST_SEEDS = 10_000  # beyond that an answer is of no use
# Two trainings of one network differ in FID by this share (coefficient of variation, one standard
# deviation): Dufour, Efros & Perez, "The FID Lottery", arXiv 2606.20536.
FID_LOTTERY = 0.013


@dataclass(frozen=True)
class Spread:
    """Standard deviation of one value around run + seed, and how well it is known."""

    sd: float
    freedom: int  # degrees of freedom
    seeds: int

    def freedom_at(self, seeds: int) -> int:
        """Degrees of freedom if as many runs had so many seeds."""
        return max(1, round(self.freedom * (seeds - 1) / (self.seeds - 1)))


@dataclass(frozen=True)
class Effect:
    """A difference, first - second, of a mean over seeds.

    `mean` and `error` (its standard error) are on the scale of the analysis; with `log` that is
    the natural logarithm, and the properties are in per cent of the second.
    """

    mean: float
    error: float
    spread: Spread
    seeds: int
    log: bool = True

    @property
    def low(self) -> float:
        return self.shown(self.mean - self._half)

    @property
    def high(self) -> float:
        return self.shown(self.mean + self._half)

    @property
    def percent(self) -> float:
        return self.shown(self.mean)

    @property
    def _half(self) -> float:
        return float(stats.t.ppf(1 - TAIL, self.spread.freedom)) * self.error

    def shown(self, value: float) -> float:
        """A value of the analysis as it is read: a change in per cent, or as it is."""
        return 100 * math.expm1(value) if self.log else value

    def analysed(self, shown: float) -> float:
        """The inverse of `shown`."""
        return math.log1p(shown / 100) if self.log else shown

    def p_below(self, bound: float) -> float:
        """One-sided p-value against "the effect is not below `bound`" (a shown value)."""
        gap = self.analysed(bound) - self.mean
        if self.error == 0:
            return 0.0 if gap > 0 else 1.0
        return float(stats.t.sf(gap / self.error, self.spread.freedom))

    def p_above(self, bound: float) -> float:
        """One-sided p-value against "the effect is not above `bound`" (a shown value)."""
        gap = self.mean - self.analysed(bound)
        if self.error == 0:
            return 0.0 if gap > 0 else 1.0
        return float(stats.t.sf(gap / self.error, self.spread.freedom))

    @property
    def detectable(self) -> float:
        """Smallest reduction that these seeds would have shown with 80 % power: a positive number.

        In per cent for a logarithm, else on the metric's own scale.
        """
        size = self.error * _noncentrality(self.spread.freedom)
        return -self.shown(-size) if self.log else size

    def seeds_for(self, shown: float) -> int | None:
        """Fewest seeds that show such an effect with 80 % power; None if there is no such number."""
        size = abs(self.analysed(shown))
        one = self.error * math.sqrt(self.seeds)  # standard error of a single pair
        if size == 0 or not math.isfinite(size):
            return None

        def enough(seeds: int) -> bool:
            needed = _noncentrality(self.spread.freedom_at(seeds))
            return needed * one / math.sqrt(seeds) <= size

        if not enough(MOST_SEEDS):
            return None
        low, high = 2, MOST_SEEDS  # power grows with the number of seeds
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        return low


def _noncentrality(freedom: int) -> float:
    """By how many standard errors an effect must lie off 0 for 80 % power in a two-sided test."""
    critical = float(stats.t.ppf(1 - TAIL, freedom))

    def missing(distance: float) -> float:
        both = stats.nct.sf(critical, freedom, distance) + stats.nct.cdf(-critical, freedom, distance)
        return float(both) - POWER

    return float(optimize.brentq(missing, 1e-6, 3 * critical + 10))


def pooled_spread(values: Mapping[str, Mapping[int, float]]) -> Spread | None:
    """Residual of run + seed over all runs that have two seeds or more; None if there are none.

    values: by run and seed, on the scale of the analysis. Not every run needs every seed.
    """
    cells = [
        (run, seed, value)
        for run, own in values.items()
        if len(own) > 1
        for seed, value in own.items()
    ]
    runs = {run: i for i, run in enumerate(dict.fromkeys(run for run, _, _ in cells))}
    seeds = {seed: i for i, seed in enumerate(dict.fromkeys(seed for _, seed, _ in cells))}
    if len(runs) < 2:
        return None
    design = np.zeros((len(cells), len(runs) + len(seeds)))
    for row, (run, seed, _) in enumerate(cells):
        design[row, [runs[run], len(runs) + seeds[seed]]] = 1
    observed = np.array([value for *_, value in cells])
    found, _, rank, _ = np.linalg.lstsq(design, observed, rcond=None)
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return None
    residual = observed - design @ found
    return Spread(math.sqrt(float(residual @ residual) / freedom), freedom, len(seeds))


def paired_effect(
    first: Mapping[int, float],
    second: Mapping[int, float],
    *,
    spread: Spread | None = None,
    log: bool = True,
) -> Effect | None:
    """The difference of two runs over the seeds that both have; None for fewer than two.

    spread: of the slot's runs together; None: of this pair alone. With `log`, values are positive
    and the difference is that of their logarithms.
    """
    seeds = sorted(first.keys() & second.keys())
    if len(seeds) < 2:
        return None
    gaps = np.array([_scaled(first[s], log) - _scaled(second[s], log) for s in seeds])
    if spread is None:  # of a difference, which has twice the variance of one value
        spread = Spread(float(gaps.std(ddof=1)) / math.sqrt(2), len(seeds) - 1, len(seeds))
    error = spread.sd * math.sqrt(2 / len(seeds))
    return Effect(float(gaps.mean()), error, spread, len(seeds), log)


def _scaled(value: float, log: bool) -> float:
    return math.log(value) if log else value


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


def all_of(parts: Sequence[Support]) -> Support:
    """Of a claim that needs all of its comparisons.

    That all hold is the intersection of its parts, whose largest p-value needs no correction;
    that one is contradicted is their union, which does (Bonferroni, the first step of Holm's).
    """
    return Support(
        claimed=max(part.claimed for part in parts),
        against=min(1.0, len(parts) * min(part.against for part in parts)),
        equivalent=max(part.equivalent for part in parts),
        smaller=max(part.smaller for part in parts),
    )


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: at most 5 % of families have a false finding."""
    found = list(p_values)
    order = sorted(range(len(found)), key=found.__getitem__)
    adjusted, largest = [0.0] * len(found), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(found) - rank) * found[index]))
        adjusted[index] = largest
    return adjusted


def family_adjusted(members: Sequence[Support]) -> list[Support]:
    """The claims of a family, each kind of finding held to its error rate over all of them.

    `claimed` and `against` exclude each other in one claim, so they are one family of 2 k tests
    of which at most k are wrong at a time; each of the sides is adjusted by itself.
    """
    columns = {
        name: holm(getattr(member, name) for member in members)
        for name in ("claimed", "against", "equivalent", "smaller")
    }
    return [
        Support(**{name: column[i] for name, column in columns.items()})
        for i in range(len(members))
    ]


def not_told_apart(
    values: Mapping[str, Mapping[int, float]], spread: Spread, *, lower: bool = True
) -> list[str]:
    """Which of several runs may be the best: those not worse than the best one by more than noise.

    Selection of a subset that holds the true best with 95 % probability (Gupta 1965), by
    Bonferroni's bound instead of the tables. values: positive, by run and seed; the seeds that all
    runs have are used, two or more.
    """
    seeds = sorted(set.intersection(*(set(own) for own in values.values())))
    sign = 1 if lower else -1
    means = {
        run: sign * float(np.mean([math.log(own[seed]) for seed in seeds]))
        for run, own in values.items()
    }
    error = spread.sd * math.sqrt(2 / len(seeds))
    allowance = float(stats.t.ppf(1 - (1 - LEVEL) / max(1, len(values) - 1), spread.freedom)) * error
    best = min(means.values())
    return [run for run, mean in means.items() if mean - best <= allowance]


@dataclass(frozen=True)
class Pooled:
    """One question asked in several places: the mean of their effects (logarithms)."""

    mean: float
    error: float
    freedom: int
    heterogeneity: float  # I^2: share of the variation between places that is not noise, 0 to 1

    @property
    def interval(self) -> tuple[float, float]:
        half = float(stats.t.ppf(1 - TAIL, self.freedom)) * self.error
        return self.mean - half, self.mean + half


def pooled(effects: Sequence[Effect]) -> Pooled:
    """Random-effects mean over two places or more (DerSimonian-Laird; Hartung-Knapp interval)."""
    means = np.array([effect.mean for effect in effects])
    variances = np.array([max(effect.error, 1e-12) ** 2 for effect in effects])
    weights = 1 / variances
    fixed = float(weights @ means / weights.sum())
    q, freedom = float(weights @ (means - fixed) ** 2), len(means) - 1
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, (q - freedom) / scale)
    weights = 1 / (variances + between)
    mean = float(weights @ means / weights.sum())
    # Never narrower than the fixed-effect interval that knows no variation between places.
    knapp = max(1.0, float(weights @ (means - mean) ** 2) / freedom)
    error = math.sqrt(knapp / float(weights.sum()))
    return Pooled(mean, error, freedom, max(0.0, (q - freedom) / q) if q > 0 else 0.0)


def own_strength(first: float, second: float) -> float:
    """A published gap in standard deviations of retrained networks, one seed each; below 0: lower.

    (a - b) / (c sqrt(a^2 + b^2)) with c = FID_LOTTERY. Below two it may be luck.
    """
    return (first - second) / (FID_LOTTERY * math.hypot(first, second))
