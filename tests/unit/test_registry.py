"""One registry for seven families: ours, installed packages, and files next to the project."""

import sys
from pathlib import Path

import pytest
import torch

from dtr.backbones.masks import build_routing
from dtr.config.resolve import run_settings
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
from tests.synthetic_parts import scale_with, settings_with, trainer_of

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
