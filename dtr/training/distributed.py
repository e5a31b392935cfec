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
        """The decision of the first process, so that all stop or go on together."""
        if self.size == 1:
            return decision
        flag = torch.tensor(int(decision), device=self.device)
        dist.broadcast(flag, src=0)
        return bool(flag)


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started; a world of one otherwise."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device=device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    if device == "cuda":
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()
