"""What data of the paper's size costs before a network sees it: index, opening, batches, decoding.

Pixels of ImageNet are not needed for that: its million names are made up, its shards are sparse
files that take no disk. Each figure is measured in a process of its own, printed and stored.
"""

import argparse
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dtr.data.crops import decode
from dtr.data.datasets import INDEX, MANIFEST, ImageDataset, _complete, _manifest
from dtr.data.latents import LatentDataset
from dtr.data.sources.folders import FolderImages, FoldersSettings
from dtr.data.streaming import image_file
from dtr.data.trees import Tree, _hash, open_tree
from dtr.seeding import batch_indices, generator
from dtr.support.files import write_json

IMAGES, CLASSES, SIDE = 1_281_167, 1000, 256
PER_SHARD = 5120  # images of 256 pixels in a file of about 1 GiB
BATCH, LATENT = 256, (4, 32, 32)
GIB = 1 << 30


def index(folder: Path, count: int) -> dict[str, float]:
    """An index of `count` images as ImageNet's, from their names to its manifest."""
    started = time.perf_counter()
    names = [f"n{n % CLASSES:08d}/n{n % CLASSES:08d}_{n // CLASSES}.JPEG" for n in range(count)]
    names.sort()
    identity = _hash((name, 110_000, 1_400_000_000) for name in names)
    tree = Tree(names, "", Counter(), identity, lambda _: b"")
    settings = FoldersSettings(
        type="folders", resolution=SIDE, mirror=True, num_test=1000, path="imagenet", classes=True
    )
    labels = np.array([int(name[1:9]) for name in names])
    images = FolderImages(settings, tree, labels, [], {})
    hashes = [f"{n:064x}" for n in range(count)]
    table = images.index(np.arange(count))
    _complete("imagenet", table, hashes)
    manifest = _manifest("imagenet", settings, table)
    table.to_parquet(folder / INDEX, index=False)
    shards = range(0, count, PER_SHARD)
    sizes = {image_file(k): min(PER_SHARD, count - s) for k, s in enumerate(shards)}
    for name, rows in sizes.items():
        sizes[name] = sparse(folder / name, np.uint8, (rows, SIDE, SIDE, 3))
    sizes[INDEX] = (folder / INDEX).stat().st_size
    write_json(folder / MANIFEST, manifest | {"files": dict.fromkeys(sizes, ""), "sizes": sizes})
    seconds, cpu = time.perf_counter() - started, time.process_time()
    return {"seconds": seconds, "cpu_seconds": cpu, "gib": peak()}


def scan(folder: Path, count: int) -> dict[str, float]:
    """Finding image files below a folder of classes: seconds for a million, from `count` files."""
    for number in range(count):
        if number % CLASSES == 0:
            (below := folder / f"tree/n{number:08d}").mkdir(parents=True)
        (below / f"{number}.JPEG").touch()
    started, cpu = time.perf_counter(), time.process_time()
    assert len(open_tree(str(folder / "tree")).names) == count
    found = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    return {"files": count} | {f"{k}_per_million": v * 1e6 / count for k, v in found.items()}


def opening(folder: Path) -> dict[str, float]:
    """Opening the dataset of `index`, and what training asks of it first."""
    started, cpu = time.perf_counter(), time.process_time()
    dataset = ImageDataset.open(folder / MANIFEST)
    opened, opened_cpu = time.perf_counter() - started, time.process_time() - cpu
    rows, labels = dataset.positions("train"), dataset.labels()
    told = {"seconds": opened, "cpu_seconds": opened_cpu}
    told["with_labels_seconds"] = time.perf_counter() - started
    told["with_labels_cpu_seconds"] = time.process_time() - cpu
    return {"images": len(labels), "train": len(rows), **told}


def batches(folder: Path, rows: int, repeats: int = 40) -> dict[str, float]:
    """CPU milliseconds to assemble a batch of latents of both mirrors in half precision.

    From memory: what a disk needs comes on top where latents do not fit.
    """
    draws = np.random.default_rng(0)
    files = {"shard-00000.npy": rows // 2, "shard-00001.npy": rows - rows // 2}
    for name, count in files.items():
        moments = draws.standard_normal((count, 2, 2, *LATENT), dtype=np.float32)
        np.save(folder / name, moments.astype(np.float16))
    np.save(folder / "labels.npy", np.arange(rows) % CLASSES)
    told = {"count": rows, "mirrors": 2, "shape": LATENT, "scale_factor": 0.18215}
    listed = {name: (folder / name).stat().st_size for name in (*files, "labels.npy")}
    manifest = {"files": dict.fromkeys(listed, ""), "sizes": listed, "content_hash": "noise"}
    write_json(folder / MANIFEST, told | manifest)
    data = LatentDataset.open(folder / MANIFEST)
    found = {}
    for what, part in (("whole", slice(0, BATCH)), ("an eighth", slice(0, BATCH // 8))):

        def own(step: int, make: Callable, part: slice = part) -> None:
            chosen = batch_indices(0, step, size=rows, batch_size=BATCH)
            make(chosen, generator(0, "step", step), part)

        for name, make in (("stored", data.stored), ("sampled on the host", data.sample)):
            found[f"{name}, {what}"] = 1000 * middle(lambda n, m=make: own(n, m), repeats)
    return found


def decoding(repeats: int = 15) -> dict[str, float]:
    """CPU seconds of decoding and cropping to 256 pixels, over those of Pillow's calls alone."""
    found = {}
    for name, size, kind in (
        ("ImageNet JPEG", (500, 375), "JPEG"),
        ("FFHQ PNG", (1024, 1024), "PNG"),
    ):
        content = photograph(size, kind)
        pairs = []
        for _ in range(repeats):
            ours = taken(lambda c=content: decode(c, SIDE))
            pairs.append((ours, taken(lambda c=content: plain(c))))
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        found[f"{name}, ms"] = 1000 * ours
        found[f"{name}, over Pillow's"] = ours / theirs
    return found


def plain(content: bytes) -> np.ndarray:
    """ADM's crop of an RGB image, and no question asked."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    while min(image.size) >= 2 * SIDE:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = SIDE / min(image.size)
    size = round(image.width * scale), round(image.height * scale)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    top, left = (size[1] - SIDE) // 2, (size[0] - SIDE) // 2
    return pixels[top : top + SIDE, left : left + SIDE].copy()


def photograph(size: tuple[int, int], kind: str) -> bytes:
    """A smooth picture with some grain, about as hard to decode as a photograph."""
    draws = np.random.default_rng(0)
    coarse = Image.fromarray(draws.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
    grain = draws.normal(0, 6, smooth.shape).astype(np.int16)
    stream = io.BytesIO()
    Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def sparse(path: Path, dtype: type, shape: tuple[int, ...]) -> int:
    """An .npy file of zeros that takes no disk; returns its bytes."""
    with open(path, "wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return path.stat().st_size


def taken(function: Callable[[], object]) -> float:
    """Seconds of this thread's CPU time, which others on the machine do not lengthen much."""
    started = time.thread_time()
    function()
    return time.thread_time() - started


def middle(function: Callable[[int], object], repeats: int) -> float:
    """The median of the seconds of several calls, after two that do not count."""
    return statistics.median([taken(lambda n=n: function(n)) for n in range(repeats + 2)][2:])


def peak() -> float:
    """The most memory that this process has had, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def measured(name: str, folder: Path, images: int) -> dict[str, float]:
    """One of the measurements, in this process."""
    below = folder / ("index" if name == "opening" else name)
    below.mkdir(exist_ok=True)
    known = {
        "index": lambda: index(below, images),
        "opening": lambda: opening(below),
        "scan": lambda: scan(below, min(images, 100_000)),
        "batches": lambda: batches(below, min(images, 8192)),
        "decoding": decoding,
    }
    return known[name]()


NAMES = ("index", "opening", "scan", "batches", "decoding")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NAMES, nargs="+", default=NAMES)
    parser.add_argument("--images", type=int, default=IMAGES, help="of the made-up ImageNet")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/data.json"))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # one, for another process
    arguments = parser.parse_args()
    if arguments.inside:
        (name,) = arguments.only
        print(json.dumps(measured(name, arguments.inside, arguments.images)))
        sys.exit()
    figures = {"images": arguments.images, "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.only:
            command = [sys.executable, __file__, "--only", name, "--inside", folder]
            command += ["--images", str(arguments.images)]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures[name] = json.loads(answer.stdout)
            print(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures[name].items()))
    write_json(arguments.out, figures)
