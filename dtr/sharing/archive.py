"""One archive of results without their large files, and how one is opened without trusting it."""

import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dtr.planning.places import Places
from dtr.records.reference import BUILT_FROM, SCALE, records_below
from dtr.records.table import Records
from dtr.reporting.built import built_files
from dtr.sharing.crate import CRATE, ENVIRONMENT, crate, environment, listed
from dtr.sharing.findings import Finding, is_plain, short
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, hash_file, replacing, write_json, write_text

MOST_BYTES = 4 << 30  # of an unpacked archive
MOST_FILES = 100_000
CHUNK = 1 << 20
# What reading a zip file that is damaged, or of a kind that is not read here, may raise.
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError)
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry: equal results make equal archives


def pack(records: Records, out: Path) -> int:
    """Write records, scale, tables, figures, claims, page and metadata to `out`; returns files.

    What is there goes in; an archive of part of the results is one of part of the results.
    """
    root = records.root
    paths = {path.relative_to(root).as_posix(): path for path in records_below(root)}
    if not paths:
        raise Refusal(f"{root}: no records to pack")
    if records.broken:
        name, problem = next(iter(records.broken.items()))
        raise Refusal(f"{root / name}: {problem}")
    now = Path(Places(str(root)).now())
    passing = (now / BUILT_FROM).is_file() and not (root / BUILT_FROM).is_file()
    built = now if passing else root
    for path in (*built_files(built), built / BUILT_FROM):
        if path.is_file():
            paths[path.relative_to(root).as_posix()] = path
    with tempfile.TemporaryDirectory() as name, replacing(out) as temporary:
        made = Path(name)
        write_text(made / SCALE, canonical_json(records.scale.plain()) + "\n")
        write_json(made / ENVIRONMENT, environment(records))
        paths |= {own: made / own for own in (SCALE, ENVIRONMENT)}
        if (size := sum(path.stat().st_size for path in paths.values())) > MOST_BYTES:
            raise Refusal(f"{root}: {size} bytes; an archive holds up to {MOST_BYTES}")
        write_json(made / CRATE, crate(records, paths))
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for entry, path in sorted((paths | {CRATE: made / CRATE}).items()):
                _add(archive, entry, path)
    return len(paths) + 1


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(CHUNK):
            target.write(chunk)


def is_archive(path: Path) -> bool:
    """Whether a path is a zip file."""
    return path.is_file() and zipfile.is_zipfile(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The files of an archive in a folder that is removed afterwards.

    Refused before anything is written: names that lead out of the folder, links, encryption, and
    more than MOST_BYTES, be it by what the archive says or by what comes out of it.
    """
    with tempfile.TemporaryDirectory(prefix="dtr-results-") as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                _check_entries(path, archive.infolist())
                left = MOST_BYTES
                for entry in archive.infolist():
                    if not entry.is_dir():
                        left -= _extract(archive, entry, folder, left, path)
        except DAMAGE as error:
            raise Refusal(f"{path}: not readable as an archive ({error})") from None
        yield folder


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename.rstrip("/").lower() for entry in entries]
    if len(entries) > MOST_FILES:
        raise Refusal(f"{path}: {len(entries)} files; accepted: up to {MOST_FILES}")
    for entry in entries:
        mode = entry.external_attr >> 16
        if not is_plain(entry.filename):
            raise Refusal(f"{path}: the name {entry.filename!r} leads out of the archive")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Refusal(f"{path}: {entry.filename!r} is a link or a device; accepted: files")
        if entry.flag_bits & 1:
            raise Refusal(f"{path}: {entry.filename!r} is encrypted")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(f"{path}: {twice!r} is there twice")
    if (size := sum(entry.file_size for entry in entries)) > MOST_BYTES:
        raise Refusal(f"{path}: {size} bytes unpacked; accepted: up to {MOST_BYTES}")


def _extract(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, left: int, path: Path
) -> int:
    """Write one entry below the folder; returns its bytes, of which it may have `left`."""
    target, size = folder / entry.filename, 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(entry) as source, target.open("xb") as stream:
        while chunk := source.read(CHUNK):
            if (size := size + len(chunk)) > left:
                raise Refusal(f"{path}: unpacks to more than {MOST_BYTES} bytes")
            stream.write(chunk)
    return size


def check_listed(folder: Path) -> Iterator[Finding]:
    """The files of an unpacked archive against those that its metadata lists."""
    try:
        expected = listed(folder / CRATE)
    except Refusal as refusal:
        yield Finding("broken", CRATE, str(refusal).partition(": ")[2], "metadata of an archive")
        return
    found = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    del found[CRATE]
    for name in sorted(found.keys() - expected.keys()):
        yield Finding("altered", name, "a file that the metadata does not list", "none")
    for name, sha256 in expected.items():
        if not is_plain(name):
            yield Finding("unsafe", CRATE, f"the file name {name!r}", "names of the archive")
        elif name not in found:
            yield Finding("altered", name, "no such file", "one, as the metadata lists it")
        elif (content := hash_file(found[name])) != sha256:
            yield Finding("altered", name, f"sha256 {short(content)}", f"{short(sha256)} as listed")
