"""How often the way from values to verdicts errs and finds: simulations with known truths."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    NO_EFFECT,
    REPRODUCED,
    SMALLER,
    all_of,
    decide,
    family_adjusted,
    support,
)
from dtr.reporting.claims.statistics import (
    POWER,
    TAIL,
    Effect,
    Spread,
    not_told_apart,
    paired_effect,
    pooled_spread,
)

SD, SEED_SD = 0.03, 0.1
PAPER = -30.0
# Claims of the family, each of comparisons of a routed run with a plain one.
FAMILY = [[(0, 1)], [(2, 3)], [(4, 5)], [(6, 7)], [(0, 1), (2, 3), (8, 9)]]
RUNS = 10


def at_most(repetitions: int, share: float) -> float:
    """What a count of that expected share exceeds once in a thousand times."""
    return float(stats.binom.ppf(0.999, repetitions, share))


def study(rng: np.random.Generator, levels: list[float], seeds: int) -> list[dict[int, float]]:
    """A metric of one run per level (a logarithm), for so many seeds that all runs share."""
    shared = rng.normal(0, SEED_SD, seeds)
    noise = rng.normal(0, SD, (len(levels), seeds))
    logs = np.array(levels)[:, None] + shared + noise
    return [dict(enumerate(row)) for row in np.exp(logs)]


def spread_of(runs: list[dict[int, float]]) -> Spread:
    return pooled_spread({str(i): own for i, own in enumerate(runs)}, log=True)


def verdicts(
    runs: list[dict[int, float]], family: list[list[tuple[int, int]]], paper: float = PAPER
) -> list[str]:
    """As for the claims of a group: that the first of each pair is lower."""
    spread = spread_of(runs)
    supports = [
        all_of(
            [
                support(
                    paired_effect(runs[first], runs[second], spread=spread),
                    sign=-1,
                    margin=5.0,
                    expected=paper,
                )
                for first, second in claim
            ]
        )
        for claim in family
    ]
    return [decide(one) for one in family_adjusted(supports)]


def simulate(
    repetitions: int, levels: list[float], family: list[list[tuple[int, int]]], *, seeds: int = 3
) -> list[list[str]]:
    rng = np.random.default_rng(11)
    return [verdicts(study(rng, levels, seeds), family) for _ in range(repetitions)]


def test_a_family_without_effects_rarely_has_a_wrong_verdict() -> None:
    found = simulate(200, [0.0] * RUNS, FAMILY)
    wrong = sum(bool({REPRODUCED, CONTRADICTED} & set(family)) for family in found)
    assert wrong <= at_most(200, 0.05)


def test_true_effects_of_some_claims_do_not_spoil_the_others() -> None:
    levels = [0.0] * RUNS
    levels[0] = levels[2] = -0.5
    found = simulate(200, levels, FAMILY)
    assert all(family[:2] == [REPRODUCED] * 2 for family in found)
    wrong = sum(bool({REPRODUCED, CONTRADICTED} & set(family[2:])) for family in found)
    assert wrong <= at_most(200, 0.05)


def test_an_effect_of_the_paper_is_rarely_called_smaller() -> None:
    levels = [math.log1p(PAPER / 100) if i % 2 == 0 else 0.0 for i in range(RUNS)]
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(300):
        runs = study(rng, levels, 3)
        effect = paired_effect(runs[0], runs[1], spread=spread_of(runs))
        wrong += support(effect, sign=-1, margin=5.0, expected=PAPER).smaller <= TAIL
    assert wrong <= at_most(300, TAIL)


def test_an_effect_of_the_size_of_the_margin_is_rarely_called_none() -> None:
    levels = [math.log(1.05) if i % 2 == 0 else 0.0 for i in range(RUNS)]
    rng, wrong = np.random.default_rng(6), 0
    for _ in range(300):
        runs = study(rng, levels, 8)
        effect = paired_effect(runs[0], runs[1], spread=spread_of(runs))
        wrong += support(effect, sign=-1, margin=5.0, expected=None).equivalent <= TAIL
    assert wrong <= at_most(300, TAIL)


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_detectable_effect_is_reproduced_four_times_in_five(seeds: int) -> None:
    freedom = (RUNS - 1) * (seeds - 1)
    truth = Effect(0.0, SD * math.sqrt(2 / seeds), Spread(SD, freedom, seeds), seeds)
    levels = [math.log1p(-truth.detectable / 100)] + [0.0] * (RUNS - 1)
    found = simulate(500, levels, [[(0, 1)]], seeds=seeds)
    assert found.count([REPRODUCED]) / 500 == pytest.approx(POWER, abs=0.05)


def test_enough_seeds_show_that_there_is_no_effect() -> None:
    found = Counter(one for (one,) in simulate(200, [0.0] * RUNS, [[(0, 1)]], seeds=16))
    assert found[NO_EFFECT] >= 0.9 * 200
    assert found[REPRODUCED] + found[CONTRADICTED] <= at_most(200, 0.05)


def test_a_small_effect_is_called_smaller_than_the_published_one() -> None:
    levels = [-0.02] + [0.0] * (RUNS - 1)
    found = Counter(one for (one,) in simulate(200, levels, [[(0, 1)]]))
    assert found[SMALLER] >= 0.8 * 200
    assert found[CONTRADICTED] <= at_most(200, TAIL)


@pytest.mark.parametrize("gap", [0.0, 0.04])
def test_a_selection_keeps_the_true_best(gap: float) -> None:
    rng, kept = np.random.default_rng(7), 0
    for _ in range(400):
        runs = study(rng, [0.0] + [gap] * 5, 3)
        named = {str(i): own for i, own in enumerate(runs)}
        kept += "0" in not_told_apart(named, spread_of(runs))
    assert kept >= 400 - at_most(400, 0.05)


def test_a_best_run_that_stands_out_is_selected_alone() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        runs = study(rng, [0.0] + [0.4] * 5, 3)
        assert not_told_apart({str(i): own for i, own in enumerate(runs)}, spread_of(runs)) == ["0"]
