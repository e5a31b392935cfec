"""Max Roaming (Pascal et al. 2021) for denoising tasks: masks that wander during training.

The paper compares with it (Table 8) without saying how often masks change. Here all tasks of all
layers change together every `period` steps, one channel each, so that roaming lasts the whole run.
"""

import numpy as np
import torch

from dtr.routing import ChannelMasks, random_masks
from dtr.seeding import generator
from dtr.settings import RoutingSettings


class RoamingMasks(ChannelMasks):
    """Random masks of beta C channels per layer and task; row sums never change.

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
