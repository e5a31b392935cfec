"""Every record below a results folder as one tidy table; damage is a row, never a crash."""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.config.stages import RunSettings, outside_sources
from dtr.planning import places
from dtr.planning.runs import all_runs, reason_not_run
from dtr.records.schema import (
    AnyRecord,
    CkaRecord,
    LossPoint,
    MetricsRecord,
    ModelRecord,
    ThroughputRecord,
    read_record,
)
from dtr.records.workdir import running_steps
from dtr.support.errors import Refusal
from dtr.support.settings import parse

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

# Of a training's history; one of 400,000 steps has ten times as many, which take 43 MB, and the
# paper has hundreds of them.
MOST_POINTS = 4000


class Records:
    """The records of one scale: `frame` (tidy), the readable ones by path, and the broken ones.

    `metrics` and `trainings` map the path below the results folder to the record; `cka` maps
    (run, seed), `throughput` the paper's size, and `running` (run, seed) of each training that
    goes on at this moment to its step. A history is kept in at most MOST_POINTS means.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.root = Path(scale.results)
        self.metrics: dict[str, MetricsRecord] = {}
        self.trainings: dict[str, ModelRecord] = {}
        self.cka: dict[tuple[str, int], CkaRecord] = {}
        self.throughput: dict[str, ThroughputRecord] = {}
        self.broken: dict[str, str] = {}
        self.running = running_steps(self.root / "work")
        self._read_analyses()
        rows = [*self._metrics_rows(), *self._training_rows()]
        self.frame = pd.DataFrame(
            [COLUMNS | row for row in rows], columns=list(COLUMNS)
        ).sort_values(["kind", "slot", "run", "seed", "step"], kind="stable", ignore_index=True)

    def _metrics_rows(self) -> Iterator[dict[str, Any]]:
        for pattern in places.METRICS:
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
        for file in sorted(self.root.glob(places.TRAININGS)):
            path = file.relative_to(self.root).as_posix()
            place = self._place(path) | {"kind": "train", "path": path}
            record = self._read(ModelRecord, file, place)
            if isinstance(record, str):
                yield place | {"status": "broken", "reason": record}
                continue
            self.trainings[path] = _shortened(record)
            yield place | {
                "status": record.status,
                "reason": record.reason or "",
                "wall_seconds": record.wall_seconds,
            }

    def _read_analyses(self) -> None:
        for file in sorted(self.root.glob(places.CKA)):
            record = self._read(CkaRecord, file, self._location(file))
            if isinstance(record, CkaRecord):
                self.cka[record.run, record.seed] = record
        for file in sorted(self.root.glob(places.THROUGHPUT)):
            record = self._read(ThroughputRecord, file, self._location(file))
            if isinstance(record, ThroughputRecord):
                self.throughput[record.backbone] = record

    def _location(self, file: Path) -> dict[str, Any]:
        return {"path": file.relative_to(self.root).as_posix()}

    def _place(self, path: str) -> dict[str, Any]:
        """What the path of a record says about it."""
        if match := places.PLACE.match(path):
            known = all_runs(self.scale).get(match["run"])
            slot = {} if known is None else {"slot": known.slot}
            return slot | {
                "run": match["run"],
                "seed": int(match["seed"]),
                "step": int(match["step"]),
            }
        match = places.CONTROL_PLACE.match(path)
        return {} if match is None else {"run": match["run"], "slot": match["slot"]}

    def _read(self, model: type[AnyRecord], file: Path, place: dict[str, Any]) -> AnyRecord | str:
        """The record in `file`, or in one line what is wrong with it."""
        try:
            record = read_record(model, file)
        except Refusal as refusal:
            problem = str(refusal).removeprefix(f"{file}: ")
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
        self.broken[place["path"]] = problem
        return problem

    def rows_of(self, run: str, step: int, protocol_id: str) -> pd.DataFrame:
        """The metrics rows of one model under one protocol, for the seeds of the scale."""
        frame = self.frame
        return frame[
            (frame["kind"] == "metrics")
            & (frame["run"] == run)
            & (frame["step"] == step)
            & (frame["protocol_id"] == protocol_id)
            & frame["seed"].isin(self.scale.seeds)
        ]

    def training_of(self, run: str, seed: int, step: int) -> ModelRecord | None:
        """The readable training record of one model, if it exists."""
        return self.trainings.get(places.training_below(run, seed, step))

    def final_trainings(self) -> list[ModelRecord]:
        """The longest trained record of each run and seed; untrained networks are none."""
        longest: dict[tuple[str, int], ModelRecord] = {}
        for record in sorted(self.trainings.values(), key=lambda record: record.step):
            if record.step > 0:
                longest[record.run, record.seed] = record
        return list(longest.values())

    def outdated(self, run: str, seed: int, step: int) -> str | None:
        """The first setting in which a trained model differs from the present scale, in words."""
        record, known = self.training_of(run, seed, step), all_runs(self.scale).get(run)
        if record is None or known is None or reason_not_run(self.scale, known) is not None:
            return None
        now = run_settings(self.scale, known, seed)
        try:
            then = parse(RunSettings, record.settings, source="settings")
        except Refusal as refusal:
            return f"trained with settings that are no longer understood ({refusal})"
        for name, value, before in differing(now.plain(), then.plain()):
            return f"trained with {name} = {before!r}, now {value!r}"
        for family, source in outside_sources(now).items():
            if record.sources.get(family) != source:
                return f"trained with another version of its {family}"
        return None


def _shortened(record: ModelRecord) -> ModelRecord:
    """A record with a history of at most MOST_POINTS; each is a mean, at the step of its last."""
    history = record.history
    stride = -(-len(history) // MOST_POINTS)
    if stride <= 1:
        return record
    first = len(history) % stride  # counted from the end, so that the last step stays
    starts = [*([0] if first else []), *range(first, len(history), stride)]
    parts = [history[start:end] for start, end in pairwise([*starts, len(history)])]
    return record.model_copy(update={"history": [_mean(part) for part in parts]})


def _mean(points: list[LossPoint]) -> LossPoint:
    means = {
        name: fmean(getattr(point, name) for point in points)
        for name in ("loss", "mse", "vb", "rate")
    }
    return points[-1].model_copy(update=means)


def differing(now: Any, then: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value now, value then) of what differs in plain settings; lists whole.

    A part's type comes before its constants.
    """
    if isinstance(now, dict) and isinstance(then, dict):
        for name in sorted(now.keys() | then.keys(), key=lambda name: (name != "type", name)):
            inner = f"{prefix}.{name}" if prefix else name
            yield from differing(now.get(name), then.get(name), inner)
    elif now != then:
        yield prefix, now, then
