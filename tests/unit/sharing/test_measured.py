"""An edited number is found, although its record is as well-formed as before."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dtr.cli import main
from dtr.sharing.verify import verify
from dtr.support.files import hash_file
from tests.unit.sharing.conftest import SHARD, build, write_features
from tests.unit.sharing.planting import STEP, assert_found, edited, found_in, measured


def edited_metric(root, metric, factor):
    """As one would cheat: value and interval together."""

    def change(record):
        (one,) = [one for one in record["metrics"] if one["name"].startswith(f"{metric}@")]
        for name in ("value", "low", "high"):
            one[name] *= factor

    path = edited(measured(root), change)
    return "altered", path.relative_to(root).as_posix()


def improve_fid(root):
    return edited_metric(root, "fid", 0.99)


def improve_the_inception_score(root):
    return edited_metric(root, "inception_score", 1.01)


def recognise_more(root):
    return edited_metric(root, "recognised", 1.1)


def take_other_features(root):
    """Better ones, said to be of the same samples."""
    shard = measured(root).with_suffix("").name
    path = root / STEP / "features" / shard / "shard-0.npz"
    with np.load(path) as before:
        told = {name: str(before[name]) for name in ("samples", "extractor")}
    write_features(path, SHARD, 0.0, **told)
    return "altered", measured(root).relative_to(root).as_posix()


def mix_extractors(root):
    path = root / STEP / "features" / measured(root).stem / "shard-0.npz"
    samples = root / STEP / "samples" / measured(root).stem / "shard-0.npz"
    write_features(path, SHARD, 0.3, samples=hash_file(samples), extractor="e" * 64)
    return "broken", measured(root).relative_to(root).as_posix()


DEFECTS = [
    improve_fid, improve_the_inception_score, recognise_more, take_other_features, mix_extractors,
]  # fmt: skip


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    assert_found(sound, plant, capsys)


def test_what_takes_its_time_is_measured_on_request(sound):
    root = Path(sound.results)
    for other in (root / "runs").glob("*/seed*"):
        if other != (root / STEP).parent:
            shutil.rmtree(other)
    slow = ("kid", "precision", "recall", "fid-clean")
    for metric in slow:
        edited_metric(root, metric, 0.9)
    build(sound)
    assert found_in(root, partial=True) == []
    found = verify(root, partial=True, thorough=True)[0]
    assert {one.file for one in found} == {measured(root).relative_to(root).as_posix()}
    assert {one.found.split("@")[0] for one in found} == set(slow)


def test_controls_are_measured_on_request_too(sound):
    root = Path(sound.results)
    shutil.rmtree(root / "runs")
    (control, *_) = sorted((root / "controls").rglob("*.json"))
    edited(control, lambda record: record["metrics"][0].update(value=9.0, high=9.0))
    build(sound)
    name = control.relative_to(root).as_posix()
    assert ("altered", name) in found_in(root, partial=True, thorough=True)


def test_without_features_nothing_is_measured(sound, capsys):
    root = Path(sound.results)
    for folder in (root / "runs").rglob("features"):
        shutil.rmtree(folder)
    assert verify(root)[0] == []
    assert "metrics measured again" not in verify(root)[1]
    assert main(["verify", str(root), "--measure-again"]) == 0
    assert "nothing found" in capsys.readouterr().out
