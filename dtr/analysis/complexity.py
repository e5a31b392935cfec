"""Cost of any DiT, and of the paper's (Tables 3, 6 and 7): multiply-adds, parameters, closed form.

The paper's "GFLOPs" count a multiply-add once, like the DiT paper's, for one latent of 4 x 32 x 32
and one forward pass without guidance. Free of torch: the report needs these numbers quickly.
"""

from dataclasses import dataclass

from dtr.config.backbones import DiTSize, Inputs

SIDE, IN_CHANNELS, PATCH, FREQUENCIES = 32, 4, 2, 256
TOKENS = (SIDE // PATCH) ** 2


@dataclass(frozen=True)
class Preset:
    """A DiT size of the paper, with the value its table prints for it (None: not printed)."""

    depth: int
    width: int
    heads: int
    printed_gflops: float | None
    printed_gflops_dtr: float | None


PRESETS = {
    "DiT-S/2": Preset(12, 384, 6, printed_gflops=6.06, printed_gflops_dtr=6.06),
    "DiT-B/2": Preset(12, 768, 12, printed_gflops=23.01, printed_gflops_dtr=23.02),
    "DiT-L/2": Preset(24, 1024, 16, printed_gflops=80.71, printed_gflops_dtr=80.73),
    "DiT-XL/2": Preset(28, 1152, 16, printed_gflops=118.64, printed_gflops_dtr=None),
}


def dit_macs(size: DiTSize, inputs: Inputs) -> int:
    """Multiply-adds of all matrix products of one forward pass for one image, of any DiT.

    A text-conditional one attends to its caption beside; routing adds none.
    """
    n, c = _tokens(size, inputs), size.width
    chunks = getattr(size, "adaln_chunks", 6)
    block = 12 * n * c**2 + 2 * n**2 * c + chunks * c**2
    if inputs.text_tokens is not None:
        t, w = inputs.text_tokens, inputs.text_width
        block += 2 * n * c**2 + 2 * t * w * c + 2 * n * t * c
    values = size.patch_size**2 * inputs.in_channels
    patch = values * n * c
    timestep = FREQUENCIES * c + c**2
    final = 2 * c**2 + 2 * values * n * c
    return size.depth * block + patch + timestep + final


def dit_parameters(size: DiTSize, inputs: Inputs) -> int:
    """Parameters of any DiT, the fixed position table among them; routing adds none."""
    c, chunks = size.width, getattr(size, "adaln_chunks", 6)
    block = 4 * (c * c + c) + (8 * c * c + 5 * c) + chunks * (c * c + c)
    told = (inputs.num_classes + (inputs.label_dropout > 0)) * c
    if inputs.text_tokens is not None:
        block += 2 * (c * c + c) + 2 * (inputs.text_width * c + c)
        told = 0
    values = size.patch_size**2 * inputs.in_channels
    patch = values * c + c
    timestep = (FREQUENCIES * c + c) + (c * c + c)
    final = 2 * (c * c + c) + 2 * (c * values + values)
    return size.depth * block + patch + timestep + told + final + _tokens(size, inputs) * c


def _tokens(size: DiTSize, inputs: Inputs) -> int:
    return (inputs.input_size // size.patch_size) ** 2


def matmul_macs(preset: str) -> int:
    """Multiply-adds of all matrix products of one forward pass of a size of the paper."""
    return dit_macs(*_paper_network(preset, num_classes=1))


def _paper_network(preset: str, *, num_classes: int) -> tuple[DiTSize, Inputs]:
    """A size of the paper, and its inputs: latents of 4 x 32 x 32, dropped labels if any."""
    own = PRESETS[preset]
    size = DiTSize(type="dit", patch_size=PATCH, width=own.width, depth=own.depth, heads=own.heads)
    inputs = Inputs(
        input_size=SIDE,
        in_channels=IN_CHANNELS,
        num_classes=num_classes,
        label_dropout=0.1 if num_classes > 1 else 0.0,
    )
    return size, inputs


def paper_gflops(preset: str, routed: bool) -> float:
    """10^9 operations as the paper prints them.

    Matrix products, one operation per LayerNorm output and, with DTR, three per block input
    (mask, complement, sum): a rule that reproduces all seven printed values to two decimals.
    """
    size = PRESETS[preset]
    elements = TOKENS * size.width
    norms = (2 * size.depth + 1) * elements
    masks = 3 * size.depth * elements if routed else 0
    return (matmul_macs(preset) + norms + masks) / 1e9


def parameter_count(preset: str, *, num_classes: int = 1000, trainable: bool = True) -> int:
    """Parameters of the model; with dropped labels for num_classes > 1. DTR adds none.

    trainable: leave out the fixed position table, as the paper's counts do.
    """
    size, inputs = _paper_network(preset, num_classes=num_classes)
    positions = TOKENS * size.width if trainable else 0
    return dit_parameters(size, inputs) - positions
