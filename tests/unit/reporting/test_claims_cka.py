"""Claims about the similarity of representations."""

import math

import numpy as np
import pytest

from dtr.config.scale import Scale
from dtr.reporting.claims.evidence import diagonal_growth, level, low_over_high
from dtr.reporting.claims.verdicts import (
    NOT_RUN,
    REPRODUCED,
)
from tests.synthetic_claims import (
    AGREES,
    DISAGREES,
    DTR,
    NONE,
    TIMESTEPS,
    result,
    uniform,
    write_matrices,
)


def test_contrasts_of_cka_have_their_closed_forms() -> None:
    blocks = np.array([uniform(0.9, 0.3), uniform(0.7, 0.5), uniform(0.9, 0.9)])
    timesteps = np.array(TIMESTEPS)
    pairs = [0.9, 0.3, 0.7, 0.5, 0.9, 0.9] + [0.1] * 12
    assert level(blocks, timesteps, 1000) == pytest.approx(np.mean(pairs))
    halves = (0.9 + 0.7 + 0.9) / 3 - (0.3 + 0.5 + 0.9) / 3
    assert low_over_high(blocks, timesteps, 1000) == pytest.approx(halves)
    assert diagonal_growth(blocks, timesteps, 1000) == pytest.approx(0.9 - 0.6)
    blocks[0, 0, 1] = math.nan
    assert math.isfinite(level(blocks, timesteps, 1000))
    assert math.isnan(level(np.full((1, 4, 4), math.nan), timesteps, 1000))


def test_cka_of_one_seed_agrees_at_most(tested: Scale) -> None:
    for run, low, high in ((NONE, 0.5, 0.5), (DTR, 0.9, 0.1), ("ffhq256-b2-rtr", 0.9, 0.9)):
        write_matrices(tested, run, [uniform(low, high), uniform(low, high + 0.05)])
    for claim in ("cka-random", "cka-halves", "cka-diagonal"):
        assert result(tested, claim).verdict == AGREES, claim
    write_matrices(tested, DTR, [uniform(0.5, 0.9), uniform(0.3, 0.9)])
    assert result(tested, "cka-halves").verdict == DISAGREES
    assert result(tested, "cka-diagonal").verdict == DISAGREES


def test_cka_of_three_seeds_has_an_interval(seeds3: Scale) -> None:
    for seed, shift in enumerate((0.0, 0.02, -0.01)):
        write_matrices(seeds3, NONE, [uniform(0.5, 0.5)], seed=seed)
        write_matrices(seeds3, "ffhq256-b2-rtr", [uniform(0.8 + shift, 0.9)], seed=seed)
    assert result(seeds3, "cka-random").verdict == REPRODUCED


@pytest.mark.parametrize(
    ("blocks", "changes", "said"),
    [
        ([uniform(0.9, 0.1)], {"step": 3}, "outdated: CKA of step 3"),
        ([], {}, "the record is empty"),
        ([[[None] * 4] * 4], {}, "undefined"),
    ],
)
def test_useless_cka_records_do_not_count(tested: Scale, blocks, changes: dict, said: str) -> None:
    write_matrices(tested, NONE, [uniform(0.5, 0.5)])
    write_matrices(tested, DTR, blocks, **changes)
    found = result(tested, "cka-halves")
    assert found.verdict == NOT_RUN and said in found.comparisons[0].reason
