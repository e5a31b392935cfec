"""The state of a training run and how one step changes it."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtr.backbones.dropout import ImageDropout
from dtr.backbones.masks import ChannelMasks
from dtr.config.stages import RunSettings
from dtr.data.batches import draw_batch
from dtr.data.rows import TrainingData
from dtr.registry import part_identity
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.training.core import Objective, learning_rate
from dtr.training.distributed import World


class Trainer:
    """The state of a run: what a checkpoint holds, and how one step changes it."""

    def __init__(
        self,
        settings: RunSettings,
        data: TrainingData,
        world: World,
        *,
        accumulation: int = 1,
    ) -> None:
        self.settings, self.data = settings, data
        self.world, self.accumulation = world, accumulation
        self._portion_size()  # refuses a batch that cannot be cut before anything is built
        self.step = 0
        self.seconds = 0.0  # spent so far, over all starts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.objective = Objective(settings).to(world.device)
        self.model, self.weighting = self.objective.model, self.objective.weighting
        self.parts = identities(settings, self.model.routing)
        self.fingerprint = settings.fingerprint(data.manifest["content_hash"], self.parts)
        if data.tokens is not None:
            self.model.null_tokens.copy_(torch.from_numpy(data.null_tokens.copy()))
        self.routed = [m for m in self.model.modules() if isinstance(m, ChannelMasks)]
        self.dropouts = [m for m in self.model.modules() if isinstance(m, ImageDropout)]
        training = settings.training
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [{"params": trained, "weight_decay": training.weight_decay}]
        if own := list(self.weighting.parameters()):
            groups.append({"params": own, "lr": _own_rate(settings)})
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=training.learning_rate,
            betas=training.adam_betas,
            weight_decay=0.0,
            fused=True,
        )
        # A copy of the initial weights, over all named parameters; buffers are not averaged.
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.parallel = world.wrap(self.objective)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly here."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "fingerprint": self.fingerprint,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        self.model.load_state_dict(state["model"])
        self.ema = state["ema"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        self.step, self.seconds = state["step"], state["seconds"]

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """This process's part of x0, timesteps, labels and noise of the current step."""
        part = self.world.slice_of(self.settings.training.batch_size)
        batch = draw_batch(self.data, self.settings, self.weighting.rule, self.step, part)
        x0, t, y, noise = (torch.from_numpy(values).to(self.world.device) for values in batch)
        return x0, t, y, noise

    def portions(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The batch of the current step in `accumulation` equal portions, with their dropout."""
        size, seeds = self._portion_size(), self._dropout_seeds()
        for number, portion in enumerate(zip(*(v.split(size) for v in self.batch()), strict=True)):
            own = seeds[number * size : (number + 1) * size] if self.dropouts else ()
            streams = [torch.Generator(self.world.device).manual_seed(int(seed)) for seed in own]
            for dropout in self.dropouts:
                dropout.streams = streams
            yield portion

    def _portion_size(self) -> int:
        part = self.world.slice_of(self.settings.training.batch_size)
        images, count = part.stop - part.start, self.accumulation
        if count < 1 or images % count:
            raise Refusal(f"accumulation = {count}: must divide the {images} images of a process")
        return images // count

    def _dropout_seeds(self) -> np.ndarray:
        """Of this process's images in the current step: [B] int64, wherever they are computed."""
        size = self.settings.training.batch_size
        draws = generator(self.settings.seed, "dropout", self.step)
        return draws.integers(2**62, size=size)[self.world.slice_of(size)]

    def train_step(self) -> Tensor:
        """One optimiser step and EMA update; returns [loss, mean mse, mean vb]."""
        training = self.settings.training
        self.optimizer.param_groups[0]["lr"] = learning_rate(training, self.step)
        # Before the forward pass, so that old gradients do not lie beside its activations.
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(3, device=self.world.device)
        for number, portion in enumerate(self.portions(), start=1):
            with self.world.adding_up(self.parallel, more=number < self.accumulation):
                values = self.parallel(*portion) / self.accumulation
                values[0].backward()
            total += values.detach()
        self.optimizer.step()
        parameters = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.ema.values()), parameters, 1 - training.ema_decay)
        self.step += 1
        for masks in self.routed:
            masks.after_step(self.step)
        return total

    def finite(self) -> bool:
        """Whether the averaged weights are numbers."""
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.ema.values())

    def log_entry(self, values: Tensor, rate: float) -> dict[str, float]:
        """One line of the training log; values: [loss, mse, vb]."""
        entry = {
            "step": self.step,
            **dict(zip(("loss", "mse", "vb"), values.tolist(), strict=True)),
        }
        # A network with masks of several widths logs their mean.
        progress = [values for masks in self.routed if (values := masks.progress())]
        for name in progress[0] if progress else ():
            entry[name] = fmean(values[name] for values in progress)
        for name, parameter in self.weighting.named_parameters():
            entry[name] = parameter.detach().tolist()
        return entry | {"rate": rate}


def _own_rate(settings: RunSettings) -> float:
    """Learning rate of a weighting's own parameters."""
    rate = getattr(settings.weighting, "learning_rate", None)
    if rate is None:
        kind = settings.weighting.type
        raise Refusal(f"weighting {kind!r}: has parameters, but no `learning_rate` in its settings")
    return rate


def identities(settings: RunSettings, routing: Any) -> dict[str, str]:
    """What identifies the parts of a run whose settings do not say everything, by family."""
    parts = {} if routing is None else {"routing": routing.hash()}
    for family in ("weighting", "backbone"):
        if (identity := part_identity(family, getattr(settings, family).type)) is not None:
            parts[family] = identity
    return parts
