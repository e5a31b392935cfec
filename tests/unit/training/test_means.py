"""How a training is carried out: what changes no number, and what is recorded or refused."""

import pytest
import torch

from dtr.data.latents import LatentDataset
from dtr.support.errors import Refusal
from dtr.training.distributed import World
from dtr.training.means import Means, prepare
from dtr.training.trainer import Trainer
from tests.unit.training.conftest import assert_same_state, run_to, settings

ADM = {
    "type": "adm", "model_channels": 8, "channel_mult": [1], "num_res_blocks": 1,
    "attention_downsampling": [1], "num_head_channels": 8, "dropout": 0.2, "norm_groups": 4,
}  # fmt: skip


def adm() -> object:
    return settings(backbone=ADM, training__learning_rate=1e-3)


@pytest.mark.parametrize("chosen", [settings, adm])
def test_activations_computed_again_are_the_same(latents, tmp_path, chosen):
    runs = [
        run_to(8, latents, tmp_path / again, chosen(), means=Means("device", recompute=again))
        for again in ("nothing", "blocks")
    ]
    assert_same_state(*(trainer for trainer, *_ in runs))


def test_dropout_of_generators_cannot_be_drawn_again(latents, tmp_path):
    with pytest.raises(Refusal, match=r"execution\.recompute = blocks: dropout drawn on the host"):
        run_to(1, latents, tmp_path, adm(), means=Means(recompute="blocks"))


def test_dropout_from_keys_does_not_depend_on_portions(latents, tmp_path):
    whole, parts = (
        run_to(8, latents, tmp_path / str(count), adm(), means=Means("device"), accumulation=count)
        for count in (1, 4)
    )
    for name, tensor in whole[0].ema.items():
        torch.testing.assert_close(parts[0].ema[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_each_block_is_compiled_by_itself(latents, tmp_path, monkeypatch):
    given = []

    def compiler(function, **options):
        given.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compiler)
    plain, *_ = run_to(8, latents, tmp_path / "plain")
    assert not given
    compiled, *_ = run_to(8, latents, tmp_path / "compiled", means=Means(compile="blocks"))
    assert given == [{"dynamic": False}] * 2
    assert_same_state(plain, compiled)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_reduced_precision_learns_and_resumes_exactly(latents, tmp_path, precision):
    chosen = settings(training__precision=precision)
    whole, *_ = run_to(30, latents, tmp_path / "whole", chosen)
    run_to(13, latents, tmp_path / "parts", chosen)
    resumed, *_ = run_to(30, latents, tmp_path / "parts", chosen)
    assert_same_state(whole, resumed)
    assert whole.scaler.state_dict() == resumed.scaler.state_dict()
    assert whole.scaler.is_enabled() == (precision == "float16")
    plain, *_ = run_to(30, latents, tmp_path / "plain")
    assert whole.fingerprint != plain.fingerprint
    assert {tensor.dtype for tensor in whole.ema.values()} == {torch.float32}
    assert not torch.equal(
        whole.ema["blocks.0.mlp.fc1.weight"], plain.ema["blocks.0.mlp.fc1.weight"]
    )


def test_a_step_with_gradients_that_overflow_is_skipped(latents):
    trainer = Trainer(
        settings(training__precision="float16"), LatentDataset.open(latents), World()
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": 2.0**120})
    trainer.train_step()
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    assert trainer.scaler.get_scale() < 2.0**120
    assert trainer.finite()


def test_a_fixed_order_switches_the_fast_kernels_off(monkeypatch):
    switched = []
    for kernel in ("flash", "mem_efficient", "cudnn"):
        monkeypatch.setattr(
            torch.backends.cuda,
            f"enable_{kernel}_sdp",
            lambda on, name=kernel: switched.append((name, on)),
        )
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on, **_: switched.append(on))
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    prepare(torch.nn.Linear(1, 1), Means(), "host")
    assert not switched
    prepare(torch.nn.Linear(1, 1), Means(attention="ordered"), "host")
    assert switched == [True, ("flash", False), ("mem_efficient", False), ("cudnn", False)]
