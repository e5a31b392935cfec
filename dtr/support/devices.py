"""Whether the device that a job is told to use is there."""

from dtr.support.errors import Refusal


def check_device(device: str) -> None:
    """Refuse "cuda" where torch was built without it or finds no GPU; call it before loading."""
    if device == "cpu":
        return
    import torch

    if not torch.backends.cuda.is_built():
        raise Refusal(f"device = {device}: this build of torch has no CUDA; accepted here: cpu")
    if not torch.cuda.is_available():
        raise Refusal(f"device = {device}: this machine has no CUDA device; accepted here: cpu")
