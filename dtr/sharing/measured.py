"""Checks of the measured numbers: each again from the features that are there, and its hashes.

A record whose value was edited is as well-formed as before; what it was computed from says so.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dtr.config.stages import Protocol
from dtr.metrics import fid, inception_score
from dtr.metrics.features import Features, load_features, same_extractor
from dtr.metrics.measure import measure_files, measure_real
from dtr.planning.jobs import real_images
from dtr.planning.places import PLACE
from dtr.records.schema import MetricsRecord
from dtr.sharing.findings import Finding, Results, swells
from dtr.support.errors import Refusal
from dtr.support.progress import Progress

# Another machine adds up in another order, and its libraries find other roots.
RELATIVE, ABSOLUTE = 1e-3, 1e-4


def check_measured(results: Results, *, everything: bool) -> Iterator[Finding]:
    """The metrics of every record whose features are there, against those features.

    everything: also KID, precision and recall, which take most of the time, and the controls.
    """
    found = results.records.metrics.items()
    todo = [(path, record) for path, record in found if record.status == "ok" and record.metrics]
    with Progress("measured again", len(todo), unit="record", shown=len(todo) > 50) as progress:
        for path, record in todo:
            yield from _record(results, path, record, everything)
            progress.advance()


def _record(
    results: Results, path: str, record: MetricsRecord, everything: bool
) -> Iterator[Finding]:
    slot = results.scale.slots.get(record.slot)
    if slot is None:
        return
    try:
        protocol = Protocol.model_validate(record.protocol)
    except ValueError:
        return  # said already
    real = Path(real_images(results.scale, slot))
    shards = _features(results, path, record, protocol)
    if shards is None or not real.is_file() or any(map(swells, (*shards, real))):
        return
    try:
        if not shards:
            values = _named(measure_real(real, protocol, bootstrap=1)) if everything else {}
        elif everything:
            values = _named(measure_files(shards, real, protocol, bootstrap=1))
        else:
            values = _quick(shards, real, protocol)
    except Refusal as refusal:
        yield Finding("broken", path, f"not to be measured again ({refusal})", "its features")
        return
    if values:
        results.seen("metrics measured again", len(values))
    for one in record.metrics:
        computed = values.get(one.name, one.value)
        if not math.isclose(one.value, computed, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            expected = f"{computed:.6g} of its features"
            yield Finding("altered", path, f"{one.name} {one.value:.6g}", expected)


def _features(
    results: Results, path: str, record: MetricsRecord, protocol: Protocol
) -> list[Path] | None:
    """The feature files of a measured model, none of a control; None where one is missing."""
    if not (place := PLACE.match(path)):
        return []
    folder = results.root / place.group() / "features" / record.protocol_id
    count = -(-protocol.n_samples // results.scale.evaluation.shard_size)
    files = [folder / f"shard-{number}.npz" for number in range(count)]
    return files if all(file.is_file() for file in files) else None


def _quick(shards: list[Path], real_file: Path, protocol: Protocol) -> dict[str, float]:
    """What takes no time to compute: FID, Inception Score and the share that is recognised."""
    generated, real = load_features(shards), load_features([real_file])
    same_extractor(generated, real, where=shards[0])
    if protocol.guidance is None:
        generated = replace(generated, labels=None)
    found = {"fid": fid.frechet(generated=generated.features, real=real.gaussian())}
    logits, split = generated.logits, protocol.inception_split
    found["inception_score"] = inception_score.inception_score(logits=logits, split=split)
    if generated.labels is not None:
        found["recognised"] = _recognised(generated)
    return {f"{name}@{protocol.extractor}": value for name, value in found.items()}


def _recognised(images: Features) -> float:
    return float((images.logits.argmax(axis=1) == images.labels).mean())


def _named(metrics: list[dict]) -> dict[str, float]:
    return {one["name"]: one["value"] for one in metrics}
