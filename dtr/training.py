"""Training one run: a step is a function of (seed, step), so any kill can be resumed exactly."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtr.backbones import build_backbone
from dtr.checkpoint import append_log, exclusive, load_checkpoint, read_log, save_checkpoint
from dtr.config import TrainingSettings, TrainSettings
from dtr.data.latents import LatentDataset
from dtr.diffusion import Diffusion
from dtr.errors import Refusal, Suspended
from dtr.files import hash_file, replacing, write_json
from dtr.progress import Progress
from dtr.provenance import provenance
from dtr.seeding import batch_indices, generator
from dtr.weighting import Weighting, build_weighting

LOG_EVERY = 10  # steps averaged into one line of the log; checks and checkpoints in between
MARGIN_SECONDS = 60  # of the time budget, left for the last checkpoint


@dataclass(frozen=True)
class Execution:
    """Where and how a run is computed; nothing of it changes the result (on one device kind)."""

    device: str = "cpu"
    checkpoint_seconds: float = 60.0
    budget_minutes: float | None = None


@dataclass
class Trainer:
    """The state of a run: what a checkpoint holds, and how one step changes it."""

    settings: TrainSettings
    latents: LatentDataset
    fingerprint: str
    device: str
    step: int = 0
    seconds: float = 0.0  # spent so far, over all starts
    model: nn.Module = field(init=False)
    weighting: Weighting = field(init=False)
    diffusion: Diffusion = field(init=False)
    optimizer: torch.optim.Optimizer = field(init=False)
    ema: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.model = build_backbone(settings.backbone, settings.routing).to(self.device)
        self.weighting = build_weighting(settings.weighting).to(self.device)
        self.diffusion = Diffusion.from_settings(settings.diffusion)
        training = settings.training
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=training.learning_rate,
            betas=training.adam_betas,
            weight_decay=training.weight_decay,
            fused=True,
        )
        # Starts as a copy of the initial weights, over all named parameters; buffers are not
        # averaged.
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}

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
        """Latents, labels, timesteps and noise of the current step, all from (seed, step)."""
        settings, size = self.settings, self.settings.training.batch_size
        draws = generator(settings.seed, "step", self.step)
        rows = batch_indices(settings.seed, self.step, size=len(self.latents), batch_size=size)
        x0 = self.latents.sample(rows, draws)
        noise = draws.standard_normal(x0.shape, dtype=np.float32)
        t = self.weighting.draw_timesteps(draws, size, settings.timesteps)
        dropped = draws.random(size) < settings.backbone.label_dropout
        y = np.zeros(size, dtype=np.int64)
        if settings.backbone.num_classes > 1:
            y = np.where(dropped, settings.backbone.num_classes, self.latents.labels[rows])
        x0, y, t, noise = (torch.from_numpy(part).to(self.device) for part in (x0, y, t, noise))
        return x0, y, t, noise

    def train_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One optimiser step and EMA update; returns loss, mean mse, mean vb (scalars)."""
        training = self.settings.training
        x0, y, t, noise = self.batch()
        x_t = self.diffusion.add_noise(x0, t, noise)
        reduced = training.precision == "bfloat16"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=reduced):
            output = self.model(x_t, t, y)
        mse, vb = self.diffusion.loss_terms(output, x0, x_t, t, noise)
        loss = self.weighting(mse, vb, t)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        parameters = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.ema.values()), parameters, 1 - training.ema_decay)
        self.step += 1
        return loss.detach(), mse.detach().mean(), vb.detach().mean()

    def export(self, path: Path) -> None:
        """Write the EMA weights, with the routing state, as safetensors."""
        from safetensors.torch import save_file

        tensors = {**self.ema, **dict(self.model.named_buffers())}
        with replacing(path) as temporary:
            save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary)


def learning_rate(training: TrainingSettings, step: int) -> float:
    """Linear warm-up over `warmup_steps`, then constant."""
    return training.learning_rate * min(1.0, (step + 1) / max(1, training.warmup_steps))


def train_run(
    settings: TrainSettings,
    latents: LatentDataset,
    *,
    step: int,
    work: Path,
    execution: Execution,
    title: str,
) -> tuple[Trainer, Path, str | None]:
    """Train, or go on training, up to `step`; returns (trainer, work directory, divergence).

    Checkpoints and the log are kept in `work`/<fingerprint>.  Raises Suspended when the time
    budget ends or the process is asked to stop; Busy if another process works there.
    """
    _check_data(settings, latents)
    fingerprint = settings.fingerprint(latents.manifest["content_hash"])
    folder = work / fingerprint[:16]
    trainer = Trainer(settings, latents, fingerprint, execution.device)
    with exclusive(folder), _interruptible() as interrupted:
        saved = load_checkpoint(folder, fingerprint, at_most=step, device=execution.device)
        if saved is not None:
            trainer.restore(saved)
            print(f"{title}: resumed at step {trainer.step}", flush=True)
        diverged = _loop(trainer, step, folder, execution, title, interrupted)
        return trainer, folder, diverged


def _loop(
    trainer: Trainer,
    step: int,
    folder: Path,
    execution: Execution,
    title: str,
    interrupted: list[str],
) -> str | None:
    started = saved = time.monotonic()
    before = trainer.seconds
    deadline = _deadline(folder, execution.budget_minutes)
    window: list[tuple[Tensor, Tensor, Tensor]] = []
    trainer.model.train()
    with Progress(title, step, done=trainer.step) as progress:
        while trainer.step < step:
            window.append(trainer.train_step())
            progress.advance()
            if trainer.step % LOG_EVERY and trainer.step < step:
                continue
            # Only here does the host wait for the device, so that logs are whole after a resume.
            loss, mse, vb = torch.stack([torch.stack(values) for values in window]).mean(0).tolist()
            window.clear()
            if not np.isfinite(loss):
                return _rewind(trainer, folder, execution.device)
            progress.show(loss=loss)
            rate = progress.rate
            append_log(
                folder, {"step": trainer.step, "loss": loss, "mse": mse, "vb": vb, "rate": rate}
            )
            trainer.seconds = before + time.monotonic() - started
            stopping = bool(interrupted) or time.time() >= deadline
            due = time.monotonic() - saved >= execution.checkpoint_seconds
            if due or stopping or trainer.step == step:
                if not all(torch.isfinite(t).all() for t in trainer.ema.values()):
                    return _rewind(trainer, folder, execution.device)
                save_checkpoint(folder, trainer.state())
                saved = time.monotonic()
            if stopping and trainer.step < step:
                why = interrupted[0] if interrupted else "the time budget is used up"
                raise Suspended(f"{title}: {why}; saved at step {trainer.step} of {step}")
    return None


def _rewind(trainer: Trainer, folder: Path, device: str) -> str:
    """Go back to the last good checkpoint (or the start) after a non-finite loss; the reason."""
    reason = f"loss or weights not finite by step {trainer.step}"
    good = load_checkpoint(folder, trainer.fingerprint, at_most=trainer.step, device=device)
    if good is not None:
        trainer.restore(good)
    else:
        fresh = Trainer(trainer.settings, trainer.latents, trainer.fingerprint, device)
        trainer.restore(fresh.state())
    return reason


def _check_data(settings: TrainSettings, latents: LatentDataset) -> None:
    backbone = settings.backbone
    expected = (backbone.in_channels, backbone.input_size, backbone.input_size)
    if latents.shape != expected:
        raise Refusal(f"latents of shape {latents.shape}: the backbone takes {expected}")
    if len(latents) < settings.training.batch_size:
        raise Refusal(
            f"training.batch_size = {settings.training.batch_size}: more than the "
            f"{len(latents)} training images"
        )
    highest = int(latents.labels.max())
    if settings.backbone.num_classes > 1 and highest >= settings.backbone.num_classes:
        raise Refusal(f"num_classes = {backbone.num_classes}: the data has label {highest}")


def _deadline(folder: Path, budget_minutes: float | None) -> float:
    """When to stop by ourselves, as time.time().

    Restarts inside one cluster job share that job's budget, counted from its first start.
    """
    if budget_minutes is None:
        return float("inf")
    begun = time.time()
    if job := os.environ.get("SLURM_JOB_ID"):
        mark = folder / f"job-{job}.start"
        if mark.exists():
            begun = float(mark.read_text())
        else:
            mark.write_text(str(begun))
    return begun + 60 * budget_minutes - min(MARGIN_SECONDS, 6 * budget_minutes)


@contextmanager
def _interruptible() -> Iterator[list[str]]:
    """Collect SIGTERM and SIGINT, so that the loop can save before it stops."""
    received: list[str] = []

    def note(number: int, _frame: object) -> None:
        received.append(f"stopped by {signal.Signals(number).name}")

    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, note) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def write_result(
    trainer: Trainer, folder: Path, out: Path, *, run: str, step: int, diverged: str | None
) -> None:
    """Write `out`/ema.safetensors and, last, `out`/train.json, the record of the run at `step`."""
    trainer.export(out / "ema.safetensors")
    routing = trainer.model.routing
    write_json(
        out / "train.json",
        {
            "run": run,
            "seed": trainer.settings.seed,
            "step": step,
            "reached_step": trainer.step,
            "status": "ok" if diverged is None else "diverged",
            "reason": diverged,
            "fingerprint": trainer.fingerprint,
            "dataset_hash": trainer.latents.manifest["content_hash"],
            "settings": trainer.settings.plain(),
            "weights_sha256": hash_file(out / "ema.safetensors"),
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "routing_hash": None if routing is None else routing.hash(),
            "history": read_log(folder, until=trainer.step),
            "provenance": provenance(trainer.device),
            "wall_seconds": trainer.seconds,
        },
    )
