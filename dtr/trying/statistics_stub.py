"""A paired comparison over seeds: t-interval of log ratios. Stands in for claims.statistics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Effect:
    """first by second, in per cent: 100 (ratio - 1), with its 95 % interval over seeds."""

    percent: float
    low: float
    high: float
    spread: float  # standard deviation of the log ratios over seeds
    seeds: int

    @property
    def detectable(self) -> float:
        """Smallest effect in per cent that so many seeds see with 80 % power."""
        return _percent(_reach(self.seeds) * self.spread)

    def seeds_for(self, percent: float) -> int:
        """Seeds that see an effect of `percent` with 80 % power, two or more."""
        size = abs(math.log1p(percent / 100))
        enough = (n for n in range(2, MOST_SEEDS) if _reach(n) * self.spread <= size)
        return next(enough, MOST_SEEDS)


def paired_effect(
    first: Mapping[int, float], second: Mapping[int, float], *, spread: object = None
) -> Effect:
    """The effect of `first` over `second`, values by seed; at least two seeds are shared."""
    seeds = sorted(first.keys() & second.keys())
    ratios = np.array([math.log(first[seed] / second[seed]) for seed in seeds])
    mean, own = float(ratios.mean()), float(ratios.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(seeds) - 1)) * own / math.sqrt(len(seeds))
    return Effect(*map(_percent, (mean, mean - half, mean + half)), own, len(seeds))


def verdict_of(effect: Effect, *, margin: float, expected: float | None) -> str:
    """What an interval says of a value that is better when it is lower; `margin` in per cent."""
    if effect.high < 0:
        return "better"
    if effect.low > 0:
        return "worse"
    if -margin < effect.low and effect.high < margin:
        return f"no effect larger than {margin:g} %"
    return "inconclusive"


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)


def _reach(seeds: int) -> float:
    """Detectable log ratio by the spread of one seed."""
    return float(stats.t.ppf([0.975, 0.8], seeds - 1).sum()) / math.sqrt(seeds)
