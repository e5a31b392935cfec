"""Loss weightings: how timesteps are drawn and how per-sample terms become one loss."""

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn


class Weighting(nn.Module):
    """Vanilla: timesteps uniform in [first, last), every sample weighs the same."""

    def draw_timesteps(
        self, draws: np.random.Generator, batch_size: int, timesteps: tuple[int, int]
    ) -> np.ndarray:
        """Timesteps of one global batch: [batch_size] int64 in [timesteps[0], timesteps[1])."""
        return draws.integers(*timesteps, size=batch_size)

    def forward(self, mse: Tensor, vb: Tensor, t: Tensor) -> Tensor:
        """Scalar loss from per-sample terms; mse, vb: [B] (vb in bits), t: [B] int64."""
        return (mse + vb).mean()


WEIGHTING_CLASSES: dict[str, Callable[[], Weighting]] = {"vanilla": Weighting}


def build_weighting(name: str) -> Weighting:
    """The weighting called `name`; its parameters, if any, are trained with the model's."""
    return WEIGHTING_CLASSES[name]()
