"""Checks of the records themselves: each alone, and all of one experiment together."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from dtr.config.stages import Protocol, RunSettings
from dtr.planning.evaluations import components, evaluations
from dtr.planning.runs import all_runs
from dtr.planning.targets import target_records, trained_records
from dtr.records.schema import MetricsRecord, ModelRecord
from dtr.reporting.tables.cells import NAMES
from dtr.sharing.findings import Finding, Results, short
from dtr.support.errors import Refusal
from dtr.support.settings import parse


def check_records(results: Results) -> Iterator[Finding]:
    """Schema, identity and agreement of every record below the results folder."""
    records = results.records
    for path, problem in records.broken.items():
        yield Finding("broken", path, problem, "a record of the present schema at its own place")
    for path, training in records.trainings.items():
        results.seen("trainings")
        yield from _training(path, training)
    for path, measured in records.metrics.items():
        results.seen("measurements")
        yield from _metrics(path, measured)
        yield from _behind(results, path, measured)
    yield from _same_data(results)
    yield from _cka(results)


def check_complete(results: Results) -> Iterator[Finding]:
    """Records that the scale asks for and that are missing, or made under other settings."""
    records = results.records
    wanted = [*target_records(results.scale), *trained_records(results.scale)]
    for path in dict.fromkeys(wanted):
        results.seen("wanted records")
        if not Path(path).is_file():
            name = results.name(Path(path))
            yield Finding("missing", name, "no such file", "a record of the scale")
    for path, one in records.trainings.items():
        if (reason := records.outdated(one.run, one.seed, one.step)) is not None:
            yield Finding("stale", path, reason, "the settings of the scale")


def _training(path: str, record: ModelRecord) -> Iterator[Finding]:
    if record.fingerprint is None:
        return  # imported: trained elsewhere, on data that is not known here
    try:
        settings = parse(RunSettings, record.settings, source="settings")
    except Refusal as refusal:
        yield Finding("broken", path, str(refusal), "settings that this version understands")
        return
    if record.dataset_hash is None:
        yield Finding("altered", path, "no dataset_hash", "one, as there is a fingerprint")
        return
    if settings.seed != record.seed:
        expected = f"{record.seed} as in its place"
        yield Finding("altered", path, f"settings.seed {settings.seed}", expected)
    computed = settings.fingerprint(record.dataset_hash, record.parts)
    if computed != record.fingerprint:
        found = f"fingerprint {short(record.fingerprint)}"
        yield Finding("altered", path, found, f"{short(computed)} of its settings, data and parts")
    reached = record.reached_step
    if reached > record.step or (record.status == "ok" and reached != record.step):
        yield Finding("altered", path, f"{record.status} at step {reached}", f"step {record.step}")


def _metrics(path: str, record: MetricsRecord) -> Iterator[Finding]:
    try:
        protocol = parse(Protocol, record.protocol, source="protocol")
    except Refusal as refusal:
        yield Finding("broken", path, str(refusal), "a protocol that this version understands")
        return
    if protocol.id != record.protocol_id:
        yield Finding("altered", path, f"protocol {protocol.id}", f"{record.protocol_id}, its name")
    twice = [
        name for name, count in Counter(one.name for one in record.metrics).items() if count > 1
    ]
    for name in twice:
        yield Finding("altered", path, f"{name} twice", "each metric once")
    if record.status != "ok" and record.metrics:
        yield Finding("altered", path, f"{record.status} with metrics", "none of what did not work")
    if record.status == "ok" and not record.metrics:
        yield Finding("altered", path, "no metrics", "some, as its status is ok")
    # The control of a reference measures the images that this has.
    control = record.run == "real" and record.reference is not None
    wanted = record.reference.get("images") if control else protocol.n_samples
    for one in record.metrics:
        metric, _, extractor = one.name.partition("@")
        if extractor != protocol.extractor:
            yield Finding("altered", path, one.name, f"features of {protocol.extractor}")
        if one.n != wanted:
            yield Finding("altered", path, f"{one.name} of {one.n}", f"{wanted} images")
        if metric in NAMES and one.direction != NAMES[metric][1]:
            found = f"{one.name} better where {one.direction}"
            yield Finding("altered", path, found, NAMES[metric][1])
        bounds = [bound for bound in (one.low, one.high) if bound is not None]
        if not all(map(math.isfinite, bounds)) or sorted(bounds) != bounds:
            yield Finding("altered", path, f"{one.name} in {bounds}", "an interval, low to high")


def _behind(results: Results, path: str, record: MetricsRecord) -> Iterator[Finding]:
    """A measurement without its model, or whose model says something else."""
    if record.seed is None or record.step is None or path.startswith("controls/"):
        return
    for run in components(record.run):
        training = results.records.training_of(run, record.seed, record.step)
        if training is None:
            found = f"no training record of {run} at step {record.step}"
            yield Finding("inconsistent", path, found, "the model that was measured")
        elif training.status != "ok" and record.status == "ok":
            found = f"metrics of {run}, which {training.status}"
            yield Finding("inconsistent", path, found, "none of it")
    planned = {one.name: one.slot for one in evaluations(results.scale)}
    if (slot := planned.get(record.run, record.slot)) != record.slot:
        yield Finding("altered", path, f"slot {record.slot}", slot)


def _same_data(results: Results) -> Iterator[Finding]:
    """Models of one slot are comparable if they saw the same data through the same encoder."""
    known = all_runs(results.scale)
    by_slot: dict[str, list[tuple[str, ModelRecord]]] = {}
    for path, record in results.records.trainings.items():
        if record.run in known and record.dataset_hash is not None:
            by_slot.setdefault(known[record.run].slot, []).append((path, record))
    for slot, members in by_slot.items():
        for name in ("dataset_hash", "autoencoder_sha256"):
            values = [getattr(record, name) for _, record in members]
            usual = _most(values)
            for (path, _), value in zip(members, values, strict=True):
                if value != usual:
                    expected = f"{short(usual)}, as most of {slot}"
                    yield Finding("inconsistent", path, f"{name} {short(value)}", expected)


def _most(values: Iterable[str | None]) -> str | None:
    return Counter(values).most_common(1)[0][0]


def _cka(results: Results) -> Iterator[Finding]:
    for (run, seed), record in results.records.cka.items():
        results.seen("similarities")
        path = f"analysis/cka/{run}-seed{seed}.json"
        training = results.records.training_of(run, seed, record.step)
        if training is None:
            found = f"no training record of step {record.step}"
            yield Finding("inconsistent", path, found, "the model that was compared")
        elif training.weights_sha256 != record.weights_sha256:
            expected = f"{short(training.weights_sha256)}, those of its training record"
            yield Finding("stale", path, f"weights {short(record.weights_sha256)}", expected)
        elif training.dataset_hash not in (None, record.dataset_hash):
            expected = f"{short(training.dataset_hash)}, those of its training record"
            yield Finding("stale", path, f"data {short(record.dataset_hash)}", expected)
