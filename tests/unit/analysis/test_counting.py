"""Multiply-adds and parameters: closed forms against counting, and a network worked out by hand."""

import pytest
import torch
from torch import nn

from dtr.analysis.counting import Network, count_network, run_through
from dtr.config.backbones import AdmSize, DiTSize, Inputs, TextDiTSize

LATENT = {"input_size": 8, "in_channels": 4, "num_classes": 1, "label_dropout": 0.0}
TEXT = LATENT | {"label_dropout": 0.1, "text_tokens": 5, "text_width": 24}
SIZE = {"patch_size": 2, "width": 32, "depth": 3, "heads": 4}
ADM = {
    "type": "adm", "model_channels": 8, "channel_mult": [1], "num_res_blocks": 1,
    "attention_downsampling": [], "num_head_channels": 8, "dropout": 0.0, "norm_groups": 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("size", "inputs"),
    [
        (DiTSize(type="dit", **SIZE), LATENT),
        (DiTSize(type="dit", **SIZE | {"patch_size": 4}), LATENT),
        (DiTSize(type="dit", **SIZE), LATENT | {"num_classes": 10, "label_dropout": 0.1}),
        (TextDiTSize(type="dit_text", **SIZE), TEXT),
        (TextDiTSize(type="dit_text", **SIZE, adaln_chunks=6), TEXT),
    ],
)
def test_the_closed_form_is_what_is_counted(size, inputs):
    assert count_network(size, Inputs(**inputs)) == run_through(size, Inputs(**inputs))


def test_one_block_by_hand():
    """n = 4 tokens of c = 8 channels from 2 x 2 patches of 4 x 4 x 1."""
    size = DiTSize(type="dit", patch_size=2, width=8, depth=1, heads=2)
    inputs = Inputs(input_size=4, in_channels=1, num_classes=1, label_dropout=0.0)
    attention = 3 * 4 * 64 + 2 * 16 * 8 + 4 * 64  # qkv, both products, projection
    block = attention + 2 * 4 * 8 * 32 + 6 * 64  # feed-forward, adaLN
    ends = 4 * 4 * 8 + (256 * 8 + 64) + 2 * 64 + 2 * 4 * 4 * 8
    assert count_network(size, inputs).macs == block + ends


def test_a_u_net_by_hand():
    """One level of 4 x 4 pixels, 8 channels: 1 + 2 + 2 residual blocks, attention between."""
    inputs = Inputs(input_size=4, in_channels=3, num_classes=1, label_dropout=0.0)
    pixels, c, embedding = 16, 8, 32
    emb = embedding * 2 * c
    plain = 2 * 9 * c * c * pixels + emb
    joined = (9 * 2 * c * c + 9 * c * c + 2 * c * c) * pixels + emb
    attention = 4 * c * c * pixels + 2 * pixels**2 * c
    ends = c * embedding + embedding**2 + 9 * 3 * c * pixels + 9 * c * 6 * pixels
    counted = count_network(AdmSize(**ADM), inputs)
    assert counted.macs == 3 * plain + 2 * joined + attention + ends


class Stubborn(nn.Module):
    """Reads a value, which the device without memory does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(4, 6, bias=False)

    def forward(self, x, t, y):
        return self.map(x) if float(x.sum()) == 0 else x


def test_a_network_that_reads_values_is_computed_on_the_cpu(monkeypatch):
    monkeypatch.setattr("dtr.backbones.build.build_backbone", lambda *_: Stubborn())
    inputs = Inputs(input_size=4, in_channels=1, num_classes=1, label_dropout=0.0)
    assert run_through(AdmSize(**ADM), inputs) == Network(macs=4 * 4 * 6, parameters=24)


def test_the_random_state_stays_as_it_is():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    run_through(DiTSize(type="dit", **SIZE), Inputs(**LATENT))
    assert torch.equal(torch.rand(3), expected)
