"""The diffusion process: schedules, forward process, learned-range reverse process, losses.

Tables are float64 and gathered as float32. `t` indexes this process's own steps; a respaced
process keeps the original timestep of each of its steps in `timesteps`.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

HALF_BIN = 1 / 255  # half the width of one of 256 pixel values in [-1, 1]


def cosine_betas(num_timesteps: int) -> np.ndarray:
    """beta_t = min(1 - abar((t+1)/T) / abar(t/T), 0.999), abar(u) = cos^2((u+0.008)/1.008 pi/2).

    Returns [num_timesteps] float64.  Source: Nichol & Dhariwal 2021.
    """

    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    total = num_timesteps
    return np.array([min(1 - alpha_bar((t + 1) / total) / alpha_bar(t / total), 0.999)
                     for t in range(total)])  # fmt: skip


def linear_betas(num_timesteps: int) -> np.ndarray:
    """1e-4 to 0.02 for 1000 timesteps: [num_timesteps] float64.  Source: Ho et al. 2020."""
    return np.linspace(1e-4, 0.02, num_timesteps)


def kept_timesteps(num_timesteps: int, steps: int) -> np.ndarray:
    """Original timesteps of a respaced chain: round(i (T-1) / (steps-1)): [steps] int64."""
    stride = (num_timesteps - 1) / (steps - 1)
    return np.array([round(i * stride) for i in range(steps)])


@dataclass(frozen=True)
class ReverseStep:
    """p(x_{t-1} | x_t): mean, log-variance and predicted x0, each of x's shape."""

    mean: Tensor
    log_variance: Tensor
    x0: Tensor


class Schedule(Protocol):
    """What a training process is made from: "cosine" or "linear", over so many timesteps."""

    schedule: str
    num_timesteps: int


class Diffusion(nn.Module):
    """A Gaussian diffusion over steps 0..T-1 (0 = least noise) given by its betas.

    Its tables are buffers, moved by `to`, that no checkpoint holds: they follow from the schedule.
    """

    def __init__(self, betas: np.ndarray, timesteps: np.ndarray | None = None) -> None:
        super().__init__()
        self.betas = betas
        self.num_steps = len(betas)
        self.timesteps = np.arange(self.num_steps) if timesteps is None else timesteps
        self.alpha_bars = np.cumprod(1 - betas)
        previous = np.append(1.0, self.alpha_bars[:-1])
        variance = betas * (1 - previous) / (1 - self.alpha_bars)
        # The posterior variance is 0 at t = 0; its logarithm is clipped to that of t = 1.
        clipped = np.append(variance[1], variance[1:])
        tables = {
            "sqrt_alpha_bar": np.sqrt(self.alpha_bars),
            "sqrt_one_minus_alpha_bar": np.sqrt(1 - self.alpha_bars),
            "sqrt_recip_alpha_bar": np.sqrt(1 / self.alpha_bars),
            "sqrt_recip_alpha_bar_minus_one": np.sqrt(1 / self.alpha_bars - 1),
            "posterior_x0": betas * np.sqrt(previous) / (1 - self.alpha_bars),
            "posterior_xt": (1 - previous) * np.sqrt(1 - betas) / (1 - self.alpha_bars),
            "log_beta": np.log(betas),
            "log_posterior_variance": np.log(clipped),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table).float(), persistent=False)

    @classmethod
    def from_settings(cls, settings: Schedule) -> "Diffusion":
        """The training process of a scale."""
        make = {"cosine": cosine_betas, "linear": linear_betas}[settings.schedule]
        return cls(make(settings.num_timesteps))

    def respaced(self, steps: int) -> "Diffusion":
        """The chain over `steps` kept timesteps; betas rebuilt from kept abar, not re-clipped."""
        kept = kept_timesteps(self.num_steps, steps)
        alpha_bars = self.alpha_bars[kept]
        return Diffusion(1 - alpha_bars / np.append(1.0, alpha_bars[:-1]), self.timesteps[kept])

    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio abar / (1 - abar): [num_steps] float64."""
        return self.alpha_bars / (1 - self.alpha_bars)

    def _at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Row t of a table, float32, shaped to broadcast over the images of `like`."""
        return getattr(self, name)[t].view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise; t: [B] int64."""
        signal = self._at("sqrt_alpha_bar", t, x0) * x0
        return signal + self._at("sqrt_one_minus_alpha_bar", t, x0) * noise

    def reverse_step(
        self, output: Tensor, x_t: Tensor, t: Tensor, *, clamp: float | None = None
    ) -> ReverseStep:
        """p(x_{t-1} | x_t) from a network output with learned range.

        output: [B, 2C, ...] = predicted noise and v; log-variance = f log beta_t +
        (1 - f) log posterior variance with f = (v + 1) / 2.  clamp: bound on |x0|, None for none.
        """
        noise, v = output.float().chunk(2, dim=1)
        x0 = self._at("sqrt_recip_alpha_bar", t, x_t) * x_t
        x0 = x0 - self._at("sqrt_recip_alpha_bar_minus_one", t, x_t) * noise
        if clamp is not None:
            x0 = x0.clamp(-clamp, clamp)
        share = (v + 1) / 2
        log_variance = share * self._at("log_beta", t, x_t)
        log_variance = log_variance + (1 - share) * self._at("log_posterior_variance", t, x_t)
        return ReverseStep(self._posterior_mean(x0, x_t, t), log_variance, x0)

    def _posterior_mean(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        return self._at("posterior_x0", t, x_t) * x0 + self._at("posterior_xt", t, x_t) * x_t

    def loss_terms(
        self, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Per-sample noise error and variational bound: (mse, vb), each [B]; vb in bits.

        The bound trains the variance only: it is computed with the predicted noise detached, x0
        unclipped, and is not scaled by T / 1000 (equal at T = 1000).
        """
        predicted, v = output.float().chunk(2, dim=1)
        mse = _mean((noise - predicted) ** 2)
        step = self.reverse_step(torch.cat([predicted.detach(), v], dim=1), x_t, t)
        true_mean = self._posterior_mean(x0, x_t, t)
        true_log_variance = self._at("log_posterior_variance", t, x_t)
        divergence = _mean(gaussian_kl(true_mean, true_log_variance, step.mean, step.log_variance))
        likelihood = _mean(binned_log_likelihood(x0, step.mean, 0.5 * step.log_variance))
        return mse, torch.where(t == 0, -likelihood, divergence) / math.log(2)


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


def gaussian_kl(mean1: Tensor, log_var1: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL divergence in nats of N(mean1, exp(log_var1)) to N(mean2, exp(log_var2)), elementwise."""
    ratio = torch.exp(log_var1 - log_var2)
    return 0.5 * (log_var2 - log_var1 + ratio - 1 + (mean1 - mean2) ** 2 * torch.exp(-log_var2))


def binned_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log-probability in nats of the 8-bit bin of `x` in [-1, 1] under N(mean, exp(2 log_std)).

    The normal distribution function is the tanh approximation; the outermost bins are open.
    """
    upper = _normal_cdf((x - mean + HALF_BIN) * torch.exp(-log_std))
    lower = _normal_cdf((x - mean - HALF_BIN) * torch.exp(-log_std))
    inside = (upper - lower).clamp(min=1e-12).log()
    below, above = upper.clamp(min=1e-12).log(), (1 - lower).clamp(min=1e-12).log()
    return torch.where(x < -0.999, below, torch.where(x > 0.999, above, inside))


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
