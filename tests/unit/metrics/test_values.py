"""Each metric against closed forms, against the other engine, and in its direction."""

import numpy as np
import pytest

from dtr.metrics.fid import frechet, frechet_clean
from dtr.metrics.inception_score import inception_score
from dtr.metrics.kid import kernel_distance
from dtr.metrics.precision_recall import precision_recall


def gaussian(count: int, *, dimensions: int = 8, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, dimensions)) + shift
    return values.astype(np.float32)


def exact_gaussian(mean: np.ndarray, deviations: np.ndarray, *, count: int = 400) -> np.ndarray:
    """Samples whose mean and covariance are exactly `mean` and diag(deviations ** 2)."""
    raw = np.random.default_rng(1).normal(size=(count, len(mean)))
    orthogonal = np.linalg.qr(raw - raw.mean(axis=0))[0]
    return orthogonal * np.sqrt(count - 1) * deviations + mean


@pytest.mark.parametrize("engine", [frechet, frechet_clean])
def test_fid_is_the_analytic_distance_of_two_gaussians(engine):
    mean, spread = np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 3.0])
    generated = exact_gaussian(mean, spread)
    real = exact_gaussian(np.zeros(3), np.ones(3))
    expected = (mean**2).sum() + ((spread - 1) ** 2).sum()
    assert engine(generated=generated, real=real) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("engine", [frechet, frechet_clean])
def test_fid_of_features_with_themselves_is_zero(engine):
    features = gaussian(500)
    assert engine(generated=features, real=features) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rank", ["full", "collapsed generator", "constant features"])
def test_both_engines_agree_on_the_same_features(rank):
    generated, real = gaussian(600, shift=0.3) * 1.4, gaussian(900, seed=1)
    if rank == "collapsed generator":
        generated = np.repeat(generated[:5], 120, axis=0)
    if rank == "constant features":
        generated[:, :2], real[:, :2] = 0.7, 0.2
    first = frechet(generated=generated, real=real)
    assert first > 0.1
    assert frechet_clean(generated=generated, real=real) == pytest.approx(first, rel=1e-3)


def test_fid_does_not_lose_digits_far_from_the_origin():
    generated, real = gaussian(600, shift=0.2).astype(np.float64), gaussian(900, seed=1)
    moved = frechet(generated=generated + 1e4, real=real.astype(np.float64) + 1e4)
    assert moved == pytest.approx(frechet(generated=generated, real=real), rel=1e-6)


def test_clean_fid_writes_nothing_to_standard_output(capsys):
    collapsed = np.repeat(gaussian(1), 50, axis=0)
    frechet_clean(generated=collapsed, real=gaussian(100))
    assert capsys.readouterr().out == ""


def test_inception_score_spans_one_to_the_number_of_classes():
    assert inception_score(np.zeros((100, 10)), split=5000) == pytest.approx(1.0, abs=1e-9)
    balanced = 100 * np.tile(np.eye(10), (10, 1))
    assert inception_score(balanced, split=5000) == pytest.approx(10.0, abs=1e-6)


def test_inception_score_takes_consecutive_chunks_in_order():
    by_class = 100 * np.repeat(np.eye(2), 50, axis=0)
    alternating = 100 * np.tile(np.eye(2), (50, 1))
    assert inception_score(by_class, split=50) == pytest.approx(1.0, abs=1e-6)
    assert inception_score(alternating, split=50) == pytest.approx(2.0, abs=1e-6)
    assert inception_score(by_class, split=100) == pytest.approx(2.0, abs=1e-6)


def test_kid_is_about_zero_for_one_distribution_and_grows_with_a_shift():
    real = gaussian(400)
    same, near, far = (
        kernel_distance(generated=gaussian(400, seed=1, shift=shift), real=real, subset=200)
        for shift in (0.0, 0.3, 0.9)
    )
    assert abs(same) < 0.1 * near
    assert near < 0.5 * far


def test_kid_is_the_unbiased_estimate_of_the_cubic_kernel():
    generated, real = gaussian(40, shift=0.5), gaussian(40, seed=1)
    x, y = generated.astype(np.float64), real.astype(np.float64)

    def kernel(a, b):
        return (a @ b.T / 8 + 1) ** 3

    def without_self(matrix):
        return (matrix.sum() - np.trace(matrix)) / (40 * 39)

    expected = without_self(kernel(x, x)) + without_self(kernel(y, y)) - 2 * kernel(x, y).mean()
    value = kernel_distance(generated=generated, real=real, subset=40)
    assert value == pytest.approx(expected, rel=1e-9)


def test_a_collapsed_generator_is_precise_and_recalls_nothing():
    real = gaussian(1000)
    collapsed = np.repeat(real[:1], 500, axis=0)
    assert precision_recall(generated=collapsed, real=real, neighbours=3) == pytest.approx(
        (1.0, 0.001), abs=1e-6
    )
    # Were the two sets swapped on the way to torch-fidelity, this is what would be reported.
    assert precision_recall(generated=real, real=collapsed, neighbours=3) == pytest.approx(
        (0.001, 1.0), abs=1e-6
    )


def test_precision_recall_accepts_no_positional_sets():
    with pytest.raises(TypeError):
        precision_recall(gaussian(10), gaussian(10), neighbours=3)


def test_precision_and_recall_are_the_shares_inside_the_other_manifold():
    generated, real = gaussian(60, shift=0.8, dimensions=2), gaussian(80, seed=1, dimensions=2)

    def inside(points, manifold):
        distances = np.linalg.norm(manifold[:, None] - manifold[None], axis=-1)
        radii = np.sort(distances, axis=1)[:, 3]  # column 0 is the sample itself
        to_points = np.linalg.norm(points[:, None] - manifold[None], axis=-1)
        return (to_points <= radii).any(axis=1).mean()

    assert precision_recall(generated=generated, real=real, neighbours=3) == pytest.approx(
        (inside(generated, real), inside(real, generated)), abs=1e-6
    )


def test_precision_recall_does_not_depend_on_the_batching(monkeypatch):
    from dtr.metrics import precision_recall as module

    generated, real = gaussian(150, shift=0.5), gaussian(170, seed=1)
    whole = precision_recall(generated=generated, real=real, neighbours=3)
    monkeypatch.setattr(module, "BATCH", 37)
    assert precision_recall(generated=generated, real=real, neighbours=3) == whole
    monkeypatch.setattr(module, "DISTANCES", 1700)  # of large sets, whose rows are many
    assert precision_recall(generated=generated, real=real, neighbours=3) == whole
