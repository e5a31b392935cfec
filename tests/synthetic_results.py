"""A results folder with made-up records, for the tests of the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtr.config.resolve import run_settings, training_steps
from dtr.config.scale import Scale
from dtr.planning.evaluations import Evaluation, evaluations_for, protocol
from dtr.planning.places import MODEL, Places
from dtr.planning.runs import all_runs
from dtr.records.schema import (
    CkaRecord,
    MetricsRecord,
    ModelRecord,
    Record,
    Speed,
    ThroughputRecord,
    write_record,
)

TABLE1_RUNS = (
    "ffhq256-b2-none",
    "ffhq256-b2-rtr",
    "ffhq256-b2-dtr-a4",
    "in256-l2-none",
    "in256-l2-rtr",
    "in256-l2-dtr-a4",
)
PROVENANCE = {
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "python": "3.11.9",
    "packages": {"torch": "2.14.1", "numpy": "2.3.0"},
    "platform": "Linux-6.1",
    "cpu": "Synthetic CPU",
    "cores": 2,
    "device": "cpu",
    "threads": 1,
    "created": "2026-11-24T03:00:00+00:00",
}
VALUES = {"fid": 3.5, "inception_score": 7.25, "precision": 0.91, "recall": 0.62, "kid": 0.0021}


def _write(path: str | Path, record: Record) -> Path:
    write_record(path, record)
    return Path(path)


def model_folder(scale: Scale, run: str, seed: int = 0, step: int | None = None) -> Path:
    """Where the model of a run lies; `step` None is its last one."""
    step = training_steps(scale, all_runs(scale)[run]) if step is None else step
    return Path(Places(scale.results).model(run, seed, step))


def write_training(scale: Scale, run: str, *, seed: int = 0, **changes: Any) -> Path:
    """A training record of the present settings with a falling loss."""
    folder = model_folder(scale, run, seed)
    step = int(folder.name.removeprefix("step"))
    logged = range(25, step + 1, 25)
    decay = 0.9 if "dtr" in run else 1.0
    history = [
        {"step": at, "loss": 0.5 + 1 / at, "mse": 0.2 * decay + 20 / at, "vb": 0.3} for at in logged
    ]
    record = {
        "run": run,
        "seed": seed,
        "step": step,
        "reached_step": step,
        "status": "ok",
        "reason": None,
        "fingerprint": "f" * 64,
        "dataset_hash": "d" * 64,
        "settings": run_settings(scale, all_runs(scale)[run], seed).plain(),
        "weights_sha256": "a" * 64,
        "parameters": 1_234_567,
        "history": history,
        "provenance": PROVENANCE,
        "wall_seconds": 35.0,
    }
    return _write(folder / MODEL[1], ModelRecord(**record | changes))


def metrics_record(
    scale: Scale, run: str, slot: str, seed: int | None, step: int | None, **values: float
) -> dict[str, Any]:
    """The fields of a metrics record under the slot's present protocol."""
    settings = protocol(scale, slot)
    return {
        "run": run,
        "slot": slot,
        "seed": seed,
        "step": step,
        "status": "ok",
        "reason": None,
        "protocol": settings.plain(),
        "protocol_id": settings.id,
        "metrics": [
            {
                "name": f"{name}@{settings.extractor}",
                "n": settings.n_samples,
                "value": value,
                "low": value * 0.95,
                "high": value * 1.05,
                "direction": "lower" if name in ("fid", "kid", "fid-clean") else "higher",
            }
            for name, value in (VALUES | values).items()
        ],
        "provenance": PROVENANCE,
        "sampling_seconds": 40.0,
        "wall_seconds": 12.0,
    }


def write_metrics(
    scale: Scale, run: str, *, seed: int = 0, step: int | None = None, **changes: Any
) -> Path:
    """A metrics record of one model; `changes` are metric values by name, or keys to replace."""
    folder, slot = model_folder(scale, run, seed, step), all_runs(scale)[run].slot
    values = {name: value for name, value in changes.items() if name in VALUES}
    others = {name: value for name, value in changes.items() if name not in VALUES}
    reached = int(folder.name.removeprefix("step"))
    record = metrics_record(scale, run, slot, seed, reached, **values) | others
    path = Places(scale.results).metrics(run, seed, reached, protocol(scale, slot).id)
    return _write(path, MetricsRecord(**record))


def write_control(
    scale: Scale, slot: str, *, metrics: list[dict[str, Any]] | None = None, **values: float
) -> Path:
    """The record of real against real images; `metrics` are all of them, instead of `values`."""
    record = metrics_record(scale, "real", slot, None, None, **values)
    if metrics is not None:
        record["metrics"] = metrics
    path = Places(scale.results).real_metrics(slot, protocol(scale, slot).id)
    return _write(path, MetricsRecord(**record))


def write_samples(
    scale: Scale, run: str, *, shade: int, seed: int = 0, step: int | None = None
) -> Path:
    """A shard of 100 images: a disc that grows with the label."""
    slot = all_runs(scale)[run].slot
    step = int(model_folder(scale, run, seed, step).name.removeprefix("step"))
    folder = Path(Places(scale.results).samples(run, seed, step, protocol(scale, slot).id))
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(100) * 7 % scale.slots[slot].num_classes
    rows, columns = np.mgrid[:32, :32] - 15.5
    inside = np.hypot(rows, columns)[None] < 3 + labels[:, None, None]
    images = np.repeat((inside * shade)[..., None], 3, axis=-1).astype(np.uint8)
    np.savez(folder / "shard-0.npz", arr_0=images, labels=labels)
    return folder


def write_everything(scale: Scale) -> None:
    """All records of Table 1's runs, controls and samples; every value differs."""
    for index, run in enumerate(TABLE1_RUNS):
        write_training(scale, run)
        write_metrics(scale, run, fid=3.5 + (index % 3 - 1) ** 2 * 0.4 + index * 0.1)
        write_samples(scale, run, shade=250 - 30 * (index % 3))
    for run, slot in (
        ("ffhq256-b2-none", "unconditional"),
        ("in256-l2-none", "class_conditional"),
    ):
        worst = {"fid": 812.0, "inception_score": 1.0, "precision": 0.0, "recall": 0.0}
        write_metrics(scale, run, step=0, **worst)
        write_control(scale, slot, fid=0.4)


def write_evaluation(scale: Scale, evaluation: Evaluation, **changes: Any) -> Path:
    """A metrics record of one model under its own protocol; `changes` as in `write_metrics`."""
    name, slot, seed, step, own = evaluation
    values = {key: value for key, value in changes.items() if key in VALUES}
    others = {key: value for key, value in changes.items() if key not in VALUES}
    record = metrics_record(scale, name, slot, seed, step, **values)
    record |= {"protocol": own.plain(), "protocol_id": own.id}
    record["metrics"] = [measure | {"n": own.n_samples} for measure in record["metrics"]]
    return _write(Places(scale.results).evaluation(evaluation), MetricsRecord(**record | others))


def write_target(
    scale: Scale, target: str, values: Callable[[Evaluation], dict[str, float]]
) -> list[Evaluation]:
    """The metrics records of every model that a table or figure shows."""
    shown = evaluations_for(scale, target)
    for evaluation in shown:
        write_evaluation(scale, evaluation, **values(evaluation))
    return shown


def write_cka(
    scale: Scale, run: str, *, level: float, seed: int = 0, depth: int = 4, **changes: Any
) -> Path:
    """A CKA record: 1 on the diagonal, `level` far from it, less in later blocks."""
    timesteps = [*range(0, 999, 52), 999]
    distance = np.abs(np.subtract.outer(timesteps, timesteps)) / 1000
    matrices = []
    for block in range(depth):
        far = level - 0.1 * block
        matrix = (far + (1 - far) * np.exp(-4 * distance)).round(6).tolist()
        matrices.append({"unbiased": matrix, "biased": matrix})
    record = {
        "run": run,
        "seed": seed,
        "step": training_steps(scale, all_runs(scale)[run]),
        "status": "ok",
        "reason": None,
        "estimator": "unbiased",
        "n": 1024,
        "batch_size": 256,
        "data_seed": 0,
        "dataset_hash": "d" * 64,
        "weights_sha256": "a" * 64,
        "timesteps": timesteps,
        "blocks": matrices,
        "provenance": PROVENANCE,
        "wall_seconds": 9.0,
    }
    return _write(Places(scale.results).cka(run, seed), CkaRecord(**record | changes))


def write_throughput(scale: Scale, backbone: str, *, ratio: float = 1.02, **changes: Any) -> Path:
    """A speed record: `ratio` is the time of a step with DTR by that of one without.

    changes: fields of the record or of its speed.
    """
    speed = {
        "seconds_per_step": {"dtr": ratio / 1.5, "none": 1 / 1.5},
        "iterations_per_second": {"dtr": 1.5 / ratio, "none": 1.5},
        "ratio": ratio,
        "low": ratio - 0.01,
        "high": ratio + 0.02,
    }
    record = {
        "backbone": backbone,
        "status": "ok",
        "batch_size": 1,
        "precision": "float32",
        "threads": 2,
        "device": "cpu",
        "pairs": 4,
        "speed": Speed(**speed | {key: value for key, value in changes.items() if key in speed}),
        "settings": {},
        "provenance": PROVENANCE,
        "wall_seconds": 20.0,
    }
    record |= {key: value for key, value in changes.items() if key not in speed}
    return _write(Places(scale.results).throughput(backbone), ThroughputRecord(**record))
