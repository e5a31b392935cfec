"""A try with made-up records: the checker of methods/ on two slots, with three seeds."""

from pathlib import Path

import pytest

from dtr.trying.describe import trial_of
from dtr.trying.gather import gather
from dtr.trying.plan import Asked, scale_of_try
from dtr.trying.trial import Trial
from tests.synthetic_results import write_metrics, write_samples, write_training

SLOTS = ["unconditional", "class_conditional"]
FID = {  # by role and seed; the second slot has the same values
    "method": {0: 3.0, 1: 3.2, 2: 2.9},
    "none": {0: 4.0, 1: 4.2, 2: 3.9},
    "dtr": {0: 3.1, 1: 3.1, 2: 2.95},
}


def asked(root: Path, **changes) -> Asked:
    method = f"{root}/methods/checker.py:table"
    own = Asked(method, "routing", {"width": 9}, SLOTS[:1], [0, 1, 2])
    return own._replace(**changes)


@pytest.fixture
def checker(root) -> Asked:
    """The question of whether the checker helps on two slots."""
    return asked(root, slots=SLOTS)


@pytest.fixture
def tried(scale, checker):
    """Scale and trial of a try all of whose records and samples exist."""
    own = scale_of_try(scale, checker)
    trial = trial_of(own, checker)
    for place in trial.places:
        for shade, (role, run) in enumerate(place.runs.items()):
            sources = {"routing": trial.source_sha256} if role == "method" else {}
            for seed in trial.seeds:
                write_training(own, run, seed=seed, sources=sources)
                write_metrics(own, run, seed=seed, fid=FID[role][seed])
            write_samples(own, run, shade=250 - 60 * shade)
    return own, trial


@pytest.fixture
def gathered(tried, tmp_path) -> tuple[Trial, Path]:
    """The trial and its folder, as it is sent to others."""
    gather(*tried, tmp_path / "out")
    return tried[1], tmp_path / "out"
