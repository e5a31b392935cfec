"""The words for what intervals show, of one seed and of metrics that know no seeds."""

import math

import pytest

from dtr.reporting.claims.decisions import CONTRADICTED, INCONCLUSIVE, NO_EFFECT, REPRODUCED
from dtr.reporting.claims.verdicts import (
    NOT_RUN,
    ONE_SEED,
    Comparison,
    Estimate,
    Evidence,
    combination,
    combine,
    exact,
    judge,
    logarithm,
    settle,
)
from tests.synthetic_claims import AGREES, DISAGREES, UNDECIDED


def test_bounds_of_a_combination_add_in_quadrature() -> None:
    parts = [Estimate(3.0, 2.8, 3.3), Estimate(4.0, 3.9, 4.4)]
    found = combination(parts, (1, -1))
    wanted = (-1.0, -1 - math.hypot(0.2, 0.4), -1 + math.hypot(0.3, 0.1))
    assert (found.value, found.low, found.high) == pytest.approx(wanted)
    found = combination(parts, (2, 0.5))
    wanted = (8.0, 8 - math.hypot(0.4, 0.05), 8 + math.hypot(0.6, 0.2))
    assert (found.value, found.low, found.high) == pytest.approx(wanted)
    assert combination([exact(3.0), exact(5.0)], (1, -1)) == exact(-2.0)


def test_logarithms_are_unknown_where_undefined() -> None:
    found = logarithm(Estimate(1.0, -0.1, math.e))
    assert math.isnan(found.low) and (found.value, found.high) == (0, 1)
    assert math.isnan(logarithm(exact(0.0)).value)


@pytest.mark.parametrize(
    ("effect", "claimed", "outcome"),
    [
        (Estimate(-1, -2, -0.1), "lower", REPRODUCED),
        (Estimate(-1, -2, -0.1), "higher", CONTRADICTED),
        (Estimate(1, 0.1, 2), "lower", CONTRADICTED),
        (Estimate(1, 0.1, 2), "higher", REPRODUCED),
        (Estimate(-1, -2, 0.0), "lower", INCONCLUSIVE),
        (Estimate(-1), "lower", INCONCLUSIVE),  # no interval, no verdict
        (exact(0.0), "higher", INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side(effect, claimed: str, outcome: str) -> None:
    assert judge(effect, claimed=claimed, seeds=3) == outcome
    assert judge(effect, claimed=claimed, seeds=1) == ONE_SEED[outcome]
    shifted = Estimate(effect.value + 5, effect.low + 5, effect.high + 5)
    assert judge(shifted, claimed=claimed, threshold=5.0) == outcome


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, CONTRADICTED], CONTRADICTED),
        ([REPRODUCED, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, CONTRADICTED], CONTRADICTED),
        ([NO_EFFECT, NO_EFFECT], NO_EFFECT),
        ([NO_EFFECT, REPRODUCED], INCONCLUSIVE),
        ([NO_EFFECT, AGREES], INCONCLUSIVE),
        ([CONTRADICTED, NOT_RUN], NOT_RUN),
        ([], NOT_RUN),
        ([REPRODUCED, AGREES], AGREES),
        ([REPRODUCED, DISAGREES], DISAGREES),
        ([CONTRADICTED, DISAGREES], CONTRADICTED),
        ([AGREES, UNDECIDED], UNDECIDED),
        ([AGREES, INCONCLUSIVE], INCONCLUSIVE),
        ([REPRODUCED, UNDECIDED], UNDECIDED),
    ],
)
def test_a_claim_needs_all_of_its_comparisons(parts: list[str], whole: str) -> None:
    assert combine(parts) == combine(reversed(parts)) == whole


def one_seed(first: Estimate, second: Estimate, *, log: bool = True) -> Comparison:
    evidence = {"a": Evidence({0: first}), "b": Evidence({0: second})}
    return settle(Comparison("a", "b", "fid", "lower", log=log), evidence)


def test_an_effect_of_one_seed_is_a_change_in_per_cent() -> None:
    found = one_seed(Estimate(1.0, 0.9, 1.1), exact(2.0))
    assert found.verdict == AGREES and found.interval == "bootstrap, 1 seed"
    assert (found.effect.low, found.effect.value, found.effect.high) == pytest.approx(
        (-55.0, -50.0, -45.0)
    )
    assert (found.effect_text, found.interval_text) == ("−50.0 %", "[−55.0, −45.0]")


def test_a_change_of_what_is_not_positive_is_unknown() -> None:
    found = one_seed(exact(0.0), exact(2.0))
    assert found.verdict == UNDECIDED and found.effect is None
    assert found.reason == "a value is not above 0"
    found = one_seed(exact(0.0), exact(2.0), log=False)
    assert found.effect.value == -2.0


def test_one_seed_never_says_that_two_are_alike() -> None:
    comparison = Comparison("a", "b", "fid", "equal", log=True, margin=5.0)
    evidence = {name: Evidence({0: Estimate(2.0, 1.999, 2.001)}) for name in "ab"}
    assert settle(comparison, evidence).verdict == UNDECIDED


def test_only_shared_seeds_are_compared_and_the_others_named() -> None:
    first = Evidence({0: exact(1.0), 2: exact(3.0)}, {1: "diverged"})
    second = Evidence({seed: exact(2.0) for seed in range(3)})
    found = settle(Comparison("a", "b", "fid", "lower", margin=1.0), {"a": first, "b": second})
    assert found.seeds == (0, 2) and found.reason == "without a (seed 1): diverged"
    assert found.here == (2.0, 2.0) and found.analysis.seeds == 2


def test_a_comparison_shows_no_interval_that_it_does_not_have() -> None:
    one = Comparison("a", "b", "fid", "lower", effect=exact(-0.5))
    assert (one.effect_text, one.interval_text) == ("−0.5000", "")
    one = Comparison("a", "b", "fid", "lower", effect=exact(12.34), log=True)
    assert (one.effect_text, one.interval_text) == ("+12.3 %", "")
