"""The transformer told by a caption: sizes, identities, what a mask hides, what the text does."""

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from dtr.backbones.dit_text import CrossAttention, DiTText, TextBlock
from dtr.config.backbones import Inputs, TextDiTSize
from dtr.routing import Random, Unrouted, Windows
from dtr.support.errors import Refusal
from dtr.support.settings import PartSettings, parse

NONE = Unrouted(type="none")
DTR = Windows(type="dtr", beta=0.8, alpha=4.0)
RANDOM = Random(type="random", beta=0.8, seed=0)
CHUNKS = (9, 6)
SMALL = {"type": "dit_text", "patch_size": 2, "width": 48, "depth": 2, "heads": 4}
TOLD = Inputs(
    input_size=8, in_channels=4, num_classes=1, label_dropout=0.1, text_tokens=5, text_width=20
)


def build(routing: PartSettings = NONE, **changes) -> DiTText:
    torch.manual_seed(0)
    model = DiTText(TextDiTSize(**(SMALL | changes)), TOLD, routing, num_timesteps=1000)
    model.null_tokens.copy_(torch.linspace(-1, 1, 100).view(5, 20))
    return model.eval()


def randomised(model):
    """Gates and output start at zero; give every parameter a value so that all paths count."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def inputs():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 4, 8, 8, generator=generator)
    return x, torch.tensor([0, 500, 999]), torch.randn(3, 5, 20, generator=generator)


@pytest.mark.parametrize(("chunks", "trainable"), [(9, 179_156_768), (6, 157_895_456)])
def test_parameters_of_the_paper_size(chunks, trainable):
    size = {"width": 768, "depth": 12, "heads": 12, "adaln_chunks": chunks}
    settings = TextDiTSize(**SMALL | size)
    told = TOLD.model_copy(update={"input_size": 32, "text_tokens": 77, "text_width": 768})
    counts = []
    for routing in (NONE, DTR):
        with torch.device("meta"):
            model = DiTText(settings, told, routing, num_timesteps=1000)
        counts.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    assert counts == [trainable, trainable]


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("routing", [NONE, DTR, RANDOM], ids=lambda r: r.type)
def test_output_is_zero_and_blocks_are_the_identity_at_initialisation(routing, chunks):
    model = build(routing, adaln_chunks=chunks)
    output = model(*inputs())
    assert output.shape == (3, 8, 8, 8)
    assert output.abs().max() == 0
    z, c = torch.randn(2, 16, 48), torch.randn(2, 48)
    assert torch.equal(model.blocks[0](z, c, torch.randn(2, 5, 20), None), z)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_every_parameter_is_reached_by_the_gradient(chunks):
    model = randomised(build(adaln_chunks=chunks))
    model(*inputs()).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    assert silent == []


def test_training_leaves_the_zero_start_of_plain_cross_attention():
    model = build(adaln_chunks=6)
    torch.nn.init.normal_(model.final_layer.linear.weight)
    model(*inputs()).square().sum().backward()
    assert model.blocks[0].cross_attn.proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("chunks", CHUNKS)
def test_beta_one_is_no_routing_bit_for_bit(chunks):
    all_channels = Windows(type="dtr", beta=1.0, alpha=4.0)
    full = randomised(build(all_channels, adaln_chunks=chunks))
    assert torch.equal(full(*inputs()), randomised(build(adaln_chunks=chunks))(*inputs()))


def test_routing_changes_the_output_but_no_parameter():
    plain, routed = randomised(build()), randomised(build(DTR))
    assert not torch.allclose(plain(*inputs()), routed(*inputs()))
    assert [name for name, _ in plain.named_parameters()] == [
        name for name, _ in routed.named_parameters()
    ]


def block_and_inputs(chunks: int):
    torch.manual_seed(3)
    block = randomised(TextBlock(48, 20, 4, adaln_chunks=chunks))
    z, c, text = torch.randn(2, 16, 48), torch.randn(2, 48), torch.randn(2, 5, 20)
    mask = (torch.rand(2, 1, 48) < 0.8).float()
    return block, z, c, text, mask


def branches(block: TextBlock, c, text):
    """SA, CA and FFN of a block, spelled out from its modules."""
    parts = list(block.adaLN_modulation(c)[:, None].chunk(block.adaln_chunks, dim=-1))
    if block.adaln_chunks == 6:
        nothing = torch.zeros_like(parts[0])
        parts[3:3] = [nothing, nothing, nothing + 1]

    def branch(layer, first):
        shift, scale, gate = parts[first : first + 3]
        return lambda u: gate * layer(F.layer_norm(u, (48,), eps=1e-6) * (1 + scale) + shift)

    return (
        branch(block.attn, 0),
        branch(lambda u: block.cross_attn(u, text), 3),
        branch(block.mlp, 6),
    )


@pytest.mark.parametrize("chunks", CHUNKS)
def test_equation_3_equals_equation_8(chunks):
    """z + Block(m z) with Block(u) = SA(u) + CA(u + SA(u)) + FFN(u + SA(u) + CA(u + SA(u)))."""
    block, z, c, text, mask = block_and_inputs(chunks)
    attention, cross, feed_forward = branches(block, c, text)
    u = z * mask
    first = attention(u)
    second = cross(u + first)
    third = feed_forward(u + first + second)
    ours = block(z, c, text, (mask, 1 - mask))
    torch.testing.assert_close(ours, z + first + second + third, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_a_masked_channel_is_not_read_but_is_written(chunks):
    block, z, c, text, mask = block_and_inputs(chunks)
    masks = (mask, 1 - mask)
    branch = block(z, c, text, masks) - z
    changed = z + (1 - mask) * torch.randn_like(z)
    difference = block(changed, c, text, masks) - changed
    torch.testing.assert_close(difference, branch, rtol=1e-4, atol=1e-5)
    assert (branch * (1 - mask)).abs().max() > 1e-3
    read = z + mask * torch.randn_like(z)
    assert not torch.allclose(block(read, c, text, masks) - read, branch, rtol=1e-2, atol=1e-2)


def test_cross_attention_is_the_softmax_over_text_tokens():
    torch.manual_seed(4)
    layer = CrossAttention(48, 20, 4)
    u, text = torch.randn(2, 16, 48), torch.randn(2, 5, 20)
    key, value = layer.kv(text).split(48, dim=-1)
    heads = []
    for part in (slice(12 * head, 12 * head + 12) for head in range(4)):
        logits = layer.q(u)[..., part] @ key[..., part].transpose(1, 2) / 12**0.5
        heads.append(logits.softmax(-1) @ value[..., part])
    torch.testing.assert_close(layer(u, text), layer.proj(torch.cat(heads, -1)))


def test_each_sample_follows_its_own_caption_and_timestep():
    model = randomised(build(DTR))
    x, t, y = inputs()
    together = model(x, t, y)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    other = model(x, t, torch.cat([y[:1] + 1, y[1:]]))
    assert not torch.allclose(other[0], together[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(other[1:], together[1:], rtol=1e-5, atol=1e-6)


def test_the_null_condition_is_the_empty_caption_and_travels_with_the_weights():
    model = randomised(build(DTR))
    y = inputs()[2]
    assert torch.equal(model.null_condition(y), model.null_tokens.repeat(3, 1, 1))
    fresh = DiTText(TextDiTSize(**SMALL), TOLD, DTR, num_timesteps=1000).eval()
    assert fresh.null_condition(y).isnan().all()
    fresh.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(fresh.null_tokens, model.null_tokens)
    assert torch.equal(fresh(*inputs()), model(*inputs()))
    assert "null_tokens" not in dict(model.named_parameters())


def test_other_numbers_of_chunks_are_refused():
    with pytest.raises(Refusal, match=r"adaln_chunks = 7"):
        parse(TextDiTSize, SMALL | {"adaln_chunks": 7}, source="backbone")
