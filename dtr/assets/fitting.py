"""The training loop of the small networks that the workflow makes for itself."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from dtr.config.stages import FittedSettings
from dtr.seeding import batch_indices
from dtr.support.progress import Progress


def fit(
    settings: FittedSettings,
    build: Callable[[], nn.Module],
    loss_of: Callable[[nn.Module, np.ndarray, int], Tensor],
    *,
    count: int,
    title: str,
) -> nn.Module:
    """A network built from the settings' seed and trained by AdamW, in evaluation mode.

    One-cycle learning rate with `learning_rate` as its peak. loss_of: from (network, positions of
    the batch among `count` training images [B] int64, step) to the loss.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    with Progress(title, settings.steps) as progress:
        for step in range(settings.steps):
            rows = batch_indices(settings.seed, step, size=count, batch_size=settings.batch_size)
            loss = loss_of(model, rows, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.show(loss=float(loss.detach()))
            progress.advance()
    return model.eval()
