"""Loss weightings: how timesteps are drawn and how per-sample terms become one loss.

A weighting is a settings model with its constants, and a class made from (settings, snr), snr [T]
float64; the settings are the annotation of its first argument. Its loss is a mean over samples, so
that slices of a batch can be summed on any number of devices. Free of torch: tables and trained
numbers are NumPy arrays here, and come back to `loss` as tensors on the device.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dtr.registry import build
from dtr.routing import cluster_of
from dtr.support.settings import Count, PartSettings, Positive

if TYPE_CHECKING:
    from torch import Tensor


class Unweighted(PartSettings):
    """Every sample weighs the same."""

    type: Literal["vanilla"]


class P2Settings(PartSettings):
    """Exponent and offset of P2; the paper states neither, these are its authors' defaults."""

    type: Literal["p2"]
    gamma: Positive = 1.0
    k: Positive = 1.0


class MinSNRSettings(PartSettings):
    """Bound of Min-SNR."""

    type: Literal["min_snr"]
    gamma: Positive = 5.0


class ANTUWSettings(PartSettings):
    """Clusters of timesteps of ANT-UW, and the learning rate of their log-variances."""

    type: Literal["ant_uw"]
    clusters: Count = 8
    learning_rate: Positive = 0.025


class AnyWeighting(PartSettings):
    """What a weighting from outside is told that declares no settings of its own."""

    learning_rate: Positive = 1e-3  # of its parameters, if it has any


class Weighting:
    """Vanilla: timesteps uniform in [first, last), every sample weighs the same.

    tables: constants by name, functions of the schedule, so not part of a checkpoint.
    parameters: trained beside the model's at `settings.learning_rate`, and never averaged.
    """

    def __init__(self, settings: Unweighted, snr: np.ndarray) -> None:
        self.settings = settings
        self.tables: dict[str, np.ndarray] = {}
        self.parameters: dict[str, np.ndarray] = {}

    def draw_timesteps(
        self, draws: np.random.Generator, batch_size: int, timesteps: tuple[int, int]
    ) -> np.ndarray:
        """Timesteps of one global batch: [batch_size] int64 in [timesteps[0], timesteps[1])."""
        return draws.integers(*timesteps, size=batch_size)

    def loss(self, mse: "Tensor", vb: "Tensor", t: "Tensor", own: dict[str, "Tensor"]) -> "Tensor":
        """Scalar loss from per-sample terms; mse, vb: [B] (vb in bits), t: [B] int64.

        own: the tables (float32 or int64) and the parameters by name.
        """
        return (mse + vb).mean()


class _FixedWeights(Weighting):
    """w_t multiplies the noise error only; the variational term stays unweighted."""

    def __init__(self, settings: PartSettings, snr: np.ndarray) -> None:
        super().__init__(settings, snr)
        self.tables = {"weights": self.of_snr(snr)}

    def of_snr(self, snr: np.ndarray) -> np.ndarray:
        """Weight of each timestep: [T] float64."""
        raise NotImplementedError

    def loss(self, mse: "Tensor", vb: "Tensor", t: "Tensor", own: dict[str, "Tensor"]) -> "Tensor":
        return (own["weights"][t] * mse + vb).mean()


class P2(_FixedWeights):
    """P2 (Choi et al. 2022): w = 1 / (k + SNR)^gamma, per sample.

    The released code multiplies along the wrong axis; this is the intended formula.
    """

    settings: P2Settings

    def of_snr(self, snr: np.ndarray) -> np.ndarray:
        return (self.settings.k + snr) ** -self.settings.gamma


class MinSNR(_FixedWeights):
    """Min-SNR-gamma (Hang et al. 2023) for noise prediction: w = min(SNR, gamma) / SNR."""

    settings: MinSNRSettings

    def of_snr(self, snr: np.ndarray) -> np.ndarray:
        return np.minimum(snr, self.settings.gamma) / snr


class UncertaintyWeighting(Weighting):
    """ANT-UW (Go et al. 2023): one learned log-variance s_k per cluster of timesteps.

    L = sum_k (exp(-s_k) l_k / K + s_k) / 2 with l_k the mean of mse + vb in cluster k, which for
    equally many samples per cluster is a mean over samples. Stationary at s_k = ln(l_k / K).
    """

    def __init__(self, settings: ANTUWSettings, snr: np.ndarray) -> None:
        super().__init__(settings, snr)
        self.tables = {"cluster": cluster_of(len(snr), settings.clusters)}
        self.parameters = {"log_variances": np.zeros(settings.clusters, dtype=np.float32)}

    def draw_timesteps(
        self, draws: np.random.Generator, batch_size: int, timesteps: tuple[int, int]
    ) -> np.ndarray:
        """Stratified over the global batch: batch_size / K uniform draws per cluster, in order."""
        clusters = self.settings.clusters
        edges = np.linspace(*timesteps, clusters + 1).astype(np.int64)
        per_cluster = batch_size // clusters
        low, high = np.repeat(edges[:-1], per_cluster), np.repeat(edges[1:], per_cluster)
        return draws.integers(low, high)

    def loss(self, mse: "Tensor", vb: "Tensor", t: "Tensor", own: dict[str, "Tensor"]) -> "Tensor":
        scale = (-own["log_variances"]).exp()[own["cluster"][t]]
        return 0.5 * (scale * (mse + vb)).mean() + 0.5 * own["log_variances"].sum()


def build_weighting(settings: PartSettings, snr: np.ndarray) -> Any:
    """The weighting that `settings.type` names; snr: [T] float64 of the training process."""
    return build("weighting", settings.type, settings, snr)
