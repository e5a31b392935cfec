"""One run on several devices: the global batch is split by index, numbers stay the same.

Started by torchrun, which sets RANK, WORLD_SIZE and LOCAL_RANK; without it there is one process.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dtr.support.errors import Refusal


@dataclass(frozen=True)
class World:
    """The processes that train one run together; `rank` 0 keeps the files."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        return self.rank == 0

    def slice_of(self, batch_size: int) -> slice:
        """This process's part of the global batch; every part has the same size."""
        if batch_size % self.size:
            raise Refusal(
                f"training.batch_size = {batch_size}: not divisible by {self.size} processes"
            )
        part = batch_size // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Average the gradients of `module` over the processes."""
        if self.size == 1:
            return module
        devices = [self.device] if self.device.startswith("cuda") else None
        # Buffers (masks) are equal everywhere because they are functions of seeds.
        return nn.parallel.DistributedDataParallel(
            module, device_ids=devices, broadcast_buffers=False
        )

    def adding_up(self, module: nn.Module, *, more: bool) -> AbstractContextManager:
        """Where backward passes of a wrapped module run; with `more` to come, nothing is sent."""
        return module.no_sync() if more and self.size > 1 else nullcontext()

    def mean(self, values: Tensor) -> Tensor:
        """Mean of `values` over the processes, the same on each of them."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.size
        return values

    def agreed(self, decision: bool) -> bool:
        """Whether any process decided so, that all stop or go on together; waits for all."""
        return self.highest(int(decision)) > 0

    def highest(self, value: int) -> int:
        """The largest `value` of all processes, the same on each of them; waits for all."""
        if self.size == 1:
            return value
        values = torch.tensor(value, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; a world of one otherwise."""
    rank, size, local = _place()
    if size == 1:
        yield World(device=device)
        return
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise Refusal(
                f"LOCAL_RANK = {local}: this machine has {torch.cuda.device_count()} CUDA devices, "
                "one for a process"
            )
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    try:
        dist.init_process_group("gloo" if device == "cpu" else "nccl")
    except dist.DistError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise Refusal(f"MASTER_ADDR:MASTER_PORT = {place}: no meeting there ({reason})") from None
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


def _place() -> tuple[int, int, int]:
    """(rank, size, rank on this machine) as the launcher set them; half a launcher is refused."""
    size = _number("WORLD_SIZE", at_least=1)
    if size is None:
        return 0, 1, 0
    rank, local = _number("RANK"), _number("LOCAL_RANK")
    if rank is not None and rank >= size:
        raise Refusal(f"RANK = {rank}: accepted are 0 to {size - 1}, as WORLD_SIZE = {size}")
    if size == 1:
        return 0, 1, 0
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise Refusal(
                f"{name}: not set, although WORLD_SIZE = {size}; start the processes by torchrun, "
                "or unset WORLD_SIZE to train in one"
            )
    _number("MASTER_PORT", at_least=1)
    return rank, size, local


def _number(name: str, *, at_least: int = 0) -> int | None:
    """A variable of the launcher as a whole number; None where it is not set."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < at_least:
        raise Refusal(f"{name} = {text!r}: accepted is a whole number from {at_least}")
    return int(text)
