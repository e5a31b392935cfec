"""What samples are compared with where it is more than features: statistics of a whole dataset.

ADM's evaluator takes mean and covariance of all training images from a file, and 10,000 of them for
precision and recall. Where nobody has that file, the same is computed from the dataset here. Either
way the result is a feature file, of those images, that also holds the statistics: `mu`, `sigma`,
with spatial features `mu_s`, `sigma_s`, with clean-fid's `mu_clean`, `sigma_clean`, and as
`reference` a JSON text that says whence they are.
"""

import json
from pathlib import Path

import numpy as np

from dtr.config.references import ReferenceSettings
from dtr.data.datasets import ImageDataset
from dtr.metrics.features import STATISTICS, extractor_hash
from dtr.metrics.gaussians import Gaussian, Moments
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_npz, replacing
from dtr.support.progress import Progress

CHUNK = 200  # images extracted at a time, about


def write_reference(
    name: str,
    settings: ReferenceSettings,
    extractor_folder: Path,
    out: Path,
    *,
    data: Path | None = None,
    device: str = "cpu",
) -> None:
    """Write the reference `name` as the extractor in a folder sees it.

    data: manifest of the prepared dataset, needed where the settings name no file.
    """
    from dtr.assets.extractor import load_extractor

    extractor = load_extractor(extractor_folder, device)
    if settings.file is None:
        if data is None:
            raise Refusal(f"{name}: --data: missing; the reference is computed from a dataset")
        arrays = _computed(name, settings, extractor, ImageDataset.open(data))
    else:
        arrays = _published(name, settings, extractor)
    with replacing(out) as temporary:
        np.savez(temporary, extractor=np.array(extractor_hash(extractor_folder)), **arrays)


def _published(name: str, settings: ReferenceSettings, extractor) -> dict[str, np.ndarray]:
    from dtr.assets.extractor import extract

    path = Path(settings.file)
    if not path.is_file():
        raise Refusal(
            f"{name}: {path}: no such file; put {settings.source or 'the published npz'} there, or "
            f"leave out references.{name}.file to have it computed from the dataset"
        )
    digest = hash_file(path)
    if settings.sha256 not in (None, digest):
        raise Refusal(
            f"{name}: {path}: sha256 {digest[:16]}..., expected {settings.sha256[:16]} by "
            f"references.{name}.sha256"
        )
    stored = read_npz(path)
    for key in STATISTICS["features"]:
        if key not in stored:
            raise Refusal(f"{name}: {path}: no array {key!r} (found: {', '.join(stored)})")
    found = {}
    for mean, covariance in STATISTICS.values():
        if mean in stored and covariance in stored:
            own = Gaussian.stored(stored[mean], stored[covariance], source=f"{name}: {path}")
            found |= {mean: own.mean, covariance: own.covariance}
    images = stored.get("arr_0", np.zeros((0, 1, 1, 3), dtype=np.uint8))[: settings.images]
    # One image tells the widths where the file has none.
    probe = images if len(images) else np.zeros((1, 64, 64, 3), dtype=np.uint8)
    arrays = extract(extractor, probe, source=path)
    for part, (mean, _) in STATISTICS.items():
        if mean in found and part in arrays and arrays[part].shape[1] != len(found[mean]):
            raise Refusal(
                f"{name}: {path}: {mean} is {len(found[mean])} wide, the extractor gives "
                f"{arrays[part].shape[1]} {part}"
            )
    arrays = {part: values[: len(images)] for part, values in arrays.items()}
    told = {"published": path.name, "sha256": digest, "images": len(images)}
    return arrays | found | {"reference": np.array(json.dumps(told))}


def _computed(
    name: str, settings: ReferenceSettings, extractor, dataset: ImageDataset
) -> dict[str, np.ndarray]:
    """Statistics of all training images, and features of some, the same ones always."""
    from dtr.assets.extractor import extract

    rows = dataset.positions("train")
    order = generator("reference").permutation(len(rows))
    kept = np.zeros(len(rows), dtype=bool)
    kept[order[: settings.images]] = True
    moments: dict[str, Moments] = {}
    features: dict[str, list[np.ndarray]] = {}
    batch = getattr(extractor, "batch", CHUNK)
    step = batch * max(1, CHUNK // batch)
    with Progress(f"reference {name}", len(rows), unit="image") as progress:
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            images, where = np.asarray(dataset.images[rows[part]]), f"{name} from {start:,} on"
            found = extract(extractor, images, source=where, shown=True)
            for key, values in found.items():
                if key in STATISTICS:
                    moments.setdefault(key, Moments()).add(values)
                features.setdefault(key, []).append(values[kept[part]])
            progress.advance(len(rows[part]))
    arrays = {key: np.concatenate(values) for key, values in features.items()}
    for key, own in moments.items():
        arrays |= dict(zip(STATISTICS[key], own.gaussian(), strict=True))
    told = {
        "computed": dataset.manifest["dataset"],
        "count": len(rows),
        "images": int(kept.sum()),
        "dataset_hash": dataset.manifest["content_hash"],
    }
    return arrays | {"reference": np.array(json.dumps(told))}
