"""The values that claims are judged by: per seed, from whatever records exist. Free of torch."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from dtr.config.resolve import training_steps
from dtr.config.stages import Protocol
from dtr.planning.evaluations import components, evaluations
from dtr.planning.runs import all_runs, reason_not_run
from dtr.records.schema import CkaRecord
from dtr.records.table import Records
from dtr.reporting.claims.verdicts import Estimate, Evidence, exact

PENDING = "no record yet"


class Evaluator:
    """Looks values up in the records of a scale; what it plans to measure tells what is missing."""

    def __init__(self, records: Records) -> None:
        self.records, self.scale = records, records.scale
        self._planned = {
            (wanted.name, wanted.seed, wanted.step, wanted.protocol.id)
            for wanted in evaluations(records.scale)
        }

    def metric(self, name: str, step: int, protocol: Protocol, metric: str) -> Evidence:
        """A metric of one model ("fid") with its bootstrap intervals."""
        rows, found = self.records.rows_of(name, step, protocol.id), Evidence()
        asked = f"{metric}@{protocol.extractor}"
        for seed in self.scale.seeds:
            own = rows[rows["seed"] == seed]
            good = own[(own["status"] == "ok") & (own["metric"] == asked)]
            if reason := self._outdated(name, seed, step):
                found.missing[seed] = reason
            elif len(good):
                row = good.iloc[0]
                found.values[seed] = Estimate(
                    *(float(row[key]) for key in ("value", "low", "high"))
                )
            else:
                planned = (name, seed, step, protocol.id) in self._planned
                found.missing[seed] = self._why_missing(name, seed, step, own, asked, planned)
        return found

    def cka(self, run: str, contrast: str) -> Evidence:
        """A contrast of a run's CKA, named in CONTRASTS; nothing is sampled, so it is exact."""
        found, step = Evidence(), training_steps(self.scale, all_runs(self.scale)[run])
        for seed in self.scale.seeds:
            record = self.records.cka.get((run, seed))
            if record is None:
                planned = "figure6" in self.scale.targets
                found.missing[seed] = self._not_trained(run, seed, step) or self.absence(planned)
            elif record.step != step:
                found.missing[seed] = f"outdated: CKA of step {record.step}, the end is now {step}"
            elif reason := self._outdated(run, seed, step):
                found.missing[seed] = reason
            elif not record.blocks:
                found.missing[seed] = self._not_trained(run, seed, step) or "the record is empty"
            else:
                value = CONTRASTS[contrast](*cka_arrays(record), self.scale.diffusion.num_timesteps)
                if math.isfinite(value):
                    found.values[seed] = exact(value)
                else:
                    found.missing[seed] = "its CKA is undefined: the representations are constant"
        return found

    def parameters(self, run: str) -> Evidence:
        """The parameters of a trained network, counted."""
        found, step = Evidence(), training_steps(self.scale, all_runs(self.scale)[run])
        for seed in self.scale.seeds:
            record = self.records.training_of(run, seed, step)
            if reason := self._outdated(run, seed, step):
                found.missing[seed] = reason
            elif record is not None:
                found.values[seed] = exact(record.parameters)
            else:
                found.missing[seed] = self._not_trained(run, seed, step) or PENDING
        return found

    def _outdated(self, name: str, seed: int, step: int) -> str | None:
        reasons = (self.records.outdated(run, seed, step) for run in components(name))
        return next((f"outdated: {reason}" for reason in reasons if reason), None)

    def _why_missing(
        self, name: str, seed: int, step: int, rows: pd.DataFrame, asked: str, planned: bool
    ) -> str:
        if len(bad := rows[rows["status"] != "ok"]):
            return _status(bad.iloc[0])
        if len(rows):
            return f"the record has no {asked}"
        return self._not_trained(name, seed, step) or self.absence(planned)

    def _not_trained(self, name: str, seed: int, step: int) -> str | None:
        """Why a model of one or more runs does not exist, where the records or the scale say so."""
        frame, known = self.records.frame, all_runs(self.scale)
        for run in components(name):
            trained = frame[
                (frame["kind"] == "train")
                & (frame["run"] == run)
                & (frame["seed"] == seed)
                & (frame["step"] == step)
            ]
            if len(bad := trained[trained["status"] != "ok"]):
                return _status(bad.iloc[0])
            if reason := reason_not_run(self.scale, known[run]):
                return reason
        return None

    def absence(self, planned: bool) -> str:
        """What to say of a record that is not there."""
        return PENDING if planned else f"no target of the {self.scale.scale} scale measures it"


def _status(row: pd.Series) -> str:
    return f"{row['status']}: {row['reason']}" if row["reason"] else str(row["status"])


def cka_arrays(record: CkaRecord) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased CKA [blocks, r, r] float64, NaN where undefined, and its r timesteps."""
    matrices = [block.unbiased for block in record.blocks]
    return np.array(matrices, dtype=np.float64), np.array(record.timesteps)


def _mean(values: Iterable[float] | np.ndarray) -> float:
    """Mean of what is defined; NaN if nothing is."""
    defined = np.asarray(values)[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan


def level(similarity: np.ndarray, timesteps: np.ndarray, _total: int) -> float:
    """Mean CKA of distinct timesteps over all blocks."""
    return _mean(similarity[:, ~np.eye(len(timesteps), dtype=bool)])


def low_over_high(similarity: np.ndarray, timesteps: np.ndarray, total: int) -> float:
    """Mean CKA of distinct timesteps in the lower half minus that in the noisier half."""
    distinct = ~np.eye(len(timesteps), dtype=bool)
    low = timesteps < total / 2
    return _mean(similarity[:, distinct & np.outer(low, low)]) - _mean(
        similarity[:, distinct & np.outer(~low, ~low)]
    )


def diagonal_growth(similarity: np.ndarray, timesteps: np.ndarray, total: int) -> float:
    """Diagonal emphasis of the last third of the blocks minus that of the first third.

    Emphasis: mean CKA of distinct timesteps at most total/8 apart minus that of timesteps at
    least total/2 apart.
    """
    apart = np.abs(timesteps[:, None] - timesteps[None, :])
    near, far = (apart > 0) & (apart <= total / 8), apart >= total / 2
    third = max(1, len(similarity) // 3)
    late, early = similarity[-third:], similarity[:third]
    return (_mean(late[:, near]) - _mean(late[:, far])) - (
        _mean(early[:, near]) - _mean(early[:, far])
    )


CONTRASTS = {"level": level, "low_over_high": low_over_high, "diagonal_growth": diagonal_growth}
