"""The transformer and its routed block: identities, sizes, and what a mask hides."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dtr.analysis.complexity import PRESETS, matmul_macs, paper_gflops, parameter_count
from dtr.backbones.build import build_backbone
from dtr.backbones.dit import Block
from dtr.config.backbones import DiTSize, Inputs
from dtr.routing import Unrouted, Windows
from dtr.support.settings import PartSettings

NONE = Unrouted(type="none")
DTR = Windows(type="dtr", beta=0.8, alpha=4.0)


SMALL = DiTSize(type="dit", patch_size=2, width=48, depth=2, heads=4)


def told(**changes) -> Inputs:
    small = {"input_size": 8, "in_channels": 4, "num_classes": 10, "label_dropout": 0.1}
    return Inputs(**(small | changes))


def build(routing: PartSettings = NONE, **changes):
    torch.manual_seed(0)
    return build_backbone(SMALL, told(**changes), routing).eval()


def randomised(model):
    """Gates and output start at zero; give every parameter a value so that all paths count."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(count: int = 3):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 4, 8, 8, generator=generator)
    return x, torch.tensor([0, 500, 999][:count]), torch.tensor([1, 10, 3][:count])


@pytest.mark.parametrize("routing", [NONE, DTR], ids=lambda r: r.type)
def test_output_is_zero_at_initialisation(routing):
    output = build(routing)(*inputs())
    assert output.shape == (3, 8, 8, 8)
    assert output.abs().max() == 0


def test_beta_one_is_no_routing_bit_for_bit():
    full = randomised(build(Windows(type="dtr", beta=1.0, alpha=4.0)))
    assert torch.equal(full(*inputs()), randomised(build())(*inputs()))


def test_routing_changes_the_output_but_no_parameter():
    plain, routed = randomised(build()), randomised(build(DTR))
    assert not torch.allclose(plain(*inputs()), routed(*inputs()))
    assert [name for name, _ in plain.named_parameters()] == [
        name for name, _ in routed.named_parameters()
    ]


def block_and_inputs():
    torch.manual_seed(3)
    block = randomised(Block(48, 4))
    z, c = torch.randn(2, 16, 48), torch.randn(2, 48)
    mask = (torch.rand(2, 1, 48) < 0.8).float()
    return block, z, c, mask


def test_equation_3_equals_equation_8():
    """z + Block(m z) with Block(u) = MSA(u) + FFN(u + MSA(u)) (Eqs. 3 and 6)."""
    block, z, c, mask = block_and_inputs()
    branch = block(z * mask, c, None) - z * mask
    torch.testing.assert_close(block(z, c, (mask, 1 - mask)), z + branch, rtol=1e-5, atol=1e-5)


def test_a_masked_channel_is_not_read_but_is_written():
    block, z, c, mask = block_and_inputs()
    masks = (mask, 1 - mask)
    branch = block(z, c, masks) - z
    changed = z + (1 - mask) * torch.randn_like(z)
    torch.testing.assert_close(block(changed, c, masks) - changed, branch, rtol=1e-4, atol=1e-5)
    hidden = (branch * (1 - mask)).abs()
    assert hidden.max() > 1e-3
    read = z + mask * torch.randn_like(z)
    assert not torch.allclose(block(read, c, masks) - read, branch, rtol=1e-2, atol=1e-2)


def test_masks_follow_each_samples_own_timestep():
    model = randomised(build(DTR))
    x, t, y = inputs()
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x, t, y), alone, rtol=1e-5, atol=1e-6)


def test_unconditional_model_has_one_row_and_no_null_label():
    model = build(num_classes=1, label_dropout=0.0)
    assert model.y_embedder.embedding_table.weight.shape[0] == 1
    assert model.null_label is None
    assert build().y_embedder.embedding_table.weight.shape[0] == 11
    assert build().null_label == 10


def test_patches_are_put_back_where_they_came_from():
    model = build()
    tokens = torch.arange(16 * 4 * 8).view(1, 16, 32).float()
    image = model._unpatchify(tokens)
    # Token (row 1, column 2) covers rows 2-3, columns 4-5; its vector is (p_row, p_col, channel).
    assert torch.equal(image[0, :, 2, 4], tokens[0, 6, :8])
    assert torch.equal(image[0, :, 3, 5], tokens[0, 6, 24:])


def on_meta(preset: str, *, num_classes: int = 1000, routing: PartSettings = NONE):
    size = PRESETS[preset]
    chosen = DiTSize(type="dit", patch_size=2, width=size.width, depth=size.depth, heads=size.heads)
    dropout = 0.1 if num_classes > 1 else 0.0
    given = told(input_size=32, num_classes=num_classes, label_dropout=dropout)
    with torch.device("meta"):
        return build_backbone(chosen, given, routing).to("meta")


PARAMETERS = {  # class-conditional total and trainable, unconditional total and trainable
    "DiT-S/2": (32_963_360, 32_865_056, 32_579_360, 32_481_056),
    "DiT-B/2": (130_512_416, 130_315_808, 129_744_416, 129_547_808),
    "DiT-L/2": (458_102_816, 457_840_672, 457_078_816, 456_816_672),
    "DiT-XL/2": (675_129_632, 674_834_720, 673_977_632, 673_682_720),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_counts(preset):
    counted, formula = [], []
    for num_classes in (1000, 1):
        model = on_meta(preset, num_classes=num_classes)
        for trainable in (False, True):
            counted.append(
                sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
            )
            formula.append(parameter_count(preset, num_classes=num_classes, trainable=trainable))
    assert tuple(counted) == PARAMETERS[preset]
    assert tuple(formula) == PARAMETERS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_multiply_adds_are_counted_not_assumed(preset, monkeypatch):
    def spelled_out(q, k, v):  # the counter does not see fused attention
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v

    monkeypatch.setattr(F, "scaled_dot_product_attention", spelled_out)
    model = on_meta(preset)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model(
            torch.empty(1, 4, 32, 32),
            torch.empty(1, dtype=torch.long),
            torch.empty(1, dtype=torch.long),
        )
    assert counter.get_total_flops() == 2 * matmul_macs(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_printed_gflops(preset):
    size = PRESETS[preset]
    assert round(paper_gflops(preset, routed=False), 2) == size.printed_gflops
    if size.printed_gflops_dtr is not None:
        assert round(paper_gflops(preset, routed=True), 2) == size.printed_gflops_dtr
