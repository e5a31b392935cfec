"""The state of a training run and how one step changes it."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from dtr.backbones.dropout import dropouts_of
from dtr.backbones.masks import ChannelMasks
from dtr.config.stages import RunSettings
from dtr.data.rows import TrainingData
from dtr.registry import part_identity
from dtr.support.errors import Refusal
from dtr.training.core import Objective, learning_rate
from dtr.training.distributed import World
from dtr.training.feed import build_feed
from dtr.training.means import GRAPHS, MEANS, Means, prepare


class Trainer:
    """The state of a run: what a checkpoint holds, and how one step changes it."""

    def __init__(
        self,
        settings: RunSettings,
        data: TrainingData,
        world: World,
        *,
        accumulation: int = 1,
        means: Means = MEANS,
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
        self.dropouts = dropouts_of(self.model)
        self.feed = build_feed(
            data, settings, self.weighting.rule, world, rng=means.rng, ahead=means.ahead
        )
        self.rng = self.feed.rng
        prepare(
            self.model, means, self.rng, device=self.feed.device.type, accumulation=accumulation
        )
        self.graphs = means.compile == GRAPHS
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
        self.averaged = [p.detach() for p in self.model.parameters()]  # the same memory
        scaled = training.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.feed.device.type, enabled=scaled)
        self.parallel = world.wrap(self.objective)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly here."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizer": self.optimizer.state_dict(),
            "weighting": self.weighting.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rng": self.rng,
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
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.rng = self.feed.rng
        if state["step"] and state.get("rng", "host") != self.rng:
            self.rng = "mixed"
        self.step, self.seconds = state["step"], state["seconds"]

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """This process's part of x0, timesteps, labels and noise of the current step."""
        return self.feed.batch(self.step)

    def portions(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The batch of the current step in `accumulation` equal portions, with their dropout."""
        size = self._portion_size()
        for number, portion in enumerate(zip(*(v.split(size) for v in self.batch()), strict=True)):
            if self.dropouts:
                own = self.feed.dropout(self.step, slice(number * size, (number + 1) * size))
                for dropout in self.dropouts:
                    dropout.streams = own
            yield portion

    def _portion_size(self) -> int:
        part = self.world.slice_of(self.settings.training.batch_size)
        images, count = part.stop - part.start, self.accumulation
        if count < 1 or images % count:
            raise Refusal(f"accumulation = {count}: must divide the {images} images of a process")
        return images // count

    def train_step(self) -> Tensor:
        """One optimiser step and EMA update; returns [loss, mean mse, mean vb]."""
        training = self.settings.training
        self.optimizer.param_groups[0]["lr"] = learning_rate(training, self.step)
        # Before the forward pass, so that old gradients do not lie beside its activations.
        self.optimizer.zero_grad(set_to_none=True)
        if self.graphs:  # whatever the last step's graphs gave may now be written over
            torch.compiler.cudagraph_mark_step_begin()
        total = torch.zeros(3, device=self.world.device)
        for number, portion in enumerate(self.portions(), start=1):
            with self.world.adding_up(self.parallel, more=number < self.accumulation):
                values = self.parallel(*portion) / self.accumulation
                self.scaler.scale(values[0]).backward()
            total += values.detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        torch._foreach_lerp_(list(self.ema.values()), self.averaged, 1 - training.ema_decay)
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
