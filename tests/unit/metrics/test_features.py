"""Feature files: made once of images that may go, joined, refused."""

import os

import numpy as np
import pytest

from dtr.interop.samples import export_samples
from dtr.metrics.features import (
    keep_features,
    load_features,
    sample_features,
    write_real_features,
)
from dtr.metrics.measure import measure_files
from dtr.support.errors import Refusal
from tests.unit.metrics.conftest import PROTOCOL, write_extractor

pytestmark = pytest.mark.usefixtures("few_subsets")


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
