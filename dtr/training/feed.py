"""What a training step is fed with: batches read and drawn ahead of time, noise where it is used.

Every batch is a function of (seed, step), so that nothing is lost when a process is killed with
some of them ready, and a feed may be asked for any step.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dtr.backbones.dropout import ImageStreams
from dtr.config.stages import RunSettings
from dtr.data.batches import draw_batch, draw_rows
from dtr.data.rows import TrainingData
from dtr.seeding import epoch_permutation, generator
from dtr.support.philox import normal
from dtr.training.distributed import World
from dtr.weighting import Weighting

AHEAD = 4  # batches, where the device is not the CPU
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]  # x0, t, y, noise


class Ahead:
    """Results of `make(step)`, of up to `count` steps after the one that is asked for.

    One thread makes them in order; with `count` 0 there is none, and no step but the asked one.
    """

    def __init__(self, make: Callable[[int], tuple[Tensor, ...]], count: int) -> None:
        self._make, self._count = make, count
        self._pool = ThreadPoolExecutor(1, "feed") if count else None
        self._ready: dict[int, Future] = {}

    def at(self, step: int) -> tuple[Tensor, ...]:
        """The result of `step`; an error of the thread is raised here."""
        if self._pool is None:
            return self._make(step)
        wanted = range(step, step + self._count + 1)
        for other in [number for number in self._ready if number not in wanted]:
            self._ready.pop(other).cancel()
        for number in wanted:
            if number not in self._ready:
                self._ready[number] = self._pool.submit(self._make, number)
        return self._ready.pop(step).result()


class HostFeed:
    """Batches drawn on the host as a whole: the same numbers on every kind of device."""

    rng = "host"

    def __init__(
        self,
        data: TrainingData,
        settings: RunSettings,
        weighting: Weighting,
        world: World,
        *,
        ahead: int | None = None,
    ) -> None:
        self.data, self.settings, self.weighting = data, settings, weighting
        self.world, self.device = world, torch.device(world.device)
        self.size = settings.training.batch_size
        self.part = world.slice_of(self.size)
        # On a CPU the thread would take the time it saves from the step.
        count = ahead if ahead is not None else 0 if self.device.type == "cpu" else AHEAD
        self._ahead = Ahead(self._made, count)
        self._orders = ThreadPoolExecutor(1, "order") if count else None

    def batch(self, step: int) -> Inputs:
        """This process's part of x0, timesteps, conditions and noise of a step, on the device."""
        return self._moved(step)

    def dropout(self, step: int, portion: slice) -> list[torch.Generator] | ImageStreams:
        """The streams of dropout of the images `portion` of this process's part of a step."""
        draws = generator(self.settings.seed, "dropout", step)
        seeds = draws.integers(2**62, size=self.size)[self.part][portion]
        return [torch.Generator(self.device).manual_seed(int(seed)) for seed in seeds]

    def _moved(self, step: int) -> tuple[Tensor, ...]:
        values = self._ahead.at(step)
        return tuple(value.to(self.device, non_blocking=True) for value in values)

    def _made(self, step: int) -> tuple[Tensor, ...]:
        self._order_ahead(step)
        arrays = self._drawn(step)
        tensors = tuple(torch.from_numpy(values) for values in arrays)
        if self.device.type == "cuda":
            return tuple(tensor.pin_memory() for tensor in tensors)
        return tensors

    def _drawn(self, step: int) -> tuple[np.ndarray, ...]:
        return draw_batch(self.data, self.settings, self.weighting, step, self.part)

    def _order_ahead(self, step: int) -> None:
        """Have the next epoch's order made when half of this one has gone by."""
        epoch, position = divmod(step, len(self.data) // self.size)
        if self._orders is not None and position == len(self.data) // self.size // 2:
            self._orders.submit(epoch_permutation, self.settings.seed, epoch + 1, len(self.data))


class DeviceFeed(HostFeed):
    """Rows, timesteps and conditions from the host; noise made on the device where it is used.

    Each image has counters of its own, so that the numbers of a batch do not depend on how it is
    cut over processes; between kinds of devices they agree to rounding.
    """

    rng = "device"

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.numbers = torch.arange(self.part.start, self.part.stop, device=self.device)

    def batch(self, step: int) -> Inputs:
        stored, t, y, keys = self._moved(step)
        shape = self.settings.inputs.shape
        noise, posterior = (
            normal(key.expand(len(t), 4), self.numbers, shape) if needed else None
            for key, needed in ((keys[0], True), (keys[1], self.data.noisy))
        )
        self._keys = (step, keys)
        return self.data.learned(stored, posterior), t, y, noise

    def dropout(self, step: int, portion: slice) -> ImageStreams:
        """The same for the step whose batch was made last, whose keys are on the device."""
        made, keys = self._keys
        if made != step:
            raise ValueError(f"dropout of step {step} is asked for after the batch of step {made}")
        numbers = self.numbers[portion]
        return ImageStreams(keys[2].expand(len(numbers), 4), numbers)

    def _drawn(self, step: int) -> tuple[np.ndarray, ...]:
        return draw_rows(self.data, self.settings, self.weighting, step, self.part)


FEEDS = {"host": HostFeed, "device": DeviceFeed}


def build_feed(
    data: TrainingData,
    settings: RunSettings,
    weighting: Weighting,
    world: World,
    *,
    rng: Literal["auto", "host", "device"] = "auto",
    ahead: int | None = None,
) -> HostFeed:
    """The feed of a training; `rng` "auto": noise is drawn on the device, of a CPU on the host."""
    if rng == "auto":
        rng = "host" if world.device == "cpu" else "device"
    return FEEDS[rng](data, settings, weighting, world, ahead=ahead)
