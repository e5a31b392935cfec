"""Verdicts as sentences: one for each, with the numbers that matter."""

import math
from typing import Any

import pytest

from dtr.reporting.claims.sentences import sentence, telling
from dtr.reporting.claims.statistics import Effect, Spread, own_strength
from dtr.reporting.claims.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_RUN,
    ONE_SEED,
    REPRODUCED,
    SMALLER,
    UNTESTABLE,
    VERDICTS,
    Comparison,
    Estimate,
    exact,
    with_effect,
)

NUMBERS = {"claimed": "lower", "log": True, "margin": 5.0, "expected": -30.0}


def compared(mean: float, *, error: float = 0.02, **changes: Any) -> Comparison:
    """A comparison with a known effect, a change in the logarithm unless `log` says otherwise."""
    settings = NUMBERS | changes
    one = Comparison("routed", "plain", settings.pop("quantity", "fid@cnn"), **settings)
    effect = Effect(mean, error, Spread(error * math.sqrt(3 / 2), 20, 3), 3, one.log)
    return with_effect(one, effect, effect.spread)


def said(mean: float, **changes: Any) -> str:
    one = compared(mean, **changes)
    return sentence(one.verdict, [one])


# One sentence each


def test_a_reproduced_claim_names_both_effects() -> None:
    assert said(-0.25) == "FID is 22.1 % lower (−25.3 to −18.8 %); the paper: −30.0 %."
    assert said(-0.25, expected=None) == "FID is 22.1 % lower (−25.3 to −18.8 %)."


def test_a_contradicted_claim_is_the_opposite() -> None:
    assert said(0.25) == (
        "The opposite: FID is 28.4 % higher (+23.2 to +33.9 %); the paper: −30.0 %."
    )


def test_no_effect_is_none_larger_than_the_margin() -> None:
    assert said(0.0, error=0.01) == (
        "No effect larger than 5 %: FID is 0.0 % higher (−2.1 to +2.1 %); the paper: −30.0 %."
    )


def test_a_smaller_effect_stands_beside_that_of_the_paper() -> None:
    assert said(-0.02, error=0.03) == (
        "If there is an effect, it is smaller than the paper's: FID is 2.0 % lower (−7.9 to "
        "+4.3 %); the paper: −30.0 %."
    )


def test_the_side_of_a_smaller_effect_is_said_where_only_the_group_leaves_room_for_chance() -> None:
    assert sentence(SMALLER, [compared(-0.05)]) == (
        "Smaller than the paper's, and among several claims perhaps chance: FID is 4.9 % lower "
        "(−8.8 to −0.8 %); the paper: −30.0 %."
    )
    assert sentence(SMALLER, [compared(0.05)]).startswith(
        "If anything the opposite, and among several claims perhaps chance: FID is 5.1 % higher"
    )


def test_an_inconclusive_one_says_what_would_have_been_seen() -> None:
    one = compared(-0.2, error=0.15)
    text = sentence(one.verdict, [one])
    assert text.startswith("Not told apart: FID is 18.1 % lower (−40.1 to +12.0 %). ")
    assert f"3 seeds would have shown {one.analysis.detectable:.0f} % or more" in text
    assert text.endswith(f"; the paper's −30.0 % needs {one.analysis.seeds_for(-30.0)}.")
    assert "the paper" not in said(-0.2, error=0.15, expected=None)


def test_a_claim_whose_comparisons_are_not_alike_names_the_weakest() -> None:
    text = sentence(INCONCLUSIVE, [compared(-0.3), compared(-0.02, error=0.03)])
    assert text.startswith("Not all 2 came out alike. The weakest: if there is an effect, it is sm")
    assert "needs" not in text


def test_what_only_the_group_made_inconclusive_is_said() -> None:
    text = sentence(INCONCLUSIVE, [compared(-0.2)])
    assert text.startswith("Not told apart, since several claims of this group are tested: FID is")


def test_two_that_are_alike_or_are_not() -> None:
    alike = {"claimed": "equal", "expected": 0.7}
    assert said(0.0, error=0.01, **alike) == (
        "No difference larger than 5 %: FID is 0.0 % higher (−2.1 to +2.1 %)."
    )
    assert said(0.25, **alike).startswith("They differ by more than 5 %: FID is 28.4 % higher")


def test_differences_are_no_percentages() -> None:
    shares = {"log": False, "margin": 0.02, "claimed": "higher", "expected": None, "decimals": 2}
    assert said(0.2, quantity="recall@cnn", **shares) == ("Recall differs by 0.200 [0.158, 0.242].")
    text = said(0.03, quantity="recall@cnn", **shares)
    assert "would have shown 0.06 or more" in text


def test_a_published_gap_within_noise_is_marked() -> None:
    weak = {"expected": -1.1, "strength": own_strength(7.32, 7.40)}
    assert said(-0.25, **weak).endswith("; the paper: −1.1 %, within the noise of one seed.")
    strong = {"expected": -33.4, "strength": own_strength(7.32, 10.99)}
    assert said(-0.25, **strong).endswith("; the paper: −33.4 %.")


@pytest.mark.parametrize("verdict", ONE_SEED.values())
def test_one_seed_says_what_it_is_not(verdict: str) -> None:
    effect = Estimate(-10.0, -15.0, -5.0)
    one = Comparison("a", "b", "fid@cnn", "lower", verdict, effect=effect, log=True)
    assert sentence(verdict, [one]) == (
        "One seed: FID is 10.0 % lower (−15.0 to −5.0 %). It says nothing about the spread of "
        "trainings."
    )


def test_what_was_not_run_is_said_once() -> None:
    parts = [Comparison("a", "b", "fid", "lower", reason=why) for why in ("x", "x", "y", "")]
    parts.append(Comparison("a", "b", "fid", "lower", REPRODUCED, reason="ran"))
    assert sentence(NOT_RUN, parts) == "Not run: x; y."


def test_a_ratio_stands_against_its_threshold() -> None:
    one = Comparison("a", "b", "ratio of times", "lower", REPRODUCED, threshold=1.05)
    one.effect = Estimate(1.01, 1.005, 1.015)
    assert sentence(REPRODUCED, [one]) == ("The ratio is 1.0100 [1.0050, 1.0150], against 1.05.")


def test_a_selection_names_those_that_may_be_the_best() -> None:
    one = compared(-0.25, chosen=("routed",))
    one.second, one.support = "the best of 3 others", None
    assert sentence(REPRODUCED, [one]).startswith(
        "The best alone: FID is 22.1 % lower (−25.3 to −18.8 %) than the best of 3 others"
    )
    one.chosen = ("routed", "other")
    assert sentence(INCONCLUSIVE, [one]) == (
        "It may be the best, but so may other: they cannot be told apart."
    )
    one.second = "the best of 1 others"
    assert "but so may any of the others:" in sentence(INCONCLUSIVE, [one])
    one.chosen = ("other",)
    assert sentence(CONTRADICTED, [one]) == "Not among those that may be the best: other."


def test_what_has_no_value_is_not_compared() -> None:
    one = Comparison("a", "b", "fid", "lower", INCONCLUSIVE, effect=exact(math.nan), log=True)
    assert sentence(ONE_SEED[INCONCLUSIVE], [one]) == "Nothing could be compared."


def test_every_verdict_has_a_sentence_of_its_own() -> None:
    one = compared(-0.2)
    texts = {verdict: sentence(verdict, [one]) for verdict in VERDICTS if verdict != UNTESTABLE}
    several = set(ONE_SEED.values())
    assert len(set(texts.values())) == len(set(texts) - several) + 1
    assert all(text.endswith(".") and "nan" not in text for text in texts.values())


# Which of several comparisons tells


@pytest.mark.parametrize(
    ("verdict", "means", "told"),
    [
        (REPRODUCED, (-0.5, -0.2, -0.3), -0.2),  # the weakest
        (CONTRADICTED, (-0.5, 0.2, 0.3), 0.3),  # the strongest against
        (INCONCLUSIVE, (-0.5, -0.01, 0.01), 0.01),
        (NO_EFFECT, (-0.5, -0.2), -0.2),  # none came out so
    ],
)
def test_the_comparison_that_decides_is_told(verdict: str, means: tuple, told: float) -> None:
    parts = [compared(mean, expected=None) for mean in means]
    assert telling(verdict, parts).analysis.mean == told


def test_a_smaller_one_is_told_among_reproduced_ones() -> None:
    parts = [compared(-0.2), compared(-0.01)]
    assert [part.verdict for part in parts] == [REPRODUCED, SMALLER]
    assert "2.0 %" not in sentence(SMALLER, parts) and "1.0 % lower" in sentence(SMALLER, parts)
