"""Ours against outputs of the released code: 1e-4 relative in float32, masks exactly."""

import re

import pytest
import torch

from dtr.config.stages import DiffusionSettings
from dtr.diffusion import Diffusion
from dtr.gpucheck.parity import read_fixture, released_dit
from dtr.registry import settings_of
from dtr.routing import dtr_masks
from dtr.sampling.ddpm import guided_output
from dtr.support.settings import parse
from dtr.training.core import TrainedWeighting
from dtr.weighting import build_weighting


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize(
    "name", ["dit_class_none", "dit_class_dtr", "dit_class_random", "dit_uncond_dtr"]
)
@torch.inference_mode()
def test_dit_output(name):
    model, tensors, _ = released_dit(name)
    assert_close(model(tensors["x"], tensors["t"], tensors["y"]), tensors["out"])


@pytest.mark.parametrize("name", ["dit_class_none", "dit_class_dtr", "dit_class_random"])
@torch.inference_mode()
def test_guided_output(name):
    model, tensors, metadata = released_dit(name)
    half = len(tensors["x"]) // 2
    ours = guided_output(
        model,
        tensors["x"][:half],
        tensors["t"][:half],
        tensors["y"][:half],
        guidance=float(metadata["cfg_scale"]),
        channels="all",
    )
    assert_close(ours, tensors["cfg_out"])


def test_forward_process_and_losses():
    tensors, metadata = read_fixture("diffusion")
    diffusion = Diffusion.from_settings(DiffusionSettings(schedule=metadata["schedule"]))
    x0, t, noise = tensors["x0"], tensors["t"], tensors["noise"]
    x_t = diffusion.add_noise(x0, t, noise)
    assert_close(x_t, tensors["x_t"])
    mse, vb = diffusion.loss_terms(tensors["model_out"], x0, x_t, t, noise)
    assert_close(mse, tensors["constant.mse"])
    # The bound spans many orders of magnitude: each sample is compared by itself.
    torch.testing.assert_close(vb, tensors["constant.vb"], rtol=1e-4, atol=1e-6)
    assert_close(mse + vb, tensors["constant.loss"])


def weighting(name: str, **constants):
    snr = Diffusion.from_settings(DiffusionSettings()).snr()
    settings = parse(settings_of("weighting"), {"type": name} | constants, source="test")
    return TrainedWeighting(build_weighting(settings, snr))


def test_min_snr_loss():
    """The release stores the weighted error as `mse`; ours weighs the plain one."""
    tensors, _ = read_fixture("diffusion")
    ours = weighting("min_snr", gamma=5.0)
    terms = (tensors["constant.mse"], tensors["constant.vb"], tensors["t"])
    per_sample = torch.stack(
        [ours(*sample) for sample in zip(*(x.split(1) for x in terms), strict=True)]
    )
    torch.testing.assert_close(per_sample, tensors["min_snr_5.loss"], rtol=1e-4, atol=1e-6)


def test_uncertainty_weighting_loss():
    tensors, _ = read_fixture("diffusion")
    ours = weighting("ant_uw", clusters=8, learning_rate=0.025)
    with torch.no_grad():
        ours.log_variances.copy_(tensors["uw.s"])
    loss = ours(tensors["uw.mse"], tensors["uw.vb"], tensors["t"])
    assert_close(loss.detach(), tensors["uw.loss"][0])


@pytest.mark.parametrize("steps", [10, 50, 250])
def test_respaced_reverse_step(steps):
    tensors, _ = read_fixture("diffusion")
    chain = Diffusion.from_settings(DiffusionSettings()).respaced(steps)
    assert chain.timesteps.tolist() == tensors[f"respaced{steps}.timesteps"].tolist()
    ours = chain.reverse_step(
        tensors["model_out"], tensors["x0"], tensors[f"respaced{steps}.index"]
    )
    assert_close(ours.mean, tensors[f"respaced{steps}.mean"])
    assert_close(ours.log_variance, tensors[f"respaced{steps}.log_variance"])
    assert_close(ours.x0, tensors[f"respaced{steps}.pred_x0"])


def test_dtr_masks():
    tensors, _ = read_fixture("dtr_masks")
    assert len(tensors) == 10
    for key, expected in tensors.items():
        what, channels, beta, alpha = re.fullmatch(
            r"(start|width)\.C(\d+)\.beta([\d.]+)\.alpha([\d.]+)", key
        ).groups()
        masks = dtr_masks(1000, int(channels), beta=float(beta), alpha=float(alpha))
        masks = torch.from_numpy(masks).int()
        ours = masks.argmax(dim=1) if what == "start" else masks.sum(dim=1)
        assert torch.equal(ours.int(), expected), key
