"""What all tests share: where things are, the default scale, and when browser tests are skipped."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dtr.config import Scale, load_scale

# As in the workflow: one thread per process, also where tests share the cores.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI") or any(map(shutil.which, BROWSERS)):
        return
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=f"no browser found: {', '.join(BROWSERS)}"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def _digits() -> dict:
    return yaml.safe_load((ROOT / "workflow/config/digits.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def digits(_digits: dict) -> dict:
    """Content of digits.yaml; each test may change its copy."""
    return copy.deepcopy(_digits)


@pytest.fixture
def scale(digits: dict, tmp_path: Path) -> Scale:
    """The digits scale, writing to a temporary folder."""
    return load_scale(digits | {"results": str(tmp_path / "results")}, source="digits.yaml")
