"""The U-Net: its size, its contract, and sizes that cannot be built."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dtr.config.backbones import AdmSize
from dtr.support.errors import Refusal
from dtr.support.settings import parse
from tests.unit.backbones.conftest import (
    DTR,
    NONE,
    RANDOM,
    SMALL,
    block_and_inputs,
    build,
    inputs,
    on_meta,
    randomised,
)


@pytest.mark.parametrize("routing", [NONE, DTR, RANDOM], ids=lambda r: r.type)
def test_output_is_zero_at_initialisation(routing):
    output = build(routing)(*inputs())
    assert output.shape == (3, 6, 8, 8)
    assert output.abs().max() == 0


@pytest.mark.parametrize("routing", [DTR, RANDOM], ids=lambda r: r.type)
def test_beta_one_is_no_routing_bit_for_bit(routing):
    full = randomised(build(routing.model_copy(update={"beta": 1.0})))
    assert torch.equal(full(*inputs()), randomised(build())(*inputs()))


def test_routing_changes_the_output_but_no_parameter():
    plain, routed = randomised(build()), randomised(build(DTR))
    assert (plain(*inputs()) - routed(*inputs())).abs().max() > 1e-2
    assert [name for name, _ in plain.named_parameters()] == [
        name for name, _ in routed.named_parameters()
    ]
    added = routed.state_dict().keys() - plain.state_dict().keys()
    assert added
    assert all(name.startswith("routing.") for name in added)


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 295_904_454),
        ({"label_dropout": 0.1}, 295_904_454 + 4 * 192),
        ({"num_classes": 1}, 295_136_454),
    ],
    ids=["1000 classes", "with null row", "unconditional"],
)
def test_parameter_counts(changes, parameters):
    assert sum(p.numel() for p in on_meta(**changes).parameters()) == parameters


def test_multiply_adds_are_counted_not_assumed(monkeypatch):
    def spelled_out(q, k, v):  # the counter does not see fused attention
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v

    monkeypatch.setattr(F, "scaled_dot_product_attention", spelled_out)
    model = on_meta()
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        label = torch.empty(1, dtype=torch.long)
        model(torch.empty(1, 3, 64, 64), label, label)
    assert round(counter.get_total_flops() / 2e9, 2) == 109.68


def test_norms_count_in_float32(monkeypatch):
    block, x, _, mask = block_and_inputs()
    seen, original = [], F.group_norm

    def watched(x, *rest):
        seen.append(x.dtype)
        return original(x, *rest)

    monkeypatch.setattr(F, "group_norm", watched)
    assert block.in_layers[0](x.bfloat16(), [mask]).dtype == torch.bfloat16
    assert seen == [torch.float32]


def test_works_under_autocast():
    model = randomised(build(DTR))
    with torch.autocast("cpu", torch.bfloat16):
        reduced = model(*inputs())
    exact = model(*inputs())
    assert (reduced - exact).abs().max() < 0.05 * exact.abs().max()


def test_labels():
    unconditional = randomised(build(num_classes=1, label_dropout=0.0))
    assert (unconditional.label_emb, unconditional.null_label) == (None, None)
    x, t, y = inputs()
    assert torch.equal(unconditional(x, t, y), unconditional(x, t, 0 * y))
    without_null = build(label_dropout=0.0)
    assert (len(without_null.label_emb.weight), without_null.null_label) == (10, None)
    model = randomised(build())
    assert (len(model.label_emb.weight), model.null_label, model.num_classes) == (11, 10, 10)
    assert not torch.allclose(model(x, t, y), model(x, t, 0 * y))


def test_dropout_acts_in_training_only():
    model = randomised(build(dropout=0.5))
    assert torch.equal(model(*inputs()), model(*inputs()))
    model.train()
    assert not torch.equal(model(*inputs()), model(*inputs()))


def test_every_parameter_learns():
    model = randomised(build(DTR, label_dropout=0.0))
    x, t, _ = inputs()
    model(x, t, torch.tensor([0, 1, 2])).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"norm_groups": 32}, "width 16 must be divisible by norm_groups"),
        ({"num_head_channels": 12}, "width 32 must be divisible by num_head_channels"),
        (
            {"attention_downsampling": [4]},
            r"attention_downsampling 4 is no level; levels: \[1, 2\]",
        ),
        ({"model_channels": 15, "norm_groups": 1}, "model_channels 15 must be even"),
        ({"mask_place": "second_norm"}, "mask_place"),
    ],
)
def test_a_size_that_cannot_be_built_is_refused(changes, line):
    with pytest.raises(Refusal, match=line):
        parse(AdmSize, SMALL | changes, source="settings")


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(Refusal, match="backbone 'adm': input_size 9 must be divisible by 2"):
        build(input_size=9)
