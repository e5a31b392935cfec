"""Image files of a folder, a zip, a tar or a tar of tars, none of it unpacked to disk.

Files and folders whose names begin with a dot are left out, and files whose suffix is of no image.
"""

import hashlib
import os
import posixpath
import re
import stat
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from dtr.data.readable import Unreadable
from dtr.support.errors import Refusal

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
            ".ppm", ".pgm", ".pbm")  # fmt: skip
LARGEST = 1 << 30  # bytes of one image file, which is read into memory
TAR_BLOCK = 512
HIDDEN = "hidden"


@dataclass(frozen=True)
class Tree:
    """Image files by number, in the order of their names.

    names: relative to the tree, with "/".  root: the folder in which all of them lie, with a "/" at
    its end; empty for a folder on disk.  others: how many files were left out, by suffix.
    identity: hash of names, sizes and times or places.  content: the bytes of an image;
    `Unreadable` if there are none.
    """

    names: list[str]
    root: str
    others: Counter[str]
    identity: str
    content: Callable[[int], bytes]


def open_tree(path: str) -> Tree:
    """The images of a folder or archive, at least one; anything else is refused."""
    if os.path.isdir(path):
        tree = _of_folder(path)
    elif os.path.isfile(path) and path.lower().endswith(".zip"):
        tree = _of_zip(path)
    elif os.path.isfile(path) and path.lower().endswith(".tar"):
        tree = _of_tar(path)
    elif os.path.exists(path):
        raise Refusal(f"{path}: neither a folder nor called .zip or .tar (uncompressed)")
    else:
        hint = "; ~ is not expanded, write it out" if path.startswith("~") else ""
        raise Refusal(f"{path}: no such folder, .zip or .tar{hint}")
    if not tree.names:
        found = told(tree.others) or "nothing"
        raise Refusal(f"{path}: no images (found: {found}); accepted: {', '.join(SUFFIXES)}")
    return tree


def told(others: Counter[str]) -> str:
    """How many files were left out, the most frequent suffixes by name; empty if none were."""
    ordered = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {suffix}" for suffix, count in ordered[:5]]
    if rest := sum(count for _, count in ordered[5:]):
        parts.append(f"{rest} of other kinds")
    return ", ".join(parts)


def printable(name: str) -> str:
    """A file's name on one line of text, also where it holds line breaks or is not UTF-8."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name)


def _is_image(name: str, others: Counter[str]) -> bool:
    """Whether a file is taken for an image, by its name; otherwise it is counted in `others`."""
    if any(part.startswith(".") for part in name.split("/")):
        others[HIDDEN] += 1  # also the ._name.jpg of a macOS archive, which are no images
        return False
    suffix = posixpath.splitext(name)[1].lower()
    if suffix not in SUFFIXES:
        others[printable(suffix) or "without suffix"] += 1
        return False
    return True


def _hash(entries: Iterable[tuple]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode())
    return digest.hexdigest()


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise Unreadable(f"{size} bytes; accepted: up to {LARGEST}")


def _of_folder(path: str) -> Tree:
    others: Counter[str] = Counter()
    found = dict(_walk(path, others))
    names = sorted(found)

    def content(number: int) -> bytes:
        file = os.path.join(path, names[number])
        try:
            status = os.stat(file)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise Unreadable("not a regular file")
            _check_size(status.st_size)
            with open(file, "rb") as stream:
                return stream.read()
        except OSError as error:
            raise Unreadable(error.strerror or "not readable") from None

    identity = _hash((name, *found[name]) for name in names)
    return Tree(names, "", others, identity, content)


def _walk(path: str, others: Counter[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name, and (bytes, time of change), of every image file; links are followed, circles not."""
    status = os.stat(path)
    waiting = [("", ((status.st_dev, status.st_ino),))]
    while waiting:
        prefix, above = waiting.pop()
        try:
            with os.scandir(os.path.join(path, prefix)) as entries:
                listed = list(entries)
        except OSError as error:
            where = printable(os.path.join(path, prefix))
            raise Refusal(f"{where}: not readable ({error.strerror})") from None
        for entry in listed:
            name = prefix + entry.name
            try:
                status = entry.stat()
            except OSError:  # a link to nothing, found unreadable like a damaged file
                status = None
            if status is not None and stat.S_ISDIR(status.st_mode):
                own = (status.st_dev, status.st_ino)
                if own not in above and not entry.name.startswith("."):
                    waiting.append((f"{name}/", (*above, own)))
            elif _is_image(name, others):
                yield name, (status.st_size, status.st_mtime_ns) if status else (0, 0)


def _inner_name(name: str, where: str) -> str:
    """The plain name of an archive's member; refused if it points out of the archive."""
    parts = re.split(r"[/\\]", name)
    if ".." in parts or not parts[0] or re.match(r"[A-Za-z]:[/\\]", name):
        raise Refusal(
            f"{where}: member {printable(name)}: points out of the archive; accepted: relative "
            "names without .."
        )
    return posixpath.normpath(name)


def _no_link(name: str, where: str) -> Refusal:
    return Refusal(f"{where}: member {printable(name)}: a link; accepted in archives: plain files")


def _common(names: list[str]) -> str:
    """The folder that holds all of these sorted names, with "/" at its end, or nothing: ""."""
    shared = ""
    for one, other in zip(*(name.split("/")[:-1] for name in (names[0], names[-1])), strict=False):
        if one != other:
            break
        shared += f"{one}/"
    return shared


def _of_zip(path: str) -> Tree:
    others: Counter[str] = Counter()
    found: dict[str, zipfile.ZipInfo] = {}
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"{path}: damaged, cut off, or no zip ({reason})") from None
    for member in archive.infolist():
        name = _inner_name(member.filename, path)
        if member.is_dir() or not _is_image(name, others):
            continue
        if stat.S_ISLNK(member.external_attr >> 16):
            raise _no_link(name, path)
        if member.flag_bits & 1:
            raise Refusal(f"{path}: member {printable(name)}: encrypted; accepted: no password")
        found[name] = member  # of two of one name the later one, as when it is unpacked
    names = sorted(found)

    def content(number: int) -> bytes:
        member = found[names[number]]
        _check_size(member.file_size)
        try:
            return archive.read(member)
        except Exception as error:  # damaged in one of the ways of several compressions
            raise Unreadable(" ".join(str(error).split()) or type(error).__name__) from None

    identity = _hash((name, found[name].file_size, found[name].CRC) for name in names)
    return Tree(names, _common(names) if names else "", others, identity, content)


def _of_tar(path: str) -> Tree:
    others: Counter[str] = Counter()
    found: dict[str, tuple[int, int]] = {}
    try:
        stream = open(path, "rb")  # noqa: SIM115 (images are read from it later)
    except OSError as error:
        raise Refusal(f"{path}: not readable ({error.strerror})") from None
    for name, start, size, inner in _members(stream, path):
        if inner is not None:  # one class of ImageNet
            folder, where = name[: -len(".tar")], f"{path}: {printable(name)}"
            for below, begin, length, _ in _members(inner, where):
                if _is_image(own := f"{folder}/{below}", others):
                    found[own] = (start + begin, length)
        elif _is_image(name, others):
            found[name] = (start, size)
    names = sorted(found)

    def content(number: int) -> bytes:
        start, size = found[names[number]]
        _check_size(size)
        return os.pread(stream.fileno(), size, start)  # threads share the file, not its position

    status = os.stat(path)
    places = [(name, *found[name]) for name in names]
    identity = _hash([(status.st_size, status.st_mtime_ns), *places])
    return Tree(names, _common(names) if names else "", others, identity, content)


def _members(stream: IO[bytes], where: str) -> Iterator[tuple[str, int, int, IO[bytes] | None]]:
    """Name, place and bytes of each file of an uncompressed tar; an inner tar also as a stream."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # a million of them would fill the memory
                name = _inner_name(member.name, where)
                if member.isdir():
                    continue
                if not member.isreg() or member.sparse is not None:
                    if name.lower().endswith((*SUFFIXES, ".tar")):
                        raise _no_link(name, where)
                    continue
                inner = tar.extractfile(member) if name.lower().endswith(".tar") else None
                yield name, member.offset_data, member.size, inner
            stream.seek(tar.offset)
            # Python takes a damaged or missing header for the end; the true end is all zeros.
            if stream.read(TAR_BLOCK) != bytes(TAR_BLOCK):
                raise tarfile.ReadError("it does not end as a tar does")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"{where}: damaged, cut off, or no uncompressed tar ({reason})") from None
