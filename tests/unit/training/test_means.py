"""How a training is carried out: what changes no number, and what is recorded or refused."""

import copy

import pytest
import torch

from dtr.backbones.build import build_backbone
from dtr.data.latents import LatentDataset
from dtr.records.workdir import read_log
from dtr.support.errors import Refusal
from dtr.training import means
from dtr.training.distributed import World
from dtr.training.means import GRAPHS, Means, prepare
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


def test_cuda_graphs_are_compiled_into_and_told_of_each_step(latents, tmp_path, monkeypatch):
    given, begun = [], []
    monkeypatch.setattr(torch, "compile", lambda function, **how: given.append(how) or function)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))
    monkeypatch.setattr(means, "_check_graphs", lambda *_: None)
    plain, *_ = run_to(8, latents, tmp_path / "plain")
    assert not begun
    graphs, *_ = run_to(8, latents, tmp_path / "graphs", means=Means(compile=GRAPHS))
    assert given == [{"dynamic": False, "mode": "reduce-overhead"}] * 2 and len(begun) == 8
    assert_same_state(plain, graphs)


@pytest.mark.parametrize(
    ("device", "changes", "accumulation", "says"),
    [
        ("cpu", {}, 1, "cpu has no CUDA graphs; accepted: nothing, blocks"),
        ("cuda", {"recompute": "blocks"}, 1, "accepted with execution.recompute = nothing"),
        ("cuda", {}, 2, "accumulation = 2; accepted: 1"),
    ],
)
def test_graphs_that_would_spoil_each_other_are_refused(device, changes, accumulation, says):
    chosen = Means(compile=GRAPHS, **changes)
    with pytest.raises(Refusal, match=f"^execution.compile = {GRAPHS}: {says}"):
        prepare(torch.nn.Linear(1, 1), chosen, "host", device=device, accumulation=accumulation)


def test_channels_last_learns_the_same_and_stores_the_same(latents, tmp_path):
    """An ADM whose images lie otherwise: losses and weights agree, files do not show it."""
    formats = ("contiguous", "channels_last")
    plain, last = (
        run_to(20, latents, tmp_path / name, adm(), means=Means(memory_format=name))
        for name in formats
    )
    losses = [
        [entry["loss"] for entry in read_log(folder, until=20)] for _, folder, _ in (plain, last)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    state = last[0].state()
    stored = (*state["model"].values(), *state["ema"].values())
    assert all(tensor.is_contiguous() for tensor in stored)
    moments = [own["exp_avg"] for own in state["optimizer"]["state"].values()]
    assert moments and all(tensor.is_contiguous() for tensor in moments)
    assert plain[0].fingerprint == last[0].fingerprint
    run_to(21, latents, tmp_path / "channels_last", adm())  # goes on without it


def test_gradients_of_channels_last_are_the_same():
    """Compared here and not after training: Adam makes whole steps out of mere rounding."""
    chosen = adm()
    plain = build_backbone(chosen.backbone, chosen.inputs, chosen.routing).eval()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    last = copy.deepcopy(plain)
    prepare(last, Means(memory_format="channels_last"), "host")
    x, t, y = torch.randn(3, 4, 4, 4), torch.tensor([1, 500, 999]), torch.arange(3)
    outputs = [network(x, t, y) for network in (plain, last)]
    assert outputs[0].is_contiguous() and not outputs[1].is_contiguous()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    for output in outputs:
        output.square().mean().backward()
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        assert other.is_contiguous() and other.grad.is_contiguous()
        scale = one.grad.abs().max() + 1e-6
        torch.testing.assert_close(other.grad / scale, one.grad / scale, rtol=0, atol=1e-4)


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
