"""A whole results folder, small and sound: records, weights, data, samples, tables and a page."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dtr.config.checks import load_scale
from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.data.datasets import INDEX, content_hash
from dtr.metrics.measure import measure_files, measure_real
from dtr.planning.evaluations import evaluations, protocol
from dtr.planning.places import ASSET, MODEL, Places
from dtr.planning.runs import all_runs
from dtr.planning.targets import trained_records
from dtr.records.schema import AutoencoderRecord, ExtractorRecord, ModelRecord, write_record
from dtr.records.table import Records
from dtr.reporting.built import write_built
from dtr.reporting.claims.judged import build_claims, write_claims
from dtr.reporting.tables.build import build_table
from dtr.reporting.tables.formats import write_tables
from dtr.support.files import hash_file, hash_json, write_json, write_text
from tests.conftest import ROOT, table1_of
from tests.synthetic_results import PROVENANCE, write_control, write_evaluation

SHARD = 500  # images of a sample file; the scale asks for 1,000 of 4x4 pixels here


def made_of(content: dict, results: Path, **changes) -> Scale:
    """Table 1 of the digits scale with results in a folder."""
    content = table1_of(content) | {"results": str(results)} | changes
    content["evaluation"] = content["evaluation"] | {"shard_size": SHARD}
    return load_scale(content, source="digits.yaml")


def write_whole(scale: Scale) -> None:
    """Everything of a finished scale; what networks would have made is made up."""
    root, places = Path(scale.results), Places(scale.results)
    shutil.rmtree(root, ignore_errors=True)
    data = _write_data(scale, root / "data/digits")
    encoder = _write_asset(root / "autoencoders/digits-vae", AutoencoderRecord, data)
    extractor = _write_asset(root / "extractors/digits-cnn", ExtractorRecord, data)
    content = _write_latents(root / "latents/digits--digits-vae", encoder)
    real = root / "real/digits--digits-cnn.npz"
    write_features(real, 1500, 0.0, extractor=extractor)
    wanted = {Path(path).parent for path in trained_records(scale)}
    wanted |= {Path(places.model(*_model(one))) for one in evaluations(scale)}
    for folder in wanted:
        _write_model(scale, folder, content, encoder)
    known: dict[str, list] = {}  # all models look alike, so that each protocol measures one
    for one in evaluations(scale):
        shards = _write_samples(Path(places.samples(*_model(one), one.protocol.id)), extractor)
        if one.protocol.id not in known:
            known[one.protocol.id] = measure_files(shards, real, one.protocol, bootstrap=2)
        write_evaluation(scale, one, metrics=known[one.protocol.id])
    for slot in scale.slots:
        own = measure_real(real, protocol(scale, slot), bootstrap=2)
        write_control(scale, slot, metrics=own)
    _write_checkpoint(root / "work/in256-l2-none/seed0")
    build(scale)


def build(scale: Scale) -> None:
    """Tables, claims and a page of the records that are there."""
    records, root = Records(scale), Path(scale.results)
    write_tables([build_table(name, records) for name in scale.targets], root / "tables")
    write_claims(build_claims(scale, records), root / "claims")
    write_text(root / "report/index.html", "<title>the page</title>")
    write_built(records, root)


def _model(one) -> tuple[str, int, int]:
    return one.name, one.seed, one.step


def _write_asset(folder: Path, model: type, data: str) -> str:
    write_text(folder / ASSET[0], f"weights of {folder.name}")
    sha256 = hash_file(folder / ASSET[0])
    scores = {"test_accuracy": 0.9, "train_accuracy": 0.9}
    if model is AutoencoderRecord:
        scores = {"scale_factor": 1.0, "test_psnr_db": 30.0}
    common = {"settings": {}, "dataset_hash": data, "provenance": PROVENANCE}
    write_record(folder / ASSET[1], model(weights_sha256=sha256, **common, **scores))
    return sha256


def _write_data(scale: Scale, folder: Path) -> str:
    write_text(folder / "images.npy", "images")
    split = ["train", "train", "test"]
    index = pd.DataFrame({"label": [0, 1, 2], "split": split, "sha256": [s * 64 for s in "abc"]})
    index.to_parquet(folder / INDEX)
    files = {name: hash_file(folder / name) for name in ("images.npy", INDEX)}
    settings = scale.datasets["digits"].plain()
    sizes = {name: (folder / name).stat().st_size for name in files}
    manifest = {"dataset": "digits", "settings": settings, "files": files, "sizes": sizes}
    write_json(folder / "manifest.json", manifest | {"content_hash": content_hash(index)})
    return content_hash(index)


def _write_latents(folder: Path, encoder: str) -> str:
    write_text(folder / "shard-00000.npy", "latents")
    files = {"shard-00000.npy": hash_file(folder / "shard-00000.npy")}
    content = hash_json([files, 1.0])
    manifest = {"files": files, "scale_factor": 1.0, "autoencoder_sha256": encoder}
    write_json(folder / "manifest.json", manifest | {"content_hash": content})
    return content


def _write_model(scale: Scale, folder: Path, content: str, encoder: str) -> None:
    run, seed, step = folder.parts[-3], int(folder.parts[-2][4:]), int(folder.name[4:])
    settings = run_settings(scale, all_runs(scale)[run], seed)
    write_text(folder / MODEL[0], f"weights of {run} {seed} {step}")
    record = ModelRecord(
        run=run,
        seed=seed,
        step=step,
        reached_step=step,
        status="ok",
        fingerprint=settings.fingerprint(content, {"routing": "0" * 64}),
        dataset_hash=content,
        autoencoder_sha256=encoder,
        settings=settings.plain(),
        weights_sha256=hash_file(folder / MODEL[0]),
        parameters=1000,
        parts={"routing": "0" * 64},
        provenance=PROVENANCE,
        wall_seconds=10.0,
    )
    write_record(folder / MODEL[1], record)


def _write_samples(folder: Path, extractor: str) -> list[Path]:
    features = folder.parents[1] / "features" / folder.name
    folder.mkdir(parents=True)
    for number in range(2):
        shard = folder / f"shard-{number}.npz"
        images = np.full((SHARD, 4, 4, 3), number, dtype=np.uint8)
        np.savez(shard, arr_0=images, labels=np.zeros(SHARD, dtype=np.int64), lost=np.array(0))
        told = {"samples": hash_file(shard), "extractor": extractor}
        write_features(features / shard.name, SHARD, 0.3 + number, **told)
    return [features / f"shard-{number}.npz" for number in range(2)]


def write_features(path: Path, count: int, shift: float, **told: str) -> None:
    """A feature file of images that were never there, drawn from a Gaussian."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(count)
    arrays = {
        "features": (draws.normal(size=(count, 4)) + shift).astype(np.float32),
        "logits": draws.normal(size=(count, 10)).astype(np.float32),
        "labels": np.zeros(count, dtype=np.int64),
    }
    np.savez(path, **arrays, **{name: np.array(text) for name, text in told.items()})


def _write_checkpoint(work: Path) -> None:
    fingerprint = "c" * 64
    path = work / fingerprint[:16] / "step-000000100.pt"
    write_text(path, "a checkpoint")
    note = {"step": 100, "fingerprint": fingerprint, "sha256": hash_file(path)}
    write_json(path.with_suffix(".json"), note)


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    content = yaml.safe_load((ROOT / "workflow/config/digits.yaml").read_text(encoding="utf-8"))
    folder = tmp_path_factory.mktemp("sound") / "results"
    write_whole(made_of(content, folder))
    return folder, content


@pytest.fixture
def sound(_template, tmp_path: Path) -> Scale:
    """Finished results in a folder of their own; each test may damage its copy."""
    folder, content = _template
    shutil.copytree(folder, tmp_path / "results")
    return made_of(content, tmp_path / "results")
