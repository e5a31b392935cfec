"""From a method and a scale to what is trained: the method, none and DTR on each slot.

The scale of a try differs from the given one by its seeds and by one extra run per slot. Results
folder, targets and all other settings are the same, so what was trained before stays as it is.
Free of torch.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from dtr.config.checks import parse_scale, why_not
from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.experiments import RUNS, Choice, Run
from dtr.planning.places import Places
from dtr.routing import build_masks
from dtr.support.errors import Refusal
from dtr.trying.trial import Trial

LONGEST = 60  # characters of a name, which is part of paths


class Asked(NamedTuple):
    """What somebody wants to try, as the command line says it."""

    method: str
    family: Literal["routing", "weighting"]
    constants: dict[str, Any]
    slots: list[str]
    seeds: list[int]


def name_of(asked: Asked) -> str:
    """What a method is called in paths and on the page: its file, its function, its constants."""
    path, _, function = asked.method.rpartition(":")
    path = os.path.normpath(path.removesuffix(".py")).removeprefix("methods/") if path else ""
    words = [path, function, *(f"{key} {value}" for key, value in sorted(asked.constants.items()))]
    name = re.sub(r"[^A-Za-z0-9_.]+", "-", " ".join(words)).strip("-._")
    if len(name) > LONGEST:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[:LONGEST].rstrip('-._')}-{digest}"
    return name


def table1_run(slot: str, routing: Literal["none", "dtr"]) -> Run:
    """The run of a slot in Table 1 without routing, or with DTR."""
    return next(
        run
        for run in RUNS
        if run.slot == slot and run.needed_by("table1") and run.routing.type == routing
    )


def own_run(asked: Asked, slot: str) -> Run:
    """The method's run: network and length of the slot's runs in Table 1."""
    plain = table1_run(slot, "none")
    choice = Choice.model_validate({"type": asked.method} | asked.constants)
    own = {"id": f"{plain.id.removesuffix('none')}try-{name_of(asked)}", asked.family: choice}
    return plain.model_copy(update=own | {"used_by": ()})


def scale_of_try(scale: Scale, asked: Asked) -> Scale:
    """The given scale with the method's runs and seeds; a method that cannot be used is refused.

    Table 1 becomes one of its targets, so that none and DTR are part of it.
    """
    runs = []
    for slot in asked.slots:
        run = own_run(asked, slot)
        if (reason := why_not(scale, run)) is not None:
            raise Refusal(f"--slots: {slot}: {reason}")
        _check_masks(scale, run, asked)
        runs.append(run)
    changes = {
        "seeds": asked.seeds,
        "targets": list(dict.fromkeys([*scale.targets, "table1"])),
        "extra_runs": [run.model_dump(mode="json") for run in (*scale.extra_runs, *runs)],
    }
    return parse_scale(scale.plain() | changes, source=asked.method)


def _check_masks(scale: Scale, run: Run, asked: Asked) -> None:
    """Build the method's table for one network; `dtr.trying.check` tries the network itself."""
    try:
        settings = run_settings(scale, run, asked.seeds[0])
    except Refusal as refusal:
        if asked.method in str(refusal):
            raise
        raise Refusal(f"--constants: {asked.method}: {refusal}") from None
    if asked.family == "routing":
        layers, channels = getattr(settings.backbone, "depth", 1), settings.backbone.channels
        build_masks(settings.routing, layers, scale.diffusion.num_timesteps, channels)


def wanted_files(scale: Scale, trial: Trial) -> Iterator[str]:
    """What Snakemake is asked for: every record of metrics, and the samples that the page shows."""
    places = Places(scale.results)
    for place in trial.places:
        for run in place.runs.values():
            for seed in trial.seeds:
                yield places.metrics(run, seed, place.steps, place.protocol_id)
            yield places.shard(run, trial.seeds[0], place.steps, place.protocol_id, 0)
