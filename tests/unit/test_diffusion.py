"""The process against golden values and closed forms."""

import math

import numpy as np
import pytest
import torch

from dtr.config.stages import DiffusionSettings
from dtr.diffusion import Diffusion, binned_log_likelihood, gaussian_kl, kept_timesteps


@pytest.fixture(scope="module")
def cosine():
    return Diffusion.from_settings(DiffusionSettings(schedule="cosine"))


def test_cosine_schedule_golden(cosine):
    betas = cosine.betas[[0, 1, 500, 998, 999]]
    assert betas == pytest.approx(
        [4.128422482e-05, 4.614175274e-05, 3.155691442e-03, 0.7499993929, 0.999], rel=1e-9
    )
    alpha_bars = cosine.alpha_bars[[0, 250, 500, 750, 999]]
    assert alpha_bars == pytest.approx(
        [0.9999587158, 0.8458879865, 0.4922851724, 0.1431786464, 2.428766907e-09], rel=1e-9
    )
    assert (cosine.betas == 0.999).nonzero()[0].tolist() == [999]
    assert cosine.snr()[0] == pytest.approx(24221.3, rel=1e-5)


def test_clipped_posterior_variance(cosine):
    assert float(cosine.log_posterior_variance[0]) == pytest.approx(-10.734083, abs=1e-6)


def test_linear_schedule_golden():
    linear = Diffusion.from_settings(DiffusionSettings(schedule="linear"))
    assert linear.betas[[0, -1]] == pytest.approx([1e-4, 0.02])
    assert linear.alpha_bars[-1] == pytest.approx(4.0358e-05, rel=1e-4)


def test_respacing_golden(cosine):
    chain = cosine.respaced(250)
    picked = [0, 1, 2, 100, 200, 247, 248, 249]
    assert chain.timesteps[picked].tolist() == [0, 4, 8, 401, 802, 991, 995, 999]
    assert chain.betas[picked] == pytest.approx(
        [4.1284225e-05, 2.1369723e-04, 2.9141853e-04, 9.158645e-03,
         3.815826e-02, 0.55552677, 0.74999029, 0.9999375],
        rel=1e-6,
    )  # fmt: skip
    quarters = np.bincount(chain.timesteps // 250)
    assert quarters.tolist() == [63, 62, 62, 63]
    assert np.bincount(chain.timesteps // 125).tolist() == [32, 31, 31, 31, 31, 31, 31, 32]


def test_keeping_every_step_changes_nothing(cosine):
    assert kept_timesteps(1000, 1000).tolist() == list(range(1000))
    np.testing.assert_allclose(cosine.respaced(1000).betas, cosine.betas, rtol=1e-9, atol=1e-12)


def test_first_reverse_step_multiplies_the_noise_error(cosine):
    """With 250 steps, x_995 carries 126.5 times an error of the noise predicted at x_999."""
    chain = cosine.respaced(250)
    output = torch.zeros(1, 2, 1, 1)
    x, last = torch.zeros(1, 1, 1, 1), torch.tensor([249])
    clean = chain.reverse_step(output, x, last).mean
    output[:, 0] = 1.0
    assert (chain.reverse_step(output, x, last).mean - clean).abs().item() == pytest.approx(
        126.5, rel=1e-2
    )


def test_perfect_prediction_recovers_x0(cosine):
    torch.manual_seed(0)
    x0, noise = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2)
    t = torch.tensor([0, 10, 250, 500, 800])
    x_t = cosine.add_noise(x0, t, noise)
    output = torch.cat([noise, torch.full_like(noise, -1.0)], dim=1)
    step = cosine.reverse_step(output, x_t, t)
    torch.testing.assert_close(step.x0, x0, rtol=1e-3, atol=1e-3)
    # v = -1 is the posterior variance, and then p equals q: no divergence is left.
    mse, vb = cosine.loss_terms(output, x0, x_t, t, noise)
    assert mse.max() == 0
    assert vb[1:].abs().max() < 1e-3


def test_clamp_bounds_x0(cosine):
    x_t, t = torch.ones(1, 1, 2, 2), torch.tensor([999])
    output = torch.zeros(1, 2, 2, 2)
    assert cosine.reverse_step(output, x_t, t).x0.max() > 1000
    assert cosine.reverse_step(output, x_t, t, clamp=4.0).x0.max() == 4.0


def test_bound_at_the_last_timestep(cosine):
    """720.6 bits per unit of squared error at t = 999: it dominates logged losses."""
    x0, noise = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for t, bits in ((999, 720.6), (998, 2.16), (500, 0.0045)):
        index = torch.tensor([t])
        exact = torch.tensor([[[[0.0]], [[-1.0]]]])
        wrong = torch.tensor([[[[1.0]], [[-1.0]]]])
        x_t = cosine.add_noise(x0, index, noise)
        floor = cosine.loss_terms(exact, x0, x_t, index, noise)[1]
        assert (cosine.loss_terms(wrong, x0, x_t, index, noise)[1] - floor).item() == (
            pytest.approx(bits, rel=0.01)
        )


def test_bound_does_not_train_the_mean(cosine):
    output = torch.randn(3, 2, 2, 2, requires_grad=True)
    x0, noise, t = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2), torch.tensor([0, 400, 999])
    _, vb = cosine.loss_terms(output, x0, cosine.add_noise(x0, t, noise), t, noise)
    vb.sum().backward()
    assert output.grad[:, 0].abs().max() == 0
    assert output.grad[:, 1].abs().min() > 0


def test_gaussian_kl_closed_form():
    zero = torch.zeros(())
    assert gaussian_kl(zero, zero, zero, zero) == 0
    one, log4 = torch.tensor(1.0), torch.tensor(math.log(4.0))
    # KL(N(0,1) || N(1,4)) = ln 2 + (1 + 1) / 8 - 1/2
    assert gaussian_kl(zero, zero, one, log4).item() == pytest.approx(math.log(2) - 0.25)


def test_bins_sum_to_one():
    values = torch.arange(256) / 127.5 - 1
    log_p = binned_log_likelihood(values, torch.tensor(0.3), torch.tensor(-2.0))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
