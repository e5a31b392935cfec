"""Estimates, intervals and power of effects: closed forms, values by hand, small simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from dtr.reporting.claims.statistics import (
    FID_LOTTERY,
    POWER,
    TAIL,
    Effect,
    Spread,
    contrast,
    not_told_apart,
    own_strength,
    paired_effect,
    pooled,
    pooled_spread,
)
from dtr.reporting.published import value_of

T2 = 4.302652729911275  # 97.5 % quantile of Student's t with two degrees of freedom


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def known_effect(
    mean: float = 0.0, sd: float = 0.03, freedom: int = 6, *, seeds: int = 3, log: bool = True
) -> Effect:
    """A difference of two runs with a spread that is given."""
    return Effect(mean, sd * math.sqrt(2 / seeds), Spread(sd, freedom, seeds), seeds, log)


# Effects and intervals


def test_a_paired_effect_is_the_change_of_the_geometric_mean() -> None:
    found = paired_effect(by_seed(2.0, 4.0, 9.0), by_seed(4.0, 4.0, 8.0))
    logs = np.log([0.5, 1.0, 9 / 8])
    assert found.percent == pytest.approx(100 * (math.exp(logs.mean()) - 1))
    assert found.error == pytest.approx(logs.std(ddof=1) / math.sqrt(3))
    half = T2 * logs.std(ddof=1) / math.sqrt(3)
    bounds = [100 * math.expm1(logs.mean() + side * half) for side in (-1, 1)]
    assert (found.low, found.high) == pytest.approx(tuple(bounds))
    assert (found.seeds, found.spread.freedom) == (3, 2)


def test_without_a_logarithm_an_effect_is_a_difference() -> None:
    found = paired_effect(by_seed(1.0, 2.0, 3.0), by_seed(0.0, 1.2, 1.8), log=False)
    half = T2 * 0.2 / math.sqrt(3)
    assert (found.percent, found.low, found.high) == pytest.approx((1.0, 1 - half, 1 + half))


def test_only_shared_seeds_count_and_one_is_too_few() -> None:
    first, second = {0: 1.0, 1: 2.0, 2: 3.0, 7: 99.0}, {0: 2.0, 1: 5.0, 2: 6.0, 8: 0.1}
    shared = [{seed: own[seed] for seed in (0, 1, 2)} for own in (first, second)]
    assert paired_effect(first, second) == paired_effect(*shared)
    assert paired_effect({0: 1.0, 1: 2.0}, {0: 1.0, 2: 2.0}) is None


def test_swapping_both_sides_inverts_an_effect() -> None:
    first, second = by_seed(2.0, 4.1, 9.0), by_seed(4.0, 4.0, 8.0)
    there, back = paired_effect(first, second), paired_effect(second, first)
    for one, other in ((there.percent, back.percent), (there.low, back.high)):
        assert (1 + one / 100) * (1 + other / 100) == pytest.approx(1)
    assert there.p_below(0.0) == pytest.approx(back.p_above(0.0))


def test_a_given_spread_replaces_that_of_the_pair() -> None:
    spread = Spread(0.2, 10, 3)
    found = paired_effect(by_seed(1.0, 2.0, 3.0), by_seed(1.1, 1.7, 3.3), spread=spread)
    assert found.error == pytest.approx(0.2 * math.sqrt(2 / 3))
    half = stats.t.ppf(1 - TAIL, 10) * found.error
    assert found.high == pytest.approx(100 * math.expm1(found.mean + half))


def test_a_contrast_weighs_its_runs() -> None:
    runs = [by_seed(a, a + 0.5, a + 1.5) for a in (1.0, 2.0, 3.0, 5.0)]
    weights = (1, -1, -1, 1)
    logs = np.array(weights) @ np.log([list(run.values()) for run in runs])
    found = contrast(runs, weights)
    assert found.mean == pytest.approx(logs.mean())
    assert found.error == pytest.approx(logs.std(ddof=1) / math.sqrt(3))
    assert found.spread.sd == pytest.approx(logs.std(ddof=1) / 2)  # of one value, not of four
    given = contrast(runs, weights, spread=Spread(0.1, 8, 3))
    assert given.error == pytest.approx(0.1 * 2 / math.sqrt(3))


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng, covered, repetitions = np.random.default_rng(1), 0, 500
    for _ in range(repetitions):
        seeds = rng.normal(0, 0.3, 3)
        logs = np.array([1.0, 0.9, 0.7])[:, None] + seeds + rng.normal(0, 0.05, (3, 3))
        runs = {str(i): by_seed(*row) for i, row in enumerate(np.exp(logs))}
        spread = pooled_spread(runs, log=True)
        found = paired_effect(runs["1"], runs["0"], spread=spread)
        covered += found.low < 100 * math.expm1(-0.1) < found.high
    low, high = stats.binom.interval(0.999, repetitions, 0.95)
    assert low <= covered <= high


# p-values


@pytest.mark.parametrize("log", [True, False])
def test_p_values_agree_with_the_interval(log: bool) -> None:
    found = known_effect(-0.1, log=log)
    assert found.p_above(found.low) == pytest.approx(TAIL)
    assert found.p_below(found.high) == pytest.approx(TAIL)
    assert found.p_below(found.percent) == pytest.approx(0.5)
    for bound in (-20.0, -5.0, 0.0, 5.0):
        assert found.p_below(bound) + found.p_above(bound) == pytest.approx(1)


def test_an_effect_without_noise_is_beyond_doubt() -> None:
    found = paired_effect(by_seed(1.0, 2.0, 4.0), by_seed(3.0, 4.0, 6.0), log=False)
    assert (found.error, found.low, found.percent, found.high) == (0, -2, -2, -2)
    assert (found.p_below(0.0), found.p_above(0.0)) == (0.0, 1.0)
    assert (found.p_below(-3.0), found.p_above(-3.0)) == (1.0, 0.0)
    assert (found.p_below(-2.0), found.p_above(-2.0)) == (1.0, 1.0)
    assert found.detectable == 0 and found.seeds_for(-1.0) == 2


# The spread of a training


def test_the_spread_is_the_residual_of_a_balanced_layout() -> None:
    found = pooled_spread({"a": by_seed(1.0, 2.0, 4.0), "b": by_seed(2.0, 4.0, 5.0)})
    # Differences 1, 2, 1: each residual is half of what a difference lies off their mean.
    assert found == Spread(pytest.approx(math.sqrt(1 / 6)), 2, 3)
    table = np.random.default_rng(0).normal(size=(5, 4))
    residual = table - table.mean(0) - table.mean(1)[:, None] + table.mean()
    found = pooled_spread({str(i): by_seed(*row) for i, row in enumerate(table)})
    assert found == Spread(pytest.approx(math.sqrt((residual**2).sum() / 12)), 12, 4)


def test_runs_may_lack_seeds() -> None:
    found = pooled_spread(
        {
            "a": by_seed(1.0, 2.0, 4.0),  # its third seed has nothing to be compared with
            "b": by_seed(2.0, 4.0),
            "alone": {0: 7.0},
        }
    )
    assert found == Spread(pytest.approx(0.5), 1, 3)  # differences 1 and 2


def test_seeds_and_levels_of_runs_do_not_add_to_the_spread() -> None:
    values = {"a": by_seed(1.0, 2.0, 4.0), "b": by_seed(2.0, 4.0, 5.0), "c": by_seed(0.0, 3.0)}
    shifts = {"a": 5.0, "b": -2.0, "c": 11.0}
    shifted = {
        run: {seed: value + shifts[run] + 10 * seed for seed, value in own.items()}
        for run, own in values.items()
    }
    assert pooled_spread(shifted).sd == pytest.approx(pooled_spread(values).sd)


def test_a_spread_may_be_that_of_logarithms() -> None:
    logs = {"a": by_seed(1.0, 2.0, 4.0), "b": by_seed(2.0, 4.0, 5.0)}
    values = {
        run: {seed: math.exp(value) for seed, value in own.items()} for run, own in logs.items()
    }
    assert pooled_spread(values, log=True).sd == pytest.approx(pooled_spread(logs).sd)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": by_seed(1.0, 2.0, 3.0)},
        {"a": by_seed(1.0, 2.0), "b": {0: 1.0}},
        {"a": {0: 1.0, 1: 2.0}, "b": {2: 1.0, 3: 2.0}},  # no seed is shared
    ],
)
def test_a_spread_needs_two_runs_that_share_seeds(values: dict) -> None:
    assert pooled_spread(values) is None


def test_degrees_of_freedom_grow_with_seeds() -> None:
    spread = Spread(1.0, 8, 3)  # five runs
    assert [spread.freedom_at(seeds) for seeds in (2, 3, 4, 6)] == [4, 8, 12, 20]


# Power


@pytest.mark.parametrize(("freedom", "seeds"), [(1, 2), (2, 3), (20, 3), (40, 10)])
def test_a_detectable_effect_is_detected_four_times_in_five(freedom: int, seeds: int) -> None:
    found = known_effect(freedom=freedom, seeds=seeds)
    share = detected(math.log1p(-found.detectable / 100), found, freedom)
    assert share == pytest.approx(POWER, abs=0.02)


@pytest.mark.parametrize("size", [-2.0, -4.0, -6.0, 5.0])
def test_seeds_for_an_effect_are_enough_and_one_less_is_not(size: float) -> None:
    found = known_effect(freedom=8, seeds=3)
    needed = found.seeds_for(size)
    assert needed > 3
    shares = []
    for seeds in (needed - 1, needed):
        freedom = found.spread.freedom_at(seeds)
        there = known_effect(freedom=freedom, seeds=seeds)
        shares.append(detected(math.log1p(size / 100), there, freedom))
    assert shares[0] < POWER + 0.01 and POWER - 0.01 < shares[1] < POWER + 0.15


def detected(true: float, found: Effect, freedom: int) -> float:
    """Share of studies whose two-sided test finds an effect, with estimated spreads."""
    rng, studies = np.random.default_rng(2), 40_000
    means = rng.normal(true, found.error, studies)
    errors = found.error * np.sqrt(rng.chisquare(freedom, studies) / freedom)
    return float(np.mean(np.abs(means) / errors > stats.t.ppf(1 - TAIL, freedom)))


def test_seeds_for_what_is_detectable_are_those_there_are() -> None:
    for seeds in (2, 3, 5, 10):
        found = known_effect(seeds=seeds)
        assert found.seeds_for(-found.detectable * 1.0001) == seeds
        assert found.seeds_for(-found.detectable * 0.9) > seeds


def test_no_number_of_seeds_shows_an_effect_of_nothing() -> None:
    assert known_effect().seeds_for(0.0) is None
    assert known_effect().seeds_for(1e-6) is None
    assert known_effect().seeds_for(math.nan) is None


def test_detectable_is_on_the_scale_of_the_metric_without_a_logarithm() -> None:
    size = known_effect(log=False).detectable
    assert known_effect().detectable == pytest.approx(100 * -math.expm1(-size))


# Selection of the best


def test_the_best_are_those_within_the_allowance() -> None:
    spread = Spread(0.1, 10, 3)
    # Three rivals: the error of one in twenty is shared among them.
    allowance = stats.t.ppf(1 - 0.05 / 3, 10) * 0.1 * math.sqrt(2 / 3)
    runs = {
        name: by_seed(*np.exp([shift, shift + 1, shift - 1]))
        for name, shift in (
            ("best", 0.0),
            ("near", 0.99 * allowance),
            ("far", 1.01 * allowance),
            ("last", 9.0),
        )
    }
    assert not_told_apart(runs, spread) == ["best", "near"]
    # Sharing the error with other selections widens the allowance.
    assert not_told_apart(runs, spread, selections=4) == ["best", "near", "far"]
    assert not_told_apart({"only": by_seed(1.0, 2.0)}, spread) == ["only"]


# One question in several places


def test_homogeneous_places_give_the_fixed_effect_mean() -> None:
    effects = [known_effect(-0.1, sd=sd) for sd in (0.03, 0.06, 0.02)]
    effects[1] = known_effect(-0.11, sd=0.06)
    found, heterogeneity = pooled(effects)
    weights = np.array([effect.error**-2 for effect in effects])
    assert heterogeneity == 0
    assert found.mean == pytest.approx(weights @ [-0.1, -0.11, -0.1] / weights.sum())
    assert found.error == pytest.approx(weights.sum() ** -0.5)
    half = T2 * found.error
    assert (found.low, found.high) == pytest.approx(
        tuple(100 * math.expm1(found.mean + side * half) for side in (-1, 1))
    )


def test_heterogeneous_places_widen_the_interval() -> None:
    means = [-0.4, -0.1, 0.0, -0.2]
    effects = [known_effect(mean, sd=0.01) for mean in means]
    found, heterogeneity = pooled(effects)
    assert found.mean == pytest.approx(np.mean(means))  # equal errors
    assert found.error == pytest.approx(np.std(means, ddof=1) / 2)
    q = 3 * np.var(means, ddof=1) / effects[0].error ** 2
    assert heterogeneity == pytest.approx((q - 3) / q) and heterogeneity > 0.9
    alike, _ = pooled([known_effect(-0.175, sd=0.01)] * 4)
    assert found.high - found.low > 10 * (alike.high - alike.low)


@pytest.mark.parametrize("between", [0.0, 0.05])
def test_the_pooled_interval_covers_the_mean_of_all_places(between: float) -> None:
    rng, covered, repetitions = np.random.default_rng(3), 0, 500
    sds, freedom = np.array([0.02, 0.03, 0.03, 0.05, 0.06]), 12
    for _ in range(repetitions):
        means = -0.1 + rng.normal(0, between, 5) + rng.normal(0, sds * math.sqrt(2 / 3))
        guessed = sds * np.sqrt(rng.chisquare(freedom, 5) / freedom)
        found, _ = pooled([known_effect(*one, freedom) for one in zip(means, guessed, strict=True)])
        covered += found.low < 100 * math.expm1(-0.1) < found.high
    assert covered >= stats.binom.ppf(0.001, repetitions, 0.95)


# What the paper's own gaps are worth


@pytest.mark.parametrize(
    ("panel", "first", "second", "values", "strength"),
    [
        ("table1", "ffhq256-b2-dtr-a4", "ffhq256-b2-none", (7.32, 10.99), -21.4),
        ("table1", "in256-l2-dtr-a4", "in256-l2-none", (8.90, 12.59), -18.4),
        ("table1", "coco256-b2-dtr-a4", "coco256-b2-none", (7.04, 7.70), -4.9),
        ("table1", "ffhq64-adm-dtr-a4", "ffhq64-adm-none", (2.65, 3.12), -8.8),
        ("table1", "in64-adm-dtr-a4", "in64-adm-none", (4.91, 6.34), -13.7),
        ("table2_ffhq", "ffhq256-b2-dtr-a4-min_snr_5", "ffhq256-b2-dtr-a4", (8.93, 8.82), 0.7),
        ("table2_ffhq", "ffhq256-b2-dtr-a4-ant_uw_8", "ffhq256-b2-dtr-a4", (8.81, 8.82), -0.1),
        ("table4_ffhq", "ffhq256-b2-dtr-a4", "ffhq256-b2-dtr-a5", (7.32, 7.40), -0.6),
        ("table4_in256", "in256-l2-dtr-a4", "in256-l2-dtr-a3", (8.90, 8.89), 0.1),
        ("table4_coco", "coco256-b2-dtr-a5", "coco256-b2-dtr-a4", (6.93, 7.04), -0.9),
    ],
)
def test_published_gaps_in_standard_deviations_of_one_training(
    panel: str, first: str, second: str, values: tuple[float, float], strength: float
) -> None:
    published = tuple(value_of(panel, run, "fid")["value"] for run in (first, second))
    assert published == values
    assert own_strength(*published) == pytest.approx(strength, abs=0.05)


def test_the_strength_of_a_gap_is_its_z_value() -> None:
    assert own_strength(3.0, 4.0) == pytest.approx(-1 / (FID_LOTTERY * 5))
    assert own_strength(4.0, 3.0) == -own_strength(3.0, 4.0)
    assert own_strength(2.0, 2.0) == 0
