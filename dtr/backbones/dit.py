"""DiT (Peebles & Xie 2023) with task routing: parameters carry the names of the released code."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.backbones.labels import null_labels
from dtr.backbones.masks import build_routing
from dtr.config.backbones import DiTSize, Inputs
from dtr.support.settings import PartSettings

FREQUENCIES = 256  # width of the sinusoidal timestep embedding


def sincos_positions(width: int, side: int) -> Tensor:
    """Fixed 2-D position table, column before row: [side * side, width] float32.

    Token (r, c) has [sin(c w), cos(c w), sin(r w), cos(r w)], w_i = 10000^(-i / (width / 4)).
    """
    omega = 10000.0 ** (-np.arange(width // 4) / (width / 4))
    row, column = np.divmod(np.arange(side * side), side)
    angles = [np.outer(column, omega), np.outer(row, omega)]
    parts = [f(angle) for angle in angles for f in (np.sin, np.cos)]
    return torch.from_numpy(np.concatenate(parts, axis=1)).float()


def sincos_timesteps(t: Tensor) -> Tensor:
    """Sinusoidal timestep features, cosine first: [B] -> [B, 256] float32."""
    half = FREQUENCIES // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t[:, None].float() * torch.exp(-math.log(10000) * exponents)
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


def modulate(u: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(u) * (1 + scale) + shift, without affine parameters; u: [B, N, C], others [B, 1, C]."""
    return F.layer_norm(u, u.shape[-1:], eps=1e-6) * (1 + scale) + shift


class PatchEmbedding(nn.Module):
    """Non-overlapping patches as tokens, row-major: [B, C, H, W] -> [B, N, width]."""

    def __init__(self, in_channels: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedding(nn.Module):
    """Sinusoidal features through a two-layer MLP: [B] -> [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sincos_timesteps(t))


class LabelEmbedding(nn.Module):
    """One row per class and, where labels can be dropped, one more for "no label"."""

    def __init__(self, num_classes: int, width: int, *, with_null: bool) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + with_null, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.embedding_table(y)


class Attention(nn.Module):
    """Multi-head self-attention, scale head_dim^-0.5: [B, N, C] -> [B, N, C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, u: Tensor) -> Tensor:
        batch, tokens, width = u.shape
        qkv = self.qkv(u).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class FeedForward(nn.Module):
    """Linear, GELU (tanh), Linear with four times the width in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, u: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(u), approximate="tanh"))


class Block(nn.Module):
    """Transformer block with adaLN-Zero; with a mask, DTR's routed block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = FeedForward(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, z: Tensor, c: Tensor, masks: tuple[Tensor, Tensor] | None) -> Tensor:
        """Eq. 5 without masks; with (m, 1-m) Eq. 8: u = m z, y = u + MSA(u), y + FFN(y) + (1-m) z.

        z: [B, N, C] residual stream; c: [B, C] conditioning; m: [B, 1, C] float32 of 0 and 1.
        """
        u = z if masks is None else z * masks[0]
        parts = self.adaLN_modulation(c).unsqueeze(1).chunk(6, dim=-1)
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = parts
        u = u + gate_attn * self.attn(modulate(u, shift_attn, scale_attn))
        u = u + gate_mlp * self.mlp(modulate(u, shift_mlp, scale_mlp))
        return u if masks is None else torch.addcmul(u, z, masks[1])


class FinalLayer(nn.Module):
    """adaLN and a linear map to patch pixels: [B, N, C] -> [B, N, patch^2 * out_channels]."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).unsqueeze(1).chunk(2, dim=-1)
        return self.linear(modulate(z, shift, scale))


def unpatchify(tokens: Tensor, patch: int) -> Tensor:
    """Tokens of a square image, row-major, back to pixels: [B, N, patch^2 * C] -> [B, C, H, W].

    A token's vector is ordered (row, column, channel).
    """
    side = math.isqrt(tokens.shape[1])
    grid = tokens.view(len(tokens), side, side, patch, patch, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(tokens), -1, side * patch, side * patch)


def initialise(model: nn.Module, *, tables: Sequence[Tensor] = ()) -> None:
    """adaLN-Zero: Xavier everywhere, zero gates and output, so that the output starts at 0.

    tables: embedding tables of the model, drawn from N(0, 0.02) like the timestep MLP.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patches = model.x_embedder.proj
    nn.init.xavier_uniform_(patches.weight.view(len(patches.weight), -1))
    nn.init.zeros_(patches.bias)
    for weight in (*tables, model.t_embedder.mlp[0].weight, model.t_embedder.mlp[2].weight):
        nn.init.normal_(weight, std=0.02)
    zero = [block.adaLN_modulation[1] for block in model.blocks]
    for linear in (*zero, model.final_layer.adaLN_modulation[1], model.final_layer.linear):
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)


class DiT(nn.Module):
    """Diffusion transformer over latents; unconditional when it has one class and no dropout."""

    shares_timestep = True

    def __init__(
        self, settings: DiTSize, inputs: Inputs, routing: PartSettings, *, num_timesteps: int
    ) -> None:
        super().__init__()
        width, patch = settings.width, settings.patch_size
        self.settings, self.inputs = settings, inputs
        self.num_classes = inputs.num_classes
        self.x_embedder = PatchEmbedding(inputs.in_channels, patch, width)
        self.t_embedder = TimestepEmbedding(width)
        self.y_embedder = LabelEmbedding(
            inputs.num_classes, width, with_null=inputs.label_dropout > 0
        )
        side = inputs.input_size // patch
        # A parameter, though never trained: it is counted, averaged and saved as in the release.
        self.pos_embed = nn.Parameter(sincos_positions(width, side)[None], requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, settings.heads) for _ in range(settings.depth))
        self.final_layer = FinalLayer(width, patch * patch * 2 * inputs.in_channels)
        self.routing = build_routing(
            routing,
            num_layers=settings.depth,
            num_timesteps=num_timesteps,
            num_channels=width,
        )
        initialise(self, tables=[self.y_embedder.embedding_table.weight])

    @property
    def null_label(self) -> int | None:
        """The label that stands for "no label", None for an unconditional model."""
        return self.num_classes if self.inputs.label_dropout > 0 else None

    def null_condition(self, y: Tensor) -> Tensor:
        """The null label in place of every label of y: [B] int64."""
        return null_labels(y, self.null_label)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicted noise and v for x: [B, C, H, W], t: [B] int64, y: [B] int64; [B, 2C, H, W]."""
        z = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder(y)
        masks = [None] * len(self.blocks) if self.routing is None else self.routing(t)
        for block, mask in zip(self.blocks, masks, strict=True):
            z = block(z, c, mask)
        return self._unpatchify(self.final_layer(z, c))

    def _unpatchify(self, tokens: Tensor) -> Tensor:
        return unpatchify(tokens, self.settings.patch_size)
