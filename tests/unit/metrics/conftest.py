"""Features, sample files and an extractor, small ones, for the tests of metrics."""

import numpy as np
import pandas as pd
import pytest
import torch

from dtr.assets.extractor import DigitsCNN
from dtr.config.stages import ExtractorSettings, Protocol
from dtr.data.datasets import ImageDataset
from dtr.metrics.features import (
    Features,
)
from dtr.planning.places import ASSET
from dtr.records.schema import (
    ExtractorRecord,
)
from dtr.records.weights import write_weights

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
        clean=(random.normal(size=(count, 5)) + shift).astype(np.float32),
    )


def saved(features: Features, path) -> None:
    """As a feature file: what a set of images does not have is not in it."""
    np.savez(path, **{name: value for name, value in vars(features).items() if value is not None})


def by_name(metrics: list[dict]) -> dict[str, dict]:
    return {metric["name"].split("@")[0]: metric for metric in metrics}


@pytest.fixture(scope="module")
def few_subsets():
    """KID of five subsets, which is quick; its value is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dtr.metrics.kid.SUBSETS", 5)
        yield


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
