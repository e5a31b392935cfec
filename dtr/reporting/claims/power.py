"""What the seeds of a results tree can see, and what it would cost to see more."""

import math
from collections.abc import Iterator

import pandas as pd

from dtr.config.resolve import training_steps
from dtr.config.stages import Protocol
from dtr.experiments import RUNS, SLOTS
from dtr.planning.evaluations import panel_protocol
from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.reporting.claims.evidence import Evaluator
from dtr.reporting.claims.statistics import Effect, paired_effect
from dtr.reporting.published import value_of

SECONDS_PER_HOUR = 3600.0
PANEL = "table1"
COLUMNS = [
    *("Slot", "Seeds", "Spread %", "Seen from %", "Paper %", "Seeds for it"),
    *("Here %", "Seeds for it ", "Hours per seed"),
]


def power_table(records: Records) -> pd.DataFrame:
    """One row per slot, for DTR against no routing: what was and what could be seen.

    Spread: standard deviation of a difference between two models of one seed, per cent of FID;
    "Seen from": smallest effect shown with 80 % power by the seeds there are; "Seeds for it": as
    many show the paper's effect, or the one found here. Hours: of training both models once more.
    """
    return pd.DataFrame(_rows(records), columns=COLUMNS)


def _rows(records: Records) -> Iterator[list[str]]:
    evaluator = Evaluator(records)
    for slot, place in SLOTS.items():
        if slot not in records.scale.slots:
            continue
        own = panel_protocol(records.scale, PANEL, slot)
        plain, routed = (_run_of(slot, routing) for routing in ("none", "dtr"))
        found = _effect(evaluator, own, routed, plain)
        if found is None:
            yield [place.dataset, "fewer than 2", *["–"] * 6, _hours(records, routed, plain)]
            continue
        rows = [value_of(PANEL, run, "fid") for run in (routed, plain)]
        expected = 100 * (rows[0]["value"] / rows[1]["value"] - 1)
        yield [
            place.dataset,
            str(found.seeds),
            f"{100 * math.sqrt(2) * found.spread.sd:.1f}",
            f"{found.detectable:.1f}",
            f"{expected:.1f}",
            _count(found.seeds_for(expected)),
            f"{found.percent:.1f}",
            _count(found.seeds_for(found.percent)),
            _hours(records, routed, plain),
        ]


def _run_of(slot: str, routing: str) -> str:
    return next(
        run.id
        for run in RUNS
        if run.slot == slot and PANEL in run.used_by and run.routing.type == routing
    )


def _effect(evaluator: Evaluator, own: Protocol, routed: str, plain: str) -> Effect | None:
    step = training_steps(evaluator.scale, all_runs(evaluator.scale)[plain])
    values = [evaluator.metric(run, step, own, "fid").numbers for run in (routed, plain)]
    return paired_effect(*values, spread=evaluator.spread([routed, plain], own, "fid"))


def _count(seeds: int | None) -> str:
    return "none would" if seeds is None else str(seeds)


def _hours(records: Records, *runs: str) -> str:
    """Mean training time of a seed of these runs, as it was recorded."""
    total = 0.0
    for run in runs:
        times = [one.wall_seconds for one in records.final_trainings() if one.run == run]
        total += sum(times) / len(times) if times else math.nan
    return "unknown" if math.isnan(total) else f"{total / SECONDS_PER_HOUR:.2f}"
