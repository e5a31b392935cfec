"""Channel masks: which channels of a block's input each denoising task (timestep) may read.

A mask table is bool [layers or 1, num_timesteps, num_channels]; one layer where all share it.
Rows are always looked up by the original timestep 0..999, in training and in sampling.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dtr.config import RoutingSettings
from dtr.errors import Refusal
from dtr.seeding import generator


def active_channels(num_channels: int, beta: float) -> int:
    """C_beta = int(C * beta), truncated as in the authors' code; at least one channel."""
    count = int(num_channels * beta)
    if count < 1:
        raise Refusal(f"beta = {beta}: leaves none of {num_channels} channels active")
    return count


def window_starts(
    num_timesteps: int, num_channels: int, *, beta: float, alpha: float
) -> np.ndarray:
    """First active channel of each task: round((t / (T-1))^alpha * (C - C_beta)).

    beta: share of channels a task uses, in (0, 1].  alpha: exponent of the window's shift, > 0.
    Returns [num_timesteps] int64.  Source: the authors' code (float64, half to even).
    """
    share = np.arange(num_timesteps) / (num_timesteps - 1)
    inactive = num_channels - active_channels(num_channels, beta)
    return np.round(share**alpha * inactive).astype(np.int64)


def dtr_masks(
    num_timesteps: int, num_channels: int, *, beta: float, alpha: float, variant: str = "code"
) -> Tensor:
    """Sliding-window channel masks of DTR (Eq. 4, as in the authors' code).

    beta: share of channels a task uses, in (0, 1].  alpha: exponent of the window's shift, > 0.
    variant: "code", or "eq4" for the printed formula, which normalises by T instead of T - 1 and
    lets a row whose window moves have extra channels.
    Returns [num_timesteps, num_channels] bool; row t is True where task t reads the block input.
    """
    width = active_channels(num_channels, beta)
    if variant == "code":
        first = window_starts(num_timesteps, num_channels, beta=beta, alpha=alpha)
        last = first + width
    else:
        edges = (np.arange(num_timesteps + 1) / num_timesteps) ** alpha * (num_channels - width)
        edges = np.round(edges).astype(np.int64)
        first, last = edges[:-1], edges[1:] + width
    channels = np.arange(num_channels)
    return torch.from_numpy((channels >= first[:, None]) & (channels < last[:, None]))


def random_masks(
    num_layers: int, num_timesteps: int, num_channels: int, *, beta: float, seed: int
) -> Tensor:
    """R-TR: exactly C_beta channels per layer and task, uniform without replacement.

    The expected overlap of two tasks is C_beta^2 / C (Appendix B, Eq. 9).
    Returns [num_layers, num_timesteps, num_channels] bool, a function of `seed` and the layer.
    """
    width = active_channels(num_channels, beta)
    masks = np.zeros((num_layers, num_timesteps, num_channels), dtype=bool)
    for layer, mask in enumerate(masks):
        order = generator(seed, "routing", layer).random(mask.shape).argsort(axis=1)
        np.put_along_axis(mask, order[:, :width], True, axis=1)
    return torch.from_numpy(masks)


MaskTable = Callable[[RoutingSettings, int, int, int], Tensor]  # settings, layers, T, C -> table


def _dtr_table(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> Tensor:
    variant = settings.variant or "code"
    masks = dtr_masks(
        timesteps, channels, beta=settings.beta, alpha=settings.alpha, variant=variant
    )
    return masks[None]


def _random_table(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> Tensor:
    return random_masks(layers, timesteps, channels, beta=settings.beta, seed=settings.seed)


ROUTING_TABLES: dict[str, MaskTable] = {"random": _random_table, "dtr": _dtr_table}


class ChannelMasks(nn.Module):
    """Looks up the masks of a batch once per step; the table travels with the weights."""

    def __init__(
        self, settings: RoutingSettings, *, num_layers: int, num_timesteps: int, num_channels: int
    ) -> None:
        super().__init__()
        table = ROUTING_TABLES[settings.type](settings, num_layers, num_timesteps, num_channels)
        self.register_buffer("table", table)
        self.num_layers = num_layers

    def hash(self) -> str:
        """SHA-256 of the table, for the record of a run."""
        return hashlib.sha256(self.table.cpu().numpy().tobytes()).hexdigest()

    def forward(self, t: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per layer the mask and its complement, float32 [B, 1, C] each; t: [B] int64."""
        active = self.table[:, t].unsqueeze(2)
        pairs = list(zip(active.float(), (~active).float(), strict=True))
        return pairs * self.num_layers if len(pairs) == 1 else pairs


def build_routing(
    settings: RoutingSettings, *, num_layers: int, num_timesteps: int, num_channels: int
) -> ChannelMasks | None:
    """The masks of a model whose blocks have `num_channels` channels; None without routing."""
    if settings.type == "none":
        return None
    return ChannelMasks(
        settings, num_layers=num_layers, num_timesteps=num_timesteps, num_channels=num_channels
    )
