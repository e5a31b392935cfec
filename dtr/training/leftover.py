"""Work folders that no run of a scale goes on from any more: of other settings, data or seeds."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from dtr.backbones.build import build_backbone
from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.experiments import Run
from dtr.planning.jobs import training_data
from dtr.planning.places import Places
from dtr.planning.runs import lineage, selected_runs
from dtr.records.workdir import exclusive, in_use
from dtr.support.errors import Busy, Refusal
from dtr.support.files import read_json
from dtr.training.trainer import identities

FOLDER = re.compile(r"[0-9a-f]{16}")
OURS = re.compile(
    r"step-\d+\.(pt|json)|train\.jsonl|lock|lease-\d+|job-.*\.start|\.step-.*|\.job-.*"
)


@dataclass(frozen=True)
class Leftover:
    """A work folder that no run goes on from; `kept`: it is listed, and never removed."""

    folder: Path
    size: int  # bytes
    reason: str
    kept: bool = False


def leftovers(scale: Scale) -> list[Leftover]:
    """Every such folder below the results of the scale, with the reason."""
    return list(_leftovers(scale))


def _leftovers(scale: Scale) -> Iterator[Leftover]:
    owners: dict[str, list[Run]] = {}
    for run in selected_runs(scale).values():
        owners.setdefault(lineage(scale, run).id, []).append(run)

    @cache
    def present(owner: str, seed: int) -> set[str] | None:
        """Names of the folders that the runs of an owner use; None where their data are missing."""
        found = [_fingerprint(scale, run, seed) for run in owners[owner]]
        return None if None in found else {one[:16] for one in found}

    top = Path(Places(scale.results).work("*", "*"))
    for folder in sorted(Path(scale.results).glob(f"{top.relative_to(scale.results)}/*")):
        seed = folder.parts[-2].removeprefix("seed")
        if folder.is_symlink() or not folder.is_dir() or not seed.isdecimal():
            continue
        owner, name = folder.parts[-3], folder.name
        if owner not in owners:
            reason = f"{owner} is no run of the {scale.scale} scale"
        elif int(seed) not in scale.seeds:
            reason = f"seed {seed} is none of the scale's"
        elif (names := present(owner, int(seed))) is None:
            continue  # what its data will be is not known, so it may be used again
        elif name in names:
            continue
        else:
            reason = "of other settings, data or masks than those of the scale"
        yield _judged(folder, reason)


def _judged(folder: Path, reason: str) -> Leftover:
    size = sum(path.lstat().st_size for path in folder.iterdir())
    if in_use(folder):
        return Leftover(folder, size, f"{reason}; kept, a process works there", kept=True)
    strange = [path.name for path in folder.iterdir() if not OURS.fullmatch(path.name)]
    if strange or not FOLDER.fullmatch(folder.name):
        what = strange[0] if strange else folder.name
        return Leftover(folder, size, f"{reason}; kept, {what} is not of a training", kept=True)
    return Leftover(folder, size, reason)


def _fingerprint(scale: Scale, run: Run, seed: int) -> str | None:
    """The fingerprint of a run by the data that are there; None without them."""
    try:
        manifest = read_json(training_data(scale, run.slot))
    except Refusal:
        return None
    settings = run_settings(scale, run, seed)
    with torch.device("meta"):  # the masks are real, the weights are not needed
        model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    return settings.fingerprint(manifest["content_hash"], identities(settings, model.routing))


def remove(one: Leftover) -> bool:
    """Remove a folder while holding it, so that no training can begin there; False if it cannot."""
    try:
        with exclusive(one.folder):
            shutil.rmtree(one.folder)
    except (Busy, OSError):
        return False
    return True
