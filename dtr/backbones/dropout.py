"""Dropout that does not depend on how a batch is cut over devices and portions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.support.philox import kept

LAYERS = 1 << 20  # between the numbers of two layers' draws: more than the images of a batch


class ImageStreams(NamedTuple):
    """Streams of a batch on its device: keys int64 [B, 4] and numbers of their draws int64 [B]."""

    keys: Tensor
    numbers: Tensor


class ImageDropout(nn.Module):
    """Dropout of single values, for each image from a random stream of its own.

    streams: of the images of the next pass; a trainer sets them. Either one generator per image,
    shared by all layers and used in their order, or keys, of which layer `place` makes a draw of
    its own, without a loop over images. Without any, torch's own generator is used.
    """

    place: int = 0  # of the layer in its network

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.streams: Sequence[torch.Generator] | ImageStreams = ()

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, ...], shape and expected value unchanged."""
        if not self.training or self.share == 0 or not self.streams:
            return F.dropout(x, self.share, self.training)
        if isinstance(self.streams, ImageStreams):
            keys, numbers = self.streams
            own = numbers + LAYERS * self.place
            return x * kept(keys, own, x.shape[1:], dropped=self.share).type_as(x)
        factors = torch.empty_like(x)
        for image, stream in zip(factors, self.streams, strict=True):
            image.bernoulli_(1 - self.share, generator=stream)
        return x * factors.div_(1 - self.share)


def dropouts_of(model: nn.Module) -> list[ImageDropout]:
    """The dropout layers of a network, each told its place."""
    found = [module for module in model.modules() if isinstance(module, ImageDropout)]
    for place, layer in enumerate(found):
        layer.place = place
    return found
