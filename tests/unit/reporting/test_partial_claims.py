"""Verdicts in the middle of a sweep, when some comparisons of a claim have seeds and others one."""

import math

import pytest

from dtr.reporting.claims.decisions import CONTRADICTED, INCONCLUSIVE
from dtr.reporting.claims.judged import ClaimResult, conclude, load_claims
from dtr.reporting.claims.statistics import Effect, Spread
from dtr.reporting.claims.verdicts import NOT_RUN, ONE_SEED, Comparison, Estimate, with_effect


def of_seeds(mean: float, error: float = 0.02) -> Comparison:
    one = Comparison("routed", "plain", "fid@cnn", "lower", log=True, margin=5.0, expected=-30.0)
    effect = Effect(mean, error, Spread(error * math.sqrt(3 / 2), 20, 3), 3)
    return with_effect(one, effect, effect.spread)


def of_one_seed(verdict: str = ONE_SEED[INCONCLUSIVE]) -> Comparison:
    effect = Estimate(-1.0, -9.0, 8.0)
    return Comparison("routed", "plain", "fid@cnn", "lower", verdict, effect=effect, log=True)


def concluded(*comparisons: Comparison) -> str:
    result = ClaimResult("digits", load_claims()[0], list(comparisons))
    conclude([result])
    return result.verdict


@pytest.mark.parametrize(("others", "verdict"), [(1, CONTRADICTED), (2, ONE_SEED[INCONCLUSIVE])])
def test_a_contradiction_is_corrected_for_all_comparisons(others: int, verdict: str) -> None:
    opposite = of_seeds(0.05)  # p = .011, so that two may be looked at, and three may not
    assert opposite.verdict == CONTRADICTED
    assert concluded(opposite, *(of_one_seed() for _ in range(others))) == verdict


def test_what_is_missing_comes_first() -> None:
    assert concluded(of_seeds(0.2), Comparison("a", "b", "fid@cnn", "lower")) == NOT_RUN


def test_one_seed_that_disagrees_stays_one_seed() -> None:
    disagrees = of_one_seed(ONE_SEED[CONTRADICTED])
    assert concluded(of_seeds(-0.3), disagrees) == ONE_SEED[CONTRADICTED]
