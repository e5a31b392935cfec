"""Whether a method works, before anything is started: its networks and its loss are built once."""

import numpy as np
import torch
from torch import Tensor

from dtr.backbones.build import build_backbone
from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.config.stages import RunSettings
from dtr.diffusion import Diffusion
from dtr.registry import named
from dtr.routing import ChangingMasks, build_masks
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.training.core import TrainedWeighting
from dtr.trying.plan import Asked, own_run
from dtr.weighting import build_weighting


def check_method(scale: Scale, asked: Asked) -> None:
    """Build the network of every slot with the method, all widths of a U-Net too; try its loss.

    scale: that of the try, whose masks of one width are checked already. Refuses in one line.
    """
    for slot in asked.slots:
        settings = run_settings(scale, own_run(asked, slot), asked.seeds[0])
        if asked.family == "weighting":
            weights_over_time(settings)
        else:
            build_backbone(settings.backbone, settings.inputs, settings.routing)


def first_masks(settings: RunSettings) -> np.ndarray | None:
    """Masks of the first layer before the first step, bool [T, C]; None without routing.

    Of the widest layer, where they have several widths.
    """
    layers, channels = getattr(settings.backbone, "depth", 1), settings.backbone.channels
    masks = build_masks(settings.routing, layers, settings.diffusion.num_timesteps, channels)
    table = masks.start()["table"] if isinstance(masks, ChangingMasks) else masks
    return None if table is None else table[0]


def weights_over_time(settings: RunSettings) -> np.ndarray:
    """What the noise error of each timestep weighs in the loss before the first step: [T] float64.

    The derivative of the loss by the noise error of one sample among one of every timestep, times
    their number, at an error of 1. Refuses a loss that raises, is no finite number, or weighs a
    timestep with something else.
    """
    who = named("weighting", settings.weighting.type)
    count = settings.diffusion.num_timesteps
    snr = Diffusion.from_settings(settings.diffusion).snr()
    try:
        weighting = TrainedWeighting(build_weighting(settings.weighting, snr))
        drawn = np.asarray(
            weighting.rule.draw_timesteps(
                generator(0, "try"), settings.training.batch_size, settings.timesteps
            )
        )
        _check_drawn(who, drawn, settings)
        _derivative(weighting, torch.from_numpy(drawn))  # a batch as in training
        loss, weights = _derivative(weighting, torch.arange(count))
    except Refusal:
        raise
    except Exception as error:  # whatever somebody else's code may raise
        reason = " ".join(str(error).split()) or "no reason given"
        raise Refusal(f"{who}: raised {type(error).__name__}: {reason}") from None
    if not (torch.isfinite(loss) and torch.isfinite(weights).all()):
        raise Refusal(f"{who}: its loss of errors of 1 is {loss.item():g}; accepted: finite")
    return weights.numpy().astype(np.float64) * count


def _derivative(weighting: TrainedWeighting, t: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of errors of 1 at timesteps t [B], and its derivative by each noise error: [B]."""
    mse = torch.ones(len(t), requires_grad=True)
    loss = weighting(mse, torch.ones(len(t)), t)
    (weights,) = torch.autograd.grad(loss, mse)
    return loss.detach(), weights


def _check_drawn(who: str, drawn: np.ndarray, settings: RunSettings) -> None:
    first, end = settings.timesteps
    size = settings.training.batch_size
    whole = np.issubdtype(drawn.dtype, np.integer) and drawn.shape == (size,)
    if not whole or drawn.min() < first or drawn.max() >= end:
        found = f"{drawn.dtype} {list(drawn.shape)}"
        if whole:
            found += f" from {drawn.min()} to {drawn.max()}"
        raise Refusal(
            f"{who}: draws timesteps {found}; accepted: int64 [{size}] from {first} to {end - 1}"
        )
