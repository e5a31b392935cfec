"""What all figures share: names and colours of the methods, and matplotlib's settings.

Every colour below is readable on the light and on the dark page; INK, SOFT and RULE become the
page's own colours.
"""

from collections.abc import Iterable, Mapping

from matplotlib.figure import Figure

INK, SOFT, RULE = "#1d2129", "#59616d", "#d5d9df"
CURRENT = {INK: "currentColor", SOFT: "var(--soft)", RULE: "var(--rule)"}
COLOURS = {  # of a routing, everywhere on the page
    "none": "#7b8794",
    "random": "#d0782a",
    "dtr": "#2a7f9e",
    "max_roaming": "#a0569a",
    "ercdt": "#5f9a4c",
    "cdtr": "#b5485d",
}
WEIGHTING_COLOURS = {
    "vanilla": "#4a7fc1",
    "p2": "#8a8a3c",
    "min_snr": "#c2762c",
    "ant_uw": "#9c5bb5",
}
SIZE_COLOURS = {
    "DiT-S/2": "#c9783a",
    "DiT-B/2": "#4f9a66",
    "DiT-L/2": "#4a7fc1",
    "DiT-XL/2": "#9c5bb5",
}
OTHER_COLOURS = ("#b8577f", "#6b8f2e", "#4d8fa8", "#9a7440")  # of what a package or scale adds
DASHES = {"none": "--", "random": ":", "dtr": "-"}  # of a routing, where colour says something else
OTHER_DASH = "-."
ROUTING_NAMES = {
    "none": "no routing",
    "random": "R-TR",
    "dtr": "DTR",
    "max_roaming": "Max Roaming",
    "ercdt": "ERCDT",
    "cdtr": "CDTR",
}
WEIGHTING_NAMES = {"vanilla": "Vanilla", "p2": "P2", "min_snr": "Min-SNR-5", "ant_uw": "ANT-UW"}
SMALL = 8
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.constrained_layout.w_pad": 0.09,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",  # text stays text: smaller, searchable, in the page's font
    "svg.hashsalt": "dtr",  # the same figure is the same file
}


def colours_of(known: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The colour of every name, in the order of `known`; then new names with OTHER_COLOURS."""
    names = list(dict.fromkeys(names))
    new = [name for name in names if name not in known]
    others = {name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(new)}
    return {name: colour for name, colour in known.items() if name in names} | others


def add_note(figure: Figure, text: str) -> None:
    """A line below the panels: how their values were measured."""
    figure.supxlabel(text, x=0.005, ha="left", fontsize=SMALL, color=SOFT)
