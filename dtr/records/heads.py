"""The first images of a model: what a sheet of samples shows, and what reference results keep."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtr.config.scale import Scale
from dtr.planning.evaluations import evaluations_for
from dtr.planning.places import Places
from dtr.support.files import replacing

HEAD = "head.npz"  # stands where the files of samples are not kept
HEADS = f"runs/*/seed*/step*/samples/*/{HEAD}"
COLUMNS, ROWS = 10, 2  # of a sheet
LOOKED_AT = 200  # images at the head of a shard from which a sheet chooses


def kept_heads(scale: Scale) -> Iterator[tuple[Path, dict[str, np.ndarray]]]:
    """Place and arrays of what a sheet shows of Table 1's models, where they have been sampled.

    arr_0: uint8 [n, H, W, 3], of the first seed alone; labels or captions [n] where there are any.
    """
    places = Places(scale.results)
    for one in evaluations_for(scale, "table1"):
        if one.seed == scale.seeds[0]:
            folder = Path(places.samples(one.name, one.seed, one.step, one.protocol.id))
            images, told = head_of_samples(folder)
            if images is not None:
                shown = choose(told.get("labels"), len(images))
                yield folder / HEAD, {k: v[shown] for k, v in {"arr_0": images, **told}.items()}


def write_head(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an archive that head_of_samples reads."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def head_of_samples(folder: Path) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Images at the head of the first file, None if unreadable, and what the model was told."""
    shard = folder / ("shard-0.npz" if (folder / "shard-0.npz").exists() else HEAD)
    images = head_of_array(shard, "arr_0", LOOKED_AT)
    if images is None or images.ndim != 4 or images.dtype != np.uint8 or not len(images):
        return None, {}
    told = {name: head_of_array(shard, name, LOOKED_AT) for name in ("labels", "captions")}
    return images, {name: array for name, array in told.items() if array is not None}


def head_of_array(archive: Path, name: str, count: int) -> np.ndarray | None:
    """The first `count` items of an array in an .npz, read without the rest; None if unreadable."""
    try:
        with zipfile.ZipFile(archive) as files, files.open(f"{name}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read_header = getattr(np.lib.format, f"read_array_header_{version[0]}_{version[1]}")
            shape, _, dtype = read_header(stream)
            shape = (min(count, shape[0]), *shape[1:])
            data = stream.read(int(np.prod(shape)) * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(shape)
    except (OSError, ValueError, KeyError, AttributeError, IndexError, zipfile.BadZipFile):
        return None


def choose(labels: np.ndarray | None, available: int) -> np.ndarray:
    """Image indices of a sheet: two of each class where there are ten, else the first ones."""
    count = min(COLUMNS * ROWS, available)
    if labels is not None and len(set(labels.tolist())) == COLUMNS:
        found = [np.flatnonzero(labels == label) for label in sorted(set(labels.tolist()))]
        if min(map(len, found)) >= ROWS:
            return np.array([places[row] for row in range(ROWS) for places in found])
    return np.arange(count)
