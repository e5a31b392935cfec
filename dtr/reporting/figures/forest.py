"""All claims in one picture: the effect here, the paper's, and what could not have been seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from dtr.reporting.figures.style import COLOURS, INK, RULE, SMALL, SOFT

LIMIT = 60.0  # per cent; what lies beyond is drawn as an arrow at the edge
HEIGHT = 0.3  # inches of a line
VERDICT_COLOURS = {
    "reproduced": "#3d8f5f",
    "smaller than published": "#4a7fc1",
    "no effect": "#4a7fc1",
    "contradicted": "#c0504d",
}


@dataclass(frozen=True)
class Line:
    """One claim: changes in per cent, with the bounds of their interval."""

    title: str
    verdict: str
    value: float
    low: float
    high: float
    expected: float | None  # the paper's
    detectable: float | None  # smallest effect that would have been seen, with 80 % power


def forest_figure(lines: Sequence[Line]) -> tuple[Figure, str] | None:
    """A line per claim that has an effect in per cent; None without any."""
    if not lines:
        return None
    figure = Figure(figsize=(9.6, 1.1 + HEIGHT * len(lines)), layout="constrained")
    axis = figure.subplots()
    for row, line in enumerate(lines):
        _draw(axis, row, line)
    axis.axvline(0, color=SOFT, lw=1)
    axis.set(xlim=(-LIMIT, LIMIT), ylim=(len(lines) - 0.4, -0.6))
    axis.set_yticks(range(len(lines)), [line.title for line in lines])
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("change of the metric, per cent (for FID, left is better)")
    _key(figure, axis)
    alt = (
        "Effect of every claim in per cent with its 95 % interval, beside the paper's. "
        + " ".join(f"{line.title}: {line.value:+.1f} ({line.verdict})." for line in lines)
    )
    return figure, alt


def _draw(axis, row: int, line: Line) -> None:
    colour = VERDICT_COLOURS.get(line.verdict, COLOURS["none"])
    if line.detectable is not None:
        width = min(line.detectable, LIMIT)
        axis.barh(row, 2 * width, left=-width, height=0.72, color=RULE, alpha=0.55, lw=0)
    low, high = max(line.low, -LIMIT), min(line.high, LIMIT)
    if low < high:
        axis.plot([low, high], [row, row], color=colour, lw=2.2, solid_capstyle="butt")
    inside = -LIMIT < line.value < LIMIT
    edge = LIMIT * 0.985 if line.value > 0 else -LIMIT * 0.985
    marker = "o" if inside else (">" if line.value > 0 else "<")
    axis.plot(line.value if inside else edge, row, marker, color=colour, ms=6)
    if line.expected is not None and abs(line.expected) < LIMIT:
        axis.plot(line.expected, row, "D", mfc="none", mec=INK, mew=1.2, ms=5.5)


def _key(figure, axis) -> None:
    """What the marks mean, below the axis and its title however many lines there are."""
    shown = [
        axis.plot([], [], "o-", color=COLOURS["none"], label="here, 95 % interval")[0],
        axis.plot([], [], "D", mfc="none", mec=INK, mew=1.2, ls="", label="the paper")[0],
        axis.barh(0, 0, color=RULE, alpha=0.55, label="too small to be seen (80 % power)"),
    ]
    figure.legend(
        handles=shown,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=SMALL,
    )
