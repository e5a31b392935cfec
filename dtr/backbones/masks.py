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
        self._own: dict[str, np.ndarray] = {}  # the arrays of masks that change, on the host
        self._hash = hash_masks(masks)
        for name, array in ({"table": masks} if self.rule is None else masks.start()).items():
            self.register_buffer(name, torch.from_numpy(array))

    def after_step(self, step: int) -> None:
        """Called after training step `step` (counted from 1); fixed masks stay as they are."""
        if self.rule is None:
            return
        before = {name: array.copy() for name, array in self._away().items()}
        arrays = self._arrays()
        self.rule.after_step(arrays, step)
        # To another device goes what has changed: most steps change nothing, and wait for nothing.
        for name, array in before.items():
            if not np.array_equal(array, arrays[name]):
                self.get_buffer(name).copy_(torch.from_numpy(arrays[name]))

    def progress(self) -> dict[str, float]:
        """What the log of a run should say about changing masks."""
        return {} if self.rule is None else self.rule.progress(self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays of masks that change: the memory of the buffers, or the host's copy of it."""
        buffers = dict(self.named_buffers())
        if all(buffer.device.type == "cpu" for buffer in buffers.values()):
            return {name: buffer.numpy() for name, buffer in buffers.items()}
        if not self._own:
            self._own = {name: buffer.cpu().numpy() for name, buffer in buffers.items()}
        return self._own

    def _away(self) -> dict[str, np.ndarray]:
        """Those of them that are a copy of what lies on another device."""
        return self._arrays() if self.table.device.type != "cpu" else {}

    def _load_from_state_dict(self, *arguments, **options) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._own = {}

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
