"""DiT told by a caption: blocks with cross-attention to text tokens (Appendix C, Fig. 8).

The authors' code of this model is not released. Order of the branches, number of adaLN chunks and
the null caption are choices of this benchmark, stated in the deviations.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.backbones.dit import (
    Attention,
    FeedForward,
    FinalLayer,
    PatchEmbedding,
    TimestepEmbedding,
    initialise,
    modulate,
    sincos_positions,
    unpatchify,
)
from dtr.backbones.masks import build_routing
from dtr.config.backbones import Inputs, TextDiTSize
from dtr.support.settings import PartSettings

PLAIN = (0.0, 0.0, 1.0)  # shift, scale and gate of a branch that is not modulated


class CrossAttention(nn.Module):
    """Multi-head attention of image tokens to text tokens: [B, N, C], [B, T, W] -> [B, N, C]."""

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(text_width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, u: Tensor, text: Tensor) -> Tensor:
        batch, tokens, width = u.shape
        head = width // self.heads
        q = self.q(u).view(batch, tokens, self.heads, head).transpose(1, 2)
        kv = self.kv(text).view(batch, text.shape[1], 2, self.heads, head)
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class TextBlock(nn.Module):
    """Self-attention, cross-attention to the caption, feed-forward; with a mask, DTR's block."""

    def __init__(self, width: int, text_width: int, heads: int, *, adaln_chunks: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.cross_attn = CrossAttention(width, text_width, heads)
        self.mlp = FeedForward(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, adaln_chunks * width))
        self.adaln_chunks = adaln_chunks

    def forward(
        self, z: Tensor, c: Tensor, text: Tensor, masks: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Eq. 8 with u = m z: y = u + SA(u), y = y + CA(y), z_out = y + FFN(y) + (1 - m) z.

        z: [B, N, C] residual stream; c: [B, C] timestep; text: [B, T, W]; masks as in `dit.Block`.
        """
        u = z if masks is None else z * masks[0]
        parts = self.adaLN_modulation(c).unsqueeze(1).chunk(self.adaln_chunks, dim=-1)
        shift, scale, gate = parts[:3]
        u = u + gate * self.attn(modulate(u, shift, scale))
        shift, scale, gate = parts[3:6] if self.adaln_chunks == 9 else PLAIN
        u = u + gate * self.cross_attn(modulate(u, shift, scale), text)
        shift, scale, gate = parts[-3:]
        u = u + gate * self.mlp(modulate(u, shift, scale))
        return u if masks is None else torch.addcmul(u, z, masks[1])


class DiTText(nn.Module):
    """Diffusion transformer over latents, conditioned on the tokens of a frozen text encoder."""

    shares_timestep = True

    def __init__(
        self, settings: TextDiTSize, inputs: Inputs, routing: PartSettings, *, num_timesteps: int
    ) -> None:
        super().__init__()
        width, patch = settings.width, settings.patch_size
        self.settings, self.inputs = settings, inputs
        self.num_classes = inputs.num_classes
        self.x_embedder = PatchEmbedding(inputs.in_channels, patch, width)
        self.t_embedder = TimestepEmbedding(width)
        positions = sincos_positions(width, inputs.input_size // patch)
        # A parameter, though never trained, as in the class-conditional model.
        self.pos_embed = nn.Parameter(positions[None], requires_grad=False)
        self.blocks = nn.ModuleList(
            TextBlock(width, inputs.text_width, settings.heads, adaln_chunks=settings.adaln_chunks)
            for _ in range(settings.depth)
        )
        self.final_layer = FinalLayer(width, patch * patch * 2 * inputs.in_channels)
        # Filled once, with the encoding of the empty caption, before training; then it travels
        # with the weights. Not a number until then: a model nobody filled must not look trained.
        unknown = torch.full((inputs.text_tokens, inputs.text_width), torch.nan)
        self.register_buffer("null_tokens", unknown)
        self.routing = build_routing(
            routing,
            num_layers=settings.depth,
            num_timesteps=num_timesteps,
            num_channels=width,
        )
        initialise(self)
        if settings.adaln_chunks == 6:  # no gate: its output map has to start at zero instead
            for block in self.blocks:
                nn.init.zeros_(block.cross_attn.proj.weight)

    def null_condition(self, y: Tensor) -> Tensor:
        """The empty caption in place of every caption of y: [B, T, W] -> [B, T, W]."""
        return self.null_tokens.expand_as(y)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicted noise and v: [B, 2C, H, W].

        x: [B, C, H, W]; t: [B] int64; y: [B, T, W] float32 encoded captions.
        """
        z = self.x_embedder(x) + self.pos_embed
        c = self.t_embedder(t)
        masks = [None] * len(self.blocks) if self.routing is None else self.routing(t)
        for block, mask in zip(self.blocks, masks, strict=True):
            z = block(z, c, y, mask)
        return unpatchify(self.final_layer(z, c), self.settings.patch_size)
