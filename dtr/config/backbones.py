"""Sizes of the networks, and what they are told about images. Free of torch."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dtr.support.errors import Refusal
from dtr.support.settings import Count, PartSettings, Settings, Share


class Inputs(Settings):
    """What a network is given at one slot, whatever its size."""

    input_size: Count  # side of an image or latent, in its own pixels
    in_channels: Count
    num_classes: Count  # 1: it is told no class
    label_dropout: Share  # of labels or captions; 0: it always knows them
    text_tokens: Count | None = None  # of one encoded caption (CLIP: 77); None: told no caption
    text_width: Count | None = None  # of one of its tokens (CLIP ViT-L/14: 768)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image or latent: (channels, height, width)."""
        return self.in_channels, self.input_size, self.input_size


class BackboneSize(PartSettings):
    """Base of all sizes. A network is built from (size, inputs, routing, num_timesteps)."""

    space: ClassVar[Literal["latent", "pixel"]]  # what it works on
    told: ClassVar[tuple[str, ...]] = ("none", "class")  # what it can be told about an image

    @property
    def channels(self) -> int:
        """Channels that the widest mask covers."""
        raise Refusal(f"backbone {self.type!r}: its settings have no `channels`")

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        if getattr(cls, "space", None) not in ("latent", "pixel"):
            raise TypeError(f"{cls.__name__}: `space` is missing; accepted: 'latent', 'pixel'")

    def misfit(self, inputs: Inputs) -> str | None:
        """Why a network of this size cannot take the inputs, or None if it can."""
        return None


class DiTSize(BackboneSize):
    """Size of a transformer preset; `patch_size` in latent pixels."""

    space: ClassVar = "latent"

    type: Literal["dit"]
    patch_size: Count
    width: Count
    depth: Count
    heads: Count

    @property
    def channels(self) -> int:
        """Channels that a mask covers."""
        return self.width

    def misfit(self, inputs: Inputs) -> str | None:
        if inputs.input_size % self.patch_size:
            return (
                f"patch_size = {self.patch_size}: does not divide the {inputs.input_size} "
                "latent pixels"
            )
        return None

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads or self.width % 4:
            raise ValueError(
                f"width {self.width} must be divisible by heads ({self.heads}) and by 4"
            )
        return self


class TextDiTSize(DiTSize):
    """Size of a text-conditional preset, with the choice that the paper leaves open."""

    told: ClassVar = ("text",)

    type: Literal["dit_text"]
    # 9: cross-attention has shift, scale and gate as self-attention has; 6: it is plain pre-LN.
    # The paper says "same structural design", which is read as 9.
    adaln_chunks: Literal[9, 6] = 9


class AdmSize(BackboneSize):
    """Size of a U-Net preset; ADM at ImageNet-64 has the values named in the comments."""

    space: ClassVar = "pixel"

    type: Literal["adm"]
    model_channels: Count  # 192; width of the first level
    channel_mult: Annotated[list[Count], Field(min_length=1)]  # [1, 2, 3, 4], one per level
    num_res_blocks: Count  # 3 per level on the way down, one more on the way up
    attention_downsampling: list[Count]  # [2, 4, 8]: levels with attention, 1 = full resolution
    num_head_channels: Count  # 64
    dropout: Share  # 0.1, inside the residual blocks
    norm_groups: Count = 32
    # Which GroupNorms a mask follows; the alternatives read appendix A.1 differently. The second
    # norm of a residual block is masked before the timestep's scale and shift.
    mask_place: Literal["first_norms", "both_norms", "plain_blocks_only"] = "first_norms"
    # Rows of qkv: q, k and v, each of all heads (ADM's "new attention order", at ImageNet-64),
    # or heads, each with its q, k and v (the default of ADM's scripts).
    # Not written where it is the default: it is newer than the fingerprints of trained networks.
    attention_order: Literal["qkv_first", "heads_first"] = Field(
        default="qkv_first", exclude_if=lambda order: order == "qkv_first"
    )

    @property
    def channels(self) -> int:
        """Channels that the widest mask covers: the last level's, joined with its skip."""
        return 2 * self.model_channels * self.channel_mult[-1]

    def misfit(self, inputs: Inputs) -> str | None:
        factor = 2 ** (len(self.channel_mult) - 1)
        if inputs.input_size % factor:
            return f"input_size {inputs.input_size} must be divisible by {factor}"
        return None

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        widths = [self.model_channels * mult for mult in self.channel_mult]
        factors = [2**level for level in range(len(widths))]
        if self.model_channels % 2:
            raise ValueError(f"model_channels {self.model_channels} must be even")
        for width in widths:
            if width % self.norm_groups:
                raise ValueError(f"width {width} must be divisible by norm_groups")
        for factor in self.attention_downsampling:
            if factor not in factors:
                raise ValueError(f"attention_downsampling {factor} is no level; levels: {factors}")
        # The middle block, as wide as the last level, always attends.
        for factor, width in zip(factors, widths, strict=True):
            attends = factor in self.attention_downsampling or factor == factors[-1]
            if attends and width % self.num_head_channels:
                raise ValueError(f"width {width} must be divisible by num_head_channels")
        return self
