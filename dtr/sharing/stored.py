"""Checks of the large files: each against the hash that a record or manifest has of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dtr.config.stages import Protocol
from dtr.planning.jobs import training_data
from dtr.planning.places import ASSET, MODEL, PLACE
from dtr.planning.runs import all_runs
from dtr.records.schema import AutoencoderRecord, ExtractorRecord, TextEncoderRecord, read_record
from dtr.sharing.findings import Finding, Results, is_plain, short, swells
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json, read_json, read_npz


def check_files(results: Results) -> Iterator[Finding]:
    """Weights, data, latents, samples, features and checkpoints; nothing of them is run."""
    for path, record in results.records.trainings.items():
        weights = results.root / path.replace(MODEL[1], MODEL[0])
        yield from _hashed(results, weights, record.weights_sha256, "weights")
    encoders = dict(_assets(results, "autoencoders", AutoencoderRecord))
    extractors = dict(_assets(results, "extractors", ExtractorRecord))
    told = dict(_assets(results, "text_encoders", TextEncoderRecord))
    for name, asset in (encoders | extractors | told).items():
        weights = results.root / name / ASSET[0]
        if isinstance(asset, Refusal):
            yield Finding("broken", f"{name}/{ASSET[1]}", _reason(asset), "a readable record")
        else:
            yield from _hashed(results, weights, asset.weights_sha256, "weights")
    for kind in ("data", "latents"):
        for manifest in results.below(f"{kind}/*/manifest.json"):
            yield from _manifest(results, manifest)
    yield from _latents(results, encoders)
    yield from _trained_on(results)
    for shard in results.below("runs/*/seed*/step*/samples/*/shard-*.npz"):
        yield from _shard(results, shard)
    yield from _real(results, extractors)
    for note in results.below("work/*/seed*/*/step-*.json"):
        yield from _checkpoint(results, note)


def _hashed(results: Results, path: Path, expected: str, what: str) -> Iterator[Finding]:
    """Compare a file with its recorded hash."""
    name = results.name(path)
    try:
        found = hash_file(path)
    except FileNotFoundError:
        yield Finding("missing", name, "no such file", what)
        return
    except OSError as error:
        yield Finding("broken", name, f"not readable ({error.strerror})", what)
        return
    results.seen(what)
    if found != expected:
        yield Finding("altered", name, f"sha256 {short(found)}", f"{short(expected)} as recorded")


def _assets(results: Results, kind: str, model: type) -> Iterator[tuple[str, Any]]:
    """Folder and record of each network that runs stand on; a Refusal if it is broken."""
    for path in results.below(f"{kind}/*/{ASSET[1]}"):
        try:
            yield f"{kind}/{path.parent.name}", read_record(model, path)
        except Refusal as refusal:
            yield f"{kind}/{path.parent.name}", refusal


def _reason(refusal: Refusal) -> str:
    return str(refusal).partition(": ")[2]


def _manifest(results: Results, path: Path) -> Iterator[Finding]:
    """Every file that a manifest lists, of its recorded size and content."""
    name = results.name(path)
    try:
        manifest = read_json(path)
        files, content = dict(manifest["files"]), str(manifest["content_hash"])
        sizes = dict(manifest.get("sizes", {}))  # manifests of 0.2 have none
    except (Refusal, KeyError, TypeError, ValueError) as error:
        yield Finding("broken", name, f"no list of files ({error})", "a manifest")
        return
    results.seen("manifests")
    for file, sha256 in files.items():
        target = path.parent / file
        if not is_plain(file):
            yield Finding("unsafe", name, f"the file name {file!r}", "names below its folder")
        elif file in sizes and target.is_file() and target.stat().st_size != sizes[file]:
            found = f"{target.stat().st_size} bytes"
            yield Finding("altered", results.name(target), found, f"{sizes[file]} as recorded")
        else:
            yield from _hashed(results, target, str(sha256), "files of data")
    if "scale_factor" in manifest:
        computed = hash_json([files, manifest["scale_factor"]])
        if computed != content:
            found = f"content_hash {short(content)}"
            yield Finding("altered", name, found, f"{short(computed)} of its files and scale")


def _trained_on(results: Results) -> Iterator[Finding]:
    """Models that were trained on other data than those that are there."""
    known = all_runs(results.scale)
    for path, record in results.records.trainings.items():
        slot = known[record.run].slot if record.run in known else None
        if record.dataset_hash is None or slot not in results.scale.slots:
            continue
        try:
            present = str(read_json(training_data(results.scale, slot))["content_hash"])
        except (Refusal, KeyError, TypeError):
            continue  # not there, or said already
        if present != record.dataset_hash:
            found = f"trained on data {short(record.dataset_hash)}"
            yield Finding("stale", path, found, f"{short(present)}, those that are there")


def _latents(results: Results, encoders: dict[str, Any]) -> Iterator[Finding]:
    """Latents of another autoencoder than the present one."""
    for path in results.below("latents/*/manifest.json"):
        encoder = encoders.get(f"autoencoders/{path.parent.name.partition('--')[2]}")
        try:
            found = read_json(path).get("autoencoder_sha256")
        except (Refusal, AttributeError):
            continue  # said already
        if isinstance(encoder, AutoencoderRecord) and encoder.weights_sha256 != found:
            expected = f"{short(encoder.weights_sha256)}, the one that is there"
            yield Finding("stale", results.name(path), f"latents of {short(found)}", expected)


def _shard(results: Results, path: Path) -> Iterator[Finding]:
    """A file of samples, and the features that say of which file they are."""
    name = results.name(path)
    results.seen("files of samples")
    if swells(path):
        yield Finding("unsafe", name, "an archive that unpacks to far more", "arrays as written")
        return
    try:
        arrays = read_npz(path)
        count = len(arrays["arr_0"])
    except (Refusal, KeyError, TypeError) as error:
        yield Finding("broken", name, _reason(error) or str(error), "images, and no pickles")
        return
    if arrays["arr_0"].dtype != np.uint8 or arrays["arr_0"].ndim != 4:
        found = f"arr_0 {arrays['arr_0'].dtype} {list(arrays['arr_0'].shape)}"
        yield Finding("altered", name, found, "uint8 [n, H, W, 3]")
    for told in ("labels", "captions"):
        if told in arrays and len(arrays[told]) != count:
            found = f"{len(arrays[told])} {told} for {count} images"
            yield Finding("altered", name, found, "one for each image")
    features = path.parents[2] / "features" / path.parent.name / path.name
    if not features.is_file():
        if (drawn := int(arrays.get("drawn", count))) > count:  # the other images were not kept
            found = f"no such file, and {count} of {drawn} images"
            yield Finding("missing", results.name(features), found, "features of all of them")
        return
    results.seen("files of features")
    if swells(features):
        found = "an archive that unpacks to far more"
        yield Finding("unsafe", results.name(features), found, "arrays as written")
        return
    try:
        of = str(read_npz(features, only="samples").get("samples"))
    except Refusal as refusal:
        yield Finding("broken", results.name(features), _reason(refusal), "features")
        return
    if of != hash_file(path):
        found = f"features of other samples ({short(of)})"
        yield Finding("stale", results.name(features), found, "those of the present file")


def _real(results: Results, extractors: dict[str, Any]) -> Iterator[Finding]:
    """Features of real images that are of another extractor than the present one."""
    for path in (*results.below("real/*.npz"), *results.below("references/*.npz")):
        results.seen("files of features")
        extractor = extractors.get(f"extractors/{path.stem.partition('--')[2]}")
        try:
            found = str(read_npz(path, only="extractor").get("extractor"))
        except Refusal as refusal:
            yield Finding("broken", results.name(path), _reason(refusal), "features")
            continue
        if isinstance(extractor, ExtractorRecord) and extractor.weights_sha256 != found:
            expected = f"{short(extractor.weights_sha256)}, the one that is there"
            yield Finding("stale", results.name(path), f"features of {short(found)}", expected)


def _checkpoint(results: Results, note: Path) -> Iterator[Finding]:
    """A checkpoint is what its note says, and belongs to the folder of its fingerprint."""
    try:
        told = read_json(note)
        fingerprint, sha256 = str(told["fingerprint"]), str(told["sha256"])
    except (Refusal, KeyError, TypeError) as error:
        if note.is_file():  # and not replaced meanwhile by a training that goes on
            expected = "a note with fingerprint and hash"
            yield Finding("broken", results.name(note), str(error), expected)
        return
    if not fingerprint.startswith(note.parent.name):
        found = f"fingerprint {short(fingerprint)}"
        yield Finding("inconsistent", results.name(note), found, f"{note.parent.name}, its folder")
    yield from _hashed(results, note.with_suffix(".pt"), sha256, "checkpoints")


def sample_counts(results: Results) -> Iterator[Finding]:
    """Sets of sample files that together are not the images that their protocol asks for."""
    for path, record in results.records.metrics.items():
        if not (place := PLACE.match(path)) or record.status != "ok":
            continue
        folder = results.root / place.group() / "samples" / record.protocol_id
        size = results.scale.evaluation.shard_size
        try:
            wanted = -(-Protocol.model_validate(record.protocol).n_samples // size)
        except ValueError:
            continue  # said already
        found = len(list(folder.glob("shard-*.npz")))
        if found < wanted:
            name = results.name(folder)
            yield Finding("missing", name, f"{found} files of samples", f"{wanted}")
