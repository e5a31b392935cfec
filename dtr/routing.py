"""Channel masks: which channels of a block's input each denoising task (timestep) may read.

A mask table is bool [layers or 1, num_timesteps, num_channels]; one layer where all share it.
Rows are always looked up by the original timestep 0..999, in training and in sampling.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from dtr.config.stages import RoutingSettings
from dtr.registry import load
from dtr.seeding import generator
from dtr.support.errors import Refusal


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


def cluster_of(num_timesteps: int, clusters: int) -> np.ndarray:
    """Uniform clusters of timesteps: [num_timesteps] int64, e.g. t // 125 for 8 of 1000."""
    return np.arange(num_timesteps) * clusters // num_timesteps


def dtr_table(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> Tensor:
    """DTR: one table for all layers, [1, T, C] bool."""
    variant = settings.variant or "code"
    masks = dtr_masks(
        timesteps, channels, beta=settings.beta, alpha=settings.alpha, variant=variant
    )
    return masks[None]


def random_table(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> Tensor:
    """R-TR: a table of its own for every layer, [layers, T, C] bool."""
    return random_masks(layers, timesteps, channels, beta=settings.beta, seed=settings.seed)


def cdtr_table(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> Tensor:
    """CDTR (Table 8): the DTR window of a chain of `clusters` tasks, shared within a cluster."""
    masks = dtr_masks(settings.clusters, channels, beta=settings.beta, alpha=settings.alpha)
    return masks[cluster_of(timesteps, settings.clusters)][None]


def ercdt_table(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> Tensor:
    """ERCDT (Table 8): half of the channels for all tasks, one segment of the rest per cluster.

    Which half is shared is not published and does not matter by symmetry; here the first.
    """
    shared = channels // 2
    edges = shared + np.round(
        np.arange(settings.clusters + 1) * (channels - shared) / settings.clusters
    ).astype(np.int64)
    cluster = cluster_of(timesteps, settings.clusters)[:, None]
    index = np.arange(channels)
    own = (index >= edges[cluster]) & (index < edges[cluster + 1])
    return torch.from_numpy((index < shared) | own)[None]


def no_masks(settings: RoutingSettings, layers: int, timesteps: int, channels: int) -> None:
    """No routing: blocks read all channels and compute nothing extra."""
    return None


class ChannelMasks(nn.Module):
    """Looks up the masks of a batch once per step; the table travels with the weights."""

    def __init__(self, table: Tensor, *, num_layers: int) -> None:
        super().__init__()
        self.register_buffer("table", table)
        self.num_layers = num_layers

    def after_step(self, step: int) -> None:
        """Called after training step `step` (counted from 1); fixed masks stay as they are."""

    def progress(self) -> dict[str, float]:
        """What the log of a run should say about changing masks."""
        return {}

    def hash(self) -> str:
        """SHA-256 of the table, for the record of a run."""
        return hashlib.sha256(self.table.cpu().numpy().tobytes()).hexdigest()

    def forward(self, t: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per layer the mask and its complement, float32 [B, 1, C] each; t: [B] int64."""
        active = self.table[:, t].unsqueeze(2)
        pairs = list(zip(active.float(), (~active).float(), strict=True))
        return pairs * self.num_layers if len(pairs) == 1 else pairs


class RoamingMasks(ChannelMasks):
    """Max Roaming (Pascal et al. 2021): random masks of beta C channels that wander in training.

    The paper compares with it (Table 8) without saying how often masks change. Here all tasks of
    all layers change together every `period` steps, one channel each, so that roaming lasts the
    whole run. Row sums never change.

    An update switches on one channel the task has never used and switches off one of those it
    used; after C - C_beta updates every task has visited every channel and the masks stay.
    """

    def __init__(
        self, settings: RoutingSettings, num_layers: int, num_timesteps: int, num_channels: int
    ) -> None:
        table = random_masks(
            num_layers, num_timesteps, num_channels, beta=settings.beta, seed=settings.seed
        )
        super().__init__(table, num_layers=num_layers)
        self.register_buffer("visited", table.clone())
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.seed, self.period = settings.seed, settings.period

    def after_step(self, step: int) -> None:
        """Roam after every `period`-th training step; a function of the seed and the update."""
        if step % self.period == 0 and not self.visited.all():
            self.roam()

    def roam(self) -> None:
        """One update of all layers and tasks."""
        number = int(self.updates)
        for layer in range(self.num_layers):
            mask, visited = self.table[layer].cpu().numpy(), self.visited[layer].cpu().numpy()
            draws = generator(self.seed, "roaming", layer, number)
            tasks = np.arange(len(mask))
            # The largest of independent uniforms among the allowed channels is a uniform choice.
            arriving = np.where(visited, -1.0, draws.random(mask.shape)).argmax(axis=1)
            leaving = np.where(mask, draws.random(mask.shape), -1.0).argmax(axis=1)
            self.table[layer, tasks, leaving] = False
            self.table[layer, tasks, arriving] = True
            self.visited[layer, tasks, arriving] = True
        self.updates += 1

    def progress(self) -> dict[str, float]:
        """Updates so far and the share of (layer, task, channel) triples already visited."""
        return {
            "roaming_updates": int(self.updates),
            "roaming_visited": float(self.visited.float().mean()),
        }


def build_routing(
    settings: RoutingSettings, *, num_layers: int, num_timesteps: int, num_channels: int
) -> ChannelMasks | None:
    """The masks of a model whose blocks have `num_channels` channels; None without routing.

    A registered routing is a callable (settings, layers, T, C) that returns a bool table
    [layers or 1, T, C], or a `ChannelMasks` of its own where masks change during training.
    """
    masks = load("routing", settings.type)(settings, num_layers, num_timesteps, num_channels)
    return ChannelMasks(masks, num_layers=num_layers) if isinstance(masks, Tensor) else masks
