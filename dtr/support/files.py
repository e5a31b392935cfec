"""Files that are whole or absent: atomic writes, canonical JSON, npz archives, content hashes."""

import errno
import hashlib
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtr.support.errors import Refusal, Unwritable

if TYPE_CHECKING:
    import numpy as np

# Errors of a file system that has no room, or does not let us write.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success flush it to disk and rename it to `path`.

    A path that cannot be written is refused before anything is computed, and also if the room ends
    while it is written; what was there before then stays.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
    except OSError as error:
        raise Unwritable(f"{path}: cannot be written ({error.strerror})") from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except Exception as error:
        if (reason := unwritable_reason(error)) is None:
            raise
        raise Unwritable(f"{path}: cannot be written ({reason})") from None
    finally:
        temporary.unlink(missing_ok=True)


def unwritable_reason(error: BaseException) -> str | None:
    """Why a file could not be written, where that is behind an error; None of other errors.

    Libraries that write tensors raise errors of their own over, or about, that of the system.
    """
    seen: BaseException | None = error
    while seen is not None:
        number = seen.errno if isinstance(seen, OSError) else None
        if number is None and (told := re.search(r"\(os error (\d+)\)", str(seen))):
            number = int(told[1])
        if number in UNWRITABLE:
            return os.strerror(number)
        seen = seen.__cause__ or seen.__context__
    return None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` to `path` atomically, indented for reading."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or damaged one is refused by name."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, deep nesting
        raise Refusal(f"{path}: not readable as JSON ({error})") from None
    except OSError as error:  # a folder, or somebody else's file
        raise Refusal(f"{path}: not readable ({error.strerror})") from None


def canonical_json(value: Any) -> str:
    """The one spelling of `value` that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_npz(path: Path, *, only: str | None = None) -> dict[str, "np.ndarray"]:
    """All arrays of an .npz by name, or the one called `only` if it is there.

    Refused if missing or damaged. Pickles are not read.
    """
    import numpy as np  # the workflow reads this module without needing arrays

    try:
        with np.load(path, allow_pickle=False) as archive:
            names = archive.files if only is None else {only} & {*archive.files}
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    # TypeError: a bare .npy file is no archive.
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        # NumPy takes all else for a pickle, and says how to read that in spite of the danger.
        told = isinstance(error, OSError) or zipfile.is_zipfile(path)
        reason = error if told else "damaged, or no archive"
        raise Refusal(f"{path}: not readable as npz ({reason})") from None
