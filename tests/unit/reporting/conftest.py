"""Shared by the tests of the report."""

from pathlib import Path

import pytest

from dtr.config.scale import Scale


@pytest.fixture(autouse=True)
def no_kept_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where reference results would be looked for: they change, and tests do not."""
    kept = tmp_path / "kept"
    monkeypatch.setattr("dtr.records.reference.KEPT", kept)
    return kept


@pytest.fixture
def tested(whole: Scale) -> Scale:
    """All runs, every claim about them tested."""
    return whole.model_copy(update={"untestable": {}})


@pytest.fixture
def seeds3(tested: Scale) -> Scale:
    """All runs with three seeds."""
    return tested.model_copy(update={"seeds": [0, 1, 2]})
