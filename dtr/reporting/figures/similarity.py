"""Fig. 6, similarity between a model's timesteps, and Appendix B, channels that tasks share."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from seaborn import color_palette

from dtr.analysis.overlap import expected_overlap, measured_overlap, overlap_by_distance
from dtr.config.resolve import training_steps
from dtr.planning.runs import selected_runs
from dtr.records.schema import CkaRecord
from dtr.records.table import Records
from dtr.reporting.figures.style import COLOURS, INK, ROUTING_NAMES, SMALL, SOFT, add_note
from dtr.routing import active_channels, dtr_masks, random_masks

WIDEST, LARGEST_PANEL, NARROW_PANEL = 10.6, 1.7, 1.2  # inches
TICKS_APART = {False: 250, True: 500}  # timesteps; by whether panels are narrow
CHANNELS, TIMESTEPS = 768, 1000  # of the paper's DiT-B/2
RATIOS, EXPONENTS = (0.2, 0.4, 0.6, 0.8), {1.0: "--", 4.0: "-"}


def similarity_figure(records: Records) -> tuple[Figure, str] | None:
    """Fig. 6: unbiased CKA between all pairs of timesteps, one row per routing, per block.

    Of the first seed; a model that is outdated, diverged or of another length has no row.
    """
    rows = _compared(records)
    if not rows:
        return None
    blocks = max(len(record.blocks) for record in rows.values())
    size = min(LARGEST_PANEL, WIDEST / blocks)
    narrow = size < NARROW_PANEL
    figure = Figure(
        figsize=(size * blocks + 1.9, (size + 0.2) * len(rows) + 0.6), layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
    axes = figure.subplots(len(rows), blocks, squeeze=False)
    image, lowest = None, 0.0
    for row, (name, record) in zip(axes, rows.items(), strict=True):
        for axis, block in zip(row, record.blocks, strict=False):
            matrix = np.array(block.unbiased, dtype=float)
            lowest = min(lowest, np.nanmin(matrix, initial=0.0))
            image = _heat_map(axis, matrix, _ticks(record.timesteps, TICKS_APART[narrow]))
        for axis in row[len(record.blocks) :]:
            axis.set_axis_off()
        row[0].set_ylabel(f"{name}\ntimestep t")
    for number, axis in enumerate(axes[0], 1):
        axis.set_title(f"{number}" if narrow else f"block {number}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("timestep t", fontsize=SMALL)
    bar = figure.colorbar(
        image,
        ax=axes,
        label="CKA, unbiased",
        extend="min" if lowest < 0 else "neither",
        aspect=12 * len(rows),
    )
    bar.solids.set_rasterized(True)  # else one shape per colour
    record = next(iter(rows.values()))
    add_note(
        figure,
        f"{record.n:,} images in batches of {record.batch_size}, seed {record.seed}, "
        f"step {record.step:,}; a column per block, above each panel the mean over pairs of "
        "different timesteps",
    )
    return figure, _similarity_alt(rows)


def _compared(records: Records) -> dict[str, CkaRecord]:
    """The usable CKA record of each routing that Fig. 6 compares, by the routing's name."""
    scale, seed = records.scale, records.scale.seeds[0]
    rows = {}
    for run in selected_runs(scale).values():
        record = records.cka.get((run.id, seed))
        if not run.needed_by("figure6") or record is None or not record.blocks:
            continue
        if record.step != training_steps(scale, run):
            continue
        if records.outdated(run.id, seed, record.step) is None:
            rows[ROUTING_NAMES.get(run.routing.type, run.routing.type)] = record
    return rows


def _heat_map(axis: Axes, matrix: np.ndarray, ticks: dict[int, str]) -> AxesImage:
    """One block: timesteps ascend to the right and upwards."""
    image = axis.imshow(
        matrix,
        origin="lower",
        vmin=0,
        vmax=1,
        cmap=color_palette("mako", as_cmap=True),
        interpolation="none",  # the page gets one pixel per pair, enlarged by the browser
    )
    axis.grid(False)
    edge = axis.get_subplotspec()
    axis.set_xticks([*ticks], ticks.values() if edge.is_last_row() else [""] * len(ticks))
    axis.set_yticks([*ticks], ticks.values() if edge.is_first_col() else [""] * len(ticks))
    axis.tick_params(labelsize=SMALL - 1, length=2)
    mean = off_diagonal_mean(matrix)
    axis.set_title(f"{mean:.2f}", loc="right", fontsize=SMALL, fontweight="normal", color=SOFT)
    return image


def _ticks(timesteps: list[int], apart: int) -> dict[int, str]:
    """Place and label of the first timestep, the last, and those nearest to round ones between."""
    first, last = timesteps[0], timesteps[-1]
    wanted = [first, *(at for at in range(first + apart, last, apart) if last - at > apart / 2)]
    steps = np.array(timesteps)
    places = [int(np.abs(steps - at).argmin()) for at in (*wanted, last)]
    return {place: str(timesteps[place]) for place in places}


def off_diagonal_mean(matrix: np.ndarray) -> float:
    """Mean over pairs of different timesteps; NaN where no pair has a value."""
    pairs = matrix[~np.eye(len(matrix), dtype=bool)]
    pairs = pairs[np.isfinite(pairs)]
    return float(pairs.mean()) if len(pairs) else float("nan")


def _similarity_alt(rows: dict[str, CkaRecord]) -> str:
    parts = []
    for name, record in rows.items():
        means = [off_diagonal_mean(np.array(b.unbiased, dtype=float)) for b in record.blocks]
        said = ", ".join(f"{mean:.2f}" for mean in means)
        parts.append(f"{name} {said}")
    return (
        "Heat maps of the CKA between the representations of different timesteps, a row per "
        f"routing and a column per block. Mean over pairs from the first block to the last: "
        f"{'; '.join(parts)}."
    )


def overlap_figure(records: Records) -> tuple[Figure, str]:
    """Appendix B: channels that two tasks share, of random masks (Eq. 9) and of DTR's windows."""
    routing = records.scale.routing
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    ratios = sorted({*RATIOS, routing.beta})
    shared = {beta: _random_overlap(beta, routing.seed) for beta in ratios}
    grid = np.linspace(0.05, 1.0, 96)
    left.plot(
        grid,
        [expected_overlap(CHANNELS, beta) for beta in grid],
        color=INK,
        linewidth=1,
        label="Eq. 9",
    )
    means, spreads = zip(*shared.values(), strict=True)
    left.errorbar(
        ratios, means, yerr=spreads, fmt="o", color=COLOURS["random"], label="R-TR, measured"
    )
    left.set(xlabel="β", ylabel="channels two tasks share", ylim=(0, CHANNELS), xlim=(0, 1))
    left.set_title("Random masks")
    left.legend()
    measured = shared[routing.beta][0]
    windows = _windows(right, routing.beta)
    right.axhline(measured, color=COLOURS["random"], linestyle=":", label="R-TR, any distance")
    right.set(xlabel="distance between timesteps", xlim=(0, TIMESTEPS))
    right.set_ylabel(f"shared of {active_channels(CHANNELS, routing.beta)} channels")
    right.set_title(f"DTR, β = {routing.beta:g}")
    low, high = right.get_ylim()
    right.set_ylim(bottom=low - (high - low) / 3)  # below all lines there is room for their names
    right.legend(loc="lower left", fontsize="small")
    alt = (
        f"Channels that two of {TIMESTEPS} tasks share, of {CHANNELS}. With beta {routing.beta:g} "
        f"two random masks share {measured:.1f} on average, Eq. 9 says "
        f"{expected_overlap(CHANNELS, routing.beta):.1f}. "
        + " ".join(
            f"DTR's windows with alpha {alpha:g} share {near:.1f} between neighbouring timesteps "
            f"and {far:.0f} between the first and the last."
            for alpha, (near, far) in windows.items()
        )
    )
    return figure, alt


def _random_overlap(beta: float, seed: int) -> tuple[float, float]:
    masks = random_masks(1, TIMESTEPS, CHANNELS, beta=beta, seed=seed)
    return measured_overlap(masks)


def _windows(axis: Axes, beta: float) -> dict[float, tuple[float, float]]:
    """Draw DTR's overlap over the distance; returns that of neighbours and of the ends."""
    ends = {}
    for alpha, dash in EXPONENTS.items():
        masks = dtr_masks(TIMESTEPS, CHANNELS, beta=beta, alpha=alpha)
        look = {"color": COLOURS["dtr"], "linestyle": dash}
        ends[alpha] = draw_overlap(axis, masks, f"α = {alpha:g}", pairs=alpha > 1, **look)
    return ends


def draw_overlap(
    axis: Axes, masks: np.ndarray, label: str, *, pairs: bool, color: str, linestyle: str
) -> tuple[float, float]:
    """Draw the channels that tasks of masks [T, C] share, over the distance of their timesteps.

    pairs: whether the range over all pairs is shaded.  Returns the means at the least and the
    greatest distance.
    """
    mean, low, high = overlap_by_distance(masks)
    distances = np.arange(1, len(masks))
    axis.plot(distances, mean, color=color, linestyle=linestyle, label=f"{label}, mean")
    if pairs:
        options = {"color": color, "alpha": 0.18, "linewidth": 0}
        axis.fill_between(distances, low, high, label=f"{label}, all pairs", **options)
    return float(mean[0]), float(mean[-1])
