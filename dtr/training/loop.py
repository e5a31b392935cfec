"""Training a run up to a step: resume, checkpoints, time budget, divergence, record."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dtr.backbones.saved import write_model
from dtr.config.stages import TrainSettings
from dtr.data.batches import TrainingData
from dtr.records.provenance import provenance
from dtr.records.workdir import append_log, exclusive, read_log
from dtr.support.errors import Refusal, Suspended
from dtr.support.progress import Progress
from dtr.training.checkpoint import load_checkpoint, save_checkpoint
from dtr.training.distributed import World
from dtr.training.trainer import Trainer

LOG_EVERY = 10  # steps averaged into one line of the log; checks and checkpoints in between
MARGIN_SECONDS = 60  # of the time budget, left for the last checkpoint


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; nothing of it changes the result but the order of sums."""

    checkpoint_seconds: float = 60.0
    budget_minutes: float | None = None
    accumulation: int = 1  # portions of a batch


def train_run(
    settings: TrainSettings,
    data: TrainingData,
    *,
    step: int,
    work: Path,
    execution: Execution,
    world: World,
    title: str,
) -> tuple[Trainer, Path, str | None]:
    """Train, or go on training, up to `step`; returns (trainer, work directory, divergence).

    Checkpoints and the log are kept in `work`/<fingerprint>.  Raises Suspended when the time
    budget ends or the process is asked to stop; Busy if another process works there.
    """
    _check_data(settings, data)
    fingerprint = settings.fingerprint(data.manifest["content_hash"])
    folder = work / fingerprint[:16]
    trainer = Trainer(settings, data, fingerprint, world, accumulation=execution.accumulation)
    if step == 0:
        return trainer, folder, None
    holding = exclusive(folder) if world.first else nullcontext()
    with holding, _interruptible() as interrupted:
        saved = load_checkpoint(folder, fingerprint, at_most=step, device=world.device)
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
    world, before = trainer.world, trainer.seconds
    started = saved = time.monotonic()
    deadline = _deadline(folder, execution.budget_minutes) if world.first else float("inf")
    window: list[Tensor] = []
    trainer.model.train()
    with Progress(title, step, done=trainer.step, shown=world.first) as progress:
        while trainer.step < step:
            window.append(trainer.train_step())
            progress.advance()
            if trainer.step % LOG_EVERY and trainer.step < step:
                continue
            # Only here does the host wait for the device, so that logs are whole after a resume.
            values = world.mean(torch.stack(window).mean(0))
            window.clear()
            if not torch.isfinite(values[0]):
                return _rewind(trainer, folder)
            progress.show(loss=float(values[0]))
            trainer.seconds = before + time.monotonic() - started
            if world.first:
                append_log(folder, trainer.log_entry(values, progress.rate))
            stopping = world.agreed(bool(interrupted) or time.time() >= deadline)
            due = world.agreed(time.monotonic() - saved >= execution.checkpoint_seconds)
            if due or stopping or trainer.step == step:
                if not trainer.finite():
                    return _rewind(trainer, folder)
                if world.first:
                    save_checkpoint(folder, trainer.state())
                saved = time.monotonic()
            if stopping and trainer.step < step:
                why = interrupted[0] if interrupted else "the time budget is used up"
                raise Suspended(f"{title}: {why}; saved at step {trainer.step} of {step}")
    return None


def _rewind(trainer: Trainer, folder: Path) -> str:
    """Go back to the last good checkpoint (or the start) after a non-finite loss; the reason."""
    reason = f"loss or weights not finite by step {trainer.step}"
    device = trainer.world.device
    good = load_checkpoint(folder, trainer.fingerprint, at_most=trainer.step, device=device)
    if good is None:
        good = Trainer(trainer.settings, trainer.data, trainer.fingerprint, trainer.world).state()
    trainer.restore(good)
    return reason


def _check_data(settings: TrainSettings, data: TrainingData) -> None:
    backbone = settings.backbone
    expected = (backbone.in_channels, backbone.input_size, backbone.input_size)
    if data.shape != expected:
        raise Refusal(f"training data of shape {data.shape}: the backbone takes {expected}")
    if len(data) < settings.training.batch_size:
        raise Refusal(
            f"training.batch_size = {settings.training.batch_size}: more than the "
            f"{len(data)} training images"
        )
    if (data.tokens is not None) != (backbone.family == "dit_text"):
        raise Refusal(f"backbone {backbone.family!r}: does not fit data with or without captions")
    highest = int(data.labels.max())
    if backbone.num_classes > 1 and highest >= backbone.num_classes:
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
    routing = trainer.model.routing
    write_model(
        out,
        {**trainer.ema, **dict(trainer.model.named_buffers())},
        {
            "run": run,
            "seed": trainer.settings.seed,
            "step": step,
            "reached_step": trainer.step,
            "status": "ok" if diverged is None else "diverged",
            "reason": diverged,
            "fingerprint": trainer.fingerprint,
            "dataset_hash": trainer.data.manifest["content_hash"],
            "autoencoder_sha256": trainer.data.manifest.get("autoencoder_sha256"),
            "settings": trainer.settings.plain(),
            "parameters": sum(p.numel() for p in trainer.model.parameters()),
            "routing_hash": None if routing is None else routing.hash(),
            "history": read_log(folder, until=trainer.step),
            "provenance": provenance(trainer.world.device),
            "processes": trainer.world.size,
            "accumulation": trainer.accumulation,
            "wall_seconds": trainer.seconds,
        },
    )
