"""What values per run and seed say about an effect: estimates, intervals, power, error rates.

The model: the logarithm of a metric is run + seed + residual. Runs with equal seeds share their
data order, noise and masks, which the seed term takes out; the residual's spread is estimated from
all runs of a network together, since three seeds of two runs alone say little about it.
Free of torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, stats

from dtr.metrics.intervals import LEVEL

POWER = 0.8  # with which the smallest detectable effect is detected
TAIL = (1 - LEVEL) / 2  # error of one-sided tests, so that they agree with the intervals
MOST_SEEDS = 10_000  # beyond that an answer is of no use
QUANTILES = 2000  # of a distribution that is integrated over
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
    the natural logarithm, and the properties are in per cent of the second. `places`: a mean over
    them, whose differences more seeds do not remove.
    """

    mean: float
    error: float
    spread: Spread
    seeds: int
    log: bool = True
    places: bool = False

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
        """Fewest seeds that show such an effect with 80 % power; None if no number is known to."""
        if self.places:
            return None
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


@cache
def _noncentrality(freedom: int) -> float:
    """By how many standard errors an effect must lie off 0 for 80 % power in a two-sided test.

    Of the noncentral t distribution, as a mean over the estimated standard deviation: SciPy's own
    is not a number far from 0.
    """
    critical = float(stats.t.ppf(1 - TAIL, freedom))
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES
    scales = critical * np.sqrt(stats.chi2.ppf(middles, freedom) / freedom)

    def missing(distance: float) -> float:
        both = stats.norm.sf(scales - distance) + stats.norm.cdf(-scales - distance)
        return float(both.mean()) - POWER

    return float(optimize.brentq(missing, 0.0, 10 * critical))


def pooled_spread(values: Mapping[str, Mapping[int, float]], *, log: bool = False) -> Spread | None:
    """Residual of run + seed over all runs that have two seeds or more; None if there are none.

    values: by run and seed, on the scale of the analysis, or with `log` before it. Not every run
    needs every seed.
    """
    cells = [
        (run, seed, math.log(value) if log else value)
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
    return contrast([first, second], (1, -1), spread=spread, log=log)


def contrast(
    values: Sequence[Mapping[int, float]],
    weights: Sequence[float],
    *,
    spread: Spread | None = None,
    log: bool = True,
) -> Effect | None:
    """A weighted sum of runs, weights adding up to 0, over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(own) for own in values)))
    if len(seeds) < 2:
        return None
    table = np.array([[own[seed] for seed in seeds] for own in values])
    sums = np.asarray(weights) @ (np.log(table) if log else table)
    length = math.sqrt(sum(weight**2 for weight in weights))
    if spread is None:  # of one value, which is `length` times less than that of the sum
        spread = Spread(float(sums.std(ddof=1)) / length, len(seeds) - 1, len(seeds))
    error = spread.sd * length / math.sqrt(len(seeds))
    return Effect(float(sums.mean()), error, spread, len(seeds), log)


def not_told_apart(
    values: Mapping[str, Mapping[int, float]], spread: Spread, *, selections: int = 1
) -> list[str]:
    """Which of several runs may be the best: those not worse than the best one by more than noise.

    Selection of a subset that holds the true best with 95 % probability (Gupta 1965), by
    Bonferroni's bound instead of the tables. values: positive, lower is better, by run and seed;
    the seeds that all runs have are used, two or more.  selections: that share the probability.
    """
    seeds = sorted(set.intersection(*(set(own) for own in values.values())))
    means = {
        run: float(np.mean([math.log(own[seed]) for seed in seeds])) for run, own in values.items()
    }
    error = spread.sd * math.sqrt(2 / len(seeds))
    tests = selections * max(1, len(values) - 1)
    allowance = float(stats.t.ppf(1 - (1 - LEVEL) / tests, spread.freedom)) * error
    best = min(means.values())
    return [run for run, mean in means.items() if mean - best <= allowance]


def pooled(effects: Sequence[Effect]) -> tuple[Effect, float]:
    """One question asked in two places or more: the mean effect, and its heterogeneity I^2.

    Random-effects mean (DerSimonian-Laird) with the interval of Hartung and Knapp. I^2 is the
    share of the variation between places that is not noise, 0 to 1.
    """
    means = np.array([effect.mean for effect in effects])
    variances = np.array([max(effect.error, 1e-12) ** 2 for effect in effects])
    weights, freedom = 1 / variances, len(means) - 1
    q = float(weights @ (means - weights @ means / weights.sum()) ** 2)
    scale = weights.sum() - (weights**2).sum() / weights.sum()
    between = max(0.0, float((q - freedom) / scale))
    weights = 1 / (variances + between)
    mean = float(weights @ means / weights.sum())
    # Never narrower than the interval that knows no variation between places.
    knapp = max(1.0, float(weights @ (means - mean) ** 2) / freedom)
    error, seeds = math.sqrt(knapp / float(weights.sum())), min(one.seeds for one in effects)
    spread = Spread(error * math.sqrt(seeds / 2), freedom, seeds)
    share = max(0.0, (q - freedom) / q) if q > 0 else 0.0
    return Effect(mean, error, spread, seeds, effects[0].log, places=True), share


def own_strength(first: float, second: float, *, seeds: int = 1) -> float:
    """A gap in standard deviations of retrained networks; below 0: the first is lower.

    (a - b) / (c sqrt(a^2 / k + b^2)) with c = FID_LOTTERY, k = `seeds` behind the first value and
    one behind the second, as in the paper. Below two it may be luck.
    """
    return (first - second) / (FID_LOTTERY * math.hypot(first / math.sqrt(seeds), second))
