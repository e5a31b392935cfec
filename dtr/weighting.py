"""Loss weightings: how timesteps are drawn and how per-sample terms become one loss.

A registered weighting is a `Weighting`: a module built from (settings, snr), snr [T] float64. Its
loss is a mean over samples, so that slices of a batch can be summed on any number of devices; its
parameters, if any, are trained beside the model's at `learning_rate`, and never averaged.
"""

import numpy as np
import torch
from torch import Tensor, nn

from dtr.config.stages import WeightingSettings
from dtr.registry import load
from dtr.routing import cluster_of


class Weighting(nn.Module):
    """Vanilla: timesteps uniform in [first, last), every sample weighs the same."""

    def __init__(self, settings: WeightingSettings, snr: np.ndarray) -> None:
        super().__init__()
        self.settings = settings

    def draw_timesteps(
        self, draws: np.random.Generator, batch_size: int, timesteps: tuple[int, int]
    ) -> np.ndarray:
        """Timesteps of one global batch: [batch_size] int64 in [timesteps[0], timesteps[1])."""
        return draws.integers(*timesteps, size=batch_size)

    def forward(self, mse: Tensor, vb: Tensor, t: Tensor) -> Tensor:
        """Scalar loss from per-sample terms; mse, vb: [B] (vb in bits), t: [B] int64."""
        return (mse + vb).mean()


class _FixedWeights(Weighting):
    """w_t multiplies the noise error only; the variational term stays unweighted."""

    def __init__(self, settings: WeightingSettings, snr: np.ndarray) -> None:
        super().__init__(settings, snr)
        # Recomputed from the schedule, so not part of a checkpoint.
        self.register_buffer(
            "weights", torch.from_numpy(self.of_snr(snr)).float(), persistent=False
        )

    def of_snr(self, snr: np.ndarray) -> np.ndarray:
        """Weight of each timestep: [T] float64."""
        raise NotImplementedError

    def forward(self, mse: Tensor, vb: Tensor, t: Tensor) -> Tensor:
        return (self.weights[t] * mse + vb).mean()


class P2(_FixedWeights):
    """P2 (Choi et al. 2022): w = 1 / (k + SNR)^gamma, per sample.

    The released code multiplies along the wrong axis; this is the intended formula.
    """

    def of_snr(self, snr: np.ndarray) -> np.ndarray:
        return (self.settings.k + snr) ** -self.settings.gamma


class MinSNR(_FixedWeights):
    """Min-SNR-gamma (Hang et al. 2023) for noise prediction: w = min(SNR, gamma) / SNR."""

    def of_snr(self, snr: np.ndarray) -> np.ndarray:
        return np.minimum(snr, self.settings.gamma) / snr


class UncertaintyWeighting(Weighting):
    """ANT-UW (Go et al. 2023): one learned log-variance s_k per cluster of timesteps.

    L = sum_k (exp(-s_k) l_k / K + s_k) / 2 with l_k the mean of mse + vb in cluster k, which for
    equally many samples per cluster is a mean over samples. Stationary at s_k = ln(l_k / K).
    """

    def __init__(self, settings: WeightingSettings, snr: np.ndarray) -> None:
        super().__init__(settings, snr)
        self.log_variances = nn.Parameter(torch.zeros(settings.clusters))
        cluster = torch.from_numpy(cluster_of(len(snr), settings.clusters))
        self.register_buffer("cluster", cluster, persistent=False)

    def draw_timesteps(
        self, draws: np.random.Generator, batch_size: int, timesteps: tuple[int, int]
    ) -> np.ndarray:
        """Stratified over the global batch: batch_size / K uniform draws per cluster, in order."""
        clusters = self.settings.clusters
        edges = np.linspace(*timesteps, clusters + 1).astype(np.int64)
        per_cluster = batch_size // clusters
        low, high = np.repeat(edges[:-1], per_cluster), np.repeat(edges[1:], per_cluster)
        return draws.integers(low, high)

    def forward(self, mse: Tensor, vb: Tensor, t: Tensor) -> Tensor:
        scale = torch.exp(-self.log_variances)[self.cluster[t]]
        return 0.5 * (scale * (mse + vb)).mean() + 0.5 * self.log_variances.sum()


def build_weighting(settings: WeightingSettings, snr: np.ndarray) -> Weighting:
    """The weighting that `settings.type` names; snr: [T] float64 of the training process."""
    return load("weighting", settings.type)(settings, snr)
