"""The estimators of CKA in closed forms."""

import numpy as np
import pytest
import torch

from dtr.analysis.cka import (
    MinibatchCKA,
    cka_timesteps,
    gram,
    hsic0,
    hsic1,
    linear_cka,
)
from dtr.support.errors import Refusal
from tests.unit.analysis.conftest import gaussian


def naive_hsic1(x: np.ndarray, y: np.ndarray) -> float:
    """The printed formula with sums over indices, on features that are not centred."""
    n = len(x)
    k, other = x @ x.T, y @ y.T
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(k[i, j] * other[i, j] for i, j in pairs)
    total, other_total = sum(k[p] for p in pairs), sum(other[p] for p in pairs)
    chain = sum(k[i, j] * other[j, m] for i, j in pairs for m in range(n) if m != j)
    value = trace + total * other_total / ((n - 1) * (n - 2)) - 2 / (n - 2) * chain
    return value / (n * (n - 3))


def test_hsic1_is_the_printed_formula():
    x, y = gaussian(9, 4) + 3, gaussian(9, 6, seed=1)
    ours = hsic1(torch.stack([gram(x), gram(y)]))
    pairs = [(x, x), (x, y), (y, x), (y, y)]
    printed = [naive_hsic1(a.numpy(), b.numpy()) for a, b in pairs]
    assert ours.flatten().tolist() == pytest.approx(printed, rel=1e-10)


def test_hsic1_has_no_bias_and_hsic0_has():
    """Unrelated features of 8 images: HSIC_1 averages to zero over many draws."""
    draws = [torch.stack([gram(f) for f in gaussian(2, 8, 5, seed=s)]) for s in range(300)]
    unbiased = np.array([hsic1(pair)[0, 1].item() for pair in draws])
    assert abs(unbiased.mean()) < 4 * unbiased.std() / len(draws) ** 0.5
    biased = np.array([hsic0(pair)[0, 1].item() for pair in draws])
    assert biased.mean() > 20 * biased.std() / len(draws) ** 0.5


def test_three_images_are_refused():
    with pytest.raises(Refusal, match="3 images: HSIC_1 needs at least 4"):
        linear_cka(gaussian(3, 2), gaussian(3, 2, seed=1))


def test_biased_cka_is_kornblith_of_centred_features():
    x, y = gaussian(30, 7), gaussian(30, 4, seed=1) + 2
    x[:, 0] = y[:, 0]
    a, b = (f.numpy() - f.numpy().mean(0) for f in (x, y))
    norm = np.linalg.norm
    expected = norm(b.T @ a) ** 2 / norm(a.T @ a) / norm(b.T @ b)
    assert linear_cka(x, y, unbiased=False) == pytest.approx(expected, rel=1e-12)


def test_unrelated_features():
    """Biased: C / (n + C) = 0.75 for 768 channels and 256 images, where unbiased is near zero."""
    pairs = [gaussian(2, 256, 768, seed=seed) for seed in range(3)]
    biased = [linear_cka(x, y, unbiased=False) for x, y in pairs]
    assert np.mean(biased) == pytest.approx(768 / (256 + 768), abs=0.005)
    for x, y in pairs:
        assert abs(linear_cka(x, y)) < 0.05


@pytest.mark.parametrize("unbiased", [True, False])
def test_invariances(unbiased):
    x, y = gaussian(50, 12), gaussian(50, 12, seed=1)
    y = y + x
    value = linear_cka(x, y, unbiased=unbiased)
    assert 0.2 < value < 0.9
    assert linear_cka(x, x, unbiased=unbiased) == pytest.approx(1, abs=1e-12)
    assert linear_cka(y, x, unbiased=unbiased) == pytest.approx(value, rel=1e-12)
    orthogonal = torch.linalg.qr(gaussian(12, 12, seed=2)).Q
    for same in (x @ orthogonal, 1e-3 * x, x + 100):
        assert linear_cka(same, y, unbiased=unbiased) == pytest.approx(value, rel=1e-9)
    stretched = x * torch.linspace(0.1, 5, 12)
    assert linear_cka(stretched, y, unbiased=unbiased) != pytest.approx(value, rel=1e-2)


def features(count: int = 64) -> torch.Tensor:
    """Four related representations of `count` images: [4, count, 10]."""
    return (gaussian(4, count, 10) + 0.7 * gaussian(count, 10, seed=1)).float()


def test_one_batch_is_the_full_estimate():
    batches, f = MinibatchCKA(), features()
    batches.add(f)
    for matrix, unbiased in ((batches.unbiased(), True), (batches.biased(), False)):
        expected = [[linear_cka(a, b, unbiased=unbiased) for b in f] for a in f]
        torch.testing.assert_close(matrix, torch.tensor(expected, dtype=torch.float64))


def test_batches_sum_before_the_ratio():
    batches, f = MinibatchCKA(), features()
    sums = torch.zeros(4, 4, dtype=torch.float64)
    for batch in f.split(16, dim=1):
        batches.add(batch)
        sums += hsic1(gram(batch))
    expected = [[sums[i, j] / (sums[i, i] * sums[j, j]).sqrt() for j in range(4)] for i in range(4)]
    torch.testing.assert_close(batches.unbiased(), torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(batches.unbiased(), batches.unbiased().T)
    torch.testing.assert_close(batches.unbiased().diagonal(), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_constant_features_have_no_cka(noise):
    """Also where "constant" means the rounding of float32."""
    batches, f = MinibatchCKA(), features()
    f[2] = 0.1 + noise * gaussian(64, 10, seed=3)
    batches.add(f)
    for matrix in (batches.unbiased(), batches.biased()):
        assert matrix[2].isnan().all()
        assert matrix[:, 2].isnan().all()
        assert matrix[[0, 1, 3]][:, [0, 1, 3]].isfinite().all()


def test_timesteps():
    timesteps = cka_timesteps()
    assert len(timesteps) == 21
    assert (timesteps[:3], timesteps[-2:]) == ([0, 52, 104], [988, 999])
