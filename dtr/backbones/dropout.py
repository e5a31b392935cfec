"""Dropout that does not depend on how a batch is cut over devices and portions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ImageDropout(nn.Module):
    """Dropout of single values, for each image from a random stream of its own.

    streams: one generator per image of the next pass, shared by all layers and used in their order;
    a trainer sets them. Without any, torch's own generator is used.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.streams: Sequence[torch.Generator] = ()

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, ...], shape and expected value unchanged."""
        if not self.training or self.share == 0 or not self.streams:
            return F.dropout(x, self.share, self.training)
        kept = torch.empty_like(x)
        for image, stream in zip(kept, self.streams, strict=True):
            image.bernoulli_(1 - self.share, generator=stream)
        return x * kept.div_(1 - self.share)
