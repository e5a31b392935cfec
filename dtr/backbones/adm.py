"""ADM's U-Net (Dhariwal & Nichol 2021) at its ImageNet-64 options, with task routing.

Parameters carry the names of ADM's release. The paper's own U-Net was not released; appendix A.1
puts the mask "right after the group normalization layer". Read here as m * GN(x) at the norm of a
block's input: the first of every residual block and the one of every attention block.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dtr.backbones.adm_blocks import (
    AttentionBlock,
    Norm,
    ResBlock,
    Stage,
    timestep_features,
    zeroed,
)
from dtr.backbones.labels import null_labels
from dtr.backbones.masks import build_routing
from dtr.config.backbones import AdmSize, Inputs
from dtr.seeding import generator
from dtr.support.settings import PartSettings


class WidthMasks(nn.Module):
    """One mask table per distinct width: the window is a share of the channels it slides over."""

    def __init__(self, settings: PartSettings, widths: list[int], *, num_timesteps: int) -> None:
        super().__init__()
        self.widths = widths
        self.tables = nn.ModuleDict(
            {
                str(width): build_routing(
                    _for_width(settings, width),
                    num_layers=places,
                    num_timesteps=num_timesteps,
                    num_channels=width,
                )
                for width, places in sorted(Counter(widths).items())
            }
        )

    def hash(self) -> str:
        """SHA-256 over the tables of all widths, for the record of a run."""
        text = " ".join(f"{width}:{table.hash()}" for width, table in self.tables.items())
        return hashlib.sha256(text.encode()).hexdigest()

    def forward(self, t: Tensor) -> list[Tensor]:
        """Mask of each place in turn, float32 [B, C, 1, 1]; t: [B] int64."""
        rows = {width: iter(table(t)) for width, table in self.tables.items()}
        return [next(rows[str(width)])[0].view(len(t), width, 1, 1) for width in self.widths]


def _for_width(settings: PartSettings, width: int) -> PartSettings:
    """Masks drawn for different widths are independent: each width has its own seed."""
    if "seed" not in type(settings).model_fields:
        return settings
    seed = int(generator(settings.seed, "width", width).integers(2**62))
    return settings.model_copy(update={"seed": seed})


class ADM(nn.Module):
    """U-Net over pixels; unconditional, with no label table, for one class and no dropout."""

    shares_timestep = True

    def __init__(
        self, settings: AdmSize, inputs: Inputs, routing: PartSettings, *, num_timesteps: int
    ) -> None:
        super().__init__()
        self.settings, self.inputs = settings, inputs
        self.num_classes = inputs.num_classes
        base = settings.model_channels
        self.embedding = 4 * base
        self.time_embed = nn.Sequential(
            nn.Linear(base, self.embedding), nn.SiLU(), nn.Linear(self.embedding, self.embedding)
        )
        rows = inputs.num_classes + (inputs.label_dropout > 0)
        self.label_emb = nn.Embedding(rows, self.embedding) if rows > 1 else None
        self._build_levels()
        width = base * settings.channel_mult[0]
        self.out = nn.Sequential(
            Norm(settings.norm_groups, width),
            nn.SiLU(),
            zeroed(nn.Conv2d(width, 2 * inputs.in_channels, 3, padding=1)),
        )
        self.routing = self._build_routing(routing, num_timesteps)

    @property
    def null_label(self) -> int | None:
        """The label that stands for "no label", None for a model that always knows it."""
        return self.num_classes if self.inputs.label_dropout > 0 else None

    def null_condition(self, y: Tensor) -> Tensor:
        """The null label in place of every label of y: [B] int64."""
        return null_labels(y, self.null_label)

    @property
    def blocks(self) -> list[nn.Module]:
        """Residual and attention blocks, in the order of their names."""
        return [m for m in self.modules() if isinstance(m, ResBlock | AttentionBlock)]

    def _build_levels(self) -> None:
        """Down through the levels, the middle, and up again; each stage up reads one stage down."""
        settings = self.settings
        widths = [settings.model_channels * mult for mult in settings.channel_mult]
        width, last = widths[0], len(widths) - 1
        self.input_blocks = nn.ModuleList(
            [Stage([nn.Conv2d(self.inputs.in_channels, width, 3, padding=1)])]
        )
        skips = [width]
        for level, out in enumerate(widths):
            for _ in range(settings.num_res_blocks):
                blocks = [self._res_block(width, out), *self._attention(level, out)]
                self.input_blocks.append(Stage(blocks))
                width = out
                skips.append(width)
            if level < last:
                self.input_blocks.append(Stage([self._res_block(width, width, "down")]))
                skips.append(width)
        self.middle_block = Stage(
            [
                self._res_block(width, width),
                *self._attention(None, width),
                self._res_block(width, width),
            ]
        )
        self.output_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            out = widths[level]
            for index in range(settings.num_res_blocks + 1):
                joined = self._res_block(width + skips.pop(), out)
                blocks = [joined, *self._attention(level, out)]
                width = out
                if level and index == settings.num_res_blocks:
                    blocks.append(self._res_block(width, width, "up"))
                self.output_blocks.append(Stage(blocks))

    def _res_block(self, channels: int, out_channels: int, resample: str = "same") -> ResBlock:
        return ResBlock(
            channels,
            out_channels,
            self.embedding,
            groups=self.settings.norm_groups,
            dropout=self.settings.dropout,
            resample=resample,
        )

    def _attention(self, level: int | None, width: int) -> list[AttentionBlock]:
        """The attention block of a level that has one; None stands for the middle, which has."""
        settings = self.settings
        if level is not None and 2**level not in settings.attention_downsampling:
            return []
        return [
            AttentionBlock(
                width,
                groups=settings.norm_groups,
                head_channels=settings.num_head_channels,
                order=settings.attention_order,
            )
        ]

    def _build_routing(self, routing: PartSettings, num_timesteps: int) -> WidthMasks | None:
        """Number the masked norms in the order of the forward pass and build their tables."""
        if routing.type == "none":
            return None
        norms = list(self._masked_norms())
        for place, norm in enumerate(norms):
            norm.place = place
        widths = [norm.num_channels for norm in norms]
        return WidthMasks(routing, widths, num_timesteps=num_timesteps)

    def _masked_norms(self) -> Iterator[Norm]:
        where = self.settings.mask_place
        joined = {stage[0] for stage in self.output_blocks}  # their input is [decoder, skip]
        for module in self.modules():
            if isinstance(module, AttentionBlock):
                yield module.norm
            elif isinstance(module, ResBlock):
                if where != "plain_blocks_only" or module not in joined:
                    yield module.in_layers[0]
                if where == "both_norms":
                    yield module.out_layers[0]

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Predicted noise and v for x: [B, C, H, W], t: [B] int64, y: [B] int64; [B, 2C, H, W].

        y is not read by an unconditional model.
        """
        emb = self.time_embed(timestep_features(t, self.settings.model_channels))
        if self.label_emb is not None:
            emb = emb + self.label_emb(y)
        masks = None if self.routing is None else self.routing(t)
        skips = []
        for stage in self.input_blocks:
            x = stage(x, emb, masks)
            skips.append(x)
        x = self.middle_block(x, emb, masks)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), emb, masks)
        return self.out(x)
