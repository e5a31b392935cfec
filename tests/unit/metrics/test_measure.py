"""The metrics of a record: content, refusals, the real-against-real control."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from dtr.assets.extractor import extract, load_extractor
from dtr.metrics import measure as measuring
from dtr.metrics.features import (
    load_features,
    sample_features,
    write_real_features,
)
from dtr.metrics.measure import DIRECTIONS, measure, measure_files, measure_real
from dtr.support.errors import Refusal
from tests.unit.metrics.conftest import PROTOCOL, by_name, features_of, saved

pytestmark = pytest.mark.usefixtures("few_subsets")


def test_every_metric_has_its_value_inside_its_interval():
    metrics = measure(features_of(120, seed=0), features_of(200, seed=1), PROTOCOL, bootstrap=50)
    assert [metric["name"] for metric in metrics] == [f"{name}@digits-cnn" for name in DIRECTIONS]
    for metric in metrics:
        assert list(metric) == ["name", "n", "value", "low", "high", "direction"]
        assert metric["n"] == 120
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["low"] < metric["high"]
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_metrics_move_in_their_direction_when_samples_get_worse():
    real = features_of(200, seed=1)
    good, bad = features_of(120, seed=0), features_of(120, seed=0, shift=1.5)
    bad = replace(bad, logits=bad.logits * 0.01, labels=(bad.labels + 1) % 10)
    better = by_name(measure(good, real, PROTOCOL, bootstrap=2))
    worse = by_name(measure(bad, real, PROTOCOL, bootstrap=2))
    for name, direction in DIRECTIONS.items():
        change = worse[name]["value"] - better[name]["value"]
        assert change * {"lower": 1, "higher": -1}[direction] > 0, name


def test_a_collapsed_generator_has_full_precision_and_no_recall():
    real = features_of(200, seed=1)
    collapsed = real.rows(np.zeros(120, dtype=int))
    metrics = by_name(measure(collapsed, real, PROTOCOL, bootstrap=5))
    assert metrics["precision"]["value"] == 1
    assert metrics["recall"]["value"] < 0.01


def test_recognised_is_the_share_of_samples_of_the_class_asked_for():
    generated = features_of(120, seed=0)
    asked = generated.labels.copy()
    asked[:30] = (asked[:30] + 1) % 10
    real = features_of(200, seed=1)
    metric = by_name(measure(replace(generated, labels=asked), real, PROTOCOL, bootstrap=2))
    assert metric["recognised"]["value"] == 0.75
    unlabelled = by_name(measure(replace(generated, labels=None), real, PROTOCOL, bootstrap=2))
    assert set(unlabelled) == set(DIRECTIONS) - {"recognised"}


def test_measuring_twice_gives_the_same_record():
    sets = features_of(120, seed=0), features_of(200, seed=1)
    first, second = (measure(*sets, PROTOCOL, bootstrap=20) for _ in range(2))
    assert first == second


def broken(values: np.ndarray) -> np.ndarray:
    values = values.copy()
    values[3, 2] = np.nan
    return values


@pytest.mark.parametrize(
    "change_generated, change_real, message",
    [
        (lambda f: replace(f, features=broken(f.features)), None, "generated features: not finite"),
        (lambda f: replace(f, logits=broken(f.logits)), None, "generated logits: not finite"),
        (None, lambda f: replace(f, features=broken(f.features)), "real features: not finite"),
        (lambda f: f.rows(np.arange(119)), None, "generated images: 119, .* n_samples is 120"),
        (None, lambda f: f.rows(np.arange(99)), "real images: 99; .* need at least 100"),
        (None, lambda f: replace(f, features=f.features[:, :5]), "6 dimensions, real 5"),
        (lambda f: replace(f, labels=f.labels[:-1]), None, "generated labels: expected 120"),
        (lambda f: replace(f, labels=f.labels + 1), None, "integers from 0 to 9"),
        (lambda f: replace(f, logits=f.logits[:-1]), None, "generated logits: shape"),
    ],
)
def test_unusable_features_are_refused_in_one_line(change_generated, change_real, message):
    generated, real = features_of(120, seed=0), features_of(200, seed=1)
    generated = change_generated(generated) if change_generated else generated
    real = change_real(real) if change_real else real
    with pytest.raises(Refusal, match=message) as refusal:
        measure(generated, real, PROTOCOL, bootstrap=2)
    assert "\n" not in str(refusal.value)


def test_files_from_images_to_metrics(assets):
    root, extractor, dataset = assets
    shards = [
        sample_features(root / f"shard-{shard}.npz", extractor, root / "features")
        for shard in range(2)
    ]
    real_file = root / "real.npz"
    write_real_features(dataset, extractor, real_file)

    generated, real = load_features(shards), load_features([real_file])
    expected = extract(load_extractor(extractor), dataset.images[:260])
    assert np.array_equal(real.features, expected["features"])
    assert np.array_equal(real.labels, dataset.labels()[:260])
    assert np.array_equal(generated.features, expected["features"][:120])
    assert np.array_equal(generated.labels, np.tile(np.arange(60) % 10, 2))

    metrics = measure_files(shards, real_file, PROTOCOL, bootstrap=3)
    assert metrics == measure(generated, real, PROTOCOL, bootstrap=3)
    unguided = PROTOCOL.model_copy(update={"guidance": None})
    names = by_name(measure_files(shards, real_file, unguided, bootstrap=3))
    assert "recognised" not in names


def test_the_real_control_compares_disjoint_real_images(tmp_path, monkeypatch):
    real = features_of(200, seed=1)
    saved(real, tmp_path / "real.npz")
    halves = []

    def spy(generated, reference, protocol, *, bootstrap):
        halves.append((generated, reference))
        return measure(generated, reference, protocol, bootstrap=bootstrap)

    small = PROTOCOL.model_copy(update={"kid_subset": 50})
    monkeypatch.setattr(measuring, "measure", spy)
    metrics = by_name(measure_real(tmp_path / "real.npz", small, bootstrap=3))
    again = by_name(measure_real(tmp_path / "real.npz", small, bootstrap=3))
    generated, rest = halves[0]
    assert len(generated) == 120 and len(rest) == 80
    both = np.concatenate([generated.features, rest.features])
    assert np.array_equal(np.unique(both, axis=0), np.unique(real.features, axis=0))
    assert metrics == again
    assert metrics["recognised"]["value"] == 1.0
    other = small.model_copy(update={"seed": 1})
    assert by_name(measure_real(tmp_path / "real.npz", other, bootstrap=3)) != metrics


def test_the_real_control_needs_more_real_images_than_samples(tmp_path):
    saved(features_of(120, seed=1), tmp_path / "real.npz")
    with pytest.raises(Refusal, match="more than n_samples = 120"):
        measure_real(tmp_path / "real.npz", PROTOCOL, bootstrap=3)


def test_importing_the_module_loads_no_engine():
    check = (
        "import sys, dtr.metrics.measure; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'torch_fidelity', 'cleanfid')))"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
