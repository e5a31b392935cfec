"""Channels that two tasks share: Eq. 9 and what mask tables have."""

import numpy as np
import pytest

from dtr.analysis.overlap import expected_overlap, measured_overlap
from dtr.routing import dtr_masks, random_masks
from dtr.support.errors import Refusal


@pytest.mark.parametrize(
    ("channels", "beta", "expected"),
    [(768, 0.8, 490.88), (1024, 0.8, 819**2 / 1024), (384, 0.4, 153**2 / 384), (768, 1.0, 768)],
)
def test_expected_overlap(channels, beta, expected):
    assert expected_overlap(channels, beta) == pytest.approx(expected, abs=0.005)


def test_measured_overlap_of_a_table_counted_by_hand():
    """Two layers of three tasks: shared channels 1, 2, 0 and 3, 3, 3."""
    first = [[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 0, 0]]
    second = [[1, 1, 1, 0]] * 3
    masks = np.array([first, second], dtype=bool)
    shared = np.array([1, 2, 1, 3, 3, 3])
    mean, spread = measured_overlap(masks)
    assert mean == pytest.approx(shared.mean())
    assert spread == pytest.approx(shared.std())


def test_random_masks_overlap_by_the_hypergeometric_law():
    """Mean C_beta^2 / C; variance C_beta^2 (C - C_beta)^2 / (C^2 (C - 1))."""
    mean, spread = measured_overlap(random_masks(3, 400, 384, beta=0.8, seed=0))
    assert mean == pytest.approx(expected_overlap(384, 0.8), abs=0.1)
    assert spread == pytest.approx((307**2 * 77**2 / (384**2 * 383)) ** 0.5, rel=0.02)


def test_windows_of_dtr_share_more_than_random_masks():
    mean, _ = measured_overlap(dtr_masks(1000, 384, beta=0.8, alpha=4.0)[None])
    assert mean > 1.1 * expected_overlap(384, 0.8)


def test_one_task_is_refused():
    with pytest.raises(Refusal, match="masks of 1 task"):
        measured_overlap(np.ones((2, 1, 8), dtype=bool))
