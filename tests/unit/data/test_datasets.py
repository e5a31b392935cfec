"""Prepared images, the autoencoder's conversions, cached latents and pixels as training data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dtr.assets.autoencoder import (
    load_autoencoder,
    small_kl,
    to_images,
    to_network,
    train_autoencoder,
)
from dtr.config.stages import AutoencoderSettings
from dtr.data import caching, shards
from dtr.data.batches import open_training_data
from dtr.data.caching import cache_latents
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.data.latents import LatentDataset
from dtr.data.rows import PixelDataset
from dtr.data.shards import check_content
from dtr.data.sources.mnist import MnistSettings, mnist_digits
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json

MNIST = MnistSettings(type="mnist", resolution=32, mirror=False, num_test=500)
TINY = AutoencoderSettings(
    type="train",
    dataset="digits",
    patch_size=2,
    channels=[8, 8, 8],
    latent_channels=4,
    layers_per_block=1,
    norm_groups=8,
    steps=40,
    batch_size=16,
    learning_rate=5e-3,
    kl_weight=1e-4,
    seed=0,
)


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    prepare_dataset("digits", MNIST, folder)
    return folder


def test_digits_of_another_number_of_classes_are_refused(tmp_path):
    with pytest.raises(Refusal, match="digits: images of 10 classes; the slot's num_classes = 9"):
        prepare_dataset("digits", MNIST, tmp_path, classes=9)
    assert not any(tmp_path.iterdir())


def test_other_manifests_are_refused_in_one_line(digits_folder, tmp_path):
    manifest = digits_folder / "manifest.json"
    with pytest.raises(Refusal, match="not the manifest of cached latents"):
        LatentDataset.open(manifest)
    latents = tmp_path / "manifest.json"
    content = {"files": {"shard-00000.npy": ""}, "content_hash": "", "scale_factor": 1.0}
    latents.write_text(json.dumps(content))
    with pytest.raises(Refusal, match="not the manifest of a prepared dataset, which lists index"):
        ImageDataset.open(latents)
    for text in ("[]", "{}", '{"files": {}}', '{"files": ["images.npy"]}', "3"):
        latents.write_text(text)
        for opened in (ImageDataset.open, LatentDataset.open, open_training_data):
            with pytest.raises(Refusal, match="not the manifest of"):
                opened(latents)
    with pytest.raises(Refusal, match="not readable"):
        open_training_data(tmp_path)


def few(mirror: bool = False) -> ImageDataset:
    """Sixty digits as a dataset of their own, without files."""
    images, labels = mnist_digits(32)
    chosen = np.arange(0, 5000, 84)[:60]
    split = np.where(np.arange(60) % 6 == 0, "test", "train")
    index = pd.DataFrame({"label": labels[chosen], "split": split})
    manifest = {"dataset": "few", "mirror": mirror, "content_hash": "few"}
    return ImageDataset(images[chosen], index, manifest)


def trained(settings: AutoencoderSettings, folder: Path) -> None:
    """The autoencoder of `settings`, fitted to the sixty digits, in `folder`."""
    (train, _), (test, _) = few().split("train"), few().split("test")
    train_autoencoder(settings, train, test, folder, dataset_hash="few")


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoder")
    trained(TINY, folder)
    return folder


def test_a_manifest_says_what_the_dataset_is(digits_folder):
    dataset = ImageDataset.open(digits_folder / "manifest.json")
    assert dataset.images.shape == (5000, 32, 32, 3)
    assert dataset.images.dtype == np.uint8
    assert dataset.manifest["class_counts"] == [500] * 10
    assert dataset.manifest["split_counts"] == {"train": 4500, "test": 500}
    assert np.bincount(dataset.labels()[dataset.positions("test")]).tolist() == [50] * 10
    assert dataset.manifest["duplicates"] == 0


def test_a_split_has_its_images_with_their_labels(digits_folder):
    dataset = ImageDataset.open(digits_folder / "manifest.json")
    for name in ("train", "test"):
        images, labels = dataset.split(name)
        rows = dataset.positions(name)
        assert np.array_equal(images, dataset.images[rows])
        assert np.array_equal(labels, dataset.labels()[rows])


def test_files_of_another_size_are_refused_and_of_other_content_when_they_are_checked(
    digits_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "copy"
    shutil.copytree(digits_folder, folder)
    manifest, images = folder / "manifest.json", folder / "images-00000.npy"
    assert check_content(manifest) == 2
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    with pytest.raises(Refusal, match=r"images-00000\.npy: content differs from its manifest"):
        ImageDataset.open(manifest)
    monkeypatch.setattr(shards, "SMALL", 10_000_000)
    assert len(ImageDataset.open(manifest).images) == 5000
    with pytest.raises(Refusal, match=r"images-00000\.npy: content differs from its manifest"):
        check_content(manifest)
    images.write_bytes(content[:-1])
    for look in (ImageDataset.open, check_content):
        with pytest.raises(Refusal, match=r"images-00000\.npy: 15360127 bytes, its manifest says"):
            look(manifest)
    assert images.read_bytes() == content[:-1]
    images.unlink()
    with pytest.raises(Refusal, match=r"images-00000\.npy: missing; delete .* to prepare it again"):
        ImageDataset.open(manifest)


def test_pixels_survive_the_way_to_the_network_and_back():
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    pixels = to_network(values)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert np.array_equal(to_images(pixels), values)
    assert to_images(torch.full((1, 3, 2, 2), 7.0)).max() == 255


def test_patches_only_fold_pixels_into_channels():
    plain = small_kl(TINY.model_copy(update={"patch_size": 1, "channels": [8, 8]}))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(plain.posterior(x).mean, plain.autoencoder.encode(x).latent_dist.mean)
    patched = small_kl(TINY)
    latents = patched.posterior(torch.randn(2, 3, 32, 32)).mean
    assert latents.shape == (2, 4, 4, 4)
    assert patched.decode(latents).shape == (2, 3, 32, 32)


def test_the_autoencoder_learns_and_measures_its_scale(autoencoder, tmp_path):
    record = read_json(autoencoder / "record.json")
    untrained = tmp_path / "untrained"
    trained(TINY.model_copy(update={"steps": 1}), untrained)
    assert record["test_psnr_db"] > read_json(untrained / "record.json")["test_psnr_db"] + 3
    cache_latents(few(), autoencoder, tmp_path / "latents")
    data = LatentDataset.open(tmp_path / "latents" / "manifest.json")
    sampled = np.stack([data.sample(np.arange(50), generator(i)) for i in range(20)])
    assert sampled.std() == pytest.approx(1.0, abs=0.05)


def test_corrupted_weights_are_refused(autoencoder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(autoencoder, folder)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(Refusal, match=r"weights\.safetensors: content differs from weights_sha256"):
        load_autoencoder(folder)


def test_mirrors_are_encoded_where_they_are_valid(autoencoder, tmp_path):
    dataset = few(mirror=True)
    cache_latents(dataset, autoencoder, tmp_path / "both")
    data = LatentDataset.open(tmp_path / "both" / "manifest.json")
    assert data.manifest["mirrors"] == 2
    mirrored = ImageDataset(dataset.images[:, :, ::-1], dataset.index, dict(dataset.manifest))
    cache_latents(mirrored, autoencoder, tmp_path / "mirrored")
    other = LatentDataset.open(tmp_path / "mirrored" / "manifest.json")
    np.testing.assert_allclose(data.moments[:][:, 1], other.moments[:][:, 0], rtol=1e-4, atol=1e-5)


def test_the_posterior_is_sampled_anew(autoencoder, tmp_path):
    cache_latents(few(), autoencoder, tmp_path / "latents")
    data = LatentDataset.open(tmp_path / "latents" / "manifest.json")
    rows = np.array([3, 1, 4])
    draws = np.stack([data.sample(rows, generator(i)) for i in range(2000)])
    factor = data.manifest["scale_factor"]
    mean, logvar = data.moments[:][rows, 0, 0] * factor, data.moments[:][rows, 0, 1]
    std = np.exp(0.5 * logvar) * factor
    assert np.abs((draws.mean(0) - mean) / std).max() < 0.12
    assert np.abs(draws.std(0) / std - 1).max() < 0.08
    assert np.array_equal(data.sample(rows, generator(7)), data.sample(rows, generator(7)))


def test_rows_are_found_across_shards(autoencoder, tmp_path, monkeypatch):
    cache_latents(few(), autoencoder, tmp_path / "one")
    monkeypatch.setattr(caching, "SHARD_SIZE", 20)
    cache_latents(few(), autoencoder, tmp_path / "three")
    rows = np.array([0, 19, 20, 39, 40, 49])
    three = LatentDataset.open(tmp_path / "three" / "manifest.json")
    sizes = [len(np.load(tmp_path / f"three/shard-0000{number}.npy")) for number in range(3)]
    assert sizes == [20, 20, 10]
    split = three.sample(rows, generator(0))
    monkeypatch.undo()
    whole = LatentDataset.open(tmp_path / "one" / "manifest.json").sample(rows, generator(0))
    np.testing.assert_allclose(split, whole, rtol=1e-4, atol=1e-5)


def test_pixels_as_training_data(digits_folder):
    data = open_training_data(digits_folder / "manifest.json")
    assert isinstance(data, PixelDataset)
    assert data.shape == (3, 32, 32)
    assert len(data) == 4500
    rows = np.array([5, 6])
    assert np.array_equal(
        data.sample(rows, generator(0)), to_network(data.images[data.positions[rows]]).numpy()
    )


def test_manifests_name_what_is_on_disk(digits_folder):
    manifest = read_json(digits_folder / "manifest.json")
    for name, expected in manifest["files"].items():
        assert hash_file(digits_folder / name) == expected
