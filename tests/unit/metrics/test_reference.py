"""References that are statistics: published files, those computed here, and what is measured."""

import json

import numpy as np
import pandas as pd
import pytest
from torch import nn

from dtr.config.checks import load_scale
from dtr.config.references import ReferenceSettings
from dtr.config.stages import Protocol
from dtr.data.datasets import ImageDataset
from dtr.metrics import fid
from dtr.metrics import reference as module
from dtr.metrics.features import Features, load_features
from dtr.metrics.gaussians import Gaussian, Moments
from dtr.metrics.measure import (
    Unmeasurable,
    measure,
    measure_files,
    measure_model,
    measure_real,
)
from dtr.metrics.reference import write_reference
from dtr.planning.evaluations import protocol
from dtr.records.schema import MetricsRecord, read_record
from dtr.support.errors import Refusal

PROTOCOL = Protocol(
    dataset="set", extractor="net", n_samples=60, guidance_channels="all", sampling_steps=10,
    labels="random", seed=0, neighbours=3, kid_subset=20, inception_split=5000,
)  # fmt: skip
WIDTH, SPATIAL = 6, 4


class Network(nn.Module):
    """Means over parts of an image as features, logits and spatial features."""

    sides, batch, knows_labels = None, 7, False

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(nn.Linear(192, WIDTH + 5 + SPATIAL).weight))

    def forward(self, images):
        flat = nn.functional.adaptive_avg_pool2d(images.float(), 8).flatten(1) / 255
        found = flat @ self.weight.T
        return found[:, :WIDTH], found[:, WIDTH : WIDTH + 5], found[:, WIDTH + 5 :]


@pytest.fixture
def network(monkeypatch):
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = Network().requires_grad_(False)
    monkeypatch.setattr("dtr.assets.extractor.load_extractor", lambda *_: own)
    monkeypatch.setattr(module, "extractor_hash", lambda _: "ab" * 32)
    return own


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def dataset(monkeypatch) -> ImageDataset:
    """Ninety images, the last ten of which are for testing."""
    index = pd.DataFrame({"label": 0, "split": ["train"] * 80 + ["test"] * 10})
    own = ImageDataset(pictures(90), index, {"dataset": "set", "content_hash": "cd"})
    monkeypatch.setattr(ImageDataset, "open", lambda _: own)
    return own


def extracted(network, images: np.ndarray) -> dict[str, np.ndarray]:
    from dtr.assets.extractor import extract

    return extract(network, images)


def test_moments_of_parts_are_those_of_the_whole():
    features = np.random.default_rng(0).normal(size=(101, 5)) + 1e4
    moments = Moments()
    for part in np.array_split(features, 7):
        moments.add(part)
    mean, covariance = moments.gaussian()
    np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features, rowvar=False), rtol=1e-9)


def test_features_and_their_gaussian_are_at_the_same_distance():
    first, second = (np.random.default_rng(s).normal(size=(50, 4)) + s for s in (0, 1))
    known = Gaussian.of(second)
    assert fid.frechet(generated=first, real=second) == fid.frechet(generated=first, real=known)
    own = fid.frechet_clean(generated=first, real=second)
    assert own == fid.frechet_clean(generated=first, real=known)
    # Means that differ by d on every axis and equal covariances: the distance is n d^2.
    shifted = Gaussian(known.mean + 2, known.covariance)
    assert fid.frechet(generated=second, real=shifted) == pytest.approx(16, rel=1e-9)


def test_a_computed_reference_is_of_all_training_images(network, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 30)
    settings = ReferenceSettings(dataset="set", images=25)
    out = tmp_path / "reference.npz"
    write_reference("own", settings, tmp_path, out, data=tmp_path)
    found, every = load_features([out]), extracted(network, dataset.images[:80])
    assert len(found) == 25 and found.spatial.shape == (25, SPATIAL) and found.labels is None
    np.testing.assert_allclose(found.mu, every["features"].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.sigma, np.cov(every["features"], rowvar=False), rtol=1e-4)
    np.testing.assert_allclose(found.mu_s, every["spatial"].mean(axis=0), rtol=1e-5)
    kept = {tuple(row) for row in found.features.round(4).tolist()}
    assert kept <= {tuple(row) for row in every["features"].round(4).tolist()}
    told = json.loads(found.reference)
    assert told == {"computed": "set", "count": 80, "images": 25, "dataset_hash": "cd"}


def published(path, network, images=40, **changes):
    every = extracted(network, pictures(80, seed=1))
    arrays = {"arr_0": pictures(images, seed=1), "mu": every["features"].mean(axis=0),
              "sigma": np.cov(every["features"], rowvar=False)} | changes  # fmt: skip
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return ReferenceSettings(dataset="set", file=str(path), images=30)


def test_a_published_reference_keeps_its_numbers(network, tmp_path):
    settings = published(tmp_path / "VIRTUAL.npz", network)
    write_reference("adm", settings, tmp_path, tmp_path / "out.npz")
    found = load_features([tmp_path / "out.npz"])
    stored = np.load(tmp_path / "VIRTUAL.npz")
    np.testing.assert_array_equal(found.mu, stored["mu"])
    np.testing.assert_array_equal(found.sigma, stored["sigma"])
    assert len(found) == 30 and found.mu_s is None
    assert json.loads(found.reference)["published"] == "VIRTUAL.npz"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mu": None}, r"adm: .*x\.npz: no array 'mu' \(found: arr_0, sigma\)"),
        ({"mu": np.zeros(3), "sigma": np.eye(3)}, "mu is 3 wide, the extractor gives 6 features"),
        ({"sigma": np.eye(3)}, r"mean \[6\], covariance \[3, 3\]; accepted: \[d\] and \[d, d\]"),
        ({"mu": np.full(6, np.nan)}, "not all numbers of the mean and covariance are finite"),
    ],
)
def test_another_file_is_refused(network, tmp_path, changes, message):
    settings = published(tmp_path / "x.npz", network, **changes)
    with pytest.raises(Refusal, match=message) as refusal:
        write_reference("adm", settings, tmp_path, tmp_path / "out.npz")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out.npz").exists()


def test_a_missing_file_says_what_it_is_and_another_is_noticed(network, tmp_path):
    settings = published(tmp_path / "x.npz", network)
    absent = settings.model_copy(update={"file": "nowhere.npz", "source": "ADM's reference batch"})
    with pytest.raises(Refusal, match=r"nowhere\.npz: no such file; put ADM's reference batch"):
        write_reference("adm", absent, tmp_path, tmp_path / "out.npz")
    other = settings.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(Refusal, match=r"expected 0000000000000000 by references\.adm\.sha256"):
        write_reference("adm", other, tmp_path, tmp_path / "out.npz")


def sample_file(path, network, count=60) -> Features:
    arrays = extracted(network, pictures(count, seed=3))
    np.savez(path, extractor=np.array("ab" * 32), **arrays)
    return load_features([path])


def names(metrics) -> list[str]:
    return [metric["name"].split("@")[0] for metric in metrics]


def test_samples_are_measured_against_the_statistics(network, dataset, tmp_path):
    own = sample_file(tmp_path / "shard.npz", network)
    settings = ReferenceSettings(dataset="set", images=25)
    write_reference("own", settings, tmp_path, tmp_path / "real.npz", data=tmp_path)
    metrics = measure_files([tmp_path / "shard.npz"], tmp_path / "real.npz", PROTOCOL, bootstrap=4)
    assert names(metrics) == ["fid", "fid-clean", "sfid", "kid", "inception_score", "precision",
                              "recall"]  # fmt: skip
    every = extracted(network, dataset.images[:80])
    expected = fid.frechet(generated=own.features, real=every["features"])
    assert metrics[0]["value"] == pytest.approx(expected, rel=1e-5)
    spatial = fid.frechet(generated=own.spatial, real=every["spatial"])
    assert metrics[2]["value"] == pytest.approx(spatial, rel=1e-4)
    assert all(metric["low"] <= metric["value"] <= metric["high"] for metric in metrics)


def test_what_a_reference_has_no_statistics_of_is_not_taken_from_its_images(network, tmp_path):
    """FID against all images and sFID against some of them would be two references."""
    own = sample_file(tmp_path / "shard.npz", network)
    write_reference("adm", published(tmp_path / "x.npz", network), tmp_path, tmp_path / "real.npz")
    real = load_features([tmp_path / "real.npz"])
    assert real.spatial is not None and real.gaussian("spatial") is None
    assert "sfid" not in names(measure(own, real, PROTOCOL, bootstrap=4))


def test_statistics_without_images_still_have_a_distance(network, tmp_path):
    own = sample_file(tmp_path / "shard.npz", network)
    settings = published(tmp_path / "coco.npz", network, arr_0=None)
    write_reference("coco", settings, tmp_path, tmp_path / "real.npz")
    real = load_features([tmp_path / "real.npz"])
    assert names(measure(own, real, PROTOCOL, bootstrap=4)) == ["fid", "fid-clean",
                                                                "inception_score"]  # fmt: skip


def test_the_control_of_statistics_alone_says_that_it_cannot_be_computed(network, tmp_path):
    settings = published(tmp_path / "coco.npz", network, arr_0=None)
    write_reference("coco", settings, tmp_path, tmp_path / "real.npz")
    with pytest.raises(Unmeasurable):
        measure_real(tmp_path / "real.npz", PROTOCOL, bootstrap=4)
    out = tmp_path / "record.json"
    said = measure_model(out, PROTOCOL, slot="s", real=tmp_path / "real.npz", bootstrap=4)
    record = read_record(MetricsRecord, out)
    assert (record.status, record.metrics) == ("unmeasurable", [])
    assert record.reason == (
        "the reference of this slot, coco.npz, consists of statistics without images, so that no "
        "real image can be measured against it"
    )
    assert said == f"unmeasurable: {record.reason}"


class Both(Network):
    """The same with features as of clean-fid's own network: twice the first three."""

    outputs = ("features", "logits", "spatial", "clean")

    def forward(self, images):
        found = super().forward(images)
        return *found, 2 * found[0][:, :3]


@pytest.fixture
def both(network, monkeypatch):
    own = Both()
    own.weight = network.weight
    monkeypatch.setattr("dtr.assets.extractor.load_extractor", lambda *_: own)
    return own


def test_clean_fids_own_network_makes_a_column_beside(both, dataset, tmp_path):
    own = sample_file(tmp_path / "shard.npz", both)
    settings = ReferenceSettings(dataset="set", images=25)
    write_reference("own", settings, tmp_path, tmp_path / "real.npz", data=tmp_path)
    metrics = measure_files([tmp_path / "shard.npz"], tmp_path / "real.npz", PROTOCOL, bootstrap=4)
    found = {name: one["value"] for name, one in zip(names(metrics), metrics, strict=True)}
    every = extracted(both, dataset.images[:80])["clean"]
    expected = fid.frechet_clean(generated=own.clean, real=every)
    assert found["fid-clean-own"] == pytest.approx(expected, rel=1e-4)
    assert found["fid-clean-own"] != found["fid-clean"]
    assert found.keys() >= {"fid", "fid-clean", "sfid", "kid"}


def test_published_statistics_have_no_such_column(both, tmp_path):
    own = sample_file(tmp_path / "shard.npz", both)
    settings = published(tmp_path / "adm.npz", both)
    write_reference("adm", settings, tmp_path, tmp_path / "real.npz")
    real = load_features([tmp_path / "real.npz"])
    assert own.clean is not None and len(real) and real.mu_clean is None
    assert "fid-clean-own" not in names(measure(own, real, PROTOCOL, bootstrap=4))


def test_the_control_measures_the_images_that_a_reference_has(network, dataset, tmp_path):
    settings = ReferenceSettings(dataset="set", images=25)
    write_reference("own", settings, tmp_path, tmp_path / "real.npz", data=tmp_path)
    metrics = measure_real(tmp_path / "real.npz", PROTOCOL, bootstrap=4)
    assert names(metrics) == ["fid", "fid-clean", "sfid", "inception_score"]
    assert {metric["n"] for metric in metrics} == {25}


def test_the_reference_is_part_of_the_protocol_but_not_where_it_lies(digits, scale):
    def with_reference(**values) -> str:
        slots = {name: slot | {"reference": "adm"} for name, slot in digits["slots"].items()}
        told = {"references": {"adm": {"dataset": "digits", "images": 500} | values}}
        own = load_scale(digits | {"slots": slots} | told, source="test")
        return protocol(own, "class_conditional").id

    ids = [protocol(scale, "class_conditional").id, with_reference()]
    ids += [with_reference(file="here/a.npz"), with_reference(file="b.npz")]
    ids += [with_reference(images=600), with_reference(file="a.npz", sha256="0" * 64)]
    assert len({*ids}) == len(ids)
    assert with_reference(file="there/a.npz") == ids[2]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "elsewhere"}, "references.adm.dataset = 'elsewhere': unknown"),
        ({"images": 3}, "references.adm.images = 3: kid_subset and neighbours need at least 250"),
    ],
)
def test_a_reference_that_does_not_fit_is_refused(digits, values, message):
    slots = {name: slot | {"reference": "adm"} for name, slot in digits["slots"].items()}
    told = {"references": {"adm": {"dataset": "digits"} | values}}
    with pytest.raises(Refusal, match=message):
        load_scale(digits | {"slots": slots} | told, source="test")
