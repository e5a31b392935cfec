"""docs/imports.md: its settings are settings of the networks that it names."""

import re

import pytest
import torch

from dtr.backbones.build import build_backbone
from dtr.config.pretrained import is_pretrained
from dtr.config.stages import Protocol, RunSettings
from dtr.registry import settings_of
from dtr.support.settings import parse

PARAMETERS = {"dit-xl-2.json": 675_129_632, "adm-64.json": 295_904_454}


@pytest.fixture
def page(root) -> str:
    return (root / "docs/imports.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_settings_describe_the_released_network(name, page):
    (block,) = re.findall(rf"`{name}`:\n\n```json\n(.*?)```", page, flags=re.DOTALL)
    settings = parse(RunSettings, block, source=name)
    with torch.device("meta"):
        model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert f"{PARAMETERS[name]:,} parameters" in page


def test_every_block_of_json_is_read_here(page):
    assert len(re.findall("```json", page)) == len(PARAMETERS)


def test_its_protocols_are_some(page):
    texts = re.findall(r"--protocol '(.*?)'", page, flags=re.DOTALL)
    read = [parse(Protocol, text, source="page") for text in texts]
    assert [(one.autoencoder, one.n_samples) for one in read] == [
        ("sd-vae", 50_000),
        (None, 50_000),
    ]


def test_its_autoencoder_is_one_that_can_be_fetched(page):
    (text,) = re.findall(r"dtr fetch .*?--settings '(.*?)'", page, flags=re.DOTALL)
    assert is_pretrained(parse(settings_of("autoencoder"), text, source="page"))
