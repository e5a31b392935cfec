"""Intervals contain their value, cover what they claim, and are the same at every call."""

import numpy as np
import pytest

from dtr.metrics.fid import frechet, frechet_interval
from dtr.metrics.inception_score import inception_score, inception_score_interval
from dtr.metrics.intervals import multinomial_weights, recentred, wilson
from dtr.metrics.kid import kernel_distance, kernel_interval

DIMENSIONS, COUNT = 4, 200
REAL = np.random.default_rng(99).normal(size=(2000, DIMENSIONS))


def draw(seed: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS)) * 1.2 + 0.4


def frechet_of(features):
    return frechet(generated=features, real=REAL)


def kid_of(features):
    return kernel_distance(generated=features, real=REAL[:COUNT], subset=COUNT)


def score_of(features):
    return inception_score(features, split=10_000)


def frechet_range(value, features, **draws):
    return frechet_interval(value, generated=features, real=REAL, **draws)


def kid_range(value, features, **draws):
    return kernel_interval(value, generated=features, real=REAL[:COUNT], **draws)


def score_range(value, features, **draws):
    return inception_score_interval(value, logits=features, split=10_000, **draws)


BOOTSTRAPPED = pytest.mark.parametrize(
    "metric, interval",
    [(frechet_of, frechet_range), (kid_of, kid_range), (score_of, score_range)],
    ids=["fid", "kid", "inception_score"],
)


@BOOTSTRAPPED
def test_interval_surrounds_its_value_and_is_repeatable(metric, interval):
    features = draw(0)
    value = metric(features)
    low, high = interval(value, features, resamples=100, seed=0)
    assert low < value < high
    assert interval(value, features, resamples=100, seed=0) == (low, high)
    assert interval(value, features, resamples=100, seed=1) != (low, high)


@BOOTSTRAPPED
def test_interval_covers_the_expected_value_about_95_times_in_100(metric, interval, monkeypatch):
    monkeypatch.setattr("dtr.metrics.kid.SUBSETS", 1)  # a subset here is the whole sample
    values = [metric(draw(seed)) for seed in range(1000, 1300)]
    covered = 0
    for seed in range(100):
        low, high = interval(metric(draw(seed)), draw(seed), resamples=100, seed=seed)
        covered += low <= np.mean(values) <= high
    assert covered >= 85  # 95 expected; 85 is 4.6 standard deviations below
    assert covered < 100  # an interval that always covers is too wide to be of use


@BOOTSTRAPPED
def test_interval_narrows_as_one_over_the_root_of_n(metric, interval):
    widths = []
    for count in (200, 3200):
        features = draw(0, count)
        low, high = interval(metric(features), features, resamples=200, seed=0)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.5)


def test_fid_bootstrap_replicates_are_the_fid_of_the_repeated_rows(monkeypatch):
    from dtr.metrics import fid

    seen = []
    monkeypatch.setattr(fid, "recentred", lambda value, drawn: seen.extend(drawn) or (0.0, 1.0))
    features = draw(0)
    frechet_range(0.0, features, resamples=3, seed=5)
    for replicate, weights in zip(seen, multinomial_weights(COUNT, 3, seed=5), strict=True):
        rows = np.repeat(features, weights.astype(int), axis=0)
        assert replicate == pytest.approx(frechet_of(rows), rel=1e-8)


def test_inception_score_replicates_are_the_score_of_the_repeated_rows(monkeypatch):
    from dtr.metrics import inception_score as module

    seen = []
    monkeypatch.setattr(module, "recentred", lambda value, drawn: seen.extend(drawn) or (2.0, 3.0))
    logits = draw(0)
    score_range(1.0, logits, resamples=3, seed=5)
    for replicate, weights in zip(seen, multinomial_weights(COUNT, 3, seed=5), strict=True):
        rows = np.repeat(logits, weights.astype(int), axis=0)
        assert replicate == pytest.approx(score_of(rows), rel=1e-9)


def test_kid_replicates_are_the_kid_of_the_repeated_rows_up_to_one_constant(monkeypatch):
    from dtr.metrics import kid

    seen = []
    monkeypatch.setattr(kid, "recentred", lambda value, drawn: seen.extend(drawn) or (0.0, 1.0))
    monkeypatch.setattr(kid, "SUBSETS", 1)  # a subset here is the whole sample
    features = draw(0)
    kid_range(0.0, features, resamples=3, seed=5)
    offsets = [
        kid_of(np.repeat(features, weights.astype(int), axis=0)) - replicate
        for replicate, weights in zip(seen, multinomial_weights(COUNT, 3, seed=5), strict=True)
    ]
    assert np.ptp(seen) > 1e-3
    assert offsets == pytest.approx([offsets[0]] * 3, rel=1e-9)


def test_kid_interval_does_not_depend_on_the_blocks(monkeypatch):
    whole = kid_range(0.1, draw(0), resamples=20, seed=0)
    monkeypatch.setattr("dtr.metrics.kid.BLOCK", 33)
    assert kid_range(0.1, draw(0), resamples=20, seed=0) == pytest.approx(whole, rel=1e-9)


def test_recentring_removes_a_constant_bias():
    replicates = np.random.default_rng(0).normal(size=1000)
    assert recentred(5.0, replicates + 100) == pytest.approx(recentred(5.0, replicates))
    low, high = recentred(5.0, replicates + 100)
    assert (low, high) == pytest.approx((5 - 1.96, 5 + 1.96), abs=0.2)


def test_bootstrap_weights_draw_n_of_n_and_more_of_them_extend_the_first():
    few = list(multinomial_weights(50, 3, seed=0))
    more = list(multinomial_weights(50, 6, seed=0))
    assert all(weights.sum() == 50 for weights in more)
    assert np.array_equal(few, more[:3])
    assert not np.array_equal(more[0], next(multinomial_weights(50, 1, seed=0, stratum=1)))


def test_wilson_against_published_values_and_at_the_ends():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1.0, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
