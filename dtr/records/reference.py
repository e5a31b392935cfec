"""Reference results: the records of a full run without weights, and how to use them.

A reference folder holds `scale.json`, the scale that was run, and its records in the places they
had below the results folder, with thinner training histories. Of the images there are only those
that the page shows of Table 1's models.
"""

import shutil
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from dtr.config.checks import parse_scale
from dtr.config.scale import Scale
from dtr.planning.evaluations import protocols
from dtr.planning.noise import drawn_protocols
from dtr.planning.places import CKA, METRICS, THROUGHPUT, TRAININGS
from dtr.records.heads import HEADS, kept_heads, write_head
from dtr.records.table import Records
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, read_json, write_text

RECORDS = (TRAININGS, *METRICS, CKA, THROUGHPUT)
SCALE = "scale.json"
# That a page has beside the paper's figures.
OTHER_PICTURES = ("claims", "overlap", "training", "noise")
BUILT_FROM = "report/built.json"  # beside a page: the records that it was built from
BUILT = (  # what a report adds to a restored folder
    *(f"tables/table[1-8].{kind}" for kind in ("csv", "md", "tex")),
    *(f"figures/figure[2-6].{kind}" for kind in ("svg", "png", "pdf")),
    *(f"report/{name}.{kind}" for name in OTHER_PICTURES for kind in ("svg", "png", "pdf")),
    *(f"report/samples-*.{kind}" for kind in ("png", "jpeg")),
    *(f"claims/claims.{kind}" for kind in ("csv", "md", "json")),
    "report/index.html",
    BUILT_FROM,
)
KEPT = Path(__file__).parents[2] / "results" / "reference"  # by the name of the scale
FROM_REFERENCE = (
    "from-reference"  # name of the folder where the report of reference results is built
)
HISTORY_POINTS = 25  # kept of each training
SAME = 1e-9  # relative difference below which two values are one


def collect(scale: Scale, out: Path) -> int:
    """Copy the records of a scale to the reference folder `out`; returns their number.

    Reference results that were there before are replaced; a folder that holds anything else is
    refused, as are records that cannot be read.
    """
    root = Path(scale.results)
    if root.resolve().is_relative_to(out.resolve()) or out.resolve().is_relative_to(root.resolve()):
        raise Refusal(f"{out}: is, holds or lies in the results {root}; name another folder")
    paths = records_below(root)
    if not paths:
        raise Refusal(f"{root}: no records to collect")
    if (broken := Records(scale).broken) != {}:
        raise Refusal(f"{root / next(iter(broken))}: {next(iter(broken.values()))}")
    collected = {path.relative_to(root): _thinned(read_json(path)) for path in paths}
    heads = {path.relative_to(root): arrays for path, arrays in kept_heads(scale)}
    _make_room(out)  # only when everything has been read
    write_text(out / SCALE, canonical_json(scale.plain()) + "\n")
    for place, record in collected.items():
        write_text(out / place, canonical_json(record) + "\n")
    for place, arrays in heads.items():
        write_head(out / place, arrays)
    return len(collected)


def records_below(root: Path) -> list[Path]:
    """Every record of models and measurements below a results folder, sorted."""
    return sorted(path for pattern in RECORDS for path in root.glob(pattern))


def _thinned(record: dict[str, Any]) -> dict[str, Any]:
    """A record with at most HISTORY_POINTS of its history; the last entry stays."""
    if len(history := record.get("history", [])) > HISTORY_POINTS:
        stride = -(-len(history) // HISTORY_POINTS)
        record["history"] = history[::-stride][::-1]
    return record


def reference_scale(folder: Path) -> Scale:
    """The scale behind a reference folder; its `results` is that folder."""
    file = folder / SCALE
    if not file.is_file():
        raise Refusal(f"{folder}: no reference results (scale.json is missing)")
    return parse_scale(read_json(file) | {"results": str(folder)}, source=str(file))


def kept_reference(scale: Scale) -> Records | None:
    """The records of the repository's reference results of a scale; None if there are none.

    Nor is there one for reference results themselves, which their own mark tells.
    """
    folder = KEPT / scale.scale
    if not (folder / SCALE).is_file() or (Path(scale.results) / SCALE).is_file():
        return None
    return Records(reference_scale(folder))


def restore(folder: Path, out: Path) -> Scale:
    """Copy a reference folder to the results folder `out`, for building its report there.

    What an earlier call has left there is replaced; a folder that holds anything else is refused.
    """
    scale = reference_scale(folder)
    here, there = folder.resolve(), out.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise Refusal(f"{folder}: is where its report is built; name another folder")
    _make_room(out, built=True)
    kept = (folder / SCALE, *records_below(folder), *folder.glob(HEADS))
    for path in kept:  # and nothing else that lies there
        target = out / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return scale.model_copy(update={"results": str(out)})


def _make_room(out: Path, *, built: bool = False) -> None:
    """Remove from `out` what `collect` or `restore` wrote, and refuse to touch anything else.

    built: a report may have been built there from it.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_marked(out):
        raise Refusal(f"{out}: holds something else than reference results; name another folder")
    own = {path for pattern in (SCALE, *RECORDS, HEADS) for path in out.glob(pattern)}
    own.update(path for pattern in (BUILT if built else ()) for path in out.glob(pattern))
    found = sorted(path for path in out.rglob("*") if not path.is_dir() or path.is_symlink())
    for path in found:
        if path not in own or path.is_symlink():
            raise Refusal(f"{path}: no part of reference results; {out} is left as it is")
    for path in found:
        path.unlink()
    for path in sorted(out.rglob("*"), reverse=True):
        path.rmdir()  # empty by now, the deepest first


def _is_marked(out: Path) -> bool:
    """Whether the file that marks reference results is there, and is a scale."""
    try:
        content = read_json(out / SCALE)
    except Refusal:
        return False
    return isinstance(content, dict) and {"scale", "results", "targets"} <= content.keys()


@dataclass(frozen=True)
class Compared:
    """One measured value beside its reference.

    `agreement`: identical (the same seeds give the same numbers), agrees (the ranges of intervals
    over seeds overlap), differs, missing (not measured here), new (not in the reference).
    """

    run: str
    slot: str
    step: int
    protocol_id: str
    metric: str
    agreement: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reference: float | None = None
    reference_low: float | None = None
    reference_high: float | None = None


KEY = ["run", "slot", "step", "protocol_id", "metric"]


def compare(scale: Scale, folder: Path) -> list[Compared]:
    """Every value of the reference in `folder` or of the scale's results, one beside the other."""
    reference = _values(Records(reference_scale(folder)))
    here = _values(Records(scale))
    return list(_compared(here, reference))


def _values(records: Records) -> dict[tuple, pd.DataFrame]:
    """Rows by KEY; without the draws of the noise panel, which is asked for by name."""
    frame = records.frame
    rows = frame[(frame["kind"] == "metrics") & (frame["status"] == "ok") & (frame["metric"] != "")]
    drawn = drawn_protocols(records.scale).keys() - protocols(records.scale).keys()
    rows = rows[~rows["protocol_id"].isin(drawn)]
    return dict(iter(rows.groupby(KEY, sort=True)))


def _compared(
    here: dict[tuple, pd.DataFrame], reference: dict[tuple, pd.DataFrame]
) -> Iterator[Compared]:
    for key in sorted(here.keys() | reference.keys()):
        ours, theirs = here.get(key), reference.get(key)
        numbers = (*_range(ours), *_range(theirs))
        if ours is None or theirs is None:
            yield Compared(*key, "missing" if ours is None else "new", *numbers)
            continue
        _, low, high, _, reference_low, reference_high = numbers
        if _identical(ours, theirs):
            agreement = "identical"
        elif low <= reference_high and reference_low <= high:
            agreement = "agrees"
        else:
            agreement = "differs"
        yield Compared(*key, agreement, *numbers)


def _range(rows: pd.DataFrame | None) -> tuple[float | None, float | None, float | None]:
    """Mean over seeds, and the ends of all their intervals together."""
    if rows is None:
        return None, None, None
    low = rows["low"].fillna(rows["value"]).min()
    high = rows["high"].fillna(rows["value"]).max()
    return float(rows["value"].mean()), float(low), float(high)


def _identical(ours: pd.DataFrame, theirs: pd.DataFrame) -> bool:
    """Whether the seeds that both have, and there is one, gave the same values."""
    both = ours.merge(theirs, on="seed", suffixes=("", "_reference"))
    difference = (both["value"] - both["value_reference"]).abs()
    return bool(len(both)) and bool((difference <= SAME * both["value"].abs()).all())


def comparison_csv(compared: list[Compared]) -> str:
    """One line per value."""
    names = [field.name for field in fields(Compared)]
    return pd.DataFrame(map(astuple, compared), columns=names).to_csv(index=False)
