"""Is this machine's result typical? The seeds measured here among those of the reference."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtr.config.resolve import training_steps
from dtr.config.stages import Protocol
from dtr.experiments import RUNS, SLOTS, Run
from dtr.planning.evaluations import panel_protocol
from dtr.planning.runs import all_runs
from dtr.records.reference import kept_reference
from dtr.records.table import Records
from dtr.reporting.figures.style import COLOURS, ROUTING_NAMES, SOFT

PANEL = "table1"
APART = 0.12  # of the reference's dots from ours, in units of a method


def typical_figure(records: Records) -> tuple[Figure, str] | None:
    """FID of Table 1's runs, one panel per slot; None without reference results of this scale."""
    reference = kept_reference(records.scale)
    if reference is None:
        return None
    runs = [run for run in RUNS if PANEL in run.used_by and run.slot in records.scale.slots]
    ours = {run.id: _values(records, run) for run in runs}
    theirs = {run.id: _values(reference, run) for run in runs}
    compared = [
        run
        for run in runs
        if ours[run.id] and theirs[run.id] and _place(records, run) == _place(reference, run)
    ]
    if not compared:
        return None
    slots = [slot for slot in SLOTS if any(run.slot == slot for run in compared)]
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    axes = figure.subplots(1, len(slots), squeeze=False)[0]
    for axis, slot in zip(axes, slots, strict=True):
        _panel(axis, [run for run in compared if run.slot == slot], ours, theirs)
        axis.set_title(SLOTS[slot].dataset)
    axes[0].set_ylabel("FID, features of this scale")
    inside = [run for run in compared if _inside(ours[run.id], theirs[run.id])]
    alt = (
        f"FID of {len(compared)} runs here, coloured, beside the reference seeds, grey: "
        f"{len(inside)} within a tenth of their range."
    )
    return figure, alt


def _values(records: Records, run: Run) -> list[float]:
    """Measured FIDs of a finished run, seed by seed."""
    own, step = _place(records, run)
    rows = records.rows_of(run.id, step, own.id)
    good = rows[(rows["metric"] == f"fid@{own.extractor}") & (rows["status"] == "ok")]
    return [
        float(row["value"])
        for row in good.to_dict("records")
        if records.outdated(run.id, row["seed"], step) is None
    ]


def _place(records: Records, run: Run) -> tuple[Protocol, int]:
    """Protocol and step of a finished run: values of others are not compared."""
    scale = records.scale
    step = training_steps(scale, all_runs(scale)[run.id])
    return panel_protocol(scale, PANEL, run.slot), step


def _inside(ours: list[float], theirs: list[float]) -> bool:
    """Whether all of ours lie in the range of the reference's, widened by a tenth."""
    return 0.9 * min(theirs) <= min(ours) and max(ours) <= 1.1 * max(theirs)


def _panel(
    axis: Axes, runs: list[Run], ours: dict[str, list[float]], theirs: dict[str, list[float]]
) -> None:
    for place, run in enumerate(runs):
        colour = COLOURS[run.routing.type]
        axis.plot([place - APART] * len(theirs[run.id]), theirs[run.id], "o", color=SOFT, ms=4)
        axis.plot([place + APART] * len(ours[run.id]), ours[run.id], "D", color=colour, ms=6)
    axis.set_xticks(range(len(runs)), [ROUTING_NAMES[run.routing.type] for run in runs])
    axis.tick_params(axis="x", labelrotation=30)
    axis.set_xlim(-0.6, len(runs) - 0.4)
    highest = max(max(ours[run.id] + theirs[run.id]) for run in runs)
    axis.set_ylim(0, 1.06 * highest)
