"""Routing inside a network: the mask table as a buffer that travels with the weights."""

import numpy as np
import torch
from torch import Tensor, nn

from dtr.routing import ChangingMasks, build_masks, hash_masks
from dtr.support.settings import PartSettings


class ChannelMasks(nn.Module):
    """Looks up the masks of a batch once per step.

    masks: bool [layers or 1, T, C], or masks that change, whose arrays all become buffers.
    """

    table: Tensor

    def __init__(self, masks: np.ndarray | ChangingMasks, *, num_layers: int) -> None:
        super().__init__()
        self.rule = masks if isinstance(masks, ChangingMasks) else None
        self.num_layers = num_layers
        self._hash = hash_masks(masks)
        for name, array in ({"table": masks} if self.rule is None else masks.start()).items():
            self.register_buffer(name, torch.from_numpy(array))

    def after_step(self, step: int) -> None:
        """Called after training step `step` (counted from 1); fixed masks stay as they are."""
        if self.rule is None:
            return
        # On the CPU these share the buffers' memory, elsewhere they are copied back.
        arrays = {name: buffer.cpu().numpy() for name, buffer in self.named_buffers()}
        self.rule.after_step(arrays, step)
        for name, buffer in self.named_buffers():
            if buffer.device.type != "cpu":
                buffer.copy_(torch.from_numpy(arrays[name]))

    def progress(self) -> dict[str, float]:
        """What the log of a run should say about changing masks."""
        if self.rule is None:
            return {}
        return self.rule.progress({name: b.cpu().numpy() for name, b in self.named_buffers()})

    def hash(self) -> str:
        """What identifies the masks before the first step: SHA-256 of the table, and the rule."""
        return self._hash

    def forward(self, t: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per layer the mask and its complement, float32 [B, 1, C] each; t: [B] int64."""
        active = self.table[:, t].unsqueeze(2)
        pairs = list(zip(active.float(), (~active).float(), strict=True))
        return pairs * self.num_layers if len(pairs) == 1 else pairs


def build_routing(
    settings: PartSettings, *, num_layers: int, num_timesteps: int, num_channels: int
) -> ChannelMasks | None:
    """The masks of a model whose blocks have `num_channels` channels; None without routing."""
    masks = build_masks(settings, num_layers, num_timesteps, num_channels)
    return None if masks is None else ChannelMasks(masks, num_layers=num_layers)
