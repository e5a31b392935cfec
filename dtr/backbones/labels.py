"""Labels for guidance, the same in every class-conditional network."""

import torch
from torch import Tensor

from dtr.support.errors import Refusal


def null_labels(y: Tensor, null_label: int | None) -> Tensor:
    """The null label in place of every label of y: [B] int64; refused where there is none."""
    if null_label is None:
        raise Refusal(
            "guidance: this model was trained without dropping labels; only 1 is possible"
        )
    return torch.full_like(y, null_label)
