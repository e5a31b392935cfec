"""Features to compare."""

import torch

COUNT = 40  # images in the toy dataset


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
