"""Channel masks: which channels of a block's input each denoising task (timestep) may read.

A mask table is bool [layers or 1, num_timesteps, num_channels]; one layer where all share it.
Rows are always looked up by the original timestep 0..999, in training and in sampling.

A routing is a settings model with its constants, and a function from (settings, layers, T, C) to
its table; the settings are the annotation of the function's first argument. Free of torch: the
networks look a table up through `dtr.backbones.masks`.
"""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from dtr.registry import load, named
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.settings import Count, PartSettings, Positive

Beta = Annotated[float, Field(gt=0, le=1)]  # share of channels that a task uses
State = Mapping[str, np.ndarray]


class Unrouted(PartSettings):
    """Every task reads every channel; nothing extra is computed."""

    type: Literal["none"]


class Random(PartSettings):
    """R-TR: a mask drawn for every layer and task."""

    type: Literal["random"]
    beta: Beta
    seed: int


class Windows(PartSettings):
    """DTR; `variant` is "code" or, for the printed formula, "eq4"."""

    type: Literal["dtr"]
    beta: Beta
    alpha: Positive
    variant: Literal["code", "eq4"] = "code"


class Roaming(PartSettings):
    """Max Roaming; `period` is in training steps."""

    type: Literal["max_roaming"]
    beta: Beta
    period: Count
    seed: int


class Explicit(PartSettings):
    """ERCDT."""

    type: Literal["ercdt"]
    clusters: Count


class ClusteredWindows(PartSettings):
    """CDTR."""

    type: Literal["cdtr"]
    beta: Beta
    alpha: Positive
    clusters: Count


class AnyRouting(PartSettings):
    """What a routing from outside is told that declares no settings of its own."""

    beta: Beta | None = None
    seed: int = 0


@runtime_checkable
class ChangingMasks(Protocol):
    """Masks that change during training, as named arrays; `table` is the one that is looked up.

    What the rule is cannot be told from a table: `version` changes with it.
    """

    version: int

    def start(self) -> dict[str, np.ndarray]:
        """The arrays before the first step; among them `table`, bool [layers, T, C]."""
        ...

    def after_step(self, state: State, step: int) -> None:
        """Change the arrays in place after training step `step` (counted from 1)."""
        ...

    def progress(self, state: State) -> dict[str, float]:
        """What the log of a run should say about them."""
        ...


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
) -> np.ndarray:
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
    return (channels >= first[:, None]) & (channels < last[:, None])


def random_masks(
    num_layers: int, num_timesteps: int, num_channels: int, *, beta: float, seed: int
) -> np.ndarray:
    """R-TR: exactly C_beta channels per layer and task, uniform without replacement.

    The expected overlap of two tasks is C_beta^2 / C (Appendix B, Eq. 9).
    Returns [num_layers, num_timesteps, num_channels] bool, a function of `seed` and the layer.
    """
    width = active_channels(num_channels, beta)
    masks = np.zeros((num_layers, num_timesteps, num_channels), dtype=bool)
    for layer, mask in enumerate(masks):
        order = generator(seed, "routing", layer).random(mask.shape).argsort(axis=1)
        np.put_along_axis(mask, order[:, :width], True, axis=1)
    return masks


def cluster_of(num_timesteps: int, clusters: int) -> np.ndarray:
    """Uniform clusters of timesteps: [num_timesteps] int64, e.g. t // 125 for 8 of 1000."""
    return np.arange(num_timesteps) * clusters // num_timesteps


def no_masks(settings: Unrouted, layers: int, timesteps: int, channels: int) -> None:
    """No routing: blocks read all channels and compute nothing extra."""
    return None


def random_table(settings: Random, layers: int, timesteps: int, channels: int) -> np.ndarray:
    """R-TR: a table of its own for every layer, [layers, T, C] bool."""
    return random_masks(layers, timesteps, channels, beta=settings.beta, seed=settings.seed)


def dtr_table(settings: Windows, layers: int, timesteps: int, channels: int) -> np.ndarray:
    """DTR: one table for all layers, [1, T, C] bool."""
    return dtr_masks(timesteps, channels, **settings.model_dump(exclude={"type"}))[None]


def cdtr_table(
    settings: ClusteredWindows, layers: int, timesteps: int, channels: int
) -> np.ndarray:
    """CDTR (Table 8): the DTR window of a chain of `clusters` tasks, shared within a cluster."""
    masks = dtr_masks(settings.clusters, channels, beta=settings.beta, alpha=settings.alpha)
    return masks[cluster_of(timesteps, settings.clusters)][None]


def ercdt_table(settings: Explicit, layers: int, timesteps: int, channels: int) -> np.ndarray:
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
    return ((index < shared) | own)[None]


class MaxRoaming:
    """Max Roaming (Pascal et al. 2021): random masks of beta C channels that wander in training.

    The paper compares with it (Table 8) without saying how often masks change. Here all tasks of
    all layers change together every `period` steps: one channel that the task has never used is
    switched on, one of those it used is switched off. Row sums never change; after C - C_beta
    updates every task has visited every channel and the masks stay.
    """

    version = 1

    def __init__(self, settings: Roaming, layers: int, timesteps: int, channels: int) -> None:
        self.settings, self.shape = settings, (layers, timesteps, channels)

    def start(self) -> dict[str, np.ndarray]:
        """`table` and `visited`, bool [layers, T, C], and the number of updates so far."""
        table = random_masks(*self.shape, beta=self.settings.beta, seed=self.settings.seed)
        return {"table": table, "visited": table.copy(), "updates": np.zeros((), dtype=np.int64)}

    def after_step(self, state: State, step: int) -> None:
        """Roam after every `period`-th training step; a function of the seed and the update."""
        if step % self.settings.period == 0 and not state["visited"].all():
            self.roam(state)

    def roam(self, state: State) -> None:
        """One update of all layers and tasks."""
        number = int(state["updates"])
        for layer, (mask, visited) in enumerate(zip(state["table"], state["visited"], strict=True)):
            draws = generator(self.settings.seed, "roaming", layer, number)
            tasks = np.arange(len(mask))
            # The largest of independent uniforms among the allowed channels is a uniform choice.
            arriving = np.where(visited, -1.0, draws.random(mask.shape)).argmax(axis=1)
            leaving = np.where(mask, draws.random(mask.shape), -1.0).argmax(axis=1)
            mask[tasks, leaving] = False
            mask[tasks, arriving] = True
            visited[tasks, arriving] = True
        state["updates"][...] += 1

    def progress(self, state: State) -> dict[str, float]:
        """Updates so far and the share of (layer, task, channel) triples already visited."""
        return {
            "roaming_updates": int(state["updates"]),
            "roaming_visited": float(state["visited"].mean(dtype=np.float32)),
        }


def build_masks(
    settings: PartSettings, layers: int, timesteps: int, channels: int
) -> np.ndarray | ChangingMasks | None:
    """The masks of the routing that `settings.type` names; None without routing.

    Returns bool [layers or 1, T, C], or masks that change. A routing that raises, returns
    something else, or leaves a task without channels is refused by its name.
    """
    who = named("routing", settings.type)
    builder = load("routing", settings.type)
    try:
        masks = builder(settings, layers, timesteps, channels)
        table = masks.start()["table"] if isinstance(masks, ChangingMasks) else masks
    except Refusal:
        raise
    except Exception as error:  # whatever somebody else's code may raise
        reason = " ".join(str(error).split()) or "no reason given"
        raise Refusal(f"{who}: raised {type(error).__name__}: {reason}") from None
    if table is None:
        return None
    _check_table(who, np.asarray(table), layers, timesteps, channels)
    return masks if isinstance(masks, ChangingMasks) else np.ascontiguousarray(table)


def _check_table(who: str, table: np.ndarray, layers: int, timesteps: int, channels: int) -> None:
    shapes = [(count, timesteps, channels) for count in dict.fromkeys((layers, 1))]
    if table.dtype != bool or table.shape not in shapes:
        accepted = " or ".join(str(list(shape)) for shape in shapes)
        found = f"{table.dtype} {list(table.shape)}"
        raise Refusal(f"{who}: returned {found}; accepted: bool {accepted}, or ChangingMasks")
    if not table.any(axis=-1).all():
        layer, task = np.argwhere(~table.any(axis=-1))[0].tolist()
        raise Refusal(f"{who}: timestep {task} of layer {layer} is left without channels")


def hash_masks(masks: np.ndarray | ChangingMasks) -> str:
    """What identifies masks: SHA-256 of their table; of changing ones, with their version."""
    if isinstance(masks, ChangingMasks):
        table, rule = masks.start()["table"], f"version {masks.version}".encode()
    else:
        table, rule = masks, b""
    return hashlib.sha256(np.ascontiguousarray(table).tobytes() + rule).hexdigest()


def constants_of(settings: PartSettings) -> dict[str, Any]:
    """The constants of a part by name, for messages."""
    return settings.model_dump(exclude_none=True, exclude={"type"})
