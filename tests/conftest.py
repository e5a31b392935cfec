"""What all tests share: where things are, the default scale, and when browser tests are skipped."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dtr.config.checks import load_scale
from dtr.config.scale import Scale

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
def grid(_digits: dict) -> dict:
    """Content of digits.yaml, with all runs of the paper; each test may change its copy."""
    return copy.deepcopy(_digits)


def table1_of(grid: dict) -> dict:
    """digits.yaml cut down to Table 1 on the two latent slots without captions: six runs."""
    slots = ("unconditional", "class_conditional")
    kept = {
        "targets": ["table1"],
        "slots": {slot: grid["slots"][slot] for slot in slots},
        "datasets": {"digits": grid["datasets"]["digits"]},
        "autoencoders": {"digits-vae": grid["autoencoders"]["digits-vae"]},
        "extractors": {"digits-cnn": grid["extractors"]["digits-cnn"]},
        "text_encoders": {},
        "backbones": {name: grid["backbones"][name] for name in ("DiT-B/2", "DiT-L/2")},
    }
    return grid | kept


@pytest.fixture
def digits(grid: dict) -> dict:
    """digits.yaml cut down to six runs of Table 1; each test may change its copy."""
    return table1_of(grid)


@pytest.fixture
def scale(digits: dict, tmp_path: Path) -> Scale:
    """Table 1 of the digits scale, writing to a temporary folder."""
    return load_scale(digits | {"results": str(tmp_path / "results")}, source="digits.yaml")


@pytest.fixture
def whole(grid: dict, tmp_path: Path) -> Scale:
    """The digits scale with all runs of the paper, writing to a temporary folder."""
    return load_scale(grid | {"results": str(tmp_path / "results")}, source="digits.yaml")
