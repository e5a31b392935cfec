"""Our samples as the npz that ADM's evaluator reads."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dtr.support.errors import Refusal
from dtr.support.files import read_npz, replacing


def export_samples(shards: Sequence[Path], out: Path) -> None:
    """Join sample files in order into the npz that ADM's evaluator reads.

    shards: npz files with `arr_0` uint8 [n, H, W, 3] and, in all or none, `labels` int [n].
    Writes `arr_0` and `arr_1`, int64 [n]: the labels, or zeros where the images were told no class.
    The evaluator reads `arr_0` alone; readers that stream both arrays, as ADM's scripts write them
    for a class-conditional network, find both either way. One shard at a time is in memory.
    """
    if not shards:
        raise Refusal("sample files: none given, at least one is needed")
    places = [path.resolve() for path in shards]
    if len(set(places)) < len(places) or out.resolve() in places:
        raise Refusal("sample files: one is given twice, or is also what is written")
    parts = [(len(images), images.shape[1:], labels) for images, labels in map(_shard, shards)]
    size = parts[0][1]
    for path, (_, own, labels) in zip(shards, parts, strict=True):
        if own != size:
            raise Refusal(f"{path}: images of {own[:2]}, those of {shards[0]} are of {size[:2]}")
        if (labels is None) != (parts[0][2] is None):
            raise Refusal(f"{path}: labels in some files only ({shards[0]} differs)")
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)),
        "fortran_order": False,
        "shape": (sum(count for count, _, _ in parts), *size),
    }
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for path in shards:
                stream.write(np.ascontiguousarray(_shard(path)[0]).data)
        with archive.open("arr_1.npy", "w", force_zip64=True) as stream:
            joined = np.concatenate(
                [np.zeros(n, np.int64) if labels is None else labels for n, _, labels in parts]
            )
            np.lib.format.write_array(stream, joined, allow_pickle=False)


def _shard(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images uint8 [n, H, W, 3] and labels int64 [n], if any, of one sample file."""
    arrays = read_npz(path)
    images, labels = arrays.get("arr_0"), arrays.get("labels")
    if images is not None and (drawn := int(arrays.get("drawn", 0))) > len(images):
        raise Refusal(f"{path}: {len(images)} of {drawn} images were kept; accepted: all of them")
    if lost := int(arrays.get("lost", 0)):
        raise Refusal(f"{path}: images that diverged in sampling: {lost}; accepted: none")
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        found = "none" if images is None else f"{images.dtype} {list(images.shape)}"
        raise Refusal(f"{path}: arr_0: {found}; accepted: uint8 images [n, H, W, 3]")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype.kind not in "iu"):
        found = f"{labels.dtype} {list(labels.shape)}"
        raise Refusal(f"{path}: labels: {found}; accepted: one integer for each image")
    return images, None if labels is None else labels.astype(np.int64)
