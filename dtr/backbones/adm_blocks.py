"""The parts of ADM's U-Net (Dhariwal & Nichol 2021); in each, a mask acts right after a GroupNorm.

Masks are given as one list per forward pass, entry `norm.place` of it belonging to `norm`.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.backbones.dropout import ImageDropout

Masks = list[Tensor] | None  # one [B, C, 1, 1] float32 of 0 and 1 per masked norm; None: no routing


def timestep_features(t: Tensor, width: int) -> Tensor:
    """Sinusoidal features, cosine first: [B] int64 -> [B, width] float32; `width` is even."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t[:, None].float() * torch.exp(-math.log(10000) * exponents)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


class Norm(nn.GroupNorm):
    """GroupNorm in float32 whatever the precision around it, and then its mask, if it has one."""

    place: int | None = None  # position of its mask in the list; None: never masked

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels, eps=1e-5)

    def forward(self, x: Tensor, masks: Masks = None) -> Tensor:
        h = F.group_norm(x.float(), self.num_groups, self.weight, self.bias, self.eps)
        if masks is not None and self.place is not None:
            # After the statistics, so that these do not see zeros (appendix A.1).
            h = h * masks[self.place]
        return h.type(x.dtype)


def zeroed(module: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    """The convolution with all parameters 0, so that its branch starts as silence."""
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module


RESAMPLING = {
    "same": nn.Identity,
    "down": partial(nn.AvgPool2d, 2),
    "up": partial(nn.Upsample, scale_factor=2),  # each pixel as 2 x 2
}


class ResBlock(nn.Module):
    """Residual block whose second norm is scaled and shifted by the embedding.

    resample: "same", or "down" / "up" to halve / double the image inside the block, both in the
    branch (between SiLU and convolution) and on the skip path.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        embedding: int,
        *,
        groups: int,
        dropout: float,
        resample: str = "same",
    ) -> None:
        super().__init__()
        self.resample = RESAMPLING[resample]()
        self.in_layers = nn.Sequential(
            Norm(groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out_channels))
        self.out_layers = nn.Sequential(
            Norm(groups, out_channels),
            nn.SiLU(),
            ImageDropout(dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor, masks: Masks) -> Tensor:
        """x: [B, C, H, W]; emb: [B, E]. The skip path reads x unmasked."""
        norm, activation, conv = self.in_layers
        h = conv(self.resample(activation(norm(x, masks))))
        norm, *rest = self.out_layers
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        h = norm(h, masks) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(self.resample(x)) + h


class AttentionBlock(nn.Module):
    """Self-attention over pixels: x + proj(attn(qkv(norm(x)))).

    order: how the rows of qkv are cut, into q, k, v and these into heads ("qkv_first"), or into
    heads and these into q, k, v ("heads_first"). Shapes are the same; weights are not exchangeable.
    """

    def __init__(
        self, channels: int, *, groups: int, head_channels: int, order: str = "qkv_first"
    ) -> None:
        super().__init__()
        self.heads, self.order = channels // head_channels, order
        self.norm = Norm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, emb: Tensor, masks: Masks) -> Tensor:
        """x: [B, C, H, W]; the embedding does not enter."""
        rows = self.qkv(self.norm(x, masks).flatten(2))
        if self.order == "qkv_first":
            qkv = rows.unflatten(1, (3, self.heads, -1)).transpose(0, 1)
        else:
            qkv = rows.unflatten(1, (self.heads, 3, -1)).permute(2, 0, 1, 3, 4)
        # Fused kernels want the channels of a head side by side.
        q, k, v = qkv.transpose(3, 4).contiguous()
        mixed = F.scaled_dot_product_attention(q, k, v)  # scale head_channels^-0.5
        return x + self.proj_out(mixed.transpose(2, 3).flatten(1, 2)).view_as(x)


class Stage(nn.ModuleList):
    """Blocks applied one after the other; a plain convolution takes the image alone."""

    def forward(self, x: Tensor, emb: Tensor, masks: Masks) -> Tensor:
        for module in self:
            x = module(x) if isinstance(module, nn.Conv2d) else module(x, emb, masks)
        return x
