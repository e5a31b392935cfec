"""The two orders in which releases of ADM store their attention."""

import pytest
import torch

from dtr.backbones.adm_blocks import AttentionBlock
from dtr.config.backbones import AdmSize
from dtr.support.errors import Refusal
from dtr.support.settings import parse
from tests.unit.backbones.conftest import (
    SMALL,
    build,
    inputs,
    randomised,
)


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
