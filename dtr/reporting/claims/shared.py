"""What the comparisons of all kinds share: published values, evidence, reasons why not."""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from dtr.config.checks import why_not
from dtr.config.resolve import training_steps
from dtr.config.stages import Protocol
from dtr.experiments import RUNS
from dtr.planning.evaluations import components, panel_protocol
from dtr.planning.runs import all_runs
from dtr.reporting.claims.evidence import SHARES, Evaluator
from dtr.reporting.claims.statistics import own_strength
from dtr.reporting.claims.verdicts import Comparison, Evidence, settle
from dtr.reporting.tables.cells import NAMES

ITERATIONS = {run.id: run.iterations for run in RUNS}
# Stated before anything was measured: effects inside are "no effect". Per cent of a metric that is
# analysed by its logarithm, the metric's own units for the others.
MARGIN_PERCENT, MARGIN_SHARE, MARGIN_CKA = 5.0, 0.02, 0.02


def _known(name: str) -> str:
    for run in components(name):
        if run not in ITERATIONS:
            raise ValueError(f"{run!r}: no such run; they are listed in dtr/experiments.py")
    return name


RunKey = Annotated[str, AfterValidator(_known)]  # several sampled as one are joined by "+"
Pair = tuple[RunKey, RunKey]  # (routed, plain)


def impossible(evaluator: Evaluator, *names: str) -> str | None:
    """Why the scale cannot train one of the models."""
    known = all_runs(evaluator.scale)
    reasons = (why_not(evaluator.scale, known[run]) for name in names for run in components(name))
    return next(filter(None, reasons), None)


def as_published(*rows: dict | None) -> dict:
    """Both published values and where they are from; nothing if the paper has no such pair."""
    if None in rows:
        return {}
    return {"paper": tuple(row["value"] for row in rows), "source": sources(*rows)}


def sources(*rows: dict) -> str:
    """Where published values are from."""
    return ", ".join(dict.fromkeys(row["provenance"] for row in rows if row["provenance"]))


def of_metric(
    labels: Sequence[str], metric: str, claimed: str, rows: Sequence[dict | None]
) -> Comparison:
    """A comparison of two values of a metric, with what the paper says of them."""
    log = metric not in SHARES
    found = Comparison(
        *labels,
        metric,
        claimed,
        decimals=NAMES[metric][2],
        log=log,
        margin=MARGIN_PERCENT if log else MARGIN_SHARE,
        **as_published(*rows),
    )
    if found.paper is not None and not any(map(math.isnan, found.paper)):
        found.expected = change(found.paper) if log else found.paper[0] - found.paper[1]
        found.strength = own_strength(*found.paper) if metric == "fid" else None
    return found


def change(values: tuple[float, float]) -> float:
    """From the second to the first, in per cent."""
    return 100 * (values[0] / values[1] - 1)


def fid_evidence(
    evaluator: Evaluator, names: Sequence[str], panel: str
) -> tuple[Protocol, dict[str, Evidence]]:
    """FID of the finished models under the protocol of their panel."""
    known = {name: all_runs(evaluator.scale)[components(name)[0]] for name in names}
    own = panel_protocol(evaluator.scale, panel, known[names[0]].slot)
    return own, {
        name: evaluator.metric(name, training_steps(evaluator.scale, run), own, "fid")
        for name, run in known.items()
    }


def in_panel(
    comparison: Comparison, evaluator: Evaluator, pair: Sequence[str], panel: str
) -> Comparison:
    """Settle a comparison of the FID of two finished models under the protocol of a panel."""
    if reason := impossible(evaluator, *pair):
        comparison.reason = reason
        return comparison
    own = panel_protocol(
        evaluator.scale, panel, all_runs(evaluator.scale)[components(pair[0])[0]].slot
    )
    return measured(comparison, evaluator, dict.fromkeys(pair, 1.0), own, "fid")


def measured(
    comparison: Comparison,
    evaluator: Evaluator,
    sides: dict[str, float],
    own: Protocol,
    metric: str,
) -> Comparison:
    """Settle a comparison of two models by a metric, each after its share of its steps."""
    comparison.quantity, comparison.protocol_id = f"{metric}@{own.extractor}", own.id
    scale, evidence = evaluator.scale, {}
    for name, share in sides.items():
        run = all_runs(scale)[components(name)[0]]
        step = max(1, round(share * training_steps(scale, run)))
        evidence[name] = evaluator.metric(name, step, own, metric)
    return settle(comparison, evidence, spread=evaluator.spread(sides, own, metric))
