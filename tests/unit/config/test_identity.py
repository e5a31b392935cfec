"""Ids outlive the code: a new field with a default changes no fingerprint and no protocol id.

Golden ids of the digits scale are data. Where a change of results is meant, bump the stage in
REVISIONS (dtr/config/stages.py), say so in the CHANGELOG, and write them anew by

    python tests/unit/config/test_identity.py
"""

import json
from pathlib import Path

import pytest
import yaml
from pydantic import create_model

from dtr.backbones.build import build_backbone
from dtr.config.backbones import Inputs
from dtr.config.checks import load_scale
from dtr.config.resolve import run_settings
from dtr.config.scale import Scale
from dtr.config.stages import (
    REVISIONS,
    DiffusionSettings,
    OptimisationSettings,
    Protocol,
    RunSettings,
)
from dtr.planning.evaluations import protocols
from dtr.planning.runs import all_runs, selected_runs
from dtr.registry import BUILT_IN, settings_model
from dtr.training.trainer import identities

GOLDEN = Path(__file__).with_name("golden_ids.json")
DATA = "0" * 64
NESTED = {
    **{
        f"{family}.{name}": (family, settings_model(family, name))
        for family in ("backbone", "routing", "weighting")
        for name in BUILT_IN[family]
    },
    "inputs": ("inputs", Inputs),
    "diffusion": ("diffusion", DiffusionSettings),
    "training": ("training", OptimisationSettings),
}


def whole_scale() -> Scale:
    path = Path(__file__).parents[3] / "workflow/config/digits.yaml"
    return load_scale(yaml.safe_load(path.read_text(encoding="utf-8")), source=path.name)


def current_ids(scale: Scale) -> dict[str, dict[str, str]]:
    """Fingerprint of every run with its masks, on data of a fixed hash, and every protocol id."""
    fingerprints = {}
    for name, run in selected_runs(scale).items():
        settings = run_settings(scale, run, 0)
        network = build_backbone(settings.backbone, settings.inputs, settings.routing)
        parts = identities(settings, network.routing)
        fingerprints[name] = settings.fingerprint(DATA, parts)
    return {"fingerprints": fingerprints, "protocols": sorted(protocols(scale))}


def test_golden_ids_are_unchanged(whole):
    golden, now = json.loads(GOLDEN.read_text(encoding="utf-8")), current_ids(whole)
    assert len(golden["fingerprints"]) == 59
    assert now == golden, "checkpoints and records of users are orphaned: see this module's text"


def with_a_field_more(model):
    return create_model(f"More{model.__name__}", __base__=model, added=(float, 0.5))


@pytest.mark.parametrize("name", NESTED)
def test_a_new_field_with_a_default_changes_no_fingerprint(whole, name):
    field, model = NESTED[name]
    runs = [run_settings(whole, run, 0) for run in all_runs(whole).values()]
    one = next(run for run in runs if type(getattr(run, field)) is model)
    later = create_model("Later", __base__=RunSettings, **{field: (with_a_field_more(model), ...)})
    content = one.plain()
    same = later.model_validate_json(json.dumps(content))
    assert getattr(same, field).added == 0.5
    assert same.fingerprint(DATA, {}) == one.fingerprint(DATA, {})
    content[field]["added"] = 0.25
    other = later.model_validate_json(json.dumps(content))
    assert other.fingerprint(DATA, {}) != one.fingerprint(DATA, {})


def test_a_new_field_with_a_default_renames_no_protocol(whole):
    for own in protocols(whole).values():
        more = with_a_field_more(Protocol).model_validate_json(own.model_dump_json())
        assert more.id == own.id
        assert more.model_copy(update={"added": 0.25}).id != own.id


def test_masks_data_and_revision_are_part_of_it(whole, monkeypatch):
    settings = run_settings(whole, all_runs(whole)["ffhq256-b2-dtr-a4"], 0)
    known = settings.fingerprint(DATA, {"routing": "a"})
    assert settings.fingerprint(DATA, {"routing": "b"}) != known
    assert settings.fingerprint("1" * 64, {"routing": "a"}) != known
    monkeypatch.setitem(REVISIONS, "train", REVISIONS["train"] + 1)
    assert settings.fingerprint(DATA, {"routing": "a"}) != known


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(current_ids(whole_scale()), indent=1) + "\n", encoding="utf-8")
