"""Parts of every family that a scale takes from a file, and what is refused of them."""

from pathlib import Path

import pytest

from dtr.config.checks import load_scale
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.support.errors import Refusal
from tests.synthetic_parts import settings_with, trainer_of

PARTS = """
import numpy as np
from typing import ClassVar

from dtr.config.backbones import BackboneSize
from dtr.config.stages import FittedSettings, LatentsSettings, SourceSettings, TextEncoderSettings
from dtr.support.settings import Count, PartSettings
from dtr.weighting import Weighting


class Photos(SourceSettings):
    count: Count


def photos(settings: Photos):
    import pandas as pd

    shape = (settings.count, settings.resolution, settings.resolution, 3)
    split = np.where(np.arange(settings.count) < settings.num_test, "test", "train")
    index = {"path": [f"p{i}" for i in range(settings.count)], "label": 0, "split": split}
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8), pd.DataFrame(index)


class Halving(LatentsSettings):
    depth: Count

    @property
    def downsampling(self):
        return 2**self.depth


def autoencoder(settings: Halving): ...


class Seeing(FittedSettings):
    features: Count


def extractor(settings: Seeing): ...


class Spelling(TextEncoderSettings):
    alphabet: str


def encoder(settings: Spelling): ...


class Perceptron(BackboneSize):
    space: ClassVar = "latent"
    hidden: Count

    @property
    def channels(self):
        return self.hidden


def network(settings: Perceptron, inputs, routing, *, num_timesteps): ...


class Bare(PartSettings):
    pass


def bare(settings: Bare, *rest, **options): ...


def unsaid(settings: LatentsSettings): ...


def raising(settings: Photos):
    raise OSError("disk is gone")


def nothing(settings: Photos): ...


def lists(settings: Photos):
    return [1], [2]


class Broken(Weighting):
    def __init__(self, settings, snr):
        raise ZeroDivisionError("no weights")
"""
FITTED = {"dataset": "digits", "steps": 1, "batch_size": 4, "learning_rate": 0.1, "seed": 0}
PHOTOS = {"resolution": 32, "mirror": True, "num_test": 4}
OWN = {  # section of a scale: (its key, part, constants, one constant that is wrong)
    "datasets": ("digits", "photos", PHOTOS | {"count": 12}, {"count": 0}),
    "autoencoders": (
        "digits-vae",
        "autoencoder",
        FITTED | {"latent_channels": 4, "kl_weight": 0.1, "depth": 2},
        {"depth": "two"},
    ),
    "extractors": ("digits-cnn", "extractor", FITTED | {"features": 3}, {"features": 0}),
    "text_encoders": (
        "spelling",
        "encoder",
        {"tokens": 4, "width": 8, "alphabet": "abc"},
        {"alphabet": 3},
    ),
    "backbones": ("Mine/1", "network", {"hidden": 8}, {"hidden": 0}),
}


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A working directory with a part of every family in one file."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/mine.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(digits: dict, section: str, part: str, constants: dict):
    """The scale with one entry of a section replaced by a part of the file."""
    digits[section][OWN[section][0]] = {"type": f"methods/mine.py:{part}"} | constants
    return load_scale(digits, source="test")


@pytest.mark.parametrize("section", OWN)
def test_a_scale_takes_a_part_from_a_file_with_its_constants(own, digits, section):
    name, part, constants, wrong = OWN[section]
    settings = getattr(put(digits, section, part, constants), section)[name]
    assert settings.type == f"methods/mine.py:{part}"
    assert constants.items() <= settings.plain().items()
    (constant,) = wrong
    with pytest.raises(Refusal, match=rf"{section}\.{name}.*{constant}") as refused:
        put(digits, section, part, constants | wrong)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("section", OWN)
def test_settings_that_the_workflow_cannot_read_are_refused(own, digits, section):
    with pytest.raises(Refusal, match=r"mine.py:bare.*Bare are not a subclass of dtr\.config"):
        put(digits, section, "bare", {})


def test_an_autoencoder_that_does_not_say_its_downsampling_is_refused(own, digits):
    constants = FITTED | {"latent_channels": 4, "kl_weight": 0.1}
    with pytest.raises(Refusal, match=r"autoencoder 'methods/mine.py:unsaid'.*downsampling"):
        put(digits, "autoencoders", "unsaid", constants)


def test_a_size_that_does_not_say_its_space_is_refused(own, digits):
    text = PARTS.replace('    space: ClassVar = "latent"\n', "")
    (own / "methods/spaceless.py").write_text(text, encoding="utf-8")
    digits["backbones"]["Mine/1"] = {"type": "methods/spaceless.py:network", "hidden": 8}
    with pytest.raises(Refusal, match=r"cannot be read .TypeError: Perceptron: `space` is missing"):
        load_scale(digits, source="test")


def test_a_source_from_a_file_is_prepared(own, digits):
    scale = put(digits, "datasets", "photos", PHOTOS | {"count": 12})
    prepare_dataset("digits", scale.datasets["digits"], own / "data")
    dataset = ImageDataset.open(own / "data/manifest.json")
    assert dataset.images.shape == (12, 32, 32, 3)
    assert (len(dataset.positions("train")), len(dataset.positions("test"))) == (8, 4)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("raising", "raised OSError: disk is gone"),
        ("nothing", "returned a NoneType; accepted: images and their index"),
        ("lists", "returned a list and a list; accepted: an array and a data frame"),
    ],
)
def test_a_source_that_does_not_keep_its_contract_is_refused(own, digits, part, message):
    scale = put(digits, "datasets", part, PHOTOS | {"count": 12})
    with pytest.raises(Refusal, match=f"source 'methods/mine.py:{part}': {message}"):
        prepare_dataset("digits", scale.datasets["digits"], own / "data")
    assert not (own / "data").exists()


def test_a_weighting_that_raises_is_refused_before_the_first_step(own, digits):
    settings = settings_with(digits, routing="none", weighting="methods/mine.py:Broken")
    with pytest.raises(Refusal, match=r"mine.py:Broken': raised ZeroDivisionError: no weights"):
        trainer_of(settings)
