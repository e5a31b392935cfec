"""Figures of the page: drawn once, as SVG for the page and as PNG beside it."""

import html
import io
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtr.experiments import SLOTS
from dtr.files import replacing
from dtr.planning import all_runs
from dtr.reporting.records import Records
from dtr.routing import active_channels, window_starts

INK, RULE = "#1d2129", "#d5d9df"  # become the page's own colours in the SVG
CURRENT = {INK: "currentColor", RULE: "var(--rule)"}
COLOURS = {  # of a routing, everywhere on the page
    "none": "#7b8794",
    "random": "#d0782a",
    "dtr": "#2a7f9e",
    "max_roaming": "#a0569a",
    "ercdt": "#5f9a4c",
    "cdtr": "#b5485d",
}
ROUTING_NAMES = {
    "none": "no routing",
    "random": "R-TR",
    "dtr": "DTR",
    "max_roaming": "Max Roaming",
    "ercdt": "ERCDT",
    "cdtr": "CDTR",
}
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: smaller, searchable, in the page's font
    "svg.hashsalt": "dtr",  # the same figure is the same file
}
MASK_CHANNELS, MASK_ALPHAS = 64, (0.5, 1.0, 4.0)
MOST_COLUMNS = 3  # panels side by side
SMOOTHING = 10  # a smoothed value looks back on this fraction of the training: 1 / 10


@dataclass
class Picture:
    """A finished figure: its name (of the caption and the file), its SVG and its alt text."""

    name: str
    svg: str
    alt: str


def build_figures(records: Records, folder: Path) -> list[Picture]:
    """Draw every figure there is material for; write figures/<name>.png."""
    with matplotlib.rc_context(STYLE):
        drawn = [mask_figure(records.scale.routing.beta), loss_figure(records)]
        return [_finish(*figure, folder) for figure in drawn if figure is not None]


def _finish(name: str, figure: Figure, alt: str, folder: Path) -> Picture:
    with replacing(folder / f"{name}.png") as temporary:
        figure.savefig(temporary, format="png", dpi=150, facecolor="white")
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Picture(name, _inline(out.getvalue(), name, alt), alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """An SVG document as an element of the page: its own ids, the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"(font(-family)?: [^;\"]*?)'[^;\"]*(?=[;\"])", r"\1inherit", svg)
    for colour, variable in CURRENT.items():
        svg = svg.replace(colour, variable)
    size = re.search(r'<svg[^>]*?width="([\d.]+)pt"', svg)
    svg = re.sub(r'(<svg[^>]*?) (height|width)="[\d.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) (height|width)="[\d.]+pt"', r"\1", svg, count=1)
    width = f'style="max-width:{float(size[1]) * 1.34:.0f}px" ' if size else ""
    return svg.replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(alt)}" {width}', 1
    ).strip()


def mask_figure(beta: float) -> tuple[str, Figure, str]:
    """Fig. 2: which channels each timestep reads, for alpha below, at and above 1."""
    width = active_channels(MASK_CHANNELS, beta)
    figure = Figure(figsize=(9.6, 3.1), layout="constrained")
    axes = figure.subplots(1, len(MASK_ALPHAS), sharey=True)
    for axis, alpha in zip(axes, MASK_ALPHAS, strict=True):
        starts = [int(s) for s in window_starts(1000, MASK_CHANNELS, beta=beta, alpha=alpha)]
        edges = [0, *(t for t in range(1, 1000) if starts[t] != starts[t - 1]), 1000]
        low = [starts[t] for t in edges[:-1]]
        low.append(low[-1])
        high = [start + width for start in low]
        axis.fill_between(edges, low, high, step="post", color=COLOURS["dtr"], alpha=0.85, lw=0)
        axis.set(xlim=(0, 1000), ylim=(MASK_CHANNELS, 0), xlabel="timestep t")
        axis.set_title(f"α = {alpha:g}")
        axis.set_xticks([0, 250, 500, 750, 999])
        axis.set_yticks([0, 16, 32, 48, 64])
    axes[0].set_ylabel("channel")
    alt = (
        f"Channels that each of 1000 timesteps reads, of {MASK_CHANNELS}, beta {beta:g}: the "
        "window moves early for alpha 0.5, evenly for alpha 1 and late for alpha 4."
    )
    return "figure2", figure, alt


def history_frame(records: Records) -> pd.DataFrame:
    """The logged losses of the final models: run, slot, routing, seed, step, mse (smoothed)."""
    runs = all_runs(records.scale)
    frames = []
    for record in records.final_trainings():
        run = runs.get(record.run)
        if run is None or run.slot not in records.scale.slots or len(record.history) < 2:
            continue
        frame = pd.DataFrame([point.model_dump() for point in record.history])
        frame["mse"] = frame["mse"].rolling(max(1, len(frame) // SMOOTHING), min_periods=1).mean()
        frames.append(
            frame.assign(run=run.id, slot=run.slot, routing=run.routing, seed=record.seed)
        )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def loss_figure(records: Records) -> tuple[str, Figure, str] | None:
    """The noise-prediction error over training, one panel per slot, one line per run and seed."""
    history = history_frame(records)
    if history.empty:
        return None
    slots = [slot for slot in SLOTS if slot in set(history["slot"])]
    columns = min(len(slots), MOST_COLUMNS)
    rows = -(-len(slots) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, slot in zip(axes, slots, strict=False):
        _loss_panel(axis, history[history["slot"] == slot])
        axis.set_title(f"{SLOTS[slot][0]} slot: {records.scale.slots[slot].dataset}")
    for axis in list(axes)[len(slots) :]:
        axis.set_axis_off()
    alt = "Training curves, mean squared error of the predicted noise, for " + "; ".join(
        f"{SLOTS[slot][0]}: {', '.join(sorted(set(history[history['slot'] == slot]['run'])))}"
        for slot in slots
    )
    return "training", figure, alt


def _loss_panel(axis: Axes, history: pd.DataFrame) -> None:
    history = history.assign(
        line=history["run"] + history["seed"].astype(str),
        routing=history["routing"].map(ROUTING_NAMES),
    )
    order = [name for name in ROUTING_NAMES.values() if name in set(history["routing"])]
    sns.lineplot(
        history,
        x="step",
        y="mse",
        hue="routing",
        hue_order=order,
        palette={ROUTING_NAMES[key]: colour for key, colour in COLOURS.items()},
        units="line",
        estimator=None,
        linewidth=1.4,
        ax=axis,
    )
    later = history.loc[history["step"] > 2 * history["step"].max() / SMOOTHING, "mse"]
    margin = 0.08 * (later.max() - later.min()) or 0.01
    axis.set(xlabel="training step", ylabel="noise error (MSE), smoothed")
    axis.set_ylim(later.min() - margin, later.max() + margin)
    axis.legend(title=None)
