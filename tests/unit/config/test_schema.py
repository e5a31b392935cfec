"""The schema that editors check a scale by: the scales of the repository keep it."""

import json

import jsonschema
import pytest
import yaml


@pytest.fixture(scope="module")
def schema(root) -> dict:
    return json.loads((root / "workflow/schemas/scale.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["digits", "smoke", "workstation", "paper"])
def test_a_scale_of_the_repository_keeps_it(root, schema, name):
    text = (root / "workflow/config" / f"{name}.yaml").read_text(encoding="utf-8")
    jsonschema.validate(yaml.safe_load(text), schema)


def test_it_knows_parts_from_outside_and_bare_names(root, schema, grid):
    run = {"id": "mine", "slot": "unconditional", "backbone": "DiT-B/2", "iterations": 1}
    own = {"type": "methods/checker.py:table", "width": 3}
    grid["extra_runs"] = [run | {"routing": "dtr"}, run | {"routing": own}]
    grid["datasets"]["mine"] = {"type": "photos.py:read", "anything": 1}
    jsonschema.validate(grid, schema)
    grid["datasets"]["mine"] = {"type": "mnist", "anything": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(grid, schema)
