"""Everything that the page of a try shows, copied into its own folder.

The folder then needs neither the results that it came from nor the method's file.
"""

import shutil
from pathlib import Path

import numpy as np

from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.experiments import SLOTS, Run
from dtr.planning.places import TRAININGS, Places
from dtr.planning.runs import all_runs
from dtr.records.heads import choose, head_of_samples
from dtr.records.schema import ModelRecord, read_record
from dtr.reporting.figures.sheets import strip_of, write_picture
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, replacing, write_json, write_text
from dtr.trying.check import first_masks, weights_over_time
from dtr.trying.trial import FILE, ROLES, SCHEMA, Place, Trial

ARRAYS, SCALE, LABELS, PAGE = "arrays.npz", "try-scale.json", "samples/told.json", "index.html"
OWN = (  # what a try leaves in its folder, and replaces
    *(FILE, "try.csv", ARRAYS, SCALE, PAGE),
    *(TRAININGS, "runs/*/seed*/step*/metrics/*.json"),
    *(f"samples/*.{kind}" for kind in ("png", "jpeg", "json")),
    *(f"figures/*.{kind}" for kind in ("png", "pdf", "svg")),
)


def check_folder(out: Path, results: Path) -> None:
    """Refuse a folder that holds something else than a try, or the results themselves."""
    if results.resolve().is_relative_to(out.resolve()):
        raise Refusal(f"--out {out}: is or holds the results {results}; name a folder of its own")
    if out.exists() and not out.is_dir():
        raise Refusal(f"--out {out}: is no folder")
    if out.exists() and any(out.iterdir()) and not any((out / n).is_file() for n in (FILE, SCALE)):
        raise Refusal(f"--out {out}: holds something else than a try; name another folder")


def write_scale(scale: Scale, out: Path) -> Path:
    """Write the scale of a try, for Snakemake and for whoever repeats it; returns the file."""
    write_text(out / SCALE, canonical_json(scale.plain()) + "\n")
    return out / SCALE


def gather(scale: Scale, trial: Trial, out: Path) -> None:
    """Copy records and samples of a finished try to `out`, and the masks or weights of its method.

    Files of an earlier try there are replaced. Refuses models of another version of the method's
    file than the one that was checked: it was edited while they were trained.
    """
    _check_sources(Places(scale.results), trial)
    for path in {path for pattern in OWN for path in out.glob(pattern)} - {out / SCALE}:
        path.unlink()
    places, runs, arrays, told = Places(scale.results), all_runs(scale), {}, {}
    for place in trial.places:
        for run in place.runs.values():
            for seed in trial.seeds:
                _copy(places.training(run, seed, place.steps), scale, out)
                _copy(places.metrics(run, seed, place.steps, place.protocol_id), scale, out)
        told[place.slot] = _samples(places, trial, place, out)
        for role in ("method", "dtr"):
            arrays |= _arrays(scale, trial, place, role, runs[place.runs[role]])
    with replacing(out / ARRAYS) as temporary:
        np.savez_compressed(temporary, **arrays)
    write_json(out / LABELS, told)
    write_json(out / FILE, {"schema_version": SCHEMA, "trial": trial.plain()})


def _check_sources(places: Places, trial: Trial) -> None:
    for place in trial.places:
        for seed in trial.seeds:
            path = places.training(place.runs["method"], seed, place.steps)
            source = read_record(ModelRecord, path).sources.get(trial.family)
            if source != trial.source_sha256:
                raise Refusal(
                    f"{path}: trained with another version of {trial.method}, which was edited "
                    "meanwhile; the same command trains it again"
                )


def _copy(path: str, scale: Scale, out: Path) -> None:
    target = out / Path(path).relative_to(scale.results)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _arrays(scale: Scale, trial: Trial, place: Place, role: str, run: Run) -> dict[str, np.ndarray]:
    """Masks bool [T, C], or of a weighting weights float64 [T], of one run of a slot."""
    settings = run_settings(scale, run, trial.seeds[0])
    if trial.family == "routing":
        masks = first_masks(settings)
        return {} if masks is None else {f"{place.slot}.{role}": masks}
    return {f"{place.slot}.{role}": weights_over_time(settings)}


def _samples(places: Places, trial: Trial, place: Place, out: Path) -> list[str]:
    """Write one picture per run, of the same images; returns what the models were told."""
    chosen, labels = None, []
    for role in ROLES:
        model = (place.runs[role], trial.seeds[0], place.steps)
        images, told = head_of_samples(Path(places.samples(*model, place.protocol_id)))
        if images is None:
            continue
        if chosen is None:
            chosen = choose(told.get("labels"), len(images))
            kind = {"class": "labels", "text": "captions"}.get(SLOTS[place.slot].told)
            labels = [str(label) for label in told[kind][chosen]] if kind in told else []
        if len(images) > chosen.max():
            strip = strip_of(images[chosen], role, place.runs[role], "")
            write_picture(strip, out / "samples" / f"{place.slot}-{role}")
    return labels
