"""The points of Figs. 3-5, measured here and published, each with what tells its run apart."""

from collections.abc import Sequence

import pandas as pd

from dtr.experiments import FIGURE_SLOTS, Run
from dtr.planning.evaluations import evaluations_for
from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.reporting.published import results_frame
from dtr.reporting.tables.cells import Cell, fill_from


def measured_points(records: Records, figure: str, metrics: Sequence[str]) -> pd.DataFrame:
    """One row per metric and measured model of a figure, as its table cell would have it.

    Columns: those of `_method`, step, guidance, metric, value, low, high, interval, n, seeds,
    features, protocol_id. Models trained with other settings than the scale's are left out.
    """
    known = all_runs(records.scale)
    models = dict.fromkeys(
        (name, slot, step, own)
        for name, slot, _, step, own in evaluations_for(records.scale, figure)
        if slot == FIGURE_SLOTS[figure]
    )
    found = []
    for name, slot, step, own in models:
        rows = records.rows_of(name, step, own.id)
        current = [s for s in set(rows["seed"]) if records.outdated(name, s, step) is None]
        for metric in metrics:
            cell = Cell(metric)
            fill_from(cell, rows[rows["seed"].isin(current)], records, slot)
            if cell.status == "measured":
                place = {"step": step, "guidance": own.guidance, "metric": metric}
                fields = ("value", "low", "high", "interval", "n", "seeds", "protocol_id")
                values = {field: getattr(cell, field) for field in fields}
                values["features"] = cell.measured_as.split("@")[-1]
                found.append(_method(known[name], records) | place | values)
    frame = pd.DataFrame(found)
    return frame if frame.empty else frame.astype({"low": float, "high": float, "guidance": float})


def published_points(records: Records, figure: str) -> pd.DataFrame:
    """The paper's points of a figure in the same columns; unknown values are NaN."""
    known, frame = all_runs(records.scale), results_frame()
    rows = frame[frame["table"] == figure].to_dict("records")
    return pd.DataFrame(
        [
            row | _method(known[row["run"]], records) | {"step": row["iterations"]}
            for row in rows
            if row["run"] in known
        ]
    )


def _method(run: Run, records: Records) -> dict:
    """What tells runs of a figure apart; without routing all channels are active."""
    beta = records.scale.routing.beta if run.beta is None else run.beta
    return {
        "run": run.id,
        "routing": run.routing.type,
        "weighting": run.weighting.type,
        "backbone": run.backbone,
        "alpha": run.alpha,
        "beta": 1.0 if run.routing.type == "none" else beta,
    }
