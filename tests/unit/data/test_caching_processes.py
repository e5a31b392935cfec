"""Several processes write the files of one: real processes of torchrun, in small pieces."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dtr.assets.autoencoder import small_kl
from dtr.config.stages import AutoencoderSettings
from dtr.data.datasets import prepare_dataset
from dtr.data.latents import LatentDataset
from dtr.data.sources.scenes import ScenesSettings
from dtr.planning.places import ASSET
from dtr.records.schema import AutoencoderRecord
from dtr.records.weights import write_weights
from tests.conftest import ROOT

SCENES = ScenesSettings(type="scenes", resolution=32, mirror=False, num_test=10, count=50, seed=0)
AUTOENCODER = AutoencoderSettings(
    type="train", dataset="scenes", patch_size=4, channels=[8], latent_channels=2,
    layers_per_block=1, norm_groups=4, steps=1, batch_size=1, learning_rate=1e-3, kl_weight=1e-5,
    seed=0,
)  # fmt: skip
WORDS = json.dumps({"type": "words", "tokens": 16, "width": 8, "seed": 0})
# Files of few rows: of 40 images six and, of their captions, several too.
SCRIPT = """
import sys
from dtr.data import caching
from dtr.cli import main
caching.SHARD_SIZE, caching.SHARD_BYTES = 7, 7_000
sys.exit(main())
"""


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """A prepared dataset with captions, and an autoencoder of noise."""
    prepare_dataset("scenes", SCENES, tmp_path / "data")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = small_kl(AUTOENCODER).state_dict()
    told = {"settings": AUTOENCODER.plain(), "scale_factor": 0.5, "test_psnr_db": 1.0}
    told |= {"provenance": {}, "wall_seconds": 0.0}
    write_weights(tmp_path / "vae", ASSET, weights, AutoencoderRecord, **told)
    (tmp_path / "small.py").write_text(SCRIPT, encoding="utf-8")
    return tmp_path


def caching(material: Path, out: str, *, threads: int) -> list[str]:
    options = ["--data", material / "data/manifest.json", "--autoencoder", material / "vae"]
    options += ["--text-encoder", WORDS, "--dtype", "float16", "--threads", threads]
    return ["cache-latents", *map(str, [*options, "--out", material / out])]


def run(*command: str) -> None:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    answer = subprocess.run([sys.executable, *command], env=own, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
def test_two_processes_of_torchrun_write_the_bytes_of_one(material: Path) -> None:
    script = str(material / "small.py")
    run(script, *caching(material, "one", threads=1))
    start = ["-m", "dtr", "torchrun", "--standalone", "--nproc-per-node", "2", script]
    run(*start, *caching(material, "two", threads=2))  # one thread each
    one, two = (
        {path.name: path.read_bytes() for path in (material / name).iterdir()}
        for name in ("one", "two")
    )
    assert len([name for name in one if name.startswith("shard-")]) > 2
    assert len([name for name in one if name.startswith("tokens-")]) > 2
    assert one.keys() == two.keys()
    assert {name for name in one if one[name] != two[name]} == set()
    assert len(LatentDataset.open(material / "two/manifest.json")) == 40
