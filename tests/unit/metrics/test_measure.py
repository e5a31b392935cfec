"""The metrics of a record: content, refusals, the feature files, the real-against-real control."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dtr.assets.extractor import DigitsCNN, extract, load_extractor
from dtr.cli import main
from dtr.config.stages import ExtractorSettings, Protocol
from dtr.data.datasets import ImageDataset
from dtr.interop.samples import export_samples
from dtr.metrics import measure as measuring
from dtr.metrics.features import (
    Features,
    keep_features,
    load_features,
    sample_features,
    write_real_features,
)
from dtr.metrics.measure import DIRECTIONS, INTERVALS, measure, measure_files, measure_real
from dtr.planning.places import ASSET
from dtr.records.schema import (
    ExtractorRecord,
    MetricsRecord,
    ModelRecord,
    read_record,
    write_record,
)
from dtr.records.weights import write_weights
from dtr.support.errors import Refusal

PROTOCOL = Protocol(
    dataset="digits",
    autoencoder=None,
    extractor="digits-cnn",
    n_samples=120,
    guidance=1.5,
    guidance_channels="all",
    sampling_steps=10,
    x0_clamp=None,
    labels="random",
    seed=0,
    neighbours=3,
    kid_subset=100,
    inception_split=5000,
)


def features_of(count: int, *, seed: int, shift: float = 0.0) -> Features:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, 10)).astype(np.float32) * 4
    return Features(
        features=(random.normal(size=(count, 6)) + shift).astype(np.float32),
        logits=logits,
        labels=logits.argmax(axis=1),
        extractor="ab" * 32,
        spatial=(random.normal(size=(count, 4)) + shift).astype(np.float32),
    )


def saved(features: Features, path) -> None:
    """As a feature file: what a set of images does not have is not in it."""
    np.savez(path, **{name: value for name, value in vars(features).items() if value is not None})


def by_name(metrics: list[dict]) -> dict[str, dict]:
    return {metric["name"].split("@")[0]: metric for metric in metrics}


@pytest.fixture(scope="module", autouse=True)
def few_subsets():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dtr.metrics.kid.SUBSETS", 5)
        yield


def test_every_metric_has_its_value_inside_its_interval():
    metrics = measure(features_of(120, seed=0), features_of(200, seed=1), PROTOCOL, bootstrap=50)
    assert [metric["name"] for metric in metrics] == [f"{name}@digits-cnn" for name in DIRECTIONS]
    for metric in metrics:
        assert list(metric) == ["name", "n", "value", "low", "high", "direction"]
        assert metric["n"] == 120
        assert metric["low"] <= metric["value"] <= metric["high"]
        assert metric["low"] < metric["high"]
    assert set(INTERVALS) == set(DIRECTIONS)
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


@pytest.fixture
def assets(tmp_path):
    """An untrained extractor, 260 real images with labels, two sample files of 60 images."""
    folder = tmp_path / "digits-cnn"
    write_extractor(folder, seed=0)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, size=(300, 32, 32, 3), dtype=np.uint8)
    split = ["train"] * 260 + ["test"] * 40
    index = pd.DataFrame({"label": np.arange(300) % 10, "split": split})
    dataset = ImageDataset(images, index, {"content_hash": "00"})
    for shard in range(2):
        part = slice(60 * shard, 60 * (shard + 1))
        np.savez(tmp_path / f"shard-{shard}.npz", arr_0=images[part], labels=np.arange(60) % 10)
    return tmp_path, folder, dataset


def write_extractor(folder, *, seed):
    torch.manual_seed(seed)
    settings = ExtractorSettings(
        type="digits_cnn", dataset="digits", width=2, features=6, steps=1, batch_size=1,
        learning_rate=0.1, seed=0,
    )  # fmt: skip
    write_weights(
        folder, ASSET, DigitsCNN(settings).state_dict(), ExtractorRecord, settings=settings.plain(),
        test_accuracy=0.1, train_accuracy=0.1, dataset_hash="", provenance={},
    )  # fmt: skip


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


def test_shards_with_other_extractor_weights_are_refused(assets):
    root, extractor, dataset = assets
    write_extractor(root / "other", seed=1)
    first = sample_features(root / "shard-0.npz", extractor, root / "features")
    second = sample_features(root / "shard-1.npz", root / "other", root / "features")
    write_real_features(dataset, root / "other", root / "real.npz")
    with pytest.raises(Refusal, match=r"shard-1.npz: features of extractor weights"):
        measure_files([first, second], second, PROTOCOL, bootstrap=2)
    with pytest.raises(Refusal, match=r"shard-0.npz: features of extractor weights"):
        measure_files([first], root / "real.npz", PROTOCOL, bootstrap=2)


def test_features_are_kept_as_long_as_images_and_extractor_stay(assets):
    root, extractor, dataset = assets
    write_extractor(root / "other", seed=1)
    samples, folder = root / "shard-0.npz", root / "features"
    kept = sample_features(samples, extractor, folder)
    written = kept.stat().st_mtime_ns
    assert sample_features(samples, extractor, folder) == kept
    assert kept.stat().st_mtime_ns == written
    before = load_features([kept])
    np.savez(samples, arr_0=dataset.images[100:160], labels=np.arange(60) % 10)
    sample_features(samples, extractor, folder)
    assert not np.array_equal(load_features([kept]).features, before.features)
    sample_features(samples, root / "other", folder)
    assert load_features([kept]).extractor != before.extractor


def test_images_may_go_once_their_features_are_there(assets):
    root, extractor, _ = assets
    samples, folder = root / "shard-0.npz", root / "features"
    whole, before = (
        dict(np.load(samples)),
        load_features([sample_features(samples, extractor, folder)]),
    )
    keep_features(samples, extractor, folder, keep=5)
    left = np.load(samples)
    assert int(left["drawn"]) == len(whole["arr_0"]) > 5
    np.testing.assert_array_equal(left["arr_0"], whole["arr_0"][:5])
    np.testing.assert_array_equal(left["labels"], whole["labels"][:5])
    after = load_features([sample_features(samples, extractor, folder)])
    np.testing.assert_array_equal(after.features, before.features)
    np.testing.assert_array_equal(after.labels, before.labels)
    with pytest.raises(Refusal, match=r"5 of \d+ images were kept; accepted: all of them"):
        export_samples([samples], root / "all.npz")
    (folder / "shard-0.npz").unlink()
    with pytest.raises(Refusal, match=r"keeps 5 of \d+ images, .* delete it to have them drawn"):
        sample_features(samples, extractor, folder)


@pytest.mark.parametrize("number", [1, 2])
def test_a_kill_while_images_go_loses_nothing(assets, monkeypatch, number):
    """Neither before the first of the two files is in its place nor between both."""
    root, extractor, _ = assets
    samples, folder = root / "shard-0.npz", root / "features"
    before = load_features([sample_features(samples, extractor, folder)])
    calls = iter(range(1, 10))
    replace_file = os.replace

    def killed(source, target):
        if next(calls) == number:
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        keep_features(samples, extractor, folder, keep=5)
    monkeypatch.undo()
    after = load_features([sample_features(samples, extractor, folder)])
    np.testing.assert_array_equal(after.features, before.features)


def test_few_images_and_diverged_ones_stay(assets):
    root, extractor, _ = assets
    samples = root / "shard-0.npz"
    np.savez(root / "lost.npz", lost=np.array(2), **np.load(samples))
    for name, keep in (("shard-0.npz", 1000), ("lost.npz", 5)):
        content = (root / name).read_bytes()
        keep_features(root / name, extractor, root / "features", keep=keep)
        assert (root / name).read_bytes() == content


def test_samples_without_labels_have_features_without_labels(assets):
    root, extractor, dataset = assets
    np.savez(root / "plain.npz", arr_0=dataset.images[:5])
    plain = sample_features(root / "plain.npz", extractor, root / "features")
    assert load_features([plain]).labels is None
    labelled = sample_features(root / "shard-0.npz", extractor, root / "features")
    with pytest.raises(Refusal, match="labels in some files only"):
        load_features([labelled, plain])


def test_damaged_files_are_refused_by_name_and_leave_no_output(assets):
    root, extractor, _ = assets
    out = root / "out"
    cases = {"absent.npz": "no such file", "damaged.npz": "not readable", "other.npz": "no array"}
    whole = (root / "shard-0.npz").read_bytes()
    (root / "damaged.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(root / "other.npz", pixels=np.zeros(3))
    for name, message in cases.items():
        with pytest.raises(Refusal, match=f"{name}: {message}") as refusal:
            sample_features(root / name, extractor, out)
        assert "\n" not in str(refusal.value)
        with pytest.raises(Refusal, match=f"{name}: {message}"):
            load_features([root / name])
    with pytest.raises(Refusal, match="none given"):
        load_features([])
    assert not out.exists()


def test_samples_that_diverged_are_not_measured(assets):
    root, extractor, _ = assets
    np.savez(root / "lost.npz", lost=np.array(2), **np.load(root / "shard-0.npz"))
    with pytest.raises(Refusal, match=r"lost\.npz: 2 of \d+ images diverged in sampling"):
        sample_features(root / "lost.npz", extractor, root / "out")


@pytest.fixture
def measured(assets, capsys):
    """Runs `measure` on the two sample files; options are replaced, or left out where None."""
    root, extractor, dataset = assets
    write_real_features(dataset, extractor, root / "real.npz")
    record = ModelRecord(
        run="a-run", seed=0, step=5, reached_step=5, status="ok", fingerprint=None,
        dataset_hash=None, settings={}, weights_sha256="", parameters=1, provenance={},
    )  # fmt: skip
    write_record(root / "model" / "train.json", record)
    out = root / "record.json"

    def run(**changes):
        options = {
            "model": [root / "model"], "samples": [root / "shard-0.npz", root / "shard-1.npz"],
            "extractor": [extractor], "features": [root / "features"],
            "real": [root / "real.npz"], "slot": ["unconditional"], "bootstrap": [2],
            "protocol": [json.dumps(PROTOCOL.plain())],
        } | changes  # fmt: skip
        arguments = ["measure", "--out", str(out)]
        for name, values in options.items():
            arguments += [] if values is None else [f"--{name}", *map(str, values)]
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
        return status, capsys.readouterr().err.splitlines(), out

    return run


def test_the_verb_measures_and_says_nothing(measured):
    status, said, out = measured()
    record = read_record(MetricsRecord, out)
    assert (status, said, record.status) == (0, [], "ok")
    assert (record.run, record.seed, record.step) == ("a-run", 0, 5)
    assert record.metrics


@pytest.mark.parametrize(
    ("seconds", "total"),
    [((1.5, 2.25), 3.75), ((1.5, None), math.nan), ((None, None), math.nan)],
)
def test_the_record_says_how_long_sampling_took_if_all_files_do(measured, assets, seconds, total):
    root, *_ = assets
    for shard, told in enumerate(seconds):
        file = root / f"shard-{shard}.npz"
        timed = {} if told is None else {"seconds": np.array(told)}
        np.savez(file, **np.load(file), **timed)
    *_, out = measured()
    record = read_record(MetricsRecord, out)
    assert record.status == "ok"
    assert record.sampling_seconds == pytest.approx(total, nan_ok=True)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [((None, None), "host"), (("device", "device"), "device"), (("device", None), "mixed")],
)
def test_the_record_says_where_noise_was_drawn(measured, assets, drawn, expected):
    root, *_ = assets
    for shard, told in enumerate(drawn):
        file = root / f"shard-{shard}.npz"
        arrays = {name: array for name, array in np.load(file).items() if name != "rng"}
        np.savez(file, **arrays, **({} if told is None else {"rng": np.array(told)}))
    *_, out = measured()
    assert read_record(MetricsRecord, out).sampling_rng == expected


def test_a_control_and_an_older_record_have_no_time_of_sampling(measured):
    *_, out = measured(model=None, samples=None, extractor=None, features=None)
    assert math.isnan(read_record(MetricsRecord, out).sampling_seconds)
    older = json.loads(out.read_text(encoding="utf-8"))
    assert older.pop("sampling_seconds", "absent") is None
    out.write_text(json.dumps(older), encoding="utf-8")
    assert math.isnan(read_record(MetricsRecord, out).sampling_seconds)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": None}, "--samples: given without --model, which measures real images alone"),
        ({"model": None, "samples": None}, "--extractor: given without --model"),
        ({"model": None, "samples": None, "extractor": None}, "--features: given without --model"),
        ({"samples": None}, "--samples: missing; needed to measure the samples of a --model"),
        ({"extractor": None}, "--extractor: missing; needed"),
        ({"features": None}, "--features: missing; needed"),
        ({"extractor": ["x/other-cnn"]}, "x/other-cnn: the protocol names 'digits-cnn'; accepted"),
        ({"extractor": ["x/digits-cnn"]}, "x/digits-cnn/record.json: no such file"),
        ({"samples": ["x.npz"]}, "x.npz: no such file"),
        ({"real": ["x.npz"]}, "x.npz: no such file"),
        ({"model": ["x"]}, "x/train.json: no such file"),
        ({"bootstrap": [0]}, "--bootstrap: 0; accepted: an integer of 1 or more"),
        ({"threads": [0]}, "--threads: 0; accepted: an integer of 1 or more"),
    ],
)
def test_options_that_contradict_each_other_write_no_record(changes, message, measured):
    status, said, out = measured(**changes)
    assert status == 2
    (line,) = said
    assert message in line
    assert not out.exists()


def test_a_failed_measurement_is_recorded_and_said(measured, assets):
    root, _, _ = assets
    np.savez(root / "wide.npz", arr_0=np.zeros((120, 24, 40, 3), np.uint8))
    status, said, out = measured(samples=[root / "wide.npz"])
    record = json.loads(out.read_text())
    assert (status, record["status"], record["metrics"]) == (0, "failed", [])
    (line,) = said
    assert "wide.npz: images of 24 x 40 pixels; the extractor accepts 32 x 32 or 16 x 16" in line
    assert record["reason"] in line
    assert line.startswith("dtr measure: failed: ")


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
