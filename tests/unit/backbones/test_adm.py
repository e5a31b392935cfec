"""The U-Net: its size, where its masks are, and what a mask hides."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dtr.backbones.adm import ADM, WidthMasks
from dtr.backbones.adm_blocks import AttentionBlock, ResBlock
from dtr.backbones.build import build_backbone
from dtr.config.backbones import AdmSize, Inputs
from dtr.routing import Random, Unrouted, Windows, dtr_masks
from dtr.support.errors import Refusal
from dtr.support.settings import PartSettings, parse

NONE = Unrouted(type="none")
DTR = Windows(type="dtr", beta=0.8, alpha=4.0)
RANDOM = Random(type="random", beta=0.8, seed=0)
SMALL = {
    "type": "adm",
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_downsampling": [2],
    "num_head_channels": 8,
    "dropout": 0.1,
    "norm_groups": 8,
}
TOLD = {"input_size": 8, "in_channels": 3, "num_classes": 10, "label_dropout": 0.1}
IMAGENET_64 = SMALL | {
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "num_res_blocks": 3,
    "attention_downsampling": [2, 4, 8],
    "num_head_channels": 64,
    "norm_groups": 32,
}
IMAGENET_64_TOLD = TOLD | {"input_size": 64, "num_classes": 1000, "label_dropout": 0.0}


def unet(size: dict, told: dict, routing: PartSettings, changes: dict) -> ADM:
    """Each change goes to the size or to the inputs, whichever has a setting of its name."""
    own = {name: value for name, value in changes.items() if name not in TOLD}
    given = {name: value for name, value in changes.items() if name in TOLD}
    return build_backbone(AdmSize(**(size | own)), Inputs(**(told | given)), routing)


def build(routing: PartSettings = NONE, **changes) -> ADM:
    torch.manual_seed(0)
    return unet(SMALL, TOLD, routing, changes).eval()


def randomised(model):
    """Last convolutions start at zero; give every parameter a value so that all paths count."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs(count: int = 3):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(count, 3, 8, 8, generator=generator)
    return x, torch.tensor([0, 500, 999][:count]), torch.tensor([1, 10, 3][:count])


def on_meta(routing: PartSettings = NONE, **changes) -> ADM:
    with torch.device("meta"):
        return unet(IMAGENET_64, IMAGENET_64_TOLD, routing, changes)


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


def test_masked_places_and_widths_of_the_papers_size():
    model = on_meta(DTR)
    blocks = [module for module in model.modules() if isinstance(module, ResBlock)]
    resampled = [block for block in blocks if not isinstance(block.resample, torch.nn.Identity)]
    attention = [module for module in model.modules() if isinstance(module, AttentionBlock)]
    assert (len(blocks), len(resampled), len(attention)) == (36, 6, 22)
    assert len(model.routing.widths) == 36 + 22
    norms = [block.in_layers[0] for block in blocks] + [block.norm for block in attention]
    assert sorted(norm.place for norm in norms) == list(range(58))
    assert all(model.routing.widths[norm.place] == norm.num_channels for norm in norms)
    assert [block.out_layers[0].place for block in blocks] == [None] * 36
    assert (model.input_blocks[0][0].weight.shape[0], model.out[0].place) == (192, None)
    widths = [192, 384, 576, 768, 960, 1152, 1344, 1536]
    assert sorted(set(model.routing.widths)) == widths
    assert list(model.routing.tables) == [str(width) for width in widths]


def test_places_of_the_alternatives():
    both = on_meta(DTR, mask_place="both_norms")
    assert len(both.routing.widths) == 2 * 36 + 22
    plain = on_meta(DTR, mask_place="plain_blocks_only")
    assert len(plain.routing.widths) == 36 + 22 - 16
    joined = [stage[0] for stage in plain.output_blocks]
    assert all(block.in_layers[0].place is None for block in joined)
    assert max(plain.routing.widths) == 768


def test_alternatives_differ():
    places = ("first_norms", "both_norms", "plain_blocks_only")
    outputs = [randomised(build(DTR, mask_place=place))(*inputs()) for place in places]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (outputs[first] - outputs[second]).abs().max() > 1e-2


def test_one_table_per_width_is_shared_by_dtr_and_not_by_random():
    widths = [16, 32, 16]
    t = torch.tensor([0, 700, 999])
    shared = WidthMasks(DTR, widths, num_timesteps=1000)
    masks = shared(t)
    assert [mask.shape for mask in masks] == [(3, width, 1, 1) for width in widths]
    assert torch.equal(masks[0], masks[2])
    for mask, width in zip(masks, widths, strict=True):
        expected = torch.from_numpy(dtr_masks(1000, width, beta=0.8, alpha=4.0))[t].float()
        assert torch.equal(mask[:, :, 0, 0], expected)
    independent = WidthMasks(RANDOM, widths, num_timesteps=1000)
    first, wide, second = (mask[:, :, 0, 0] for mask in independent(t))
    assert not torch.equal(first, second)
    assert first.sum(1).tolist() == second.sum(1).tolist() == [12, 12, 12]
    assert wide.sum(1).tolist() == [25, 25, 25]


def test_random_masks_of_different_widths_have_their_own_draws():
    masks = WidthMasks(RANDOM, [16, 32], num_timesteps=1000)
    narrow, wide = (masks.tables[width].table[0] for width in ("16", "32"))
    # From one stream, row t of the wide table would come from rows 2t and 2t+1 of the narrow one.
    agreement = (wide[:500, :16] == narrow[::2]).float().mean().item()
    assert abs(agreement - (0.75 * 25 / 32 + 0.25 * 7 / 32)) < 0.03


def test_the_output_follows_the_tables_in_the_state_and_the_hash_the_settings():
    model, other = randomised(build(RANDOM)), build(RANDOM.model_copy(update={"seed": 7}))
    before = other.routing.hash()
    assert model.routing.hash() == build(RANDOM).routing.hash() != before
    other.load_state_dict(model.state_dict())
    # It identifies a run by its masks before the first step, whatever was restored since.
    assert other.routing.hash() == before
    assert torch.equal(other(*inputs()), model(*inputs()))


def block_and_inputs(out_channels: int = 16, resample: str = "same"):
    torch.manual_seed(3)
    block = ResBlock(16, out_channels, 24, groups=8, dropout=0.1, resample=resample)
    block.in_layers[0].place = 0
    mask = torch.ones(2, 16, 1, 1)
    mask[0, :4] = mask[1, 12:] = 0  # whole groups of two channels
    return randomised(block).eval(), torch.randn(2, 16, 8, 8), torch.randn(2, 24), mask


@pytest.mark.parametrize("out_channels", [16, 24])
@pytest.mark.parametrize("resample", ["same", "down", "up"])
def test_a_masked_channel_of_a_residual_block_reaches_the_skip_path_only(out_channels, resample):
    block, x, emb, mask = block_and_inputs(out_channels, resample)

    def branch(image):
        return block(image, emb, [mask]) - block.skip_connection(block.resample(image))

    # Groups are masked whole here, because the statistics of a group see its masked channels.
    hidden = x + (1 - mask) * torch.randn_like(x)
    torch.testing.assert_close(branch(hidden), branch(x), rtol=1e-4, atol=1e-5)
    assert (block(hidden, emb, [mask]) - block(x, emb, [mask])).abs().max() > 1e-2
    read = x + mask * torch.randn_like(x)
    assert (branch(read) - branch(x)).abs().max() > 1e-2


def test_a_masked_channel_of_an_attention_block_reaches_the_skip_path_only():
    _, x, emb, mask = block_and_inputs()
    block = randomised(AttentionBlock(16, groups=8, head_channels=8))
    block.norm.place = 0
    hidden = x + (1 - mask) * torch.randn_like(x)
    branch, changed = block(x, emb, [mask]) - x, block(hidden, emb, [mask]) - hidden
    torch.testing.assert_close(changed, branch, rtol=1e-4, atol=1e-5)
    assert (block(x, emb, None) - x - branch).abs().max() > 1e-3


def test_statistics_do_not_see_the_mask():
    block, x, _, mask = block_and_inputs()
    norm = block.in_layers[0]
    mask[0, 5] = 0
    assert torch.equal(norm(x, [mask]), norm(x) * mask)
    assert norm.eps == 1e-5


def test_norms_count_in_float32(monkeypatch):
    block, x, _, mask = block_and_inputs()
    seen, original = [], F.group_norm

    def watched(x, *rest):
        seen.append(x.dtype)
        return original(x, *rest)

    monkeypatch.setattr(F, "group_norm", watched)
    assert block.in_layers[0](x.bfloat16(), [mask]).dtype == torch.bfloat16
    assert seen == [torch.float32]


def test_masks_follow_each_samples_own_timestep():
    model = randomised(build(DTR))
    x, t, y = inputs()
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x, t, y), alone, rtol=1e-4, atol=1e-5)


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


def released_attention(block: AttentionBlock, x: torch.Tensor, *, legacy: bool) -> torch.Tensor:
    """ADM's attention from its formulas: both q and k are scaled by head_channels^-1/4."""
    batch, channels, height, width = x.shape
    length, per_head = height * width, channels // block.heads
    qkv = block.qkv(block.norm(x).flatten(2))
    if legacy:
        cut = qkv.reshape(batch * block.heads, 3 * per_head, length).split(per_head, dim=1)
    else:
        cut = [part.reshape(batch * block.heads, per_head, length) for part in qkv.chunk(3, dim=1)]
    q, k, v = cut
    weight = torch.einsum("bct,bcs->bts", q * per_head**-0.25, k * per_head**-0.25).softmax(-1)
    mixed = torch.einsum("bts,bcs->bct", weight, v).reshape(batch, channels, length)
    return x + block.proj_out(mixed).view_as(x)


def attention_of(order: str) -> AttentionBlock:
    return randomised(AttentionBlock(24, groups=8, head_channels=8, order=order))


@pytest.mark.parametrize(("order", "legacy"), [("qkv_first", False), ("heads_first", True)])
@torch.inference_mode()
def test_attention_in_both_orders_of_the_release(order, legacy):
    block, x = attention_of(order), torch.randn(2, 24, 4, 4)
    expected = released_attention(block, x, legacy=legacy)
    torch.testing.assert_close(block(x, None, None), expected, rtol=1e-5, atol=1e-6)
    other = released_attention(block, x, legacy=not legacy)
    assert (other - expected).abs().max() > 1e-3


@torch.inference_mode()
def test_permuted_weights_of_one_attention_order_are_those_of_the_other():
    first, second = attention_of("qkv_first"), attention_of("heads_first")
    x = torch.randn(2, 24, 4, 4)
    rows = torch.arange(3 * 24).view(3, first.heads, -1).transpose(0, 1).flatten()
    for parameter in (second.qkv.weight, second.qkv.bias):
        parameter.copy_(parameter[rows].clone())
    torch.testing.assert_close(second(x, None, None), first(x, None, None), rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_the_attention_order_is_a_setting_of_the_network():
    first, second = (
        randomised(build(attention_order=order)) for order in ("qkv_first", "heads_first")
    )
    assert (first(*inputs()) - second(*inputs())).abs().max() > 1e-3
    with pytest.raises(Refusal, match="attention_order"):
        parse(AdmSize, SMALL | {"attention_order": "legacy"}, source="settings")


def test_fingerprints_of_networks_older_than_the_attention_order_stay():
    assert "attention_order" not in AdmSize(**SMALL).plain()
    told = AdmSize(**SMALL, attention_order="heads_first")
    assert AdmSize(**told.plain()) == told
