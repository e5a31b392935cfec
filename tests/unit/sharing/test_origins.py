"""A planted defect in what results stand on is found, although each file agrees with itself."""

import pandas as pd
import pytest

from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.support.files import hash_file
from tests.synthetic_results import write_cka
from tests.unit.sharing.planting import STEP, assert_found, edited, found_in

DATA = "data/digits/manifest.json"


def relabel(root):
    """Other labels, with the hash of the file that holds them: no file is at odds with its own."""
    path = root / "data/digits/index.parquet"
    index = pd.read_parquet(path)
    index.assign(label=[2, 1, 0]).to_parquet(path)
    told = {"files": hash_file(path), "sizes": path.stat().st_size}

    def change(manifest):
        for name, value in told.items():
            manifest[name][path.name] = value

    edited(root / DATA, change)
    return "altered", DATA


def rename_the_content(root):
    edited(root / DATA, lambda manifest: manifest.update(content_hash="e" * 64))
    return "altered", DATA


def spoil_the_index(root):
    path = root / "data/digits/index.parquet"
    path.write_text("no index")
    return "broken", path.relative_to(root).as_posix()


def train_the_extractor_on_other_data(root):
    name = "extractors/digits-cnn/record.json"
    edited(root / name, lambda record: record.update(dataset_hash="e" * 64))
    return "stale", name


def train_the_autoencoder_on_other_data(root):
    name = "autoencoders/digits-vae/record.json"
    edited(root / name, lambda record: record.update(dataset_hash="e" * 64))
    return "stale", name


def train_on_latents_of_another_autoencoder(root):
    for path in (root / "runs").glob("*/seed0/step*/train.json"):
        edited(path, lambda record: record.update(autoencoder_sha256="e" * 64))
    return "stale", f"{STEP}/train.json"


DEFECTS = [
    relabel, rename_the_content, spoil_the_index, train_the_extractor_on_other_data,
    train_the_autoencoder_on_other_data, train_on_latents_of_another_autoencoder,
]  # fmt: skip


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    assert_found(sound, plant, capsys)


def test_a_similarity_on_other_data_than_its_training(sound):
    run = next(run for run in all_runs(sound) if run.startswith("in256-l2-none"))
    training = next(iter(Records(sound).trainings.values()))
    told = {"step": 1000, "weights_sha256": Records(sound).training_of(run, 0, 1000).weights_sha256}
    root = write_cka(sound, run, level=0.5, dataset_hash=training.dataset_hash, **told).parents[2]
    name = f"analysis/cka/{run}-seed0.json"
    assert name not in {file for _, file in found_in(root)}
    write_cka(sound, run, level=0.5, dataset_hash="e" * 64, **told)
    assert ("stale", name) in found_in(root)
