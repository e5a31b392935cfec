"""What is found when results are checked: a line each, and the results that are looked at."""

import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from dtr.config.scale import Scale
from dtr.records.table import Records

# missing: not there yet; stale: made under other settings, or before what it stands on; altered:
# not what was recorded; broken: not readable; inconsistent: at odds with another record; unsafe.
Kind = Literal["missing", "stale", "altered", "broken", "inconsistent", "unsafe"]
LARGE = (
    "data",
    "latents",
    "work",
    "real",
    "references",
)  # folders that may lie on another file system
SPARE = 1 << 20  # bytes that an archive may unpack to beyond twice its size


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be; `file` is below the results folder."""

    kind: Kind
    file: str
    found: str
    expected: str

    @property
    def line(self) -> str:
        """All of it in one line, whatever the file's name holds."""
        text = f"{self.kind}: {self.file}: found {self.found}; expected {self.expected}"
        return "".join(sign if sign.isprintable() else "?" for sign in text)


@dataclass
class Results:
    """Results to be checked. `whole`: with weights, samples and data, and not records only.

    `counts` says how much was looked at, by what it is.
    """

    scale: Scale
    root: Path
    whole: bool
    records: Records = field(init=False)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = Records(self.scale)

    def name(self, path: Path) -> str:
        """How a file is called in a finding."""
        return path.relative_to(self.root).as_posix()

    def seen(self, what: str, count: int = 1) -> None:
        """Count what was looked at."""
        self.counts[what] = self.counts.get(what, 0) + count

    def below(self, pattern: str) -> list[Path]:
        """Files of a pattern below the results folder, sorted; temporary ones left out."""
        found = self.root.glob(pattern)
        return sorted(path for path in found if not path.name.startswith("."))


def short(value: str | None) -> str:
    """The first digits of a hash, by which it is told."""
    return "none" if value is None else value[:12]


def is_plain(name: str) -> bool:
    """Whether a name from a record or an archive stays below the folder it is joined to."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not (
        name.startswith("/") or "\\" in name or ":" in parts[0] or ".." in parts or "\0" in name
    )


def swells(path: Path) -> bool:
    """Whether an .npz claims to hold far more than its size: written arrays are not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return False  # said when it is read
    return size > 2 * path.stat().st_size + SPARE


def strange_files(root: Path) -> Iterator[Finding]:
    """Links that lead out of the results, and what is neither a file nor a folder."""
    top = root.resolve()
    for folder, names, files in os.walk(root):
        for path in (Path(folder) / name for name in sorted([*names, *files])):
            name = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if name not in LARGE and not path.resolve().is_relative_to(top):
                    yield Finding("unsafe", name, "a link out of the results", "files of their own")
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield Finding("unsafe", name, "neither file nor folder", "files and folders")
