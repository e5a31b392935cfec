"""The state of a training run and how one step changes it."""

from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtr.backbones import build_backbone
from dtr.data.training_data import TrainingData
from dtr.diffusion import Diffusion
from dtr.distributed import World
from dtr.routing import ChannelMasks
from dtr.seeding import batch_indices, generator
from dtr.settings import TrainingSettings, TrainSettings
from dtr.weighting import build_weighting


class Objective(nn.Module):
    """Model, process and weighting as one module: from a noised batch to the loss."""

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__()
        self.model = build_backbone(settings.backbone, settings.routing)
        self.diffusion = Diffusion.from_settings(settings.diffusion)
        self.weighting = build_weighting(settings.weighting, self.diffusion.snr())
        self.reduced = settings.training.precision == "bfloat16"

    def forward(self, x0: Tensor, t: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """[loss, mean mse, mean vb] of a batch; x0, noise: [B, C, H, W]; t, y: [B] int64."""
        x_t = self.diffusion.add_noise(x0, t, noise)
        with torch.autocast(x0.device.type, torch.bfloat16, enabled=self.reduced):
            output = self.model(x_t, t, y)
        mse, vb = self.diffusion.loss_terms(output, x0, x_t, t, noise)
        return torch.stack([self.weighting(mse, vb, t), mse.mean(), vb.mean()])


class Trainer:
    """The state of a run: what a checkpoint holds, and how one step changes it."""

    def __init__(
        self, settings: TrainSettings, data: TrainingData, fingerprint: str, world: World
    ) -> None:
        self.settings, self.data, self.fingerprint = settings, data, fingerprint
        self.world = world
        self.step = 0
        self.seconds = 0.0  # spent so far, over all starts
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.objective = Objective(settings).to(world.device)
        self.model, self.weighting = self.objective.model, self.objective.weighting
        if data.tokens is not None:
            self.model.null_tokens.copy_(torch.from_numpy(data.null_tokens.copy()))
        self.routed = [m for m in self.model.modules() if isinstance(m, ChannelMasks)]
        training = settings.training
        trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [{"params": trained, "weight_decay": training.weight_decay}]
        if own := list(self.weighting.parameters()):
            groups.append({"params": own, "lr": settings.weighting.learning_rate})
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
        """This process's part of x0, timesteps, labels and noise of the current step.

        The whole batch is drawn from (seed, step) and then cut, so that it is the same for any
        number of processes.
        """
        settings, size = self.settings, self.settings.training.batch_size
        draws = generator(settings.seed, "step", self.step)
        rows = batch_indices(settings.seed, self.step, size=len(self.data), batch_size=size)
        x0 = self.data.sample(rows, draws)
        noise = draws.standard_normal(x0.shape, dtype=np.float32)
        t = self.weighting.draw_timesteps(draws, size, settings.timesteps)
        y = self.data.conditions(rows, draws, settings.backbone)
        part = self.world.slice_of(size)
        x0, t, y, noise = (
            torch.from_numpy(values[part]).to(self.world.device) for values in (x0, t, y, noise)
        )
        return x0, t, y, noise

    def train_step(self) -> Tensor:
        """One optimiser step and EMA update; returns [loss, mean mse, mean vb]."""
        training = self.settings.training
        batch = self.batch()
        # Dropout draws from torch's own generator: give it a state that belongs to this step.
        torch.manual_seed(step_seed(self.settings.seed, self.step, self.world.rank))
        self.optimizer.param_groups[0]["lr"] = learning_rate(training, self.step)
        # Before the forward pass, so that old gradients do not lie beside its activations.
        self.optimizer.zero_grad(set_to_none=True)
        values = self.parallel(*batch)
        values[0].backward()
        self.optimizer.step()
        parameters = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.ema.values()), parameters, 1 - training.ema_decay)
        self.step += 1
        for masks in self.routed:
            masks.after_step(self.step)
        return values.detach()

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


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of what torch itself draws in a step, different on every process."""
    return int(generator(seed, "torch", step, rank).integers(2**62))


def learning_rate(training: TrainingSettings, step: int) -> float:
    """Linear warm-up over `warmup_steps`, then constant."""
    return training.learning_rate * min(1.0, (step + 1) / max(1, training.warmup_steps))
