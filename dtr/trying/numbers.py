"""The numbers of a try, from its own records alone: values by seed, paired differences, cost."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from dtr.planning.places import Places
from dtr.records.schema import Measure, MetricsRecord, ModelRecord, read_record
from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    REPRODUCED,
    SMALLER,
    decide,
    support,
)
from dtr.reporting.claims.shared import MARGIN_PERCENT
from dtr.reporting.claims.statistics import Effect, Spread, paired_effect, pooled_spread
from dtr.support.errors import Refusal
from dtr.support.files import write_json, write_text
from dtr.trying.trial import FILE, ROLES, SCHEMA, Place, Trial

IDENTICAL = "identical"
ONE_SEED = "one seed only"
NO_VALUE = "not measured"
VERDICTS = {
    REPRODUCED: "better",
    CONTRADICTED: "worse",
    NO_EFFECT: f"no effect larger than {MARGIN_PERCENT:g} %",
    SMALLER: "inconclusive",  # of a method that is not the paper's
    INCONCLUSIVE: "inconclusive",
}


@dataclass
class Model:
    """One of the three on one slot: its metrics by name and seed, or why a seed has none."""

    role: str
    label: str
    run: str
    metrics: dict[str, dict[int, Measure]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    step_seconds: dict[int, float] = field(default_factory=dict)
    parameters: int | None = None

    def values(self, metric: str) -> dict[int, float]:
        """A metric by seed."""
        return {seed: own.value for seed, own in self.metrics.get(metric, {}).items()}

    def mean(self, metric: str) -> float:
        """Over the seeds that have the metric; NaN of none."""
        return _mean(self.values(metric).values())

    @property
    def mean_step_seconds(self) -> float:
        """Seconds of a training step, over the seeds; NaN where nothing was timed."""
        return _mean(self.step_seconds.values())


@dataclass
class Difference:
    """The method against another model, paired by seed: in per cent of FID, below 0 is better.

    low, high: 95 % interval.  detectable: what these seeds see with 80 % power.  needed: seeds for
    an effect of `expected`, the paper's.  None where nothing can be said.
    """

    against: str
    label: str
    expected: float
    verdict: str
    seeds: list[int]
    by_seed: dict[int, float]
    percent: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    needed: int | None = None


@dataclass
class Result:
    """What came out on one slot."""

    place: Place
    metric: str  # with its extractor
    models: dict[str, Model]
    differences: list[Difference]

    @property
    def others(self) -> list[str]:
        """The metrics beside FID that any of the three has."""
        names = dict.fromkeys(name for one in self.models.values() for name in one.metrics)
        return [name for name in names if name != self.metric]


def results(trial: Trial, out: Path) -> list[Result]:
    """Read the records below `out` and compare; a seed without a record is said to have none."""
    return [_result(trial, place, out) for place in trial.places]


def _result(trial: Trial, place: Place, out: Path) -> Result:
    models = {role: _model(trial, place, role, out) for role in ROLES}
    metric = f"fid@{place.extractor}"
    spread = _spread([one.values(metric) for one in models.values()])
    differences = [
        compare(models["method"], models[role], metric, place.expected, spread)
        for role in ROLES[1:]
    ]
    return Result(place, metric, models, differences)


def _model(trial: Trial, place: Place, role: str, out: Path) -> Model:
    model = Model(role, trial.labels[role], place.runs[role])
    places = Places(str(out))
    for seed in trial.seeds:
        at = (model.run, seed, place.steps)
        try:
            trained = read_record(ModelRecord, places.training(*at))
            measured = read_record(MetricsRecord, places.metrics(*at, place.protocol_id))
        except Refusal as refusal:
            model.missing[seed] = str(refusal)
            continue
        if trained.reached_step and math.isfinite(trained.wall_seconds):
            model.step_seconds[seed] = trained.wall_seconds / trained.reached_step
        model.parameters = trained.parameters
        for one in measured.metrics if measured.status == "ok" else ():
            model.metrics.setdefault(one.name, {})[seed] = one
        if measured.status != "ok":
            model.missing[seed] = ": ".join(filter(None, (measured.status, measured.reason)))
    return model


def _spread(values: list[dict[int, float]]) -> Spread | None:
    """The noise of one training, from the three models together; copies of a model count once."""
    different = [own for i, own in enumerate(values) if own not in values[:i]]
    return pooled_spread({str(i): own for i, own in enumerate(different)}, log=True)


def compare(
    method: Model, other: Model, metric: str, expected: float, spread: Spread | None = None
) -> Difference:
    """The paired difference of two models over the seeds that both have; `spread` None: its own."""
    first, second = method.values(metric), other.values(metric)
    seeds = sorted(first.keys() & second.keys())
    by_seed = {seed: 100 * (first[seed] / second[seed] - 1) for seed in seeds}
    found = Difference(other.role, other.label, expected, NO_VALUE, seeds, by_seed)
    if len(seeds) == 1:
        found.verdict, found.percent = ONE_SEED, by_seed[seeds[0]]
    if len(seeds) < 2:
        return found
    same = not any(by_seed.values())  # exactly: then other models' noise is not theirs
    effect = paired_effect(first, second, spread=None if same else spread)
    found.percent, found.low, found.high = effect.percent, effect.low, effect.high
    if same:
        found.verdict = IDENTICAL
        return found
    found.detectable, found.needed = effect.detectable, effect.seeds_for(expected)
    found.verdict = verdict_of(effect, expected)
    return found


def verdict_of(effect: Effect, expected: float) -> str:
    """What an effect on FID says, where lower is better and the paper's is `expected`, per cent."""
    return VERDICTS[decide(support(effect, sign=-1, margin=MARGIN_PERCENT, expected=expected))]


def write_numbers(trial: Trial, found: list[Result], out: Path) -> None:
    """Write try.json, from which the page can be built again, and try.csv, a line per value."""
    content = {"schema_version": SCHEMA, "trial": trial.plain(), "margin_percent": MARGIN_PERCENT}
    write_json(out / FILE, content | {"results": [_plain(one) for one in found]})
    lines = [line for one in found for line in _lines(one)]
    write_text(out / "try.csv", pd.DataFrame(lines).to_csv(index=False))


def _plain(result: Result) -> dict[str, Any]:
    models = {}
    for role, model in result.models.items():
        models[role] = {
            "run": model.run,
            "fid": model.values(result.metric),
            "mean_fid": _number(model.mean(result.metric)),
            "seconds_per_step": model.step_seconds,
            "parameters": model.parameters,
            "missing": model.missing,
            "metrics": {
                name: {seed: own.model_dump() for seed, own in by_seed.items()}
                for name, by_seed in model.metrics.items()
            },
        }
    differences = [
        {name: _number(value) for name, value in asdict(one).items()} for one in result.differences
    ]
    return {
        "slot": result.place.slot,
        "metric": result.metric,
        "models": models,
        "differences": differences,
    }


def _lines(result: Result) -> Iterator[dict[str, Any]]:
    for role, model in result.models.items():
        shared = {"slot": result.place.slot, "role": role, "run": model.run}
        shared["protocol_id"] = result.place.protocol_id
        for name, by_seed in model.metrics.items():
            for seed, own in by_seed.items():
                numbers = own.model_dump(include={"n", "value", "low", "high", "direction"})
                yield shared | {"seed": seed, "metric": name} | numbers
        for seed, seconds in model.step_seconds.items():
            yield shared | {"seed": seed, "metric": "seconds_per_step", "value": seconds}
        for seed, reason in model.missing.items():
            yield shared | {"seed": seed, "metric": result.metric, "reason": reason}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values) if values else math.nan
