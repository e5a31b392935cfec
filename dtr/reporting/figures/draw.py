"""Figures of the page: drawn once, as SVG for the page and as PNG, PDF and SVG beside it."""

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.figure import Figure

from dtr.experiments import FIGURES
from dtr.records.table import Records
from dtr.reporting.figures.forest import Line, forest_figure
from dtr.reporting.figures.noise import noise_figure
from dtr.reporting.figures.quality import convergence_figure, guidance_figure, ratio_figure
from dtr.reporting.figures.similarity import overlap_figure, similarity_figure
from dtr.reporting.figures.style import COLOURS, CURRENT, INK, STYLE
from dtr.reporting.figures.training import training_figure
from dtr.reporting.figures.typical import typical_figure
from dtr.routing import active_channels, window_starts
from dtr.support.errors import Refusal
from dtr.support.files import replacing, write_text

MASK_CHANNELS, MASK_ALPHAS = 64, (0.5, 1.0, 4.0)


@dataclass
class Picture:
    """A finished figure: its name (of the caption and the files), its SVG and its alt text."""

    name: str
    svg: str
    alt: str


def mask_figure(records: Records) -> tuple[Figure, str]:
    """Fig. 2: which channels each timestep reads, for alpha below, at and above 1."""
    beta = records.scale.routing.beta
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
    return figure, alt


DRAWN: dict[str, Callable[[Records], tuple[Figure, str] | None]] = {
    "figure2": mask_figure,
    "figure3": guidance_figure,
    "figure4": ratio_figure,
    "figure5": convergence_figure,
    "figure6": similarity_figure,
    "overlap": overlap_figure,
    "training": training_figure,
    "typical": typical_figure,
    "noise": noise_figure,
}
FIGURE_NAMES = tuple(DRAWN)


def build_figures(records: Records, *, figures: Path | None, others: Path) -> list[Picture]:
    """Draw every figure there is material for; each is written as in `draw_figure`.

    figures: folder of the paper's, None: they have their files already; others: of the rest.
    """
    pictures = (
        draw_figure(name, records, figures if name in FIGURES else others) for name in FIGURE_NAMES
    )
    return [picture for picture in pictures if picture is not None]


def draw_figure(name: str, records: Records, folder: Path | None) -> Picture | None:
    """Draw one of FIGURE_NAMES and write <folder>/<name>.png, .pdf and .svg, if given a folder.

    None, and nothing is written, where no record has a point of it. Refuses unknown names.
    """
    if name not in DRAWN:
        raise Refusal(f"figure {name!r}: unknown; known: {', '.join(FIGURE_NAMES)}")
    with matplotlib.rc_context(STYLE):
        drawn = DRAWN[name](records)
        return None if drawn is None else finish(name, *drawn, folder)


def draw_forest(lines: Sequence[Line], folder: Path) -> Picture | None:
    """Draw all claims (`forest_figure`) and write <folder>/claims.png, .pdf and .svg."""
    with matplotlib.rc_context(STYLE):
        drawn = forest_figure(lines)
        return None if drawn is None else finish("claims", *drawn, folder)


def draw_blank(name: str, folder: Path) -> Picture:
    """Write the files of a figure all of whose records exist, and none of which has a value."""
    alt = "No model of this figure has a value; the tables say why."
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 1.2))
        figure.text(0.02, 0.5, alt, color=INK)
        return finish(name, figure, alt, folder)


def finish(name: str, figure: Figure, alt: str, folder: Path | None) -> Picture:
    """A drawn figure as a picture of a page; written as in `draw_figure`, if given a folder."""
    # Laid out once: every format would do it again, and differ by the widths of its text.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    out = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Title": alt}
    figure.savefig(out, format="svg", facecolor="white", metadata=metadata)
    if folder is not None:
        for suffix, about in (("png", {}), ("pdf", {"CreationDate": None})):
            with replacing(folder / f"{name}.{suffix}") as temporary:
                figure.savefig(temporary, format=suffix, dpi=150, facecolor="white", metadata=about)
        write_text(folder / f"{name}.svg", out.getvalue())
    return Picture(name, _inline(out.getvalue(), name, alt), alt)


def _inline(svg: str, name: str, alt: str) -> str:
    """An SVG document as an element of the page: its own ids, the page's font and colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="patch_1">.*?</g>', "", svg, count=1, flags=re.DOTALL)  # white paper
    # Equal pictures get equal ids, and nothing refers to them.
    svg = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = svg.replace('xlink:href="', 'href="')
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"(font(-family)?: [^;\"]*?)'[^;\"]*(?=[;\"])", r"\1inherit", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    for colour, variable in CURRENT.items():
        svg = svg.replace(colour, variable)
    size = re.search(r'<svg[^>]*?width="([\d.]+)pt"', svg)
    svg = re.sub(r'(<svg[^>]*?) (height|width)="[\d.]+pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) (height|width)="[\d.]+pt"', r"\1", svg, count=1)
    width = f'style="max-width:{float(size[1]) * 1.34:.0f}px" ' if size else ""
    return svg.replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(alt)}" {width}', 1
    ).strip()
