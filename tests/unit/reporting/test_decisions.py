"""From p-values to decisions: of one effect, of a claim of several parts, and of a family."""

import math

import pytest
from scipy import stats

from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    REPRODUCED,
    SMALLER,
    Support,
    all_of,
    decide,
    family_adjusted,
    holm,
    sameness,
    support,
)
from dtr.reporting.claims.statistics import TAIL, Effect, Spread

ERROR, FREEDOM = 0.02, 8
CRITICAL = stats.t.ppf(1 - TAIL, FREEDOM) * ERROR


def effect(mean: float, *, log: bool = True) -> Effect:
    return Effect(mean, ERROR, Spread(ERROR * math.sqrt(3 / 2), FREEDOM, 3), 3, log)


def verdict(mean: float, *, sign: int = -1, expected: float | None = -30.0) -> str:
    return decide(support(effect(mean), sign=sign, margin=5.0, expected=expected))


# One effect


@pytest.mark.parametrize(
    ("mean", "expected", "outcome"),
    [
        (-1.01 * CRITICAL, -30.0, REPRODUCED),
        (-0.99 * CRITICAL, -30.0, SMALLER),
        (-0.99 * CRITICAL, -5.0, INCONCLUSIVE),
        (-0.99 * CRITICAL, None, INCONCLUSIVE),
        (0.99 * CRITICAL, 30.0, INCONCLUSIVE),  # the paper's points the other way
        (0.99 * CRITICAL, -30.0, SMALLER),
        (1.01 * CRITICAL, -30.0, CONTRADICTED),
    ],
)
def test_an_effect_leads_to_a_verdict(mean: float, expected: float | None, outcome: str) -> None:
    assert verdict(mean, expected=expected) == outcome
    mirrored = None if expected is None else 100 * (1 / (1 + expected / 100) - 1)
    assert verdict(-mean, sign=1, expected=mirrored) == outcome


def test_p_values_are_those_of_t_tests() -> None:
    found = support(effect(-0.03), sign=-1, margin=5.0, expected=-30.0)
    below = stats.t.sf(0.03 / ERROR, FREEDOM)
    assert found.claimed == pytest.approx(below)
    assert found.against == pytest.approx(1 - below)
    margin = math.log(1.05)
    assert found.equivalent == pytest.approx(stats.t.sf((margin - 0.03) / ERROR, FREEDOM))
    assert found.smaller == pytest.approx(stats.t.sf((-0.03 - math.log(0.7)) / ERROR, FREEDOM))


def test_the_margin_is_the_same_factor_both_ways() -> None:
    for mean in (0.01, 0.04, 0.06):
        up, down = (
            support(effect(sign * mean), sign=-1, margin=5.0, expected=None).equivalent
            for sign in (1, -1)
        )
        assert up == pytest.approx(down)
    shares = [
        support(effect(sign * 0.01, log=False), sign=1, margin=0.02, expected=None).equivalent
        for sign in (1, -1)
    ]
    assert shares[0] == pytest.approx(shares[1])


def test_no_effect_needs_the_interval_within_the_margin() -> None:
    sharp = Effect(0.0, 0.01, Spread(0.01, FREEDOM, 3), 3)
    assert decide(support(sharp, sign=-1, margin=5.0, expected=-30.0)) == NO_EFFECT
    assert max(abs(sharp.low), sharp.high) < 5
    assert decide(support(sharp, sign=-1, margin=2.0, expected=None)) == INCONCLUSIVE


@pytest.mark.parametrize(
    ("mean", "outcome"),
    [
        (0.0, REPRODUCED),
        (0.04, INCONCLUSIVE),
        (0.2, CONTRADICTED),
        (-0.04, INCONCLUSIVE),
        (-0.2, CONTRADICTED),
    ],
)
def test_sameness_is_within_the_margin_and_its_opposite_beyond(mean: float, outcome: str) -> None:
    assert decide(sameness(effect(mean), 5.0)) == outcome


def test_the_strongest_finding_comes_first() -> None:
    names = [(REPRODUCED, "claimed"), (CONTRADICTED, "against")]
    names += [(NO_EFFECT, "equivalent"), (SMALLER, "smaller")]
    p_values = dict.fromkeys((name for _, name in names), TAIL)
    for outcome, name in names:
        assert decide(Support(**p_values)) == outcome
        p_values[name] = TAIL * 1.001
    assert decide(Support(**p_values)) == INCONCLUSIVE


# Claims and families


def test_a_claim_needs_all_of_its_parts() -> None:
    parts = [Support(0.01, 0.9, 0.3, 0.2), Support(0.04, 0.02, 0.1, 0.5)]
    assert all_of(parts) == Support(0.04, pytest.approx(0.04), 0.3, 0.5)
    assert all_of(parts[:1]) == parts[0]
    assert all_of([Support(0.1, 0.8, 1, 1)] * 3).against == 1


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.04, 0.01, 0.015, 0.2], [0.08, 0.04, 0.045, 0.2]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_has_its_values_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_every_kind_of_finding_is_adjusted_by_itself() -> None:
    found = family_adjusted([Support(0.01, 0.9, 0.3, 0.02), Support(0.02, 0.01, 0.2, 0.01)])
    assert found[0] == Support(pytest.approx(0.02), 0.9, 0.4, 0.02)
    assert found[1] == Support(pytest.approx(0.02), pytest.approx(0.02), 0.4, 0.02)
    alone = Support(0.01, 0.9, 0.3, 0.02)
    assert family_adjusted([alone]) == [alone] and family_adjusted([]) == []
