"""All metrics of one set of samples, and the record of a measured model. Imports are light."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dtr.config.stages import Protocol
from dtr.metrics import fid, inception_score, kid
from dtr.metrics.features import (
    STATISTICS,
    Features,
    load_features,
    reference_of,
    same_extractor,
    sample_features,
    sampling_rng,
    sampling_seconds,
)
from dtr.metrics.intervals import Interval, wilson
from dtr.metrics.precision_recall import precision_recall
from dtr.planning.places import MODEL
from dtr.records.provenance import provenance
from dtr.records.schema import MetricsRecord, ModelRecord, read_record, write_record
from dtr.seeding import generator
from dtr.support.errors import Refusal, Unwritable
from dtr.support.settings import Count, Name, Settings

DIRECTIONS = {
    "fid": "lower",
    "fid-clean": "lower",
    "sfid": "lower",  # of extractors with spatial features
    "fid-clean-own": "lower",  # of extractors with clean-fid's own network beside
    "kid": "lower",
    "inception_score": "higher",
    "precision": "higher",
    "recall": "higher",
    "recognised": "higher",
}


class Unmeasurable(Refusal):
    """Nothing is wrong, but there is nothing to compute a measurement from."""


class MetricSettings(Settings):
    """What the metrics depend on beside the images; a Protocol says all of it."""

    extractor: Name
    n_samples: Count
    neighbours: Count = 3
    kid_subset: Count = 1000
    inception_split: Count = 5000
    seed: int = 0


def measure_files(
    shards: Sequence[Path], real_file: Path, protocol: Protocol, *, bootstrap: int
) -> list[dict[str, Any]]:
    """The `metrics` list of the samples in several feature files, in the order of their shards.

    Without guidance in the protocol the model was told no class, so none can be recognised.
    """
    generated, real = load_features(shards), load_features([real_file])
    same_extractor(generated, real, where=shards[0])
    if protocol.guidance is None:
        generated = replace(generated, labels=None)
    return measure(generated, real, protocol, bootstrap=bootstrap)


def measure_real(real_file: Path, protocol: Protocol, *, bootstrap: int) -> list[dict[str, Any]]:
    """The floor: n_samples real images measured as if generated, against the other real ones.

    Where statistics of more images than the file has are known, all of its images against those.
    """
    features = load_features([real_file])
    if features.mu is not None:
        return _measure_kept(features, real_file, protocol, bootstrap=bootstrap)
    if len(features) <= protocol.n_samples:
        raise Refusal(
            f"{real_file}: {len(features)} real images; the real-against-real control needs "
            f"more than n_samples = {protocol.n_samples}"
        )
    order = generator(protocol.seed, "real control").permutation(len(features))
    chosen, rest = order[: protocol.n_samples], order[protocol.n_samples :]
    generated = features.rows(chosen)
    if protocol.guidance is None:
        generated = replace(generated, labels=None)
    return measure(generated, features.rows(rest), protocol, bootstrap=bootstrap)


def _named(known: Features) -> str:
    told = json.loads(known.reference or "{}")
    return str(told.get("published") or told.get("computed") or "a file of features")


def _measure_kept(
    known: Features, real_file: Path, protocol: Protocol, *, bootstrap: int
) -> list[dict[str, Any]]:
    if not len(known):
        raise Unmeasurable(
            f"the reference of this slot, {_named(known)}, consists of statistics "
            "without images, so that no real image can be measured against it"
        )
    statistics = dict.fromkeys(name for pair in STATISTICS.values() for name in pair)
    generated = replace(known, **statistics, labels=None)
    own = protocol.model_copy(update={"n_samples": len(known)})
    return measure(generated, known.rows(np.arange(0)), own, bootstrap=bootstrap)


def measure(
    generated: Features, real: Features, protocol: Protocol | MetricSettings, *, bootstrap: int
) -> list[dict[str, Any]]:
    """Every metric of `generated` against `real`: name, n, value, 95 % low and high, direction.

    Intervals are over the generated images, the real ones stay fixed: a bootstrap moved onto the
    value; of shares Wilson's, of recall over the real images.

    Where `real` is statistics without images, what compares single images (KID, precision, recall)
    is left out; where either side has no spatial features, sFID is.

    Labels of `generated` are the classes asked for; without them `recognised` is left out.
    bootstrap: resamples behind each bootstrap interval, at least 1.
    """
    _check("generated", generated, protocol)
    _check("real", real, protocol)
    if generated.features.shape[1] != real.features.shape[1]:
        raise Refusal(
            f"features: generated have {generated.features.shape[1]} dimensions, "
            f"real {real.features.shape[1]}; they must be of one extractor"
        )
    found = [
        *_distances(generated, real, protocol, bootstrap),
        *_shares(generated, real, protocol),
    ]
    for name, value, interval in found:
        if not np.isfinite([value, *interval]).all():
            raise Refusal(
                f"{name}: {value} {list(interval)} of {len(generated)} images; not finite"
            )
    return [
        {
            "name": f"{name}@{protocol.extractor}",
            "n": len(generated),
            "value": value,
            "low": low,
            "high": high,
            "direction": DIRECTIONS[name],
        }
        for name, value, (low, high) in found
    ]


def _distances(generated, real, protocol, bootstrap) -> list[tuple[str, float, Interval]]:
    draws = {"resamples": bootstrap, "seed": protocol.seed}
    pair = {"generated": generated.features, "real": real.gaussian()}
    frechet, second = fid.frechet(**pair), fid.frechet_clean(**pair)
    low, high = fid.frechet_interval(frechet, **pair, **draws)
    found = [
        ("fid", frechet, (low, high)),
        # The same estimator on the same features: its spread is that of the first engine.
        ("fid-clean", second, (max(low + second - frechet, 0.0), high + second - frechet)),
    ]
    pair = {"generated": generated.spatial, "real": real.gaussian("spatial")}
    if generated.spatial is not None and pair["real"] is not None:
        value = fid.frechet(**pair)
        found.append(("sfid", value, fid.frechet_interval(value, **pair, **draws)))
    pair = {"generated": generated.clean, "real": real.gaussian("clean")}
    if generated.clean is not None and pair["real"] is not None:
        value = fid.frechet_clean(**pair)
        found.append(("fid-clean-own", value, fid.frechet_interval(value, **pair, **draws)))
    if len(real):
        pair = {"generated": generated.features, "real": real.features}
        mmd = kid.kernel_distance(**pair, subset=protocol.kid_subset)
        found.append(("kid", mmd, kid.kernel_interval(mmd, **pair, **draws)))
    chunks = {"logits": generated.logits, "split": protocol.inception_split}
    score = inception_score.inception_score(**chunks)
    interval = inception_score.inception_score_interval(score, **chunks, **draws)
    return [*found, ("inception_score", score, interval)]


def _shares(generated, real, protocol) -> list[tuple[str, float, Interval]]:
    shares = []
    if len(real):
        precision, recall = precision_recall(
            generated=generated.features, real=real.features, neighbours=protocol.neighbours
        )
        shares += [
            ("precision", precision, wilson(precision, len(generated))),
            ("recall", recall, wilson(recall, len(real))),
        ]
    if generated.labels is not None:
        share = float((generated.logits.argmax(axis=1) == generated.labels).mean())
        shares.append(("recognised", share, wilson(share, len(generated))))
    return shares


def _check(which: str, data: Features, protocol: Protocol | MetricSettings) -> None:
    expected = protocol.n_samples if which == "generated" else None
    if expected is not None and len(data) != expected:
        raise Refusal(f"{which} images: {len(data)}, the protocol's n_samples is {expected}")
    least = max(protocol.kid_subset, protocol.neighbours + 1)
    if len(data) < least and (len(data) or data.mu is None):
        raise Refusal(
            f"{which} images: {len(data)}; kid_subset = {protocol.kid_subset} and "
            f"neighbours = {protocol.neighbours} need at least {least}"
        )
    for name, values in (("features", data.features), ("logits", data.logits)):
        if len(values) != len(data) or values.ndim != 2:
            raise Refusal(f"{which} {name}: shape {list(values.shape)}, expected [{len(data)}, d]")
        broken = int((~np.isfinite(values).all(axis=1)).sum())
        if broken:
            raise Refusal(f"{which} {name}: not finite for {broken} of {len(values)} images")
    if data.labels is not None:
        classes = data.logits.shape[1]
        if data.labels.shape != (len(data),) or not np.isin(data.labels, range(classes)).all():
            raise Refusal(f"{which} labels: expected {len(data)} integers from 0 to {classes - 1}")


def measure_model(
    out: Path,
    protocol: Protocol,
    *,
    slot: str,
    real: Path,
    bootstrap: int,
    models: Sequence[Path] | None = None,
    samples: Sequence[Path] = (),
    extractor: Path | None = None,
    features: Path | None = None,
    device: str = "cpu",
) -> str | None:
    """Write the metrics of a model's sample files; of real images where `models` is None.

    A record is written whatever happened, so that no cell blocks the page.

    Features of the samples are kept in the folder `features`.  Several models are experts sampled
    together; their names are joined.  A diverged run gets a record without metrics; samples that
    cannot be measured one with status "failed" and the reason; the control of a reference that
    has no images one with status "unmeasurable".  Returns status and reason where
    there are no metrics, or None.
    """
    started = time.perf_counter()
    run, seed, step, status, reason = "real", protocol.seed, 0, "ok", None
    if models:
        records = [read_record(ModelRecord, model / MODEL[1]) for model in models]
        worst = next((record for record in records if record.status != "ok"), records[0])
        run = "+".join(record.run for record in records)
        seed, step, status, reason = worst.seed, worst.step, worst.status, worst.reason
    metrics: list[dict[str, Any]] = []
    if status == "ok":
        try:
            if not models:
                metrics = measure_real(real, protocol, bootstrap=bootstrap)
            else:
                shards = [
                    sample_features(path, extractor, features, device=device) for path in samples
                ]
                metrics = measure_files(shards, real, protocol, bootstrap=bootstrap)
        except Unwritable:
            raise  # nothing is wrong with the images: the job is done again
        except Unmeasurable as refusal:
            status, reason = "unmeasurable", str(refusal)
        except Refusal as refusal:
            status, reason = "failed", str(refusal)
    record = MetricsRecord(
        run=run,
        slot=slot,
        seed=seed,
        step=step,
        status=status,
        reason=reason,
        protocol=protocol.plain(),
        protocol_id=protocol.id,
        reference=reference_of(real),
        metrics=metrics,
        sampling_seconds=sampling_seconds(samples),
        sampling_rng=sampling_rng(samples),
        provenance=provenance(),
        wall_seconds=time.perf_counter() - started,
    )
    write_record(out, record)
    return None if status == "ok" else f"{status}: {reason}"
