"""95 % intervals of the metrics, over the samples that were drawn. Free of torch."""

from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from dtr.seeding import generator

LEVEL = 0.95
Interval = tuple[float, float]


def multinomial_weights(
    count: int, resamples: int, *, seed: int, stratum: int = 0
) -> Iterator[np.ndarray]:
    """How often each of `count` samples occurs in bootstrap sample 0, 1, ...: [count] float64.

    Metrics are computed from these weights instead of copied rows. `stratum` numbers groups of
    samples that are redrawn separately.
    """
    for index in range(resamples):
        drawn = generator(seed, "bootstrap", stratum, index).integers(count, size=count)
        yield np.bincount(drawn, minlength=count).astype(np.float64)


def recentred(value: float, replicates: np.ndarray) -> Interval:
    """Bootstrap interval moved onto `value`: value + quantiles of (replicate - mean replicate).

    Removes the bias that repeats in a bootstrap sample add to the statistics used here
    (upwards for FID); the percentile interval itself would often not contain the value.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(replicates - replicates.mean(), [tail, 1 - tail])
    return float(value + min(low, 0.0)), float(value + max(high, 0.0))


def wilson(share: float, count: int) -> Interval:
    """Wilson's score interval of a share in [0, 1] among `count` samples; never of zero width."""
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    # Rounding must not push the bound past the share itself at 0 and 1.
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)
