"""Shared by the tests of the report."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_kept_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where reference results would be looked for: they change, and tests do not."""
    kept = tmp_path / "kept"
    monkeypatch.setattr("dtr.records.reference.KEPT", kept)
    return kept
