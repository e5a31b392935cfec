"""Cost of the paper's DiT sizes (Tables 3, 6 and 7): multiply-adds and parameters, closed form.

The paper's "GFLOPs" count a multiply-add once, like the DiT paper's, for one latent of 4 x 32 x 32
and one forward pass without guidance. Free of torch: the report needs these numbers quickly.
"""

from dataclasses import dataclass

TOKENS = 256  # 32 x 32 latent pixels in patches of 2
IN_CHANNELS, PATCH, FREQUENCIES = 4, 2, 256


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


def matmul_macs(preset: str) -> int:
    """Multiply-adds of all matrix products of one forward pass."""
    size = PRESETS[preset]
    n, c = TOKENS, size.width
    block = 12 * n * c**2 + 2 * n**2 * c + 6 * c**2
    patch = PATCH**2 * IN_CHANNELS * n * c
    timestep = FREQUENCIES * c + c**2
    final = 2 * c**2 + 2 * PATCH**2 * IN_CHANNELS * n * c
    return size.depth * block + patch + timestep + final


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
    size = PRESETS[preset]
    c = size.width
    block = 4 * (c * c + c) + (8 * c * c + 5 * c) + 6 * (c * c + c)
    patch = PATCH**2 * IN_CHANNELS * c + c
    timestep = (FREQUENCIES * c + c) + (c * c + c)
    labels = (num_classes + (num_classes > 1)) * c
    outputs = 2 * PATCH**2 * IN_CHANNELS
    final = 2 * (c * c + c) + c * outputs + outputs
    positions = 0 if trainable else TOKENS * c
    return size.depth * block + patch + timestep + labels + final + positions
