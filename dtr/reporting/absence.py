"""Why there is no value somewhere, asked in one place for cells and for claims. Free of torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dtr.config.resolve import training_steps
from dtr.config.stages import Protocol
from dtr.planning.evaluations import components, evaluations
from dtr.planning.places import Places
from dtr.planning.runs import all_runs, lineage, reason_not_run
from dtr.records.table import Records


class Absence(NamedTuple):
    """A status of a cell other than measured, and the reason for it."""

    status: str
    reason: str

    @property
    def text(self) -> str:
        """Both in one line; a reason that speaks of what is not there yet needs no status."""
        if self.reason and self.status in ("pending", "not run"):
            return self.reason
        return ": ".join(filter(None, self))


# Of several seeds without a value, the first of these speaks for all.
ORDER = (
    "broken",
    "diverged",
    "failed",
    "unmeasurable",
    "outdated",
    "not run",
    "running",
    "pending",
)


def foremost(absences: Iterable[Absence]) -> Absence:
    """The absence that says most about a value that no seed has."""
    return min(absences, key=lambda absence: ORDER.index(absence.status))


def of_rows(rows: pd.DataFrame, asked: str) -> Absence | None:
    """What metrics rows without the metric `asked` ("fid@digits-cnn") say; None of no rows."""
    if len(bad := rows[rows["status"] != "ok"]):
        return _of_row(bad.iloc[0])
    return Absence("pending", f"the record has no {asked}") if len(rows) else None


def _of_row(row: pd.Series) -> Absence:
    return Absence(str(row["status"]), str(row["reason"]))


class Absences:
    """Asks the records of a scale, and what it plans to train and to measure."""

    def __init__(self, records: Records) -> None:
        self.records, self.scale = records, records.scale
        self._planned = {
            (wanted.name, wanted.seed, wanted.step, wanted.protocol.id)
            for wanted in evaluations(records.scale)
        }

    def of_metric(
        self, name: str, seed: int, step: int, protocol: Protocol, metric: str
    ) -> Absence:
        """Of a metric ("fid") of one model, one run or several joined by "+", that has no value."""
        rows = self.records.rows_of(name, step, protocol.id)
        found = self.outdated(name, seed, step) or of_rows(
            rows[rows["seed"] == seed], f"{metric}@{protocol.extractor}"
        )
        if (found := found or self.of_model(name, seed, step)) is not None:
            return found
        if (name, seed, step, protocol.id) in self._planned:
            return Absence("pending", "no metrics record yet")
        return Absence("not run", f"no target of the {self.scale.scale} scale measures it")

    def of_cka(self, run: str, seed: int) -> Absence | None:
        """Of a run's CKA; None where there is a record to be used."""
        record = self.records.cka.get((run, seed))
        step = training_steps(self.scale, all_runs(self.scale)[run])
        if found := self.outdated(run, seed, step):
            return found
        if record is None:
            found = self._broken(Places(self.scale.results).cka(run, seed))
            return found or self.of_model(run, seed, step) or self._unwritten("CKA", "figure6")
        if record.step != step:
            return Absence("outdated", f"CKA of step {record.step}, the end is now {step}")
        if record.blocks:
            return None
        if record.status == "ok":
            return Absence("failed", "the record is empty")
        return Absence(record.status, record.reason or "")

    def of_training(self, run: str, seed: int, step: int) -> Absence | None:
        """Of a trained model itself; None where there is a record to be used."""
        if found := self.outdated(run, seed, step):
            return found
        if self.records.training_of(run, seed, step) is not None:
            return None
        return self.of_model(run, seed, step) or Absence("pending", "no training record yet")

    def of_speed(self, backbone: str) -> Absence | None:
        """Of the training speed of one of the paper's sizes; None where it was measured."""
        record = self.records.throughput.get(backbone)
        if record is None:
            found = self._broken(Places(self.scale.results).throughput(backbone))
            return found or self._unwritten("speed", "table7")
        if record.speed is not None:
            return None
        return Absence(record.status, record.reason or "no reason given")

    def outdated(self, name: str, seed: int, step: int) -> Absence | None:
        """Of a model that was trained with other settings than the scale's."""
        reasons = (self.records.outdated(run, seed, step) for run in components(name))
        reason = next(filter(None, reasons), None)
        return None if reason is None else Absence("outdated", reason)

    def of_model(self, name: str, seed: int, step: int) -> Absence | None:
        """Of a model of one or more runs; None if nothing but time keeps it from being there."""
        frame = self.records.frame
        bad = frame[
            (frame["kind"] == "train")
            & frame["run"].isin(components(name))
            & (frame["seed"] == seed)
            & (frame["step"] == step)
            & (frame["status"] != "ok")
        ]
        if len(bad):
            return _of_row(bad.iloc[0])
        return self.of_runs(name) or self._running(name, seed, step)

    def of_runs(self, name: str) -> Absence | None:
        """Of runs that are not part of the scale."""
        known = all_runs(self.scale)
        runs = (known[run] for run in components(name) if run in known)
        reason = next(filter(None, (reason_not_run(self.scale, run) for run in runs)), None)
        return None if reason is None else Absence("not run", reason)

    def _running(self, name: str, seed: int, step: int) -> Absence | None:
        """Of a model whose training goes on at this moment: how far it is."""
        known = all_runs(self.scale)
        for run in (known[run] for run in components(name) if run in known):
            reached = self.records.running.get((lineage(self.scale, run).id, seed))
            if reached is not None and self.records.training_of(run.id, seed, step) is None:
                said = f"training of seed {seed} is at step {reached:,} of {step:,}"
                return Absence("running", said)
        return None

    def _broken(self, path: str) -> Absence | None:
        below = Path(path).relative_to(self.records.root).as_posix()
        problem = self.records.broken.get(below)
        return None if problem is None else Absence("broken", problem)

    def _unwritten(self, kind: str, target: str) -> Absence:
        """Of a record that no evaluation asks for, but one table or figure."""
        if target in self.scale.targets:
            return Absence("pending", f"no {kind} record yet")
        said = f"{target} is not among the targets of the {self.scale.scale} scale"
        return Absence("not run", said)
