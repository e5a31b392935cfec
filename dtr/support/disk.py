"""How much room folders take."""

import os
from collections.abc import Iterator
from pathlib import Path


def disk_use(folder: Path) -> dict[str, int]:
    """Bytes below a results folder by its first folders; links are not followed."""
    sizes: dict[str, int] = {}
    for top in (one for one in _scan(folder) if one.is_dir(follow_symlinks=False)):
        sizes[top.name] = _below(top.path)
    return sizes


def _below(folder: str) -> int:
    total = 0
    for one in _scan(folder):
        try:
            if one.is_dir(follow_symlinks=False):
                total += _below(one.path)
            elif one.is_file(follow_symlinks=False):
                total += one.stat(follow_symlinks=False).st_size
        except OSError:  # gone meanwhile
            continue
    return total


def _scan(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return
