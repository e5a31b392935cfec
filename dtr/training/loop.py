"""Training a run up to a step: resume, checkpoints, divergence, record."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtr.config.stages import RunSettings, outside_sources
from dtr.data.rows import TrainingData
from dtr.planning.places import MODEL
from dtr.records.provenance import provenance
from dtr.records.schema import ModelRecord
from dtr.records.weights import write_weights
from dtr.records.workdir import append_log, exclusive, read_log
from dtr.support.errors import Refusal, Suspended
from dtr.support.progress import Progress
from dtr.training.budget import deadline, interruptible, scheduler_job
from dtr.training.checkpoint import load_checkpoint, save_checkpoint, wait_for_checkpoint
from dtr.training.distributed import World
from dtr.training.means import MEANS, Means
from dtr.training.trainer import Trainer

SEEN_WITHIN = 120.0  # seconds in which a shared file system shows what another machine wrote
LOG_EVERY = 10  # steps averaged into one line of the log; checks and checkpoints in between


@dataclass(frozen=True)
class Execution:
    """How a run is carried out; nothing of it changes the result but the order of sums."""

    checkpoint_seconds: float = 60.0
    budget_minutes: float | None = None
    accumulation: int = 1  # portions of a batch
    means: Means = MEANS


def train_run(
    settings: RunSettings,
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
    trainer = Trainer(
        settings, data, world, accumulation=execution.accumulation, means=execution.means
    )
    fingerprint = trainer.fingerprint
    folder = work / fingerprint[:16]
    if step == 0:
        return trainer, folder, None
    holding = exclusive(folder, job=scheduler_job()) if world.first else nullcontext()
    with holding, interruptible() as interrupted:
        saved = _newest(folder, fingerprint, at_most=step, world=world)
        if saved is not None:
            trainer.restore(saved)
            print(f"{title}: resumed at step {trainer.step}", flush=True)
            if trainer.rng == "mixed":
                print(
                    f"{title}: its noise was drawn elsewhere until now (execution.rng); both are "
                    "functions of seed and step, the record says `mixed`",
                    flush=True,
                )
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
    stop_at = deadline(execution.budget_minutes) if world.first else float("inf")
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
            stopping = world.agreed(bool(interrupted) or time.monotonic() >= stop_at)
            due = world.agreed(time.monotonic() - saved >= execution.checkpoint_seconds)
            if due or stopping or trainer.step == step:
                if not trainer.finite():
                    return _rewind(trainer, folder)
                if world.first:
                    save_checkpoint(folder, trainer.state())
                saved = time.monotonic()
            if stopping and trainer.step < step:
                world.agreed(True)  # a launcher kills the others soon after the first has ended
                why = interrupted[0] if interrupted else "the time budget is used up"
                raise Suspended(f"{title}: {why}; saved at step {trainer.step} of {step}")
    return None


def _newest(folder: Path, fingerprint: str, *, at_most: int, world: World) -> dict[str, Any] | None:
    """The checkpoint that the first process finds, for all: other machines may see files later."""
    load = partial(load_checkpoint, folder, fingerprint, device=world.device)
    found = load(at_most=at_most) if world.first else None
    step = world.highest(-1 if found is None else found["step"])
    if world.first or step < 0:
        return found
    if wait_for_checkpoint(folder, step, seconds=SEEN_WITHIN):
        found = load(at_most=step)
    if found is None or found["step"] != step:
        raise Refusal(
            f"{folder}: the first process goes on from step {step}, whose checkpoint is not found "
            "here; is the folder shared by all machines of this training?"
        )
    return found


def _rewind(trainer: Trainer, folder: Path) -> str:
    """Go back to the last good checkpoint (or the start) after a non-finite loss; the reason."""
    reason = f"loss or weights not finite by step {trainer.step}"
    good = _newest(folder, trainer.fingerprint, at_most=trainer.step, world=trainer.world)
    if good is None:
        good = Trainer(trainer.settings, trainer.data, trainer.world).state()
    trainer.restore(good)
    return reason


def _check_data(settings: RunSettings, data: TrainingData) -> None:
    inputs = settings.inputs
    if data.shape != inputs.shape:
        raise Refusal(f"training data of shape {data.shape}: the backbone takes {inputs.shape}")
    if len(data) < settings.training.batch_size:
        raise Refusal(
            f"training.batch_size = {settings.training.batch_size}: more than the "
            f"{len(data)} training images"
        )
    if (data.tokens is not None) != (inputs.text_tokens is not None):
        kind = settings.backbone.type
        raise Refusal(f"backbone {kind!r}: does not fit data with or without captions")
    takes = (inputs.text_tokens, inputs.text_width)
    if data.tokens is not None and (found := data.tokens.shape[1:]) != takes:
        raise Refusal(
            f"training data of captions with {found[0]} tokens of width {found[1]}: the backbone "
            f"takes {takes[0]} of width {takes[1]}; encoded by another text encoder?"
        )
    highest = int(data.labels.max())
    if inputs.num_classes > 1 and highest >= inputs.num_classes:
        raise Refusal(f"num_classes = {inputs.num_classes}: the data has label {highest}")
    if inputs.num_classes > 1 and highest + 1 < inputs.num_classes:
        found = f"the data has {highest + 1} classes"
        raise Refusal(f"num_classes = {inputs.num_classes}: {found}; set it to {highest + 1}")


def write_result(
    trainer: Trainer, folder: Path, out: Path, *, run: str, step: int, diverged: str | None
) -> None:
    """Write `out`/ema.safetensors and, last, `out`/train.json, the record of the run at `step`."""
    settings = trainer.settings
    write_weights(
        out,
        MODEL,
        {**trainer.ema, **dict(trainer.model.named_buffers())},
        ModelRecord,
        run=run,
        seed=settings.seed,
        step=step,
        reached_step=trainer.step,
        status="ok" if diverged is None else "diverged",
        reason=diverged,
        fingerprint=trainer.fingerprint,
        dataset_hash=trainer.data.manifest["content_hash"],
        autoencoder_sha256=trainer.data.manifest.get("autoencoder_sha256"),
        settings=settings.plain(),
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        parts=trainer.parts,
        sources=outside_sources(settings),
        history=read_log(folder, until=trainer.step),
        provenance=provenance(trainer.world.device),
        processes=trainer.world.size,
        accumulation=trainer.accumulation,
        rng=trainer.rng,
        wall_seconds=trainer.seconds,
    )
