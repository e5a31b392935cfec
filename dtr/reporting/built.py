"""What a page was built from, written beside it, so that anybody can tell whether it still fits."""

from pathlib import Path
from typing import Any

from dtr import __version__
from dtr.records.reference import BUILT_FROM, records_below
from dtr.records.table import Records
from dtr.reporting.published import DATA
from dtr.support.files import hash_file, write_json

PARTS = ("tables", "figures", "claims", "report")  # folders of what a report consists of


def write_built(records: Records, root: Path) -> None:
    """Write report/built.json below `root`: the scale, and hashes of records and files."""
    write_json(root / BUILT_FROM, built_from(records, root))


def built_from(records: Records, root: Path) -> dict[str, Any]:
    """The scale, the SHA-256 of each record used, of the paper's numbers, and of what was built."""
    return {
        "version": __version__,
        "scale": records.scale.plain(),
        "published_sha256": hash_file(DATA),
        "records": {
            path.relative_to(records.root).as_posix(): hash_file(path)
            for path in records_below(records.root)
        },
        "files": {path.relative_to(root).as_posix(): hash_file(path) for path in built_files(root)},
    }


def built_files(root: Path) -> list[Path]:
    """Tables, figures, claims and the page with its pictures, as they lie below `root`."""
    found = (path for part in PARTS for path in (root / part).rglob("*"))
    ours = (path for path in found if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in ours if path != root / BUILT_FROM)
