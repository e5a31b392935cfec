"""The folder that a scale writes to: one that every rule and every verb can use.

This module must stay free of torch: Snakemake reads it in every job.
"""

import os
from pathlib import Path

from dtr.support.errors import Refusal

FORBIDDEN = frozenset("{}<>*?[]")  # patterns of Snakemake and of the shell
ACCEPTED = (
    "accepted is the path of a folder, relative or absolute, without {}<>*?[], control "
    "characters, or blanks at its ends"
)


def results_folder(results: str, *, source: str) -> str:
    """`results` of a scale as a plain path; refused if the jobs could not write there."""
    folder = plain_folder(results, source=source)
    where = f"{source}: results = {results!r}"
    if Path.cwd().is_relative_to(os.path.abspath(folder)):
        raise Refusal(f"{where}: this folder contains the project, name one below or beside it")
    _check_writable(Path(os.path.abspath(folder)), where)
    return folder


def plain_folder(results: str, *, source: str) -> str:
    """`results` without a slash at its end; refused if it means different folders to tools."""
    where = f"{source}: results = {results!r}"
    if results.startswith("~") or "$" in results:
        expanded = os.path.expandvars(os.path.expanduser(results))
        example = f" ({expanded})" if expanded != results else ""
        raise Refusal(f"{where}: neither ~ nor variables are expanded, write it out{example}")
    strange = FORBIDDEN & set(results) or not results.isprintable() or "://" in results
    if strange or results != results.strip():
        raise Refusal(f"{where}: {ACCEPTED}")
    return os.path.normpath(results)


def _check_writable(folder: Path, where: str) -> None:
    try:
        existing = next(parent for parent in (folder, *folder.parents) if _exists(parent))
    except OSError as error:
        raise Refusal(f"{where}: {error.strerror}") from None
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise Refusal(f"{where}: {existing} cannot be written to")


def _exists(path: Path) -> bool:
    """Whether there is something of this name, be it a link to nothing."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
