"""Figs. 3-5: metrics over guidance, over the ratio of active channels, and over training."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from dtr.experiments import FIGURE_SLOTS, SLOTS
from dtr.records.table import Records
from dtr.reporting.figures.points import measured_points, published_points
from dtr.reporting.figures.style import (
    COLOURS,
    DASHES,
    INK,
    OTHER_DASH,
    ROUTING_NAMES,
    SIZE_COLOURS,
    WEIGHTING_COLOURS,
    WEIGHTING_NAMES,
    add_note,
    colours_of,
)
from dtr.reporting.tables.cells import NAMES
from dtr.reporting.tables.layout import QUALITY

ARROWS = {"lower": "↓", "higher": "↑"}
WEIGHTED = "DiT-L/2"  # the size that Fig. 5 trains with other weightings
STEEP = 10  # values that span more than this factor get a logarithmic axis


def guidance_figure(records: Records) -> tuple[Figure, str] | None:
    """Fig. 3: FID, IS, precision and recall over the guidance scale; the paper's points below."""
    points = measured_points(records, "figure3", QUALITY)
    if points.empty:
        return None
    paper, slot = published_points(records, "figure3"), FIGURE_SLOTS["figure3"]
    colours = colours_of(WEIGHTING_COLOURS, [*points["weighting"], *paper["weighting"]])
    figure = Figure(figsize=(12, 6.6), layout="constrained")
    dataset = records.scale.slots[slot].dataset
    headings = (
        f"Here: {SLOTS[slot].dataset} slot, {dataset}",
        f"Paper (digitised): {SLOTS[slot].dataset}",
    )
    for part, frame, heading in zip(
        figure.subfigures(2, 1), (points, paper), headings, strict=True
    ):
        part.suptitle(heading, x=0.005, ha="left", fontsize=11, fontweight="bold")
        frame = _with_looks(frame, frame["weighting"].map(colours))
        for axis, metric in zip(part.subplots(1, len(QUALITY)), QUALITY, strict=True):
            own = frame[frame["metric"] == metric]
            _draw_lines(axis, own, "guidance")
            axis.set(xlabel="guidance", ylabel=_heading(metric))
            axis.set_xticks(sorted(set(frame["guidance"])))
    handles = [
        *_colour_handles(colours, WEIGHTING_NAMES),
        *_dash_handles([*points["routing"], *paper["routing"]]),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=2.8)
    add_note(figure, _provenance(points))
    fid = points[points["metric"] == "fid"]
    best = fid.loc[fid.groupby("run", sort=False)["value"].idxmin()] if len(fid) else fid
    said = "; ".join(
        f"{_name(row)} {row['value']:.2f} at guidance {row['guidance']:g}"
        for row in best.to_dict("records")
    )
    return figure, (
        f"FID, IS, precision and recall over the guidance scale, for {points['run'].nunique()} "
        f"runs; the paper's points apart. Lowest FID: {said}."
    )


def ratio_figure(records: Records) -> tuple[Figure, str] | None:
    """Fig. 4: FID over the share beta of active channels; beta = 1 is the unrouted baseline."""
    points = measured_points(records, "figure4", ("fid",))
    if points.empty:
        return None
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    here, apart = figure.subplots(1, 2, width_ratios=(2, 1))
    colours = colours_of(COLOURS, points["routing"])
    _ratio_panel(here, points, colours, joined=True)
    slot = FIGURE_SLOTS["figure4"]
    here.set_title(f"Here: {SLOTS[slot].dataset} slot, {records.scale.slots[slot].dataset}")
    here.legend()
    paper = published_points(records, "figure4")
    _ratio_panel(apart, paper, colours_of(COLOURS, paper["routing"]), joined=False)
    apart.set_title("Paper (known points)")
    add_note(figure, _provenance(points))
    said = "; ".join(
        f"{_name(rows[0])} "
        + ", ".join(f"{row['value']:.2f} at beta {row['beta']:g}" for row in rows)
        for rows in _lines(points.sort_values("beta", kind="stable"), ["routing", "alpha"])
    )
    return figure, f"FID over the share beta of active channels. {said}."


def _ratio_panel(
    axis: Axes, points: pd.DataFrame, colours: dict[str, str], *, joined: bool
) -> None:
    baseline = points[points["routing"] == "none"]
    for rows in _lines(points[points["routing"] != "none"], ["routing", "alpha"]):
        name, routing = _name(rows[0]), rows[0]["routing"]
        name += f" (α = {rows[0]['alpha']:g})" if pd.notna(rows[0]["alpha"]) else ""
        line = pd.concat([pd.DataFrame(rows), baseline]).assign(routing=routing, run=name)
        line = _with_looks(line, colours[routing]).assign(dash="-")
        _draw_lines(axis, line, "beta", joined=joined, label=name)
    if len(baseline):
        value, colour = baseline.iloc[0]["value"], COLOURS["none"]
        axis.axhline(value, color=colour, linestyle="--", linewidth=1)
        label = "no routing (β = 1)"
        axis.plot([1.0], [value], "o--", color=colour, label=label, zorder=3)
    axis.set(xlabel="β, share of active channels", ylabel=_heading("fid"), xlim=(0.15, 1.05))
    axis.set_xticks(sorted({0.2, 0.4, 0.6, 0.8, 1.0, *points["beta"]}))


def convergence_figure(records: Records) -> tuple[Figure, str] | None:
    """Fig. 5: FID over training, by model size and, for DiT-L, by loss weighting."""
    points = measured_points(records, "figure5", ("fid",))
    if points.empty:
        return None
    paper = published_points(records, "figure5")
    figure = Figure(figsize=(12, 4.0), layout="constrained")
    left, right, apart = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    right.sharey(left)
    vanilla, large = points["weighting"] == "vanilla", points["backbone"] == WEIGHTED
    sizes, weightings = (SIZE_COLOURS, {}), (WEIGHTING_COLOURS, WEIGHTING_NAMES)
    _convergence_panel(left, points[vanilla], "backbone", *sizes)
    _convergence_panel(right, points[large], "weighting", *weightings)
    _convergence_panel(apart, paper.dropna(subset="value"), "backbone", *sizes, joined=False)
    left.set_title("By model size")
    right.set_title(f"By loss weighting, {WEIGHTED}")
    apart.set_title("Paper (known points)")
    apart.set_ylim(0, 1.4 * paper["value"].max())
    if points["value"].max() > STEEP * points["value"].min() > 0:
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_minor_locator(NullLocator())
        left.yaxis.set_major_formatter(ScalarFormatter())
    add_note(figure, _provenance(points))
    said = "; ".join(
        f"{rows[0]['backbone']}, {_name(rows[0])} "
        + ", ".join(f"{row['value']:.2f} at step {row['step']}" for row in (rows[0], rows[-1]))
        for rows in _lines(points.sort_values("step", kind="stable"), ["run"])
    )
    return figure, f"FID over training by model size and by loss weighting. {said}."


def _convergence_panel(
    axis: Axes,
    points: pd.DataFrame,
    hue: str,
    known: dict[str, str],
    names: dict[str, str],
    *,
    joined: bool = True,
) -> None:
    colours = colours_of(known, points[hue])
    _draw_lines(axis, _with_looks(points, points[hue].map(colours)), "step", joined=joined)
    axis.set(xlabel="training step", ylabel=_heading("fid"))
    axis.set_xlim(0, 1.04 * points["step"].max() if len(points) else 1)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    dashes = _dash_handles(points["routing"], joined=joined)
    axis.legend(
        handles=[*_colour_handles(colours, names), *dashes], fontsize="small", handlelength=2.8
    )


def _lines(points: pd.DataFrame, by: list[str]) -> list[list[dict]]:
    """The points of each line, lines in the order of their first point."""
    groups = points.groupby(by, sort=False, dropna=False)
    return [group.to_dict("records") for _, group in groups]


def _with_looks(points: pd.DataFrame, colour: pd.Series | str) -> pd.DataFrame:
    dash = points["routing"].map(lambda routing: DASHES.get(routing, OTHER_DASH))
    return points.assign(colour=colour, dash=dash)


def _draw_lines(
    axis: Axes, points: pd.DataFrame, x: str, *, joined: bool = True, label: str | None = None
) -> None:
    """A line with its interval per run; hollow markers are of runs without routing."""
    for _, line in points.groupby("run", sort=False):
        line, first = line.sort_values(x), line.iloc[0]
        hollow = {"markerfacecolor": "none"} if first["routing"] == "none" else {}
        axis.plot(
            line[x],
            line["value"],
            color=first["colour"],
            linestyle=first["dash"] if joined else "none",
            marker="o",
            label=label,
            **hollow,
        )
        if "low" in line and line["low"].notna().any():
            options = {"color": first["colour"], "linewidth": 0}
            axis.fill_between(line[x], line["low"], line["high"], alpha=0.1, **options)
            if len(line) == 1:  # a band of one point has no width
                axis.vlines(line[x], line["low"], line["high"], color=first["colour"], alpha=0.5)


def _colour_handles(colours: dict[str, str], names: dict[str, str]) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, linewidth=3, label=names.get(key, key))
        for key, colour in colours.items()
    ]


def _dash_handles(routings: Sequence[str], *, joined: bool = True) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=INK,
            marker="o",
            markerfacecolor="none" if routing == "none" else INK,
            linestyle=DASHES.get(routing, OTHER_DASH) if joined else "none",
            label=ROUTING_NAMES.get(routing, routing),
        )
        for routing in dict.fromkeys(routings)
    ]


def _heading(metric: str) -> str:
    name, direction, _ = NAMES[metric]
    return f"{name} {ARROWS[direction]}"


def _name(row: dict) -> str:
    """A method in words: its routing, and its weighting if it has one."""
    name = ROUTING_NAMES.get(row["routing"], row["routing"])
    if row["weighting"] != "vanilla":
        name += f" with {WEIGHTING_NAMES.get(row['weighting'], row['weighting'])}"
    return name


def _listed(seeds: list[int]) -> str:
    """0, 1 or 0–9: neighbours by the first and the last of them."""
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]}–{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _provenance(points: pd.DataFrame) -> str:
    """How the points of a figure were measured: features, n, seeds, interval, protocol."""
    counts = sorted(set(points["n"]))
    seeds = sorted({seed for own in points["seeds"] for seed in own})
    bounds = " or ".join(bound for bound in dict.fromkeys(points["interval"]) if bound)
    bounds = bounds.replace(" seeds or range over ", " or ")
    parts = [
        f"features {', '.join(dict.fromkeys(points['features']))}",
        "n = " + "–".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1]))),
        f"seed{'s' if len(seeds) > 1 else ''} {_listed(seeds)}",
        *([f"shaded: {bounds}"] if bounds else []),
        f"protocol {', '.join(dict.fromkeys(points['protocol_id']))}",
    ]
    return " · ".join(parts)
