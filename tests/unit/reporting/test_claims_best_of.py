"""Claims about the best of several runs, which are a selection and no set of duels."""

import pytest

from dtr.config.scale import Scale
from dtr.reporting.claims.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REPRODUCED,
)
from tests.synthetic_claims import (
    AGREES,
    DISAGREES,
    DTR,
    UNDECIDED,
    measure,
    result,
)

SHARES = [f"{DTR}-b{share}" for share in (0.2, 0.4, 0.6)]  # of claim beta-ffhq256


@pytest.mark.parametrize(
    ("best", "others", "chosen", "verdict"),
    [
        (3.0, (5.0, 6.0, 7.0), {DTR}, REPRODUCED),
        (3.0, (3.01, 6.0, 7.0), {DTR, SHARES[0]}, INCONCLUSIVE),
        (6.0, (3.0, 6.0, 7.0), {SHARES[0]}, CONTRADICTED),
    ],
)
def test_the_best_is_selected(
    seeds3: Scale, best: float, others: tuple[float, ...], chosen: set[str], verdict: str
) -> None:
    factors = ((1.0, 1.03, 0.98), (1.01, 1.02, 0.98), (1.0, 1.02, 0.99), (1.0, 1.03, 0.99))
    fids = zip((DTR, *SHARES), (best, *others), factors, strict=True)
    measure(
        seeds3, {run: [fid * factor for factor in own] for run, fid, own in fids}, panel="figure4"
    )
    found = result(seeds3, "beta-ffhq256")
    (one,) = found.comparisons
    assert (set(one.chosen), found.verdict) == (chosen, verdict)
    assert one.second == "the best of 3 others" and one.here[1] == pytest.approx(
        min(others), rel=0.01
    )


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ((5.0, 6.0, 7.0), AGREES),
        ((5.0, 3.01, 7.0), UNDECIDED),
        ((5.0, 2.0, 3.01), DISAGREES),
    ],
)
def test_the_best_of_one_seed_must_win_every_duel(
    tested: Scale, others: tuple[float, ...], verdict: str
) -> None:
    fids = dict(zip((DTR, *SHARES), ([3.0], *([fid] for fid in others)), strict=True))
    measure(tested, fids, panel="figure4")
    found = result(tested, "beta-ffhq256")
    assert found.verdict == verdict and found.comparisons[0].here == (3.0, min(others))


def test_a_selection_needs_all_of_its_runs(tested: Scale) -> None:
    measure(tested, {run: [3.0] for run in (DTR, *SHARES[:2])}, panel="figure4")
    found = result(tested, "beta-ffhq256")
    assert found.verdict == NOT_RUN and SHARES[2] in found.comparisons[0].reason


def test_runs_with_one_shared_seed_do_not_make_a_selection(seeds3: Scale) -> None:
    fids = {DTR: [3.0, 3.1, 2.9], SHARES[0]: [4.0, 4.2, 3.9]}
    measure(seeds3, fids | {SHARES[1]: [2.0], SHARES[2]: [8.0]}, panel="figure4")
    assert result(seeds3, "beta-ffhq256").verdict == DISAGREES
