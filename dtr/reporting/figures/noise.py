"""The noise panel: every training with several draws of samples."""

import math

import numpy as np
from matplotlib.figure import Figure

from dtr.experiments import SLOTS
from dtr.records.table import Records
from dtr.reporting.claims.components import components, noise_panels
from dtr.reporting.figures.style import COLOURS, INK, RULE


def noise_figure(records: Records) -> tuple[Figure, str] | None:
    """Change of FID with DTR per training (a column) and draw of samples (a dot), per slot."""
    panels = list(noise_panels(records))
    if not panels:
        return None
    figure = Figure(figsize=(9.6, 2.9), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    said = []
    for axis, panel in zip(axes, panels, strict=True):
        changes = 100 * np.expm1(panel.table)
        places = range(len(panel.seeds))
        axis.axhline(0, color=RULE)
        for draw in changes.T:
            axis.plot(places, draw, "o", color=COLOURS["dtr"], ms=4, alpha=0.7)
        axis.plot(places, changes.mean(axis=1), "_", color=INK, ms=9)
        axis.set_xticks(places, panel.seeds)
        share = components(panel.table).share
        name = SLOTS[panel.slot].dataset
        axis.set_title(name, loc="left")
        axis.set_xlabel("" if math.isnan(share) else f"{100 * share:.0f} % from training")
        said.append(name if math.isnan(share) else f"{name} {100 * share:.0f} %")
    axes[0].set_ylabel("FID with DTR, change in %")
    alt = (
        "Change of FID with DTR for each training seed, one dot per draw of samples. Share of the "
        f"variance that comes from training: {', '.join(said)}."
    )
    return figure, alt
