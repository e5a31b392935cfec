"""Whether the device that a job is told to use is there, and which one it is."""

import os
import sys

from dtr.support.errors import Refusal
from dtr.support.gpus import take_gpus


def use_device(device: str, count: int = 1) -> None:
    """Refuse a device that is not there; of GPUs take `count` free ones until the process ends.

    In a process of several it is the launcher that takes them, or whoever called it.
    """
    alone = os.environ.get("WORLD_SIZE", "").strip() in ("", "1")
    taken = None
    if device == "cuda" and alone:
        _refuse_without_cuda(device)
        taken = take_gpus(count)
    check_device(device)
    if taken == []:
        print(
            "nvidia-smi: not found, so other jobs may use the same GPU; CUDA_VISIBLE_DEVICES "
            "names those that jobs share out",
            file=sys.stderr,
        )


def check_device(device: str) -> None:
    """Refuse "cuda" where torch was built without it or finds no GPU; call it before loading."""
    if device == "cpu":
        return
    import torch

    _refuse_without_cuda(device)
    if not torch.cuda.is_available():
        raise Refusal(f"device = {device}: this machine has no CUDA device; accepted here: cpu")
    # Ten bits of mantissa (TF32) are no float32: what may be less exact says so by its precision.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def _refuse_without_cuda(device: str) -> None:
    import torch

    if not torch.backends.cuda.is_built():
        raise Refusal(f"device = {device}: this build of torch has no CUDA; accepted here: cpu")
