"""What docs/own-method.md and docs/own-images.md show works as it stands there."""

import argparse
import re
import shlex

import numpy as np
import pytest
import yaml
from PIL import Image

from dtr.commands.trying import add_verbs
from dtr.config.checks import load_scale
from dtr.config.reading import merged
from dtr.config.resolve import run_settings
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.data.trees import SUFFIXES
from dtr.diffusion import Diffusion
from dtr.planning.runs import all_runs
from dtr.registry import settings_model, settings_of
from dtr.routing import build_masks
from dtr.support.errors import Refusal
from dtr.support.settings import parse
from dtr.trying.check import check_method
from dtr.trying.plan import Asked, scale_of_try
from dtr.weighting import build_weighting


@pytest.fixture(scope="module")
def blocks(root) -> dict[str, list[str]]:
    """Code of the page by language, in order."""
    text = (root / "docs/own-method.md").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {}
    for language, code in re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL):
        found.setdefault(language, []).append(code)
    return found


def test_no_target_is_taken_for_a_config_file(root):
    """`--configfile mine.yaml table8` has Snakemake look for a file called table8."""
    pages = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("workflow/config/*.yaml")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        followed = re.findall(r"--configfile (?:\S+\.yaml )*\S+\.yaml ([\w:]\S*)", text)
        assert all(".yaml" in word for word in followed), (page, followed)


@pytest.fixture
def project(blocks, tmp_path, monkeypatch):
    """A working directory with the three parts of the page."""
    (tmp_path / "methods").mkdir()
    for name, code in zip(("checker", "soft", "photos"), blocks["python"], strict=True):
        (tmp_path / f"methods/{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scale_with(grid, blocks, **changes):
    (run,) = yaml.safe_load(blocks["yaml"][0])["extra_runs"]
    return load_scale(grid | {"extra_runs": [run | changes]}, source="mine.yaml")


def test_the_routing_is_the_file_in_the_repository(root, blocks):
    assert blocks["python"][0] == (root / "methods/checker.py").read_text(encoding="utf-8")


def test_the_commands_of_a_try_are_understood(project, blocks, grid):
    """Every option and constant; two of them are planned in full, as far as nothing is trained."""
    commands = [
        shlex.split(line.replace("\\\n", " "))
        for code in blocks["console"]
        for line in re.split(r"\n(?! )", code)
        if line.startswith("python -m dtr try")
    ]
    verbs = argparse.ArgumentParser().add_subparsers()
    add_verbs(verbs)
    parsed = [verbs.choices["try"].parse_args(words[4:]) for words in commands]
    assert len(parsed) == 5
    assert [one.page is not None for one in parsed] == [False] * 4 + [True]
    scale = load_scale(grid, source="digits.yaml")
    for one in parsed[2:4]:
        asked = Asked(one.method, one.family, one.constants, one.slots, one.seeds)
        own = scale_of_try(scale, asked)
        check_method(own, asked)
        assert {run.slot for run in own.extra_runs} == set(one.slots)


def test_the_routing(project, blocks, grid):
    scale = scale_with(grid, blocks)
    run = all_runs(scale)["ffhq256-b2-checker"]
    settings = run_settings(scale, run, 0)
    assert settings.routing.model_dump()["width"] == 9
    masks = build_masks(settings.routing, 4, 1000, 72)
    assert masks.shape == (1, 1000, 72)
    assert masks.mean() == pytest.approx(0.5)


def test_a_wrong_constant_is_refused_by_name(project, blocks, grid):
    with pytest.raises(Refusal, match=r"extra_runs.0.*width = 0") as refused:
        scale_with(grid, blocks, routing={"type": "methods/checker.py:table", "width": 0})
    assert len(str(refused.value).splitlines()) == 1


def test_the_weighting(project, blocks, grid):
    own = {"type": "methods/soft.py:SoftSNR", "power": 0.25}
    scale = scale_with(grid, blocks, weighting=own)
    settings = run_settings(scale, all_runs(scale)["ffhq256-b2-checker"], 0)
    snr = Diffusion.from_settings(settings.diffusion).snr()
    np.testing.assert_array_equal(
        build_weighting(settings.weighting, snr).tables["weights"], snr**-0.25
    )


def test_the_source(project, blocks, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        Image.new("L", (20, 30), 40 * number).save(folder / f"{number}.png")
    own = {"type": "methods/photos.py:photos", "folder": str(folder)}
    own |= {"resolution": 16, "mirror": True, "num_test": 2}
    settings = parse(settings_of("source"), own, source="test")
    prepare_dataset("photos", settings, tmp_path / "data")
    dataset = ImageDataset.open(tmp_path / "data/manifest.json")
    assert dataset.images.shape == (6, 16, 16, 3)
    assert [len(dataset.positions(split)) for split in ("train", "test")] == [4, 2]


def test_the_scale_of_own_images(root, grid):
    text = (root / "docs/own-images.md").read_text(encoding="utf-8")
    for code in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        scale = load_scale(merged(grid, yaml.safe_load(code)), source="photos.yaml")
        assert {source.type for source in scale.datasets.values()} & {"folders", "coco"}
    fields = settings_model("source", "folders").model_fields
    for name in fields.keys() - {"type"}:
        assert f"| `{name}` |" in text
    for suffix in SUFFIXES:
        assert suffix in text
