"""Every registered source, autoencoder, text encoder and extractor keeps its contract.

Those of an installed package are picked up by themselves; for a trial their settings model has to
say `example`, a dict of constants, which of ours are listed here. Networks of others are taken over
and not made here: tests/unit/assets/test_pretrained.py has theirs.
"""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dtr.assets.autoencoder import decode, encode, load_autoencoder, train_autoencoder
from dtr.assets.extractor import extract, load_extractor, train_extractor
from dtr.assets.text_encoder import build_text_encoder
from dtr.config.pretrained import PretrainedSettings
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.registry import BUILT_IN, known_names, settings_model
from dtr.support.settings import PartSettings, parse

FITTED = {"dataset": "trial", "steps": 20, "batch_size": 16, "learning_rate": 2e-3, "seed": 0}
EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "source": {
        "mnist": {"resolution": 16, "mirror": False, "num_test": 500},
        "scenes": {"resolution": 32, "mirror": False, "num_test": 5, "count": 20, "seed": 0},
        "coco": {"resolution": 16, "mirror": True, "num_test": 6, "images": "pictures"}
        | {"captions": "pictures.json", "test_images": "others", "test_captions": "others.json"},
        "folders": {"resolution": 16, "mirror": True, "num_test": 7, "path": "pictures"},
    },
    "autoencoder": {
        "train": FITTED
        | {"patch_size": 2, "channels": [8, 8], "latent_channels": 4, "layers_per_block": 1}
        | {"norm_groups": 8, "kl_weight": 1e-4},
    },
    "text_encoder": {"words": {"tokens": 16, "width": 32, "seed": 0}},
    "extractor": {"digits_cnn": FITTED | {"width": 4, "features": 8}},
}
SIDE, COUNT, CLASSES = 32, 60, 10


def made_here(family: str) -> list[str]:
    """The parts of a family that are not networks of others."""
    ours = [name for name in BUILT_IN[family] if not _fetched(family, name)]
    return ours + [name for name in known_names(family) if name not in BUILT_IN[family]]


def _fetched(family: str, name: str) -> bool:
    return issubclass(settings_model(family, name), PretrainedSettings)


def trial(family: str, name: str) -> PartSettings:
    """Small settings of a part; a part from outside that gives none is skipped."""
    model = settings_model(family, name)
    constants = EXAMPLES[family].get(name, getattr(model, "example", None))
    if constants is None:
        pytest.skip(f"{family} {name!r}: its settings {model.__name__} have no `example`")
    return parse(model, {"type": name} | constants, source=name)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth pictures of `CLASSES` kinds: uint8 [COUNT, SIDE, SIDE, 3]."""
    waves = np.sin(np.arange(SIDE) * (1 + np.arange(COUNT)[:, None] % CLASSES) / SIDE)
    grey = 127.5 * (1 + waves[:, :, None] * waves[:, None, :])
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def test_every_part_of_ours_has_an_example():
    for family, examples in EXAMPLES.items():
        assert set(examples) == {*made_here(family)} & {*BUILT_IN[family]}, family


@pytest.mark.parametrize("name", known_names("source"))
def test_a_source_is_prepared_and_always_the_same(name, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, some in (("pictures", images), ("others", images[:6])):
        (tmp_path / folder).mkdir()
        for number, image in enumerate(some):
            Image.fromarray(image).save(tmp_path / f"{folder}/{number}.png")
        listed = [{"id": n, "file_name": f"{n}.png"} for n in range(len(some))]
        told = [{"image_id": n, "caption": f"wave {n}"} for n in range(len(some)) for _ in range(5)]
        content = json.dumps({"images": listed, "annotations": told})
        (tmp_path / f"{folder}.json").write_text(content, encoding="utf-8")
    settings = trial("source", name)
    hashes = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        prepare_dataset("trial", settings, folder)
        dataset = ImageDataset.open(folder / "manifest.json")
        hashes.append(dataset.manifest["content_hash"])
    assert hashes[0] == hashes[1]
    side, count = settings.resolution, len(dataset.images)
    assert dataset.images.shape == (count, side, side, 3)
    assert len(dataset.index["label"]) == dataset.manifest["count"] == count
    assert len(dataset.positions("test")) == settings.num_test
    assert len(dataset.positions("train")) == count - settings.num_test > 0
    if per_image := settings.captions_per_image:
        assert {len(own) for own in dataset.index["captions"]} == {per_image}


@pytest.mark.parametrize("name", made_here("autoencoder"))
def test_an_autoencoder_is_fitted_encodes_and_decodes(name, images, tmp_path):
    settings = trial("autoencoder", name)
    train_autoencoder(settings, images, images[:8], tmp_path, dataset_hash="trial")
    model, factor = load_autoencoder(tmp_path)
    mean, logvar = encode(model, images[:3])
    side = SIDE // settings.downsampling
    assert mean.shape == logvar.shape == (3, settings.latent_channels, side, side)
    assert torch.isfinite(mean).all() and torch.isfinite(logvar).all() and factor > 0
    restored = decode(model, mean * factor, factor)
    assert (restored.dtype, restored.shape) == (np.uint8, (3, SIDE, SIDE, 3))
    assert np.array_equal(restored, decode(model, encode(model, images[:3])[0] * factor, factor))


@pytest.mark.parametrize("name", made_here("text_encoder"))
def test_a_text_encoder_gives_tokens_of_its_width(name):
    settings = trial("text_encoder", name)
    encoder = build_text_encoder(settings)
    captions = ["a red two above a blue three", ""]
    encoded = encoder.encode(captions)
    assert (encoder.tokens, encoder.width) == (settings.tokens, settings.width)
    assert (encoded.dtype, encoded.shape) == (np.float32, (2, settings.tokens, settings.width))
    assert np.isfinite(encoded).all()
    assert not np.array_equal(encoded[0], encoded[1])
    again = build_text_encoder(settings).encode(captions[::-1])[::-1]
    np.testing.assert_allclose(again, encoded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", made_here("extractor"))
def test_an_extractor_is_fitted_and_repeats_its_features(name, images, tmp_path):
    settings = trial("extractor", name)
    labels = np.arange(COUNT) % CLASSES
    train_extractor(settings, (images, labels), (images, labels), tmp_path, dataset_hash="trial")
    extractor = load_extractor(tmp_path)
    found = extract(extractor, images[:5])
    assert found["features"].ndim == 2 and len(found["features"]) == 5
    assert found["logits"].shape == (5, CLASSES)
    assert all(part.dtype == np.float32 and np.isfinite(part).all() for part in found.values())
    alone = extract(load_extractor(tmp_path), images[2:3])
    for part, values in alone.items():
        np.testing.assert_array_equal(values[0], found[part][2])
