"""The values that claims are judged by: per seed, from whatever records exist. Free of torch."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dtr.config.resolve import training_steps
from dtr.config.stages import Protocol
from dtr.planning.evaluations import components
from dtr.planning.runs import all_runs
from dtr.records.schema import CkaRecord
from dtr.records.table import Records
from dtr.reporting.absence import Absences
from dtr.reporting.claims.statistics import Spread, pooled_spread
from dtr.reporting.claims.verdicts import Estimate, Evidence, exact

PLACE = ("protocol_id", "metric", "run", "step", "seed")  # what a measured value belongs to
BOUNDS = ("value", "low", "high")
SHARES = ("precision", "recall")  # metrics between 0 and 1, compared without a logarithm


class Evaluator:
    """Looks values up in the records of a scale, seed by seed, and why one is missing."""

    def __init__(self, records: Records) -> None:
        self.records, self.scale = records, records.scale
        self.absences = Absences(records)
        self.selections = 1  # of the best among several, that share their group's error
        self._spreads: dict[tuple[frozenset[str], str, str], Spread | None] = {}
        frame = records.frame
        good = frame[(frame["kind"] == "metrics") & (frame["status"] == "ok")]
        self._good = {tuple(row[key] for key in PLACE): row for row in good.to_dict("records")}

    def metric(self, name: str, step: int, protocol: Protocol, metric: str) -> Evidence:
        """A metric of one model ("fid") with its bootstrap intervals."""
        found = Evidence()
        for seed in self.scale.seeds:
            own = self._good.get((protocol.id, f"{metric}@{protocol.extractor}", name, step, seed))
            if own is None or self.absences.outdated(name, seed, step):
                absence = self.absences.of_metric(name, seed, step, protocol, metric)
                found.missing[seed] = absence.text
            else:
                found.values[seed] = Estimate(*(float(own[key]) for key in BOUNDS))
        return found

    def spread(self, names: Iterable[str], protocol: Protocol, metric: str) -> Spread | None:
        """The noise of one finished training, from all runs of the networks that `names` use.

        Networks of different sizes differ in it.
        """
        known = all_runs(self.scale)
        networks = frozenset(known[components(name)[0]].backbone for name in names)
        key = (networks, protocol.id, metric)
        if key not in self._spreads:
            values: dict[str, dict[int, float]] = {}
            for row in self._finished(protocol, metric):
                value = row["value"]
                if known[components(row["run"])[0]].backbone not in networks:
                    continue
                if metric not in SHARES:
                    value = math.log(value) if value > 0 else math.nan
                if math.isfinite(value):
                    values.setdefault(row["run"], {})[row["seed"]] = value
            self._spreads[key] = pooled_spread(values)
        return self._spreads[key]

    def _finished(self, protocol: Protocol, metric: str) -> Iterator[dict[str, Any]]:
        """The rows of finished models that count, of one metric under one protocol."""
        known, wanted = all_runs(self.scale), (protocol.id, f"{metric}@{protocol.extractor}")
        for (*place, name, step, seed), row in self._good.items():
            run = known.get(components(name)[0])
            if tuple(place) != wanted or seed not in self.scale.seeds or run is None:
                continue
            if step == training_steps(self.scale, run) and not self.absences.outdated(
                name, seed, step
            ):
                yield row

    def cka(self, run: str, contrast: str) -> Evidence:
        """A contrast of a run's CKA, named in CONTRASTS; nothing is sampled, so it is exact."""
        found = Evidence()
        for seed in self.scale.seeds:
            if absence := self.absences.of_cka(run, seed):
                found.missing[seed] = absence.text
                continue
            arrays = cka_arrays(self.records.cka[run, seed])
            value = CONTRASTS[contrast](*arrays, self.scale.diffusion.num_timesteps)
            if math.isfinite(value):
                found.values[seed] = exact(value)
            else:
                found.missing[seed] = "its CKA is undefined: the representations are constant"
        return found

    def parameters(self, run: str) -> Evidence:
        """The parameters of a trained network, counted."""
        found, step = Evidence(), training_steps(self.scale, all_runs(self.scale)[run])
        for seed in self.scale.seeds:
            if absence := self.absences.of_training(run, seed, step):
                found.missing[seed] = absence.text
            else:
                record = self.records.training_of(run, seed, step)
                found.values[seed] = exact(record.parameters)
        return found


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
