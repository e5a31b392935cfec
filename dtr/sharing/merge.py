"""Results of two machines in one folder: of one experiment only, and nothing is overwritten."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtr.config.scale import Scale
from dtr.planning.places import ASSET, file_name
from dtr.records.reference import SCALE
from dtr.records.schema import (
    AutoencoderRecord,
    ExtractorRecord,
    TextEncoderRecord,
    ThroughputRecord,
    read_record,
)
from dtr.records.table import differing
from dtr.records.workdir import LOCK, in_use
from dtr.sharing.findings import Results, short, strange_files
from dtr.support.errors import Busy, Refusal
from dtr.support.files import canonical_json, hash_file, read_json, replacing, write_text
from dtr.support.progress import Progress

# What may differ between two machines that share an experiment.
OWN = ("results", "seeds", "targets", "extra_runs", "execution", "deviations", "untestable")
RESULT_FOLDERS = (
    "data", "latents", "autoencoders", "extractors", "text_encoders", "real", "references", "runs",
    "controls", "analysis", "work",
)  # fmt: skip
ASSETS = (
    ("autoencoders", AutoencoderRecord),
    ("extractors", ExtractorRecord),
    ("text_encoders", TextEncoderRecord),
)


@dataclass(frozen=True)
class Conflict:
    """A place that both results fill, with different content; `unit` is its folder or file.

    expected: that two machines differ there, so that it stands in the way of nothing.
    """

    unit: str
    file: str
    first: str
    second: str
    expected: bool = False

    @property
    def line(self) -> str:
        """All of it in one line."""
        kind, kept = ("kept", "; the first's is taken") if self.expected else ("conflict", "")
        said = f"{self.first} in the first, {self.second} in the second"
        return f"{kind}: {self.file}: {said}{kept}"


def merge(
    first: Results, second: Results, out: Path, *, prefer_first: bool = False
) -> tuple[int, list[Conflict]]:
    """Copy the results of both to the new folder `out`; returns files copied, and conflicts.

    With conflicts nothing is copied, unless the first is preferred: its whole folder then stands
    for that of the second. Where both have the same, the files are the first's, and so are speeds.
    """
    _check_folders(first, second, out)
    _check_same(first.scale, second.scale)
    conflicts = [*_conflicts(first, second)]
    if not prefer_first and not all(one.expected for one in conflicts):
        return 0, conflicts
    behind_first, behind_second = _behind(first.root, second.root)
    refused = {one.unit for one in conflicts} | behind_first
    files = {name: path for name, path in _files(second.root) if not _within(name, refused)}
    files |= {name: path for name, path in _files(first.root) if not _within(name, behind_second)}
    made = time.time()
    with Progress(f"merge {out}", len(files), unit="file") as progress:
        for name, path in sorted(files.items()):
            with replacing(out / name) as temporary:
                shutil.copyfile(path, temporary)
            # All of one age, so that Snakemake takes no input for newer than what was made of it.
            os.utime(out / name, (made, made))
            progress.advance()
    if not first.whole:
        write_text(out / SCALE, canonical_json(_joined(first.scale, second.scale, out)) + "\n")
    return len(files), conflicts


def _check_folders(first: Results, second: Results, out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Refusal(f"{out}: is there already; name a new folder, nothing is overwritten")
    resolved = [path.resolve() for path in (first.root, second.root, out)]
    for number, one in enumerate(resolved):
        for other in resolved[number + 1 :]:
            if one.is_relative_to(other) or other.is_relative_to(one):
                raise Refusal(
                    f"{out}: has to be apart from both results, and these from each other"
                )
    if first.whole != second.whole:
        raise Refusal(f"{first.root}, {second.root}: one has records only, the other weights too")
    for results in (first, second):
        for finding in strange_files(results.root):
            raise Refusal(f"{results.root}: {finding.line}")
        for name, problem in results.records.broken.items():
            raise Refusal(f"{results.root / name}: {problem}")
        for lock in results.below(f"work/*/seed*/*/{LOCK}"):
            if in_use(lock.parent):
                raise Busy(f"{lock.parent}: is being trained; wait for it or stop it")


def _check_same(first: Scale, second: Scale) -> None:
    """Refuse results of two experiments: one line names the first setting that differs."""
    for name, one, other in differing(first.plain(), second.plain()):
        if name.split(".")[0] not in OWN:
            raise Refusal(
                f"{name}: {one!r} in the first, {other!r} in the second; results of one protocol "
                "only can be merged"
            )
    theirs = {run.id: run for run in second.extra_runs}
    for run in first.extra_runs:
        if theirs.get(run.id, run) != run:
            raise Refusal(f"extra_runs: {run.id!r} is another run in the second")


def _conflicts(first: Results, second: Results) -> Iterator[Conflict]:
    """Every place with a record or manifest of both that do not say the same."""
    yield from _shared(first, second)
    for name in ("trainings", "metrics"):
        ours, theirs = getattr(first.records, name), getattr(second.records, name)
        for path in sorted(ours.keys() & theirs.keys()):
            one, other = _said(ours[path]), _said(theirs[path])
            for field, here, there in differing(one, other):
                yield Conflict(_unit(path), path, f"{field} {here}", f"{field} {there}")
                break
    ours, theirs = first.records.cka, second.records.cka
    for run, seed in sorted(ours.keys() & theirs.keys()):
        path = f"analysis/cka/{run}-seed{seed}.json"
        for field, _, _ in differing(_said(ours[run, seed]), _said(theirs[run, seed])):
            yield Conflict(path, path, f"one {field.split('.')[0]}", "another")
            break
    yield from _speeds(first.records.throughput, second.records.throughput)


def _speeds(
    first: dict[str, ThroughputRecord], second: dict[str, ThroughputRecord]
) -> Iterator[Conflict]:
    """Table 7 of two machines, which no two have in common."""
    for size in sorted(first.keys() & second.keys()):
        if _said(first[size]) != _said(second[size]):
            path = f"analysis/throughput/{file_name(size)}.json"
            yield Conflict(path, path, *map(_speed, (first[size], second[size])), expected=True)


def _speed(record: ThroughputRecord) -> str:
    if record.speed is None:
        return record.status
    machine = record.provenance.get("cpu") or record.device
    return f"a step {record.speed.ratio:.3f} times as long with DTR, on {machine},"


def _said(record: Any) -> dict[str, Any]:
    """What two records of one result have in common, whoever made it: not when, where, how fast."""
    told = record.model_dump(mode="json")
    for name in ("provenance", "wall_seconds", "sampling_seconds", "history", "processes",
                 "accumulation", "schema_version"):  # fmt: skip
        told.pop(name, None)
    return told


def _unit(path: str) -> str:
    """The folder of a model, or of a control: what belongs together."""
    return path.partition("/metrics/")[0].removesuffix("/train.json")


def _shared(first: Results, second: Results) -> Iterator[Conflict]:
    """Data, encoders, extractors and features of real images, on which all runs stand."""
    for name, one in _identities(first).items():
        other = _identities(second).get(name, one)
        if one != other:
            yield Conflict(name, name, short(one), short(other))


def _identities(results: Results) -> dict[str, str]:
    found = {}
    for kind in ("data", "latents"):
        for path in results.below(f"{kind}/*/manifest.json"):
            found[results.name(path.parent)] = str(read_json(path).get("content_hash"))
    for kind, model in ASSETS:
        for path in results.below(f"{kind}/*/{ASSET[1]}"):
            found[results.name(path.parent)] = read_record(model, path).weights_sha256
    for path in (*results.below("real/*.npz"), *results.below("references/*.npz")):
        found[results.name(path)] = hash_file(path)
    return found


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    """Everything below a results folder that is not built from the rest, by its name there."""
    for part in RESULT_FOLDERS:
        for path in sorted((root / part).rglob("*")):
            passing = path.name.startswith((".", "lease-")) or path.name == LOCK
            if path.is_file() and not passing:
                yield path.relative_to(root).as_posix(), path


def _within(name: str, units: set[str]) -> bool:
    return any(name == unit or name.startswith(f"{unit}/") for unit in units)


def _behind(first: Path, second: Path) -> tuple[set[str], set[str]]:
    """Work folders of the second that are no further than the first's, and of the first behind."""
    ours, theirs = _reached(first), _reached(second)
    both = ours.keys() & theirs.keys()
    further = {name for name in both if ours[name] >= theirs[name]}
    return further, both - further


def _reached(root: Path) -> dict[str, int]:
    """The newest step of each work folder."""
    steps: dict[str, int] = {}
    for path in root.glob("work/*/seed*/*/step-*.json"):
        step, folder = path.stem.removeprefix("step-"), path.parent.relative_to(root).as_posix()
        if step.isdecimal():
            steps[folder] = max(steps.get(folder, 0), int(step))
    return steps


def _joined(first: Scale, second: Scale, out: Path) -> dict[str, Any]:
    """The scale of merged records: seeds, targets and runs of both."""
    known = {run.id for run in first.extra_runs}
    runs = [*first.extra_runs, *(run for run in second.extra_runs if run.id not in known)]
    joined = first.model_copy(
        update={
            "results": str(out),
            "seeds": sorted({*first.seeds, *second.seeds}),
            "targets": list(dict.fromkeys([*first.targets, *second.targets])),
            "extra_runs": runs,
        }
    )
    return joined.plain()
