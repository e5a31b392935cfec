"""The means a training is carried out by: none of them is part of what it is, nor of its records'
identity. They change sums by rounding at most, but for the source of its noise, which is recorded.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dtr.backbones.dropout import ImageDropout, dropouts_of
from dtr.support.errors import Refusal

Parts = Literal["nothing", "blocks"]
GRAPHS = "blocks-reduce-overhead"  # torch's name of compiling into CUDA graphs
Compiled = Literal["nothing", "blocks", "blocks-reduce-overhead"]
Format = Literal["contiguous", "channels_last"]


@dataclass(frozen=True)
class Means:
    """What `execution` of a scale says about the inside of a training process."""

    rng: Literal["auto", "host", "device"] = "auto"  # where noise is drawn; of a CPU on the host
    ahead: int | None = None  # batches made ahead of time; None: none on a CPU
    compile: Compiled = "nothing"  # each block of the network by itself
    recompute: Parts = "nothing"  # activations inside of blocks, in the backward pass
    attention: Literal["fast", "ordered"] = "fast"  # ordered: a GPU's sums always in one order
    memory_format: Format = "contiguous"  # of the images inside a network


MEANS = Means()


def prepare(
    model: nn.Module, means: Means, rng: str, *, device: str = "cpu", accumulation: int = 1
) -> None:
    """Compile the blocks of a network, or have them computed again, as `means` say.

    `rng`: of the feed. Dropout from generators cannot be drawn twice.  accumulation: portions of a
    batch, of which CUDA graphs take one.
    """
    if means.attention == "ordered":
        fix_order()
    if means.memory_format == "channels_last":
        _channels_last(model)
    compiled, recomputed = means.compile != "nothing", means.recompute == "blocks"
    if means.compile == GRAPHS:
        _check_graphs(device, recomputed, accumulation)
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
    options = {"mode": "reduce-overhead"} if means.compile == GRAPHS else {}
    for block in blocks:
        inner = block.forward
        if compiled:
            inner = torch.compile(inner, dynamic=False, **options)
        block.forward = _recomputed(inner) if recomputed else inner


def _check_graphs(device: str, recomputed: bool, accumulation: int) -> None:
    """Refuse CUDA graphs where there are none, or where one replay would spoil another's results.

    A graph writes to the same memory whenever it is replayed: over the gradients of the portion
    before, and in the midst of a backward pass that computes activations again.
    """
    if not device.startswith("cuda"):
        trouble = f"{device} has no CUDA graphs; accepted: nothing, blocks"
    elif recomputed:
        trouble = "accepted with execution.recompute = nothing"
    elif accumulation > 1:
        trouble = f"accumulation = {accumulation}; accepted: 1"
    else:
        return
    raise Refusal(f"execution.compile = {GRAPHS}: {trouble}")


def _channels_last(model: nn.Module) -> None:
    """Have each convolution of images take, and so give, their channels side by side.

    The weights stay as they are, and with them gradients, moments, checkpoints and exports.
    """

    def laid_out(_layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(value.contiguous(memory_format=torch.channels_last) for value in given)

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_pre_hook(laid_out)


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
