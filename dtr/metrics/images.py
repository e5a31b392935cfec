"""Images from elsewhere, measured as ours are: an npz of ADM's layout, or a folder of files."""

import hashlib
import time
from pathlib import Path

import numpy as np

from dtr.config.stages import Protocol
from dtr.metrics.features import Features, extractor_hash, load_features, same_extractor
from dtr.metrics.measure import MetricSettings, measure
from dtr.records.provenance import provenance
from dtr.records.schema import ImagesRecord, write_record
from dtr.support.errors import Refusal
from dtr.support.files import read_npz

MODES = ("RGB", "L")  # of image files; in others an alpha channel or a palette would be lost


def read_images(path: Path, n: int | None = None) -> np.ndarray:
    """The first n images, or all, of an npz or a folder: uint8 [n, H, W, 3] of one size.

    An npz holds `arr_0` in this layout; its other arrays are not read. Every file of a folder is
    an image, in the order of names; grey ones become three equal channels.
    """
    if path.is_dir():
        return _of_folder(path, n)
    arrays = read_npz(path)
    if "arr_0" not in arrays:
        raise Refusal(f"{path}: no array 'arr_0' (found: {', '.join(arrays) or 'nothing'})")
    images = arrays["arr_0"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        found = f"{images.dtype} {list(images.shape)}"
        raise Refusal(f"{path}: arr_0: {found}; accepted: uint8 images [n, H, W, 3]")
    return images[: _count(path, len(images), n)]


def _of_folder(folder: Path, n: int | None) -> np.ndarray:
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    files = files[: _count(folder, len(files), n)]
    first = _image(files[0])
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    for number, file in enumerate(files):
        image = _image(file)
        if image.shape != first.shape:
            sizes = [" x ".join(map(str, shape[:2])) for shape in (image.shape, first.shape)]
            raise Refusal(
                f"{file}: {sizes[0]} pixels, {files[0].name} has {sizes[1]}; accepted: one size"
            )
        images[number] = image
    return images


def _image(file: Path) -> np.ndarray:
    """One file as uint8 [H, W, 3]."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode not in MODES:
                raise Refusal(f"{file}: mode {image.mode}; accepted: {' or '.join(MODES)}, 8 bits")
            return np.asarray(image.convert("RGB"))
    # SyntaxError: what Pillow raises for some damaged PNG files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise Refusal(f"{file}: not readable as an image ({reason})") from None


def _count(path: Path, available: int, n: int | None) -> int:
    if available == 0 or (n is not None and not 0 < n <= available):
        asked = "at least one is needed" if n is None else f"--n {n} are asked for"
        raise Refusal(f"{path}: {available} images; {asked}")
    return available if n is None else n


def measure_images(
    images: Path,
    extractor: Path,
    real: Path,
    out: Path,
    *,
    bootstrap: int,
    n: int | None = None,
    protocol: Protocol | None = None,
    device: str = "cpu",
) -> ImagesRecord:
    """Write, and return, the metrics of `images` against the feature file `real` as one JSON.

    Metrics are counted as the protocol does, except that n is the number of images, not its
    n_samples, and that KID draws no more than n at once. FID falls with n: compare equal n only.
    Labels are not read, so `recognised` is not among them.  extractor: the folder whose network
    made the features of `real`; metrics carry its name.
    """
    from dtr.assets.extractor import extract, load_extractor

    started = time.perf_counter()
    name = extractor.resolve().name
    if protocol is not None and protocol.extractor != name:
        raise Refusal(
            f"--extractor {extractor}: the protocol names {protocol.extractor!r}; accepted: a "
            "folder called so"
        )
    known = load_features([real])
    pixels = read_images(images, n)
    network = load_extractor(extractor, device)
    weights = extractor_hash(extractor)
    generated = Features(**extract(network, pixels, source=images), labels=None, extractor=weights)
    same_extractor(known, generated, where=real)
    told = {} if protocol is None else protocol.plain()
    kept = {key: told[key] for key in MetricSettings.model_fields if key in told}
    settings = MetricSettings(**kept | {"extractor": name, "n_samples": len(pixels)})
    subset = min(settings.kid_subset, len(pixels), len(known))
    settings = settings.model_copy(update={"kid_subset": subset})
    record = ImagesRecord(
        images=str(images),
        images_sha256=hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest(),
        n=len(pixels),
        size=pixels.shape[1:3],
        real=str(real),
        real_n=len(known),
        extractor_sha256=weights,
        settings=settings.plain(),
        metrics=measure(generated, known, settings, bootstrap=bootstrap),
        provenance=provenance(device),
        wall_seconds=time.perf_counter() - started,
    )
    write_record(out, record)
    return record
