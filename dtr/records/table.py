"""Every record below a results folder as one tidy table; damage is a row, never a crash."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import BaseModel, Field, PositiveFloat, ValidationError, model_validator

from dtr.config.scale import Scale
from dtr.planning.runs import all_runs, reason_not_run, train_settings
from dtr.records.workdir import running_steps

PLACE = re.compile(r"runs/(?P<run>[^/]+)/seed(?P<seed>\d+)/step(?P<step>\d+)/")
CONTROL_PLACE = re.compile(r"controls/(?P<slot>[^/]+)/(?P<run>[^/]+)/metrics/")
COLUMNS = {  # of the tidy table, with the value of a cell that says nothing
    "kind": "",
    "run": "",
    "slot": "",
    "seed": -1,
    "step": -1,
    "protocol_id": "",
    "status": "",
    "reason": "",
    "metric": "",
    "n": math.nan,
    "value": math.nan,
    "low": math.nan,
    "high": math.nan,
    "direction": "",
    "wall_seconds": math.nan,
    "path": "",
}
Finite = float | None


class Measure(BaseModel):
    """One metric of a metrics record, named with its extractor."""

    name: str
    n: int
    value: float = Field(allow_inf_nan=False)
    low: Finite = None
    high: Finite = None
    direction: Literal["lower", "higher"]


class MetricsRecord(BaseModel):
    """What the report needs of a metrics record."""

    run: str
    slot: str
    seed: int | None = None  # a control on real images has none
    step: int | None = None
    status: Literal["ok", "diverged", "failed"]
    reason: str | None = None
    protocol: dict[str, Any]
    protocol_id: str
    metrics: list[Measure] = []
    provenance: dict[str, Any] = {}
    wall_seconds: float = math.nan


class LossPoint(BaseModel):
    """One line of a training's history."""

    step: int
    loss: float
    mse: float
    vb: float


class TrainRecord(BaseModel):
    """What the report needs of a training record."""

    run: str
    seed: int
    step: int
    reached_step: int
    status: Literal["ok", "diverged"]
    reason: str | None = None
    settings: dict[str, Any]
    parameters: int
    history: list[LossPoint] = []
    provenance: dict[str, Any] = {}
    wall_seconds: float = math.nan


class BlockCka(BaseModel):
    """CKA between all pairs of timesteps in one block; null where nothing varies."""

    unbiased: list[list[Finite]]
    biased: list[list[Finite]]


class CkaRecord(BaseModel):
    """Similarity of one model's representations at different timesteps."""

    run: str
    seed: int
    step: int
    n: int
    batch_size: int
    timesteps: list[int]
    blocks: list[BlockCka]
    provenance: dict[str, Any] = {}
    wall_seconds: float = math.nan

    @model_validator(mode="after")
    def _square(self) -> Self:
        size = len(self.timesteps)
        for block in self.blocks:
            for matrix in (block.unbiased, block.biased):
                if len(matrix) != size or any(len(row) != size for row in matrix):
                    raise ValueError(f"blocks: a matrix is not {size} by {size}")
        return self


class Outcome(BaseModel):
    """Whether the speed of one of the paper's sizes could be measured, and why not."""

    backbone: str
    status: Literal["ok", "failed"]
    reason: str | None = None


class ThroughputRecord(BaseModel):
    """Training speed of one of the paper's sizes, with "dtr" and with "none"."""

    backbone: str
    batch_size: int
    threads: int
    device: str
    pairs: int
    iterations_per_second: dict[str, float]
    ratio: PositiveFloat  # seconds with DTR by seconds without
    low: PositiveFloat
    high: PositiveFloat
    provenance: dict[str, Any] = {}
    wall_seconds: float = math.nan


class Records:
    """The records of one scale: `frame` (tidy), the readable ones by path, and the broken ones.

    `metrics` and `trainings` map the path below the results folder to the record; `cka` maps
    (run, seed), `throughput` the paper's size, and `running` (run, seed) of each training that
    goes on at this moment to its step.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.root = Path(scale.results)
        self.metrics: dict[str, MetricsRecord] = {}
        self.trainings: dict[str, TrainRecord] = {}
        self.cka: dict[tuple[str, int], CkaRecord] = {}
        self.throughput: dict[str, ThroughputRecord] = {}
        self.broken: dict[str, str] = {}
        self.failed: dict[str, str] = {}  # sizes whose speed could not be measured, and why
        self.running = running_steps(self.root / "work")
        self._read_analyses()
        rows = [*self._metrics_rows(), *self._training_rows()]
        self.frame = pd.DataFrame(
            [COLUMNS | row for row in rows], columns=list(COLUMNS)
        ).sort_values(["kind", "slot", "run", "seed", "step"], kind="stable", ignore_index=True)

    def _metrics_rows(self) -> Iterator[dict[str, Any]]:
        for pattern in ("runs/*/seed*/step*/metrics/*.json", "controls/*/*/metrics/*.json"):
            for file in sorted(self.root.glob(pattern)):
                yield from self._metrics_file(file)

    def _metrics_file(self, file: Path) -> Iterator[dict[str, Any]]:
        path = file.relative_to(self.root).as_posix()
        place = self._place(path) | {"kind": "metrics", "protocol_id": file.stem, "path": path}
        record = self._read(MetricsRecord, file, place)
        if isinstance(record, str):
            yield place | {"status": "broken", "reason": record}
            return
        self.metrics[path] = record
        shared = place | {
            "slot": record.slot,
            "status": record.status,
            "reason": record.reason or "",
            "wall_seconds": record.wall_seconds,
        }
        if record.status == "ok" and record.metrics:
            for measure in record.metrics:
                values = measure.model_dump(exclude_none=True)
                yield shared | {"metric": values.pop("name")} | values
        else:
            yield shared

    def _training_rows(self) -> Iterator[dict[str, Any]]:
        for file in sorted(self.root.glob("runs/*/seed*/step*/train.json")):
            path = file.relative_to(self.root).as_posix()
            place = self._place(path) | {"kind": "train", "path": path}
            record = self._read(TrainRecord, file, place)
            if isinstance(record, str):
                yield place | {"status": "broken", "reason": record}
                continue
            self.trainings[path] = record
            yield place | {
                "status": record.status,
                "reason": record.reason or "",
                "wall_seconds": record.wall_seconds,
            }

    def _read_analyses(self) -> None:
        for file in sorted(self.root.glob("analysis/cka/*.json")):
            record = self._read(CkaRecord, file, self._location(file))
            if isinstance(record, CkaRecord):
                self.cka[record.run, record.seed] = record
        for file in sorted(self.root.glob("analysis/throughput/*.json")):
            outcome = self._read(Outcome, file, self._location(file))
            if isinstance(outcome, Outcome) and outcome.status != "ok":
                self.failed[outcome.backbone] = outcome.reason or "no reason given"
                continue
            record = self._read(ThroughputRecord, file, self._location(file))
            if isinstance(record, ThroughputRecord):
                self.throughput[record.backbone] = record

    def _location(self, file: Path) -> dict[str, Any]:
        return {"path": file.relative_to(self.root).as_posix()}

    def _place(self, path: str) -> dict[str, Any]:
        """What the path of a record says about it."""
        if match := PLACE.match(path):
            known = all_runs(self.scale).get(match["run"])
            slot = {} if known is None else {"slot": known.slot}
            return slot | {
                "run": match["run"],
                "seed": int(match["seed"]),
                "step": int(match["step"]),
            }
        match = CONTROL_PLACE.match(path)
        return {} if match is None else {"run": match["run"], "slot": match["slot"]}

    def _read(self, model: type[BaseModel], file: Path, place: dict[str, Any]) -> BaseModel | str:
        """The record in `file`, or in one line what is wrong with it."""
        try:
            record = model.model_validate(json.loads(file.read_text(encoding="utf-8")))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            problem = f"{'.'.join(map(str, first['loc'])) or 'record'}: {first['msg']}"
        except (OSError, ValueError) as error:
            problem = f"not readable as JSON ({error})"
        else:
            names = ("run", "slot", "seed", "step", "protocol_id")
            differing = [
                name
                for name in names
                if place.get(name) is not None and getattr(record, name, place[name]) != place[name]
            ]
            if not differing:
                return record
            name = differing[0]
            problem = f"{name} is {getattr(record, name)!r}, but its place says {place[name]!r}"
        problem = " ".join(problem.split())
        self.broken[place["path"]] = problem
        return problem

    def training_of(self, run: str, seed: int, step: int) -> TrainRecord | None:
        """The readable training record of one model, if it exists."""
        return self.trainings.get(f"runs/{run}/seed{seed}/step{step}/train.json")

    def final_trainings(self) -> list[TrainRecord]:
        """The longest trained record of each run and seed; untrained networks are none."""
        longest: dict[tuple[str, int], TrainRecord] = {}
        for record in sorted(self.trainings.values(), key=lambda record: record.step):
            if record.step > 0:
                longest[record.run, record.seed] = record
        return list(longest.values())

    def outdated(self, run: str, seed: int, step: int) -> str | None:
        """The first setting in which a trained model differs from the present scale, in words."""
        record, known = self.training_of(run, seed, step), all_runs(self.scale).get(run)
        if record is None or known is None or reason_not_run(self.scale, known) is not None:
            return None
        now = _flat(train_settings(self.scale, known, seed).plain())
        then = _flat(record.settings)
        for name in sorted(now.keys() | then.keys()):
            if now.get(name) != then.get(name):
                return f"trained with {name} = {then.get(name)!r}, now {now.get(name)!r}"
        return None


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names; lists are compared whole."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{name}" if prefix else name)
    return flat
