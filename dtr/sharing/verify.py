"""Whether results are what they say: for a reviewer of results that somebody sent.

Nothing that lies in the results is run: no pickle is loaded and no part from outside imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from dtr.config.checks import parse_scale
from dtr.config.scale import Scale
from dtr.records.reference import BUILT_FROM, SCALE
from dtr.sharing.archive import check_listed, is_archive, unpacked
from dtr.sharing.drawn import check_built
from dtr.sharing.findings import Finding, Results, strange_files
from dtr.sharing.measured import check_measured
from dtr.sharing.origins import check_origins
from dtr.sharing.recorded import check_complete, check_records
from dtr.sharing.stored import check_files, sample_counts
from dtr.support.errors import Refusal
from dtr.support.files import read_json
from dtr.support.trust import only_our_code

NOTES = (BUILT_FROM, f"now/{BUILT_FROM}")  # where a scale is stored beside a page


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, list[Finding]]]:
    """A results folder, or an archive unpacked for as long as this lasts, and what is odd there."""
    if is_archive(path):
        with unpacked(path) as folder:
            yield folder, list(check_listed(folder))
    elif path.is_dir():
        yield path, []
    else:
        raise Refusal(f"{path}: neither a results folder nor an archive of results")


def verify(
    path: Path,
    *,
    scale: Scale | None = None,
    partial: bool = False,
    trusted: bool = False,
    thorough: bool = False,
) -> tuple[list[Finding], dict[str, int]]:
    """Everything that is not as it should be in a results folder or archive, and what was seen.

    scale: whose results they are; None: the one that is stored with them.  partial: what is
    missing is left out.  trusted: parts from outside may be imported.  thorough: every metric is
    computed again from its features, and not only those that take no time.
    """
    with opened(path) as (root, odd), nullcontext() if trusted else only_our_code():
        odd += strange_files(root)
        if odd:
            return odd, {}  # nothing more is read of it
        results = results_in(root, scale)
        found = [*_findings(results, thorough)]
    kept = [one for one in found if not (partial and one.kind == "missing")]
    return list(dict.fromkeys(kept)), results.counts


def results_in(root: Path, scale: Scale | None) -> Results:
    """The results in a folder, by the scale that is given or stored there."""
    whole = not (root / SCALE).is_file()  # the mark of records without weights and samples
    scale = stored_scale(root) if scale is None else scale
    return Results(scale.model_copy(update={"results": str(root)}), root, whole)


def stored_scale(root: Path) -> Scale:
    """The scale that is stored with results: of reference results, or beside their page."""
    for name, key in ((SCALE, None), *((note, "scale") for note in NOTES)):
        file = root / name
        if file.is_file():
            content: Any = read_json(file)
            if key is not None:
                content = content.get(key) if isinstance(content, dict) else None
            if not isinstance(content, dict):
                raise Refusal(f"{file}: holds no scale")
            # Where they were made is nothing to a reader, and need not be a name here.
            return parse_scale(content | {"results": "results"}, source=str(file))
    raise Refusal(
        f"{root}: no scale is stored here ({SCALE}, {BUILT_FROM}); name it with --configfile"
    )


def _findings(results: Results, thorough: bool) -> Iterator[Finding]:
    yield from check_complete(results)
    yield from check_records(results)
    if results.whole:
        yield from check_files(results)
        yield from check_origins(results)
        yield from sample_counts(results)
        yield from check_measured(results, everything=thorough)
    yield from check_built(results)
