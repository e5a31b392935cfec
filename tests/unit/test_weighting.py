"""Loss weightings against the printed values and closed forms."""

import numpy as np
import pytest
import torch

from dtr.config.stages import DiffusionSettings
from dtr.diffusion import Diffusion
from dtr.registry import settings_of
from dtr.seeding import generator
from dtr.support.settings import parse
from dtr.training.core import TrainedWeighting
from dtr.weighting import build_weighting

SNR = Diffusion.from_settings(DiffusionSettings()).snr()


def build(name: str, **constants):
    settings = parse(settings_of("weighting"), {"type": name} | constants, source="test")
    return TrainedWeighting(build_weighting(settings, SNR))


def test_vanilla_is_the_plain_mean():
    mse, vb = torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5])
    assert build("vanilla")(mse, vb, torch.tensor([0, 999])).item() == 2.5


def test_min_snr_values():
    weights = build("min_snr", gamma=5.0).weights
    assert weights[[0, 100, 250]].tolist() == pytest.approx([2.06e-4, 0.146279, 0.910948], rel=3e-3)
    assert weights[260] < 1
    assert (weights[261:] == 1).all()
    assert weights.mean().item() == pytest.approx(0.824, abs=1e-3)


def test_p2_values():
    weights = build("p2", gamma=1.0, k=1.0).weights
    assert weights[[100, 500]].tolist() == pytest.approx([0.0284243, 0.507715], rel=1e-5)
    assert weights.mean().item() == pytest.approx(0.504, abs=1e-3)


@pytest.mark.parametrize("name", ["p2", "min_snr"])
def test_weights_act_per_sample_and_only_on_the_error(name):
    """Not along the image's width, as in the released P2."""
    weighting = build(name, gamma=1.0)
    t = torch.tensor([10, 500, 900])
    mse, vb = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0])
    expected = (weighting.weights[t] * mse + vb).mean()
    assert torch.equal(weighting(mse, vb, t), expected)
    assert expected != weighting.weights[t].mean() * mse.mean() + vb.mean()


def uncertainty():
    return build("ant_uw", clusters=8, learning_rate=0.025)


def test_uncertainty_weighting_formula():
    """0.5 * sum_k (exp(-s_k) l_k / 8 + s_k) with l_k the mean over cluster k."""
    weighting = uncertainty()
    s = torch.linspace(-1, 1, 8)
    with torch.no_grad():
        weighting.log_variances.copy_(s)
    t = torch.arange(16) * 1000 // 16
    mse, vb = torch.rand(16), torch.rand(16)
    means = (mse + vb).view(8, 2).mean(1)
    expected = 0.5 * (torch.exp(-s) * means / 8 + s).sum()
    torch.testing.assert_close(weighting(mse, vb, t), expected)


def test_uncertainty_weighting_reaches_its_stationary_point():
    """s_k = ln(l_k / 8), where the model's weight is 0.5 / l_k per cluster."""
    weighting = uncertainty()
    means = torch.tensor([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0])
    t = torch.arange(8) * 125
    optimizer = torch.optim.AdamW(weighting.parameters(), lr=0.025, weight_decay=0.0)
    for _ in range(2000):
        optimizer.zero_grad()
        weighting(means, torch.zeros(8), t).backward()
        optimizer.step()
    torch.testing.assert_close(
        weighting.log_variances.detach(), (means / 8).log(), rtol=1e-3, atol=1e-3
    )


def test_uncertainty_weighting_stratifies_the_global_batch():
    t = uncertainty().rule.draw_timesteps(generator(0), 64, (0, 1000))
    assert (t // 125).tolist() == np.repeat(np.arange(8), 8).tolist()
    many = np.concatenate(
        [uncertainty().rule.draw_timesteps(generator(i), 64, (0, 1000)) for i in range(300)]
    )
    assert set(many.tolist()) == set(range(1000))


def test_uncertainty_loss_of_slices_averages_to_the_whole():
    """As on several devices, where each sees a slice of the stratified batch."""
    weighting = uncertainty()
    t = torch.arange(16) * 1000 // 16
    mse, vb = torch.rand(16), torch.rand(16)
    whole = weighting(mse, vb, t)
    parts = [weighting(mse[h], vb[h], t[h]) for h in (slice(0, 8), slice(8, 16))]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_vanilla_timesteps_cover_the_range():
    t = build("vanilla").rule.draw_timesteps(generator(0), 20000, (250, 500))
    assert (t.min(), t.max()) == (250, 499)
