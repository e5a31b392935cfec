"""Kernel distance KID: unbiased squared MMD with the kernel (x.y / d + 1)^3."""

import numpy as np

from dtr.metrics.intervals import Interval, multinomial_weights, recentred

SUBSETS = 100
RNG_SEED = 2020  # torch-fidelity's own; which subsets are drawn is part of the metric
BLOCK = 500  # rows of the kernel matrix held at once


def kernel_distance(*, generated: np.ndarray, real: np.ndarray, subset: int) -> float:
    """KID by torch-fidelity of features [n, d] and [m, d]: mean over SUBSETS draws of `subset`.

    Unbiased, hence comparable between small n, and slightly negative for equal distributions.
    """
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    first, second = (
        torch.from_numpy(np.asarray(features, dtype=np.float64)) for features in (generated, real)
    )
    return kid_features_to_metric(
        first,
        second,
        kid_subsets=SUBSETS,
        kid_subset_size=subset,
        rng_seed=RNG_SEED,
        verbose=False,
    )[KEY_METRIC_KID_MEAN]


def kernel_interval(
    value: float, *, generated: np.ndarray, real: np.ndarray, resamples: int, seed: int
) -> Interval:
    """95 % interval of `value` over the generated samples; the real features [m, d] stay fixed.

    Recentred bootstrap of the estimator on all samples at once. torch-fidelity's spread over its
    subsets is no interval: the subsets overlap and are smaller than the sample.
    """
    generated = np.asarray(generated, dtype=np.float64)
    real = np.asarray(real, dtype=np.float64)
    count = len(generated)
    weights = np.stack(list(multinomial_weights(count, resamples, seed=seed)))
    within, across = np.zeros(resamples), np.zeros(resamples)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        block, share = generated[rows], weights[:, rows]
        kernel = _kernel(block, generated)
        within += ((share @ kernel) * weights).sum(axis=1)
        # A draw is not paired with itself; pairs of repeats stay, their bias is recentred away.
        within -= share @ kernel[np.arange(len(block)), start + np.arange(len(block))]
        across += share @ _kernel(block, real).mean(axis=1)
    # The term of the real images alone is the same in every replicate and cancels.
    return recentred(value, within / (count * (count - 1)) - 2 * across / count)


def _kernel(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    base = first @ second.T / first.shape[1] + 1
    return base * base * base
