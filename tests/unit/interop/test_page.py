"""docs/imports.md: its settings are settings of the networks that it names."""

import re

import pytest
import torch

from dtr.backbones.build import build_backbone
from dtr.config.stages import Protocol, RunSettings
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


def test_the_protocol_is_one(page):
    (text,) = re.findall(r"--protocol '(.*?)'", page, flags=re.DOTALL)
    assert parse(Protocol, text, source="page").n_samples == 50_000
