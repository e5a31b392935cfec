"""Reading .npz files that other programs or a kill may have left in any state."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from dtr.errors import Refusal


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz by name; refused if missing or damaged. Pickles are not read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except FileNotFoundError:
        raise Refusal(f"{path}: no such file") from None
    # TypeError: a bare .npy file is no archive.
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise Refusal(f"{path}: not readable as npz ({error})") from None
