"""The means a training is carried out by: none of them is part of what it is, nor of its records'
identity. They change sums by rounding at most, but for the source of its noise, which is recorded.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dtr.backbones.dropout import ImageDropout, dropouts_of
from dtr.support.errors import Refusal

Parts = Literal["nothing", "blocks"]


@dataclass(frozen=True)
class Means:
    """What `execution` of a scale says about the inside of a training process."""

    rng: Literal["auto", "host", "device"] = "auto"  # where noise is drawn; of a CPU on the host
    ahead: int | None = None  # batches made ahead of time; None: none on a CPU
    compile: Parts = "nothing"  # each block of the network by itself
    recompute: Parts = "nothing"  # activations inside of blocks, in the backward pass
    attention: Literal["fast", "ordered"] = "fast"  # ordered: a GPU's sums always in one order


MEANS = Means()


def prepare(model: nn.Module, means: Means, rng: str) -> None:
    """Compile the blocks of a network, or have them computed again, as `means` say.

    `rng`: of the feed. Dropout from generators cannot be drawn twice.
    """
    if means.attention == "ordered":
        fix_order()
    compiled, recomputed = means.compile == "blocks", means.recompute == "blocks"
    if not (compiled or recomputed):
        return
    blocks = list(getattr(model, "blocks", ()))
    if not blocks:
        raise Refusal(
            f"{type(model).__name__}: has no `blocks`; execution.compile and execution.recompute "
            "are of networks that have"
        )
    drops = any(isinstance(m, ImageDropout) and m.share > 0 for m in model.modules())
    if drops and rng == "host" and recomputed:
        raise Refusal(
            "execution.recompute = blocks: dropout drawn on the host cannot be drawn twice; "
            "accepted with execution.rng = device"
        )
    if compiled:
        _ready_to_compile(model, len(blocks))
    for block in blocks:
        inner = torch.compile(block.forward, dynamic=False) if compiled else block.forward
        block.forward = _recomputed(inner) if recomputed else inner


def _ready_to_compile(model: nn.Module, blocks: int) -> None:
    """Let every block have a version of its own, and keep random words out of what is compiled.

    Compilers hold a range of numbers in 32 bits, where those words need 64; they have a kernel of
    their own (`dtr.support.philox`).
    """
    from torch import _dynamo

    limit = "recompile_limit" if hasattr(_dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(_dynamo.config, limit, max(getattr(_dynamo.config, limit), 2 * blocks))
    for dropout in dropouts_of(model):
        dropout.forward = torch.compiler.disable(dropout.forward)


def _recomputed(inner: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*arguments: Any) -> Any:
        if not torch.is_grad_enabled():
            return inner(*arguments)
        # No state of a generator is kept: blocks draw nothing but what their streams say.
        return checkpoint(inner, *arguments, use_reentrant=False, preserve_rng_state=False)

    return forward


def fix_order() -> None:
    """Have this process add up in a fixed order, so that a GPU repeats its results bit for bit.

    The fast kernels of attention add gradients in the order in which their blocks end, which
    deterministic algorithms alone do not change: they are switched off.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS first starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    for kernel in ("flash", "mem_efficient", "cudnn"):
        getattr(torch.backends.cuda, f"enable_{kernel}_sdp")(False)
