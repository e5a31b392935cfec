"""The page of a try, built from its folder alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from dtr.planning.places import Places
from dtr.records.schema import ModelRecord, read_record
from dtr.reporting.html import environment
from dtr.reporting.tables.cells import NAMES, format_value
from dtr.support.errors import Refusal
from dtr.support.files import read_json, read_npz, write_text
from dtr.trying.gather import ARRAYS, LABELS, PAGE
from dtr.trying.numbers import Result, results, write_numbers
from dtr.trying.pictures import pictures, share_text, sheet
from dtr.trying.trial import ROLES, Trial, read_trial
from dtr.trying.words import badge, percent, power_sentence, verdict_sentence


def build_page(out: Path) -> Path:
    """Write try.json, try.csv, the figures and the page of a try to its folder; returns the page.

    Nothing outside of `out` is read but the templates.
    """
    trial = read_trial(out)
    found = results(trial, out)
    arrays, told = read_npz(out / ARRAYS), read_json(out / LABELS)
    write_numbers(trial, found, out)
    text = (
        environment()
        .get_template("try.html.j2")
        .render(
            trial=trial,
            slots=[_slot(trial, one, arrays, told.get(one.place.slot, []), out) for one in found],
            roles=ROLES,
            percent=percent,
            number=_number,
            heading=_heading,
            machines=_machines(trial, out),
        )
    )
    write_text(out / PAGE, text)
    return out / PAGE


def _slot(
    trial: Trial, result: Result, arrays: dict[str, np.ndarray], told: list[str], out: Path
) -> dict[str, Any]:
    """What the section of one slot shows."""
    place = result.place
    masks = arrays.get(f"{place.slot}.method")
    routed = masks is not None and trial.family == "routing"
    return {
        "place": place,
        "result": result,
        "verdicts": [
            {
                "difference": one,
                "badge": badge(one.verdict),
                "sentence": verdict_sentence(trial.name, one),
                "power": power_sentence(one, result),
            }
            for one in result.differences
        ],
        "pictures": pictures(trial, place, arrays, out / "figures"),
        "share": share_text(masks) if routed else "",
        "strips": sheet(trial, place, out / "samples"),
        "told": told,
    }


def _number(name: str, value: float) -> str:
    """A value of a metric ("fid@digits-cnn") as the tables print it; a small one with 3 digits."""
    if value != value:
        return "–"
    text = format_value(name.split("@")[0], value)
    return text if abs(value) >= 1 or value == 0 else f"{value:.3g}".replace("-", "−")


def _heading(name: str) -> str:
    metric = name.split("@")[0]
    return NAMES[metric][0] if metric in NAMES else metric


def _machines(trial: Trial, out: Path) -> list[dict[str, Any]]:
    """On what the models were trained, and how many on each."""
    found: Counter[tuple[str, ...]] = Counter()
    for place in trial.places:
        for run in place.runs.values():
            for seed in trial.seeds:
                record = Places(str(out)).training(run, seed, place.steps)
                try:
                    made = read_record(ModelRecord, record).provenance
                except Refusal:
                    continue  # the table of its slot says so
                device = made.get("cpu") if made.get("device") == "cpu" else made.get("device")
                commit = str(made.get("commit") or "unknown")[:10]
                changed = " with local changes" if made.get("dirty") else ""
                found[str(device), f"{commit}{changed}", str(made.get("platform"))] += 1
    names = ("device", "commit", "platform")
    return [dict(zip(names, key, strict=True)) | {"count": count} for key, count in found.items()]
