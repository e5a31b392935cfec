"""Frechet distance between the Gaussians fitted to generated and real features.

torch-fidelity is the engine; clean-fid's implementation is a second opinion on the same features.
The real images may be given as features or as their Gaussian, which may be all that is published.
Means, covariances and roots are float64: in float32 the value depends on how images were batched.
"""

import contextlib
import sys
import warnings

import numpy as np

from dtr.metrics.gaussians import Gaussian
from dtr.metrics.intervals import Interval, multinomial_weights, recentred
from dtr.support.errors import Refusal

Real = np.ndarray | Gaussian  # features, or what is known of them


def frechet(*, generated: np.ndarray, real: Real) -> float:
    """FID by torch-fidelity of features [n, d] and [m, d]; biased upwards for small n."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    first, second = (
        {"mu": own.mean, "sigma": own.covariance} for own in (_gaussian(generated), _gaussian(real))
    )
    return max(fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID], 0.0)


def frechet_clean(*, generated: np.ndarray, real: Real) -> float:
    """FID by clean-fid of features [n, d] and [m, d]: matrix square root instead of eigenvalues."""
    from cleanfid.fid import frechet_distance

    # It prints to the output a verb may be piped from; scipy announces an argument's removal.
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        try:
            value = frechet_distance(*_gaussian(generated), *_gaussian(real))
        except ValueError as error:
            raise Refusal(f"fid-clean: clean-fid cannot compute it ({error})") from None
    return max(float(value), 0.0)


def frechet_interval(
    value: float, *, generated: np.ndarray, real: Real, resamples: int, seed: int
) -> Interval:
    """95 % interval of `value` over the generated samples; the real features [m, d] stay fixed.

    A bootstrap sample holds about 63 % of the images, the rest are repeats, which shifts every
    replicate upwards; the replicates' spread is kept and their mean moved to `value`. The interval
    is of the FID at this n, not of its limit for infinitely many samples.
    """
    mean_real, cov_real = _gaussian(real)
    root = _root(cov_real)
    # Moments about the real mean: no cancellation when the features lie far from zero.
    centred = np.asarray(generated, dtype=np.float64) - mean_real
    count = len(centred)
    replicates = np.empty(resamples)
    for index, weights in enumerate(multinomial_weights(count, resamples, seed=seed)):
        shift = weights @ centred / count
        second = (centred * weights[:, None]).T @ centred
        cov = (second - count * np.outer(shift, shift)) / (count - 1)
        # tr sqrt(A B) = sum of sqrt of the eigenvalues of the symmetric A^(1/2) B A^(1/2)
        overlap = np.sqrt(np.linalg.eigvalsh(root @ cov @ root).clip(min=0)).sum()
        replicates[index] = shift @ shift + np.trace(cov) + np.trace(cov_real) - 2 * overlap
    low, high = recentred(value, replicates)
    return max(low, 0.0), high


def _gaussian(features: Real) -> Gaussian:
    return features if isinstance(features, Gaussian) else Gaussian.of(features)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
