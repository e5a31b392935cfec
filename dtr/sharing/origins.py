"""Checks of what results say that they stand on, against what is there: hash against hash."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from dtr.config.stages import FittedSettings
from dtr.data.datasets import INDEX, content_hash
from dtr.planning.places import Places
from dtr.planning.runs import all_runs
from dtr.records.schema import AnyRecord, AutoencoderRecord, ExtractorRecord, read_record
from dtr.sharing.findings import Finding, Results, short
from dtr.support.errors import Refusal
from dtr.support.files import read_json


def check_origins(results: Results) -> Iterator[Finding]:
    """Data by their index; networks by the data they were trained on."""
    for manifest in results.below("data/*/manifest.json"):
        yield from _dataset(results, manifest)
    yield from _networks(results)
    yield from _encoders(results)


def _dataset(results: Results, path: Path) -> Iterator[Finding]:
    """The hash of a dataset's content, from the hashes, labels, captions and split of its index."""
    index = path.with_name(INDEX)
    told = _told(path).get("content_hash")
    if told is None or not index.is_file():
        return  # said already
    try:
        computed = content_hash(pd.read_parquet(index))
    except (OSError, ValueError, KeyError, TypeError) as error:  # those of pyarrow are such, too
        found = f"not readable as an index ({str(error).splitlines()[0]})"
        yield Finding("broken", results.name(index), found, "a row for each image")
        return
    results.seen("indices of data")
    if computed != told:
        expected = f"{short(computed)} of its index"
        yield Finding("altered", results.name(path), f"content_hash {short(str(told))}", expected)


def _networks(results: Results) -> Iterator[Finding]:
    """Autoencoders and extractors that were trained on other data than those that are there."""
    scale = results.scale
    places = Places(scale.results)
    kinds = (
        (scale.autoencoders, AutoencoderRecord, places.autoencoder),
        (scale.extractors, ExtractorRecord, places.extractor),
    )
    networks = [(own, kind, at(name)) for all, kind, at in kinds for name, own in all.items()]
    for settings, kind, place in networks:
        if not isinstance(settings, FittedSettings):
            continue  # of others: measured on no dataset here
        found = _record(kind, Path(place))
        present = _told(Path(places.dataset(settings.dataset))).get("content_hash")
        if found is None or present is None or found.dataset_hash == present:
            continue
        said = f"trained on data {short(found.dataset_hash)}"
        expected = f"{short(present)}, those that are there"
        yield Finding("stale", results.name(Path(place)), said, expected)


def _encoders(results: Results) -> Iterator[Finding]:
    """Models that were trained on the latents of another autoencoder than the one there."""
    known, places = all_runs(results.scale), Places(results.scale.results)
    for path, record in results.records.trainings.items():
        slot = results.scale.slots.get(known[record.run].slot) if record.run in known else None
        if slot is None or slot.autoencoder is None or record.autoencoder_sha256 is None:
            continue
        present = _record(AutoencoderRecord, Path(places.autoencoder(slot.autoencoder)))
        if present is not None and present.weights_sha256 != record.autoencoder_sha256:
            said = f"trained on latents of {short(record.autoencoder_sha256)}"
            expected = f"{short(present.weights_sha256)}, the autoencoder that is there"
            yield Finding("stale", path, said, expected)


def _record(model: type[AnyRecord], path: Path) -> AnyRecord | None:
    """A record; None where there is none, or a broken one, which is said elsewhere."""
    try:
        return read_record(model, path)
    except Refusal:
        return None


def _told(manifest: Path) -> dict[str, Any]:
    """A manifest; empty where there is none, or a broken one, which is said elsewhere."""
    try:
        content = read_json(manifest)
    except Refusal:
        return {}
    return content if isinstance(content, dict) else {}
