"""The Gaussian that the Frechet distance sees in place of a set of images. Free of torch."""

from typing import NamedTuple, Self

import numpy as np

from dtr.support.errors import Refusal


class Gaussian(NamedTuple):
    """Mean [d] and covariance [d, d] of features, float64; the covariance divides by n - 1."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """That of features [n, d]."""
        features = np.asarray(features, dtype=np.float64)
        return cls(np.mean(features, axis=0), np.cov(features, rowvar=False))

    @classmethod
    def stored(cls, mean: np.ndarray, covariance: np.ndarray, *, source: str) -> Self:
        """That of a file; shapes that do not belong together, and no numbers, are refused."""
        mean, covariance = (np.asarray(part, dtype=np.float64) for part in (mean, covariance))
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise Refusal(
                f"{source}: mean {list(mean.shape)}, covariance {list(covariance.shape)}; "
                "accepted: [d] and [d, d]"
            )
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise Refusal(f"{source}: not all numbers of the mean and covariance are finite")
        return cls(mean, covariance)


class Moments:
    """Mean and covariance of features that come in parts, in float64.

    Sums are taken about the mean of the first part, so that nothing cancels.
    """

    def __init__(self) -> None:
        self.count, self._origin = 0, None

    def add(self, features: np.ndarray) -> None:
        """Take a part [n, d], n at least 1."""
        features = np.asarray(features, dtype=np.float64)
        if self._origin is None:
            self._origin = features.mean(axis=0)
            self._sum, self._products = np.zeros_like(self._origin), 0.0
        centred = features - self._origin
        self.count += len(features)
        self._sum += centred.sum(axis=0)
        self._products = self._products + centred.T @ centred

    def gaussian(self) -> Gaussian:
        """That of all parts together."""
        shift = self._sum / self.count
        covariance = (self._products - self.count * np.outer(shift, shift)) / (self.count - 1)
        return Gaussian(self._origin + shift, covariance)
