"""Names of routings and weightings, and how an installed package adds its own."""

import sys

import pytest
import torch

from dtr.backbones.masks import build_routing
from dtr.config.stages import RoutingSettings
from dtr.registry import BUILT_IN, known_names, load
from dtr.support.errors import Refusal


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed distribution with one routing of its own."""
    (tmp_path / "halves.py").write_text(
        "import torch\n\n\n"
        "def table(settings, layers, timesteps, channels):\n"
        "    late = torch.arange(timesteps)[:, None] >= timesteps // 2\n"
        "    upper = torch.arange(channels) >= channels // 2\n"
        "    return (late == upper)[None]\n"
    )
    metadata = tmp_path / "halves-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: halves\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[dtr.routing]\nhalves = halves:table\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("halves", None)


def test_every_built_in_name_can_be_loaded():
    for kind, names in BUILT_IN.items():
        for name in names:
            assert callable(load(kind, name))


def test_an_installed_package_adds_a_routing(package):
    assert known_names("routing")[-1] == "halves"
    routing = build_routing(
        RoutingSettings(type="halves"), num_layers=2, num_timesteps=10, num_channels=4
    )
    active, complement = routing(torch.tensor([0, 9]))[1]
    assert active[:, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert torch.equal(complement, 1 - active)


def test_a_scale_may_use_it(package, digits):
    from dtr.config.checks import load_scale
    from dtr.planning.runs import selected_runs

    row = {"id": "mine", "slot": "unconditional", "backbone": "DiT-B/2", "routing": "halves"}
    scale = load_scale(digits | {"extra_runs": [row | {"iterations": 10}]}, source="test")
    assert "mine" in selected_runs(scale)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(Refusal, match="weighting = 'gold': unknown; known: vanilla, p2, min_snr"):
        load("weighting", "gold")
