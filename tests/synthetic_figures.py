"""Values that figures are drawn of, and what is seen in them."""

import json
from pathlib import Path

from matplotlib.axes import Axes

from dtr.experiments import RUNS
from dtr.planning.evaluations import Evaluation

COMPARED = ("ffhq256-b2-none", "ffhq256-b2-rtr", "ffhq256-b2-dtr-a4")


def value_for(evaluation: Evaluation) -> dict[str, float]:
    """A FID that differs for every run, step and guidance."""
    place = [run.id for run in RUNS].index(evaluation.name)
    fid = 4 + place / 10 + 1000 / max(1, evaluation.step)
    return {"fid": fid + (evaluation.protocol.guidance or 0) + evaluation.seed / 100}


def lines_of(axis: Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of every line with markers."""
    return [
        (list(line.get_xdata()), list(line.get_ydata()))
        for line in axis.lines
        if line.get_marker() not in ("None", "")
    ]


def change_settings(path: Path) -> None:
    """Make a model look as if it had been trained with another batch size."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["settings"]["training"]["batch_size"] += 1
    path.write_text(json.dumps(record), encoding="utf-8")
