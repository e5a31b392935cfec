"""Multiply-adds and parameters of the network of a run: closed form, or counted without numbers."""

from functools import cache
from typing import NamedTuple

from dtr.analysis.complexity import dit_macs, dit_parameters
from dtr.config.backbones import BackboneSize, DiTSize, Inputs
from dtr.support.errors import Refusal


class Network(NamedTuple):
    """What one network takes: `macs` multiply-adds per image and forward pass, `parameters`."""

    macs: int
    parameters: int


def count_network(size: BackboneSize, inputs: Inputs) -> Network:
    """The cost of an unrouted network; masks add elementwise products only, which nobody counts."""
    if size.type in ("dit", "dit_text") and isinstance(size, DiTSize):
        return Network(dit_macs(size, inputs), dit_parameters(size, inputs))
    return _counted(type(size), size.model_dump_json(), inputs.model_dump_json())


@cache
def _counted(kind: type[BackboneSize], size: str, inputs: str) -> Network:
    """Settings as JSON, because they are not hashable."""
    return run_through(kind.model_validate_json(size), Inputs.model_validate_json(inputs))


def run_through(size: BackboneSize, inputs: Inputs) -> Network:
    """Build the network and count one forward pass of one image, on the device without memory.

    A backbone from outside that cannot be computed there is computed on the CPU.
    """
    try:
        return _run_through(size, inputs, "meta")
    except (NotImplementedError, RuntimeError):
        pass
    try:
        return _run_through(size, inputs, "cpu")
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"backbone {size.type!r}: one forward pass failed ({reason})") from None


def _run_through(size: BackboneSize, inputs: Inputs, device: str) -> Network:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from dtr.backbones.build import build_backbone
    from dtr.routing import Unrouted

    with torch.device(device):
        model = build_backbone(size, inputs, Unrouted(type="none")).to(device).eval()
        x, t = torch.zeros(1, *inputs.shape), torch.zeros(1, dtype=torch.int64)
        y = (
            t
            if inputs.text_tokens is None
            else torch.zeros(1, inputs.text_tokens, inputs.text_width)
        )
    # Attention as matrix products: the counter does not see through all fused kernels.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(x, t, y)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Network(counter.get_total_flops() // 2, parameters)  # it counts both of a multiply-add
