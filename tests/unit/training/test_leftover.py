"""Work folders of other settings are told from those that a run goes on from."""

from pathlib import Path

import pytest

from dtr.config.checks import load_scale
from dtr.data.latents import LatentDataset
from dtr.planning.jobs import training_data
from dtr.planning.places import Places
from dtr.planning.runs import all_runs
from dtr.records.workdir import exclusive
from dtr.support.files import write_json
from dtr.training import leftover
from dtr.training.distributed import World
from dtr.training.leftover import leftovers, remove
from dtr.training.trainer import Trainer
from tests.unit.training.conftest import settings


def work(scale, run: str, name: str) -> Path:
    folder = Path(Places(scale.results).work(run, 0)) / name
    folder.mkdir(parents=True)
    (folder / "step-000000100.pt").write_text("x")
    return folder


@pytest.mark.parametrize("run", ["in64-adm-dtr-a4", "ffhq256-b2-rtr", "coco256-b2-none"])
def test_the_present_folder_of_each_network_is_known(whole, run):
    """And neither another learning rate nor other data are taken for it."""
    data = training_data(whole, all_runs(whole)[run].slot)
    write_json(data, {"content_hash": "d" * 64})
    name = leftover._fingerprint(whole, all_runs(whole)[run], 0)[:16]
    present, other = work(whole, run, name), work(whole, run, "0" * 16)
    assert [(one.folder, one.kept) for one in leftovers(whole)] == [(other, False)]
    write_json(data, {"content_hash": "e" * 64})
    assert {one.folder for one in leftovers(whole)} == {present, other}


def test_the_fingerprint_is_that_of_the_training(latents, whole, monkeypatch):
    trainer = Trainer(settings(), LatentDataset.open(latents), World())
    monkeypatch.setattr(leftover, "run_settings", lambda *_: settings())
    monkeypatch.setattr(leftover, "training_data", lambda *_: latents)
    run = all_runs(whole)["in256-l2-none"]
    assert leftover._fingerprint(whole, run, 0) == trainer.fingerprint


def test_a_run_whose_data_are_gone_is_left_alone(whole):
    work(whole, "ffhq256-b2-rtr", "0" * 16)
    assert leftovers(whole) == []


def test_an_extension_goes_on_in_the_folder_that_it_extends(whole):
    run = next(run for run in all_runs(whole).values() if run.extends)
    write_json(training_data(whole, run.slot), {"content_hash": "d" * 64})
    name = leftover._fingerprint(whole, run, 0)[:16]
    work(whole, run.extends, name)
    assert leftovers(whole) == []


def test_a_folder_that_is_taken_meanwhile_stays(grid, tmp_path):
    scale = load_scale(grid | {"results": str(tmp_path / "results")}, source="digits.yaml")
    folder = work(scale, "none-of-ours", "0" * 16)
    (one,) = leftovers(scale)
    with exclusive(folder):
        assert not remove(one)
    assert (folder / "step-000000100.pt").is_file()
    assert remove(one) and not folder.exists()
