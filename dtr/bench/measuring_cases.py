"""Cases of measuring: Frechet distance, precision and recall, and their intervals."""

import numpy as np

from dtr.bench.timing import Bench, Case, Variant


def _features(count: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)


def _distances(bench: Bench, images: int, width: int) -> dict[str, Variant]:
    from dtr.metrics.fid import frechet
    from dtr.metrics.precision_recall import precision_recall

    if bench.small:
        images, width = 64, 16
    pair = {"generated": _features(images, width, 0), "real": _features(images, width, 1)}
    fewer = pair | {"generated": pair["generated"][: max(8, images // 5)]}
    return {
        "FID": Variant(lambda: frechet(**pair)),
        "precision and recall": Variant(lambda: precision_recall(**fewer, neighbours=3)),
    }


def _large(bench: Bench) -> dict[str, Variant]:
    return _distances(bench, 50_000, 2048)


def _middle(bench: Bench) -> dict[str, Variant]:
    return _distances(bench, 5_000, 2048)


def _intervals(bench: Bench) -> dict[str, Variant]:
    from dtr.metrics.fid import frechet_interval
    from dtr.metrics.kid import kernel_interval

    images, resamples = (64, 2) if bench.small else (1000, 100)
    pair = {"generated": _features(images, 64, 0), "real": _features(4 * images, 64, 1)}
    draws = {"resamples": resamples, "seed": 0}
    return {
        "FID": Variant(lambda: frechet_interval(1.0, **pair, **draws), resamples),
        "KID": Variant(lambda: kernel_interval(1.0, **pair, **draws), resamples),
    }


CASES = (
    Case(
        "distances-5k",
        "set",
        "5,000 features of 2048; 1,000 against 5,000",
        _middle,
        once=True,
        alike=False,
    ),
    Case(
        "distances-50k",
        "set",
        "50,000 of 2048; 10,000 against 50,000",
        _large,
        once=True,
        alike=False,
    ),
    Case(
        "intervals",
        "resample",
        "bootstrap of 1,000 features of 64, as at `digits`",
        _intervals,
        alike=False,
    ),
)
