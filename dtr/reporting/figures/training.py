"""Training curves: the noise error of every run whose values can be compared."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dtr.experiments import SLOTS
from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.reporting.figures.style import COLOURS, INK, ROUTING_NAMES, colours_of

MOST_COLUMNS = 3  # panels side by side
SMOOTHING = 10  # a smoothed value looks back on this fraction of the training: 1 / 10
MOST_POINTS = 150  # per line
ALL_POINTS = 12_000  # of all lines together: the page stays small whatever is trained
MAIN, OTHER = {"linewidth": 1.9}, {"linewidth": 0.7, "alpha": 0.6}


def history_frame(records: Records) -> pd.DataFrame:
    """The logged losses of the final models: run, slot, routing, main, seed, step, mse (smoothed).

    main: whether Table 1 has the run. Left out, because their values compare with no other: models
    trained with other settings than the scale's, on a part of the timesteps, or as an extension.
    """
    runs = all_runs(records.scale)
    frames = []
    for record in records.final_trainings():
        run = runs.get(record.run)
        if run is None or run.slot not in records.scale.slots or len(record.history) < 2:
            continue
        if record.seed not in records.scale.seeds:  # of a try with more seeds
            continue
        if run.timesteps != (0, 1000) or run.extends is not None:
            continue
        if records.outdated(record.run, record.seed, record.step):
            continue
        frame = pd.DataFrame([point.model_dump() for point in record.history])
        frame["mse"] = frame["mse"].rolling(max(1, len(frame) // SMOOTHING), min_periods=1).mean()
        labels = {"run": run.id, "slot": run.slot, "routing": run.routing.type, "seed": record.seed}
        frames.append(frame.assign(main=run.needed_by("table1"), **labels))
    most = min(MOST_POINTS, ALL_POINTS // max(1, len(frames)))
    # Counted from the end, which is kept.
    thinned = [frame[:: -max(1, -(-len(frame) // most))][::-1] for frame in frames]
    return pd.concat(thinned, ignore_index=True) if frames else pd.DataFrame()


def training_figure(records: Records) -> tuple[Figure, str] | None:
    """The noise-prediction error over training, one panel per slot, one line per run."""
    history = history_frame(records)
    if history.empty:
        return None
    history = over_seeds(history)
    slots = [slot for slot in SLOTS if slot in set(history["slot"])]
    columns = min(len(slots), MOST_COLUMNS)
    rows = -(-len(slots) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.4 * rows + 0.3), layout="constrained")
    palette = colours_of(COLOURS, history["routing"])
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, slot in zip(axes, slots, strict=False):
        _panel(axis, history[history["slot"] == slot], palette)
        axis.set_title(f"{SLOTS[slot].dataset} slot: {records.scale.slots[slot].dataset}")
    for axis in axes[len(slots) :]:
        axis.set_axis_off()
    handles = [
        Line2D([], [], color=colour, label=ROUTING_NAMES.get(key, key))
        for key, colour in palette.items()
    ]
    if set(history["main"]) == {False, True}:
        handles.append(Line2D([], [], color=INK, label="of Table 1", **MAIN))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure, _alt(history, slots)


def over_seeds(history: pd.DataFrame) -> pd.DataFrame:
    """Mean (mse), least (low) and largest (high) of the seeds of a run, where all have a value."""
    keys = ["run", "slot", "routing", "main", "step"]
    found = history.groupby(keys, sort=False)["mse"].agg(["mean", "min", "max", "count"])
    found = found.reset_index().rename(columns={"mean": "mse", "min": "low", "max": "high"})
    seeds = found.groupby("run")["count"].transform("max")
    return found[found["count"] == seeds]


def _panel(axis: Axes, history: pd.DataFrame, palette: dict[str, str]) -> None:
    for main, look in ((False, OTHER), (True, MAIN)):
        part = history[history["main"] == main]
        options = {"hue": "routing", "palette": palette, "units": "run", "estimator": None}
        if len(part):
            sns.lineplot(part, x="step", y="mse", legend=False, ax=axis, **options, **look)
    for (_, routing), own in history[history["main"]].groupby(["run", "routing"], sort=False):
        if (own["count"] > 1).any():
            bounds = (own["step"], own["low"], own["high"])
            axis.fill_between(*bounds, color=palette[routing], alpha=0.15, linewidth=0)
    later = history.loc[history["step"] > 2 * history["step"].max() / SMOOTHING, "mse"]
    margin = 0.08 * (later.max() - later.min()) or 0.01
    axis.set(xlabel="training step", ylabel="noise error (MSE), smoothed")
    axis.set_xlim(0, 1.02 * history["step"].max())
    axis.set_ylim(later.min() - margin, later.max() + margin)


def _alt(history: pd.DataFrame, slots: list[str]) -> str:
    """Per slot the number of lines, and where the runs of Table 1 end."""
    last = history.groupby(["slot", "run", "routing", "main"], sort=False)["mse"].last()
    last = last.reset_index()
    parts = []
    for slot in slots:
        own = last[last["slot"] == slot]
        ends = own[own["main"]].groupby("routing", sort=False)["mse"].mean()
        said = ", ".join(f"{ROUTING_NAMES.get(key, key)} {end:.3f}" for key, end in ends.items())
        lines = f"{len(own)} line{'s' if len(own) > 1 else ''}"
        parts.append(f"{SLOTS[slot].dataset}, {lines}" + (f", at the end {said}" if said else ""))
    return "Training curves, mean squared error of the predicted noise: " + "; ".join(parts) + "."
