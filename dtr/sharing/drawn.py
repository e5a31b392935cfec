"""Checks of what was built from the records: tables, claims, the page; and the paper's numbers."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dtr.experiments import TABLES
from dtr.planning.places import Places
from dtr.records.reference import BUILT_FROM
from dtr.reporting.built import built_files, built_from
from dtr.reporting.claims.judged import build_claims
from dtr.reporting.claims.judged import to_csv as claims_csv
from dtr.reporting.claims.judged import to_markdown as claims_markdown
from dtr.reporting.tables.build import build_table
from dtr.reporting.tables.formats import to_csv, to_latex, to_markdown
from dtr.sharing.findings import Finding, Kind, Results, is_plain, short
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json

CELL = ("table", "row", "dataset", "metric")  # columns of a table's CSV that name a cell
SHOWN = ("paper", "value", "low", "high", "n", "status", "protocol_id")  # those that are compared


def check_built(results: Results) -> Iterator[Finding]:
    """Tables and claims against what the records give today, the page against its own note."""
    for name in TABLES:
        yield from _table(results, name)
    yield from _claims(results)
    yield from _page(results)


def _table(results: Results, name: str) -> Iterator[Finding]:
    path = results.root / "tables" / f"{name}.csv"
    if not path.is_file():
        return  # the page says whether it was ever there
    table = build_table(name, results.records)
    files = {"csv": to_csv(table), "md": to_markdown(table), "tex": to_latex(table)}
    for kind, expected in files.items():
        other = path.with_suffix(f".{kind}")
        if not other.is_file():
            yield Finding("missing", results.name(other), "no such file", "beside the others")
            continue
        results.seen("files of tables")
        found = _text(other)
        if found == expected:
            continue
        how, named = _how(results, other), results.name(other)
        cells = list(_cells(how, named, found, expected)) if kind == "csv" else []
        yield from cells
        if not cells:
            yield Finding(how, named, "another text", "what the records give")


def _how(results: Results, path: Path) -> Kind:
    """What is wrong with a file that differs from the records: it is as it was built, or is not."""
    try:
        built = _note(results.root / BUILT_FROM)["files"].get(results.name(path))
    except Refusal:
        built = None
    return "stale" if built == hash_file(path) else "altered"


def _cells(how: Kind, name: str, found: str, expected: str) -> Iterator[Finding]:
    """The cells in which two tables differ, each by its row and metric."""
    ours, theirs = _by_cell(expected), _by_cell(found)
    for key in ours.keys() | theirs.keys():
        where = " / ".join(key[1:])
        if key not in theirs or key not in ours:
            said = ("no cell", "one") if key not in theirs else ("a cell", "none")
            yield Finding(how, name, f"{said[0]} {where}", said[1])
            continue
        for column in SHOWN:
            if (now := ours[key].get(column)) != (then := theirs[key].get(column)):
                what = "the paper's value" if column == "paper" else column
                yield Finding(how, name, f"{where}: {what} {then or 'none'}", now or "none")


def _by_cell(text: str) -> dict[tuple[str, ...], dict[str, str]]:
    rows = csv.DictReader(io.StringIO(text))
    return {tuple(str(row.get(name)) for name in CELL): row for row in rows}


def _claims(results: Results) -> Iterator[Finding]:
    path = results.root / "claims" / "claims.csv"
    if not path.is_file():
        return
    claims = build_claims(results.scale, results.records)
    for kind, expected in (("csv", claims_csv(claims)), ("md", claims_markdown(claims))):
        other = path.with_suffix(f".{kind}")
        results.seen("files of claims")
        if not other.is_file():
            yield Finding("missing", results.name(other), "no such file", "beside the other")
        elif (found := _text(other)) != expected:
            how = _how(results, other)
            yield Finding(how, results.name(other), *_first_difference(found, expected))


def _first_difference(found: str, expected: str) -> tuple[str, str]:
    pairs = zip(found.splitlines(), expected.splitlines(), strict=False)
    for number, (then, now) in enumerate(pairs, start=1):
        if then != now:
            at = next((i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), 0)
            cut = slice(max(0, at - 20), at + 40)
            return f"line {number}: ...{then[cut]}", f"...{now[cut]}"
    return f"{len(found.splitlines())} lines", f"{len(expected.splitlines())}"


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", errors="replace")


def _page(results: Results) -> Iterator[Finding]:
    """The page of the results, or else that of what existed at one moment."""
    now = Path(Places(str(results.root)).now())
    for root in (results.root, now):
        if (root / BUILT_FROM).is_file():
            yield from _built(results, root, passing=root == now)
            return
        if (page := root / "report" / "index.html").is_file():
            found = f"no {Path(BUILT_FROM).name} beside it"
            yield Finding("missing", results.name(page), found, "what it was built from")
            return
    if results.whole:
        yield Finding("missing", "report/index.html", "no such file", "the page")


def _built(results: Results, root: Path, *, passing: bool) -> Iterator[Finding]:
    """What report/built.json says beside what is there; a passing page may be behind."""
    note = results.name(root / BUILT_FROM)
    try:
        then = _note(root / BUILT_FROM)
    except Refusal as refusal:
        yield Finding("broken", note, str(refusal).partition(": ")[2], "what it was built from")
        return
    today = built_from(results.records, root)
    if then["published_sha256"] != today["published_sha256"]:
        expected = f"{short(today['published_sha256'])} of this version"
        found = f"the paper's numbers {short(then['published_sha256'])}"
        yield Finding("stale", note, found, expected)
    for path in sorted(then["records"].keys() | today["records"].keys()):
        if (found := then["records"].get(path)) != (present := today["records"].get(path)):
            kind = "missing" if passing else "stale"
            said = f"built with {path} {short(found)}"
            yield Finding(kind, note, said, short(present))
    present = {path.relative_to(root).as_posix() for path in built_files(root)}
    results.seen("files of the page", len(present))
    for path, sha256 in then["files"].items():
        if not is_plain(path):
            yield Finding("unsafe", note, f"the file name {path!r}", "names below the results")
        elif path not in present:
            yield Finding("missing", results.name(root / path), "no such file", "built before")
        elif today["files"][path] != sha256:
            found = f"sha256 {short(today['files'][path])}"
            yield Finding("altered", results.name(root / path), found, f"{short(sha256)} as built")


def _note(path: Path) -> dict[str, Any]:
    note = read_json(path)
    try:
        records, files = dict(note["records"]), dict(note["files"])
        return {"records": records, "files": files, "published_sha256": note["published_sha256"]}
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"{path}: not a note of what a page was built from ({error})") from None
