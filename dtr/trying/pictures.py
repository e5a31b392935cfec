"""The pictures of a try: masks as in Fig. 2, overlap as in Appendix B, or weights; samples."""

import base64
import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from dtr.reporting.figures.draw import Picture, finish
from dtr.reporting.figures.sheets import Strip
from dtr.reporting.figures.similarity import draw_overlap
from dtr.reporting.figures.style import COLOURS, OTHER_COLOURS, STYLE
from dtr.support.errors import Refusal
from dtr.trying.trial import ROLES, Place, Trial

COLOURS_OF_ROLES = {"method": OTHER_COLOURS[0], "none": COLOURS["none"], "dtr": COLOURS["dtr"]}
Arrays = dict[str, np.ndarray]  # "<slot>.<role>": masks bool [T, C], or weights float64 [T]


def pictures(trial: Trial, place: Place, arrays: Arrays, folder: Path) -> list[Picture]:
    """What can be drawn of a slot, each written to `folder` as SVG, PNG and PDF."""
    own = {role: arrays.get(f"{place.slot}.{role}") for role in ("method", "dtr")}
    if own["method"] is None:
        return []
    labels = trial.labels
    with matplotlib.rc_context(STYLE):
        if trial.family == "weighting":
            return [_drawn(f"weights-{place.slot}", _weights(own["method"], labels), folder)]
        return [
            _drawn(f"masks-{place.slot}", _masks(own, labels), folder),
            _drawn(f"overlap-{place.slot}", _overlap(own, labels), folder),
        ]


def _drawn(name: str, figure_and_alt: tuple[Figure, str], folder: Path) -> Picture:
    return finish(name, *figure_and_alt, folder)


def _masks(own: Arrays, labels: dict[str, str]) -> tuple[Figure, str]:
    """Which channels each timestep reads: timesteps to the right, channels downwards."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    parts = []
    for axis, (role, masks) in zip(figure.subplots(1, 2, sharey=True), own.items(), strict=True):
        timesteps, channels = masks.shape
        axis.imshow(
            masks.T.astype(np.uint8),
            aspect="auto",
            extent=(0, timesteps, channels, 0),
            cmap=ListedColormap([(1, 1, 1, 0), COLOURS_OF_ROLES[role]]),
            vmin=0,
            vmax=1,
            interpolation="none",
        )
        axis.set_title(labels[role])
        axis.set(xlabel="timestep t")
        axis.set_xticks([*range(0, timesteps, timesteps // 4), timesteps])
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(False)
        parts.append(f"{labels[role]}: {share_text(masks)}")
    figure.axes[0].set_ylabel("channel")
    return figure, "Channels that each timestep reads. " + "; ".join(parts) + "."


def share_text(masks: np.ndarray) -> str:
    """How many of its channels a timestep reads; masks: [T, C] bool."""
    shares = 100 * masks.mean(axis=1)
    text = f"a timestep reads {shares.mean():.0f} % of {masks.shape[1]} channels on average"
    if shares.min() < shares.max():
        text += f", from {shares.min():.0f} to {shares.max():.0f} %"
    return text


def _overlap(own: Arrays, labels: dict[str, str]) -> tuple[Figure, str]:
    """Channels that two tasks share, over the distance of their timesteps."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    axis: Axes = figure.subplots()
    parts = []
    for role, masks in own.items():
        look = {"color": COLOURS_OF_ROLES[role], "linestyle": "-"}
        near, far = draw_overlap(axis, masks, labels[role], pairs=True, **look)
        parts.append(f"{labels[role]} {near:.1f} between neighbours, {far:.1f} between the ends")
    timesteps, channels = own["method"].shape
    axis.set(xlabel="distance between timesteps", xlim=(0, timesteps), ylim=(0, channels))
    axis.set_ylabel(f"channels two tasks share, of {channels}")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, "Channels that two tasks share on average: " + "; ".join(parts) + "."


def _weights(weights: np.ndarray, labels: dict[str, str]) -> tuple[Figure, str]:
    """What the noise error of a timestep weighs in the loss, logarithmic where it can be."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    axis: Axes = figure.subplots()
    axis.plot(weights, color=COLOURS_OF_ROLES["method"], label=labels["method"])
    axis.axhline(1.0, color=COLOURS_OF_ROLES["none"], linestyle="--", label="vanilla loss")
    if weights.min() > 0:
        axis.set_yscale("log")
    axis.set(xlabel="timestep t", ylabel="weight of the noise error", xlim=(0, len(weights)))
    axis.legend()
    at = {t: f"{weights[t]:.3g}" for t in (0, len(weights) // 2, len(weights) - 1)}
    said = ", ".join(f"{weight} at timestep {t}" for t, weight in at.items())
    return figure, f"Weight of the noise error in the loss of {labels['method']}: {said}."


def sheet(trial: Trial, place: Place, folder: Path) -> list[Strip]:
    """The stored pictures of samples of a slot, as data URIs."""
    strips = []
    for role in ROLES:
        file = next(iter(sorted(folder.glob(f"{place.slot}-{role}.*"))), None)
        if file is None:
            continue
        try:
            data = file.read_bytes()
            width, height = Image.open(io.BytesIO(data)).size
        except OSError as error:
            raise Refusal(f"{file}: not readable as an image ({error})") from None
        uri = f"data:image/{file.suffix[1:]};base64,{base64.b64encode(data).decode()}"
        label = trial.labels[role]
        alt = f"Samples of {label} on {place.paper}, seed {trial.seeds[0]}"
        strips.append(Strip(label, place.runs[role], uri, width, height, alt))
    return strips
