"""One registry for seven families: ours, installed packages, and files next to the project."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dtr.backbones.masks import build_routing
from dtr.config.checks import load_scale
from dtr.config.resolve import run_settings
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.data.rows import TrainingData
from dtr.planning.runs import all_runs, selected_runs
from dtr.registry import (
    BUILT_IN,
    FAMILIES,
    known_names,
    load,
    part_identity,
    part_source,
    settings_model,
    settings_of,
)
from dtr.support.errors import Refusal
from dtr.support.settings import PartSettings, parse
from dtr.training.distributed import World
from dtr.training.trainer import Trainer

ROW = {"id": "mine", "slot": "unconditional", "backbone": "DiT-B/2", "iterations": 10}
TABLE = """
import numpy as np
from dtr.support.settings import Count, PartSettings


class Stripes(PartSettings):
    width: Count


def table(settings: Stripes, layers, timesteps, channels):
    odd = (np.arange(channels) // settings.width) % 2 == 0
    return np.repeat(odd[None], timesteps, axis=0)[None]


def drawn(settings, layers, timesteps, channels):
    draws = np.random.default_rng(settings.seed)
    return draws.random((layers, timesteps, channels)) < settings.beta


def raising(settings, layers, timesteps, channels):
    raise IndexError("no such row")


def floats(settings, layers, timesteps, channels):
    return np.ones((1, timesteps, channels))


def transposed(settings, layers, timesteps, channels):
    return np.ones((1, channels, timesteps), dtype=bool)


def hole(settings, layers, timesteps, channels):
    masks = np.ones((1, timesteps, channels), dtype=bool)
    masks[0, 7] = False
    return masks


def tensor(settings, layers, timesteps, channels):
    import torch

    return torch.ones(1, timesteps, channels, dtype=torch.bool)


number = 3
"""
FAULTS = {
    "methods/checker.py:raising": "raised IndexError: no such row",
    "methods/checker.py:floats": r"returned float64 \[1, 1000, 72\]; accepted: bool",
    "methods/checker.py:transposed": r"returned bool \[1, 72, 1000\]; accepted: bool",
    "methods/checker.py:hole": "timestep 7 of layer 0 is left without channels",
    "methods/checker.py:nothing": "checker.py has no 'nothing'",
    "methods/checker.py:number": "is a int; accepted: a function",
    "methods/absent.py:table": "no such file",
    "methods/broken.py:table": "cannot be read .ModuleNotFoundError: No module named 'no_such",
    "checkerboard": "unknown; known: none, random, dtr",
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A working directory with routings in files of its own."""
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods/checker.py").write_text(TABLE, encoding="utf-8")
    (tmp_path / "methods/broken.py").write_text("import no_such_module\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution with a part in every family."""
    (tmp_path / "halves.py").write_text(
        "import numpy as np\n\n\n"
        "def table(settings, layers, timesteps, channels):\n"
        "    late = np.arange(timesteps)[:, None] >= timesteps // 2\n"
        "    upper = np.arange(channels) >= channels // 2\n"
        "    return (late == upper)[None]\n"
    )
    metadata = tmp_path / "halves-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.0\n")
    points = "".join(f"[dtr.{family}]\nhalves = halves:table\n" for family in FAMILIES)
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("halves", None)


def scale_with(digits: dict, **run):
    return load_scale(digits | {"extra_runs": [ROW | run]}, source="test")


def settings_with(digits: dict, **run):
    scale = scale_with(digits, **run)
    return run_settings(scale, all_runs(scale)["mine"], 0)


class Noise(TrainingData):
    """Latents of the right shape."""

    @property
    def shape(self):
        return (4, 4, 4)

    def sample(self, rows, draws, part=slice(None)):
        return draws.standard_normal((len(rows), *self.shape), dtype=np.float32)[part]


def trainer_of(settings) -> Trainer:
    data = Noise(manifest={"content_hash": "noise"}, labels=np.zeros(128, dtype=np.int64))
    return Trainer(settings, data, World())


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family in FAMILIES for name in BUILT_IN[family]]
)
def test_every_part_of_ours_can_be_loaded(family, name):
    assert callable(load(family, name))
    assert issubclass(settings_model(family, name), PartSettings)
    assert part_source(family, name) is part_identity(family, name) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_an_installed_package_adds_a_part_to_any_family(package, family):
    assert known_names(family)[-1] == "halves"
    assert load(family, "halves").__name__ == "table"
    assert len(part_source(family, "halves")) == 64


def test_an_installed_routing_is_used(package, digits):
    settings = settings_with(digits, routing="halves").routing
    routing = build_routing(settings, num_layers=2, num_timesteps=10, num_channels=4)
    active, complement = routing(torch.tensor([0, 9]))[1]
    assert active[:, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert torch.equal(complement, 1 - active)


def test_a_part_in_a_file_declares_its_own_constants(project, digits):
    routing = {"type": "methods/checker.py:table", "width": 3}
    scale = scale_with(digits, routing=routing)
    assert "mine" in selected_runs(scale)
    settings = run_settings(scale, all_runs(scale)["mine"], 0)
    assert settings.routing.plain() == routing
    again = parse(type(settings), settings.plain(), source="record")
    assert again == settings
    for wrong in ({"width": 0}, {"width": 3, "colour": 1}, {}):
        with pytest.raises(Refusal, match=r"extra_runs.0.*(width|colour)") as refused:
            scale_with(digits, routing={"type": "methods/checker.py:table"} | wrong)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_part_that_does_not_keep_its_contract_is_refused_by_name(project, digits, name):
    """When the scale is read: before anything is planned, prepared or trained."""
    with pytest.raises(Refusal, match=FAULTS[name]) as refused:
        scale_with(digits, routing=name)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_tensor_is_a_table_too(project, digits):
    trainer = trainer_of(settings_with(digits, routing="methods/checker.py:tensor"))
    assert trainer.model.routing.table.all()


def test_a_part_that_draws_gets_a_seed_and_trains(project, digits):
    digits["routing"]["seed"] = 5
    settings = settings_with(digits, routing="methods/checker.py:drawn")
    assert (settings.routing.seed, settings.routing.beta) == (5, 0.8)
    trainer = trainer_of(settings)
    trainer.train_step()
    assert torch.isfinite(trainer.train_step()).all()
    digits["routing"]["seed"] = 6
    other = trainer_of(settings_with(digits, routing="methods/checker.py:drawn"))
    assert other.fingerprint != trainer.fingerprint


def edited(project: Path, name: str, *change: str) -> str:
    """The checker under another name, with one replacement."""
    text = TABLE.replace(*change) if change else TABLE
    (project / f"methods/{name}.py").write_text(text, encoding="utf-8")
    return f"methods/{name}.py:table"


def test_an_edited_table_is_never_answered_from_an_old_checkpoint(project, digits):
    routings = [
        edited(project, "first"),
        edited(project, "comment", "import numpy", "# Edited.\nimport numpy"),
        edited(project, "masks", "% 2 == 0", "% 2 == 1"),
    ]
    trainers = [
        trainer_of(settings_with(digits, routing={"type": name, "width": 3})) for name in routings
    ]
    first, comment, masks = (trainer.parts["routing"] for trainer in trainers)
    assert first == comment != masks
    sources = {part_source("routing", name) for name in routings}
    assert len(sources) == 3  # so that Snakemake looks again; the table decides what is redone


WEIGHTING = """
from dtr.weighting import Weighting


class Mine(Weighting):
    {version}

    def loss(self, mse, vb, t, own):
        return mse.mean()
"""


def test_a_weighting_is_what_it_declares_or_its_source(project):
    identities = []
    for number, version in enumerate(("version = 1", "version = 1  # same", "pass", "...")):
        (project / f"w{number}.py").write_text(WEIGHTING.format(version=version))
        identities.append(part_identity("weighting", f"w{number}.py:Mine"))
    assert identities[0] == identities[1] == "version 1"
    assert len(set(identities[1:])) == 3


def test_a_weighting_from_a_file_trains(project, digits):
    (project / "mine.py").write_text(WEIGHTING.format(version="version = 3"))
    settings = settings_with(digits, routing="none", weighting="mine.py:Mine")
    trainer = trainer_of(settings)
    assert trainer.parts == {"weighting": "version 3"}
    loss, mse, _ = trainer.train_step().tolist()
    assert loss == mse


def test_a_family_without_undeclared_settings_asks_for_them(project):
    (project / "net.py").write_text("def network(size, inputs, routing, num_timesteps): ...\n")
    with pytest.raises(Refusal, match=r"backbone 'net.py:network': declares no settings"):
        settings_model("backbone", "net.py:network")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(Refusal, match="weighting = 'gold': unknown; known: vanilla, p2, min_snr"):
        load("weighting", "gold")
    with pytest.raises(Refusal, match="source = 'cats': unknown; known: mnist, scenes"):
        parse(settings_of("source"), {"type": "cats"}, source="test")


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
def own(project) -> Path:
    """A working directory with a part of every family in one file."""
    (project / "methods/mine.py").write_text(PARTS, encoding="utf-8")
    return project


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
