"""Masks against the golden values of the paper's constants."""

import numpy as np
import pytest
import torch

from dtr.analysis.overlap import expected_overlap, measured_overlap
from dtr.backbones.masks import build_routing
from dtr.registry import settings_of
from dtr.routing import active_channels, dtr_masks, random_masks, window_starts
from dtr.support.errors import Refusal
from dtr.support.settings import PartSettings, parse


def routing_of(**settings) -> PartSettings:
    return parse(settings_of("routing"), settings, source="test")


SAMPLED = [0, 100, 239, 250, 500, 750, 900, 990, 998, 999]


@pytest.mark.parametrize(
    ("channels", "starts", "total"),
    [
        (768, [0, 0, 1, 1, 10, 49, 101, 149, 153, 154], 30833),
        (384, [0, 0, 0, 0, 5, 24, 51, 74, 77, 77], 15401),
        (1024, [0, 0, 1, 1, 13, 65, 135, 198, 204, 205], 41041),
        (1152, [0, 0, 1, 1, 14, 73, 152, 223, 230, 231], 46249),
    ],
)
def test_window_starts_golden(channels, starts, total):
    ours = window_starts(1000, channels, beta=0.8, alpha=4.0)
    assert ours[SAMPLED].tolist() == starts
    assert ours.sum() == total


@pytest.mark.parametrize(
    ("alpha", "total"), [(0.5, 102636), (1, 77000), (2, 51358), (3, 38534), (5, 25706)]
)
def test_window_starts_over_exponents(alpha, total):
    assert window_starts(1000, 768, beta=0.8, alpha=alpha).sum() == total


@pytest.mark.parametrize(
    ("channels", "active"), [(384, 307), (768, 614), (1024, 819), (1152, 921), (192, 153)]
)
def test_active_channels_truncates(channels, active):
    assert active_channels(channels, 0.8) == active
    masks = dtr_masks(1000, channels, beta=0.8, alpha=4.0)
    assert (masks.sum(1) == active).all()
    assert masks[0, :active].all()
    assert masks[-1, -active:].all()


def test_no_active_channel_is_refused():
    with pytest.raises(Refusal, match=r"beta = 0\.001: leaves none of 128 channels"):
        active_channels(128, 0.001)


def test_overlaps_of_the_window():
    masks = dtr_masks(1000, 768, beta=0.8, alpha=4.0)
    assert (masks[989] & masks[999]).sum() < 614
    wide = dtr_masks(1000, 1024, beta=0.8, alpha=4.0)
    assert (wide[0] & wide[999]).sum() == 614
    assert (wide[989] & wide[999]).sum() == 811
    assert wide.all(0).sum() == 614
    assert wide.any(0).all()
    assert len(np.unique(masks, axis=0)) == 155
    assert (masks[:239] == masks[0]).all()
    assert not np.array_equal(masks[239], masks[0])


@pytest.mark.parametrize(
    ("channels", "difference"), [(384, 77), (768, 154), (1024, 205), (1152, 231)]
)
def test_eq4_has_one_more_channel_where_the_window_moves(channels, difference):
    code = dtr_masks(1000, channels, beta=0.8, alpha=4.0)
    printed = dtr_masks(1000, channels, beta=0.8, alpha=4.0, variant="eq4")
    assert (code != printed).sum() == difference
    assert set(printed.sum(1).tolist()) == {code[0].sum().item(), code[0].sum().item() + 1}


def test_beta_one_is_all_channels():
    assert dtr_masks(1000, 768, beta=1.0, alpha=4.0).all()


def test_random_masks():
    masks = random_masks(3, 1000, 96, beta=0.8, seed=0)
    assert (masks.sum(-1) == 76).all()
    assert np.array_equal(masks, random_masks(3, 1000, 96, beta=0.8, seed=0))
    assert not np.array_equal(masks, random_masks(3, 1000, 96, beta=0.8, seed=1))
    assert not np.array_equal(masks[0], masks[1])
    # A layer's masks do not depend on how many layers there are.
    assert np.array_equal(masks[:2], random_masks(2, 1000, 96, beta=0.8, seed=0))


def test_random_masks_overlap_as_expected():
    """E|shared(t1, t2)| = C_beta^2 / C (Appendix B, Eq. 9): 490.88 for C = 768."""
    mean, spread = measured_overlap(random_masks(1, 400, 768, beta=0.8, seed=0))
    # 79,800 pairs of standard deviation 4.4; their mean is off by a few hundredths of a channel.
    assert mean == pytest.approx(expected_overlap(768, 0.8), abs=0.1)
    assert expected_overlap(768, 0.8) == pytest.approx(490.88, abs=0.005)
    assert spread == pytest.approx(4.44, abs=0.1)


def test_masks_are_looked_up_by_timestep():
    settings = routing_of(type="dtr", beta=0.8, alpha=4.0)
    routing = build_routing(settings, num_layers=3, num_timesteps=1000, num_channels=40)
    pairs = routing(torch.tensor([0, 999]))
    assert len(pairs) == 3
    active, complement = pairs[0]
    assert active.shape == (2, 1, 40)
    assert active[0, 0].tolist() == [1.0] * 32 + [0.0] * 8
    assert active[1, 0].tolist() == [0.0] * 8 + [1.0] * 32
    assert torch.equal(complement, 1 - active)
    assert routing.table.shape[0] == 1  # one shared table, not one per block


def test_no_routing_has_no_masks():
    none = routing_of(type="none")
    assert build_routing(none, num_layers=2, num_timesteps=1000, num_channels=8) is None


def build(**settings):
    return build_routing(routing_of(**settings), num_layers=2, num_timesteps=1000, num_channels=768)


def test_cdtr_starts():
    table = build(type="cdtr", beta=0.8, alpha=4.0, clusters=8).table
    assert table.shape == (1, 1000, 768)
    assert table[0].int().argmax(1)[::125].tolist() == [0, 0, 1, 5, 16, 40, 83, 154]
    assert (table[0].sum(1) == 614).all()
    for cluster in table[0].split(125):
        assert (cluster == cluster[0]).all()


def test_ercdt_shares_half_and_gives_each_cluster_a_segment():
    table = build(type="ercdt", clusters=8).table[0]
    assert (table.sum(1) == 432).all()
    assert table[:, :384].all()
    segments = table[::125, 384:]
    assert (segments.sum(0) == 1).all()  # every other channel belongs to exactly one cluster
    assert segments[3].nonzero().flatten().tolist() == list(range(144, 192))


def test_ercdt_of_a_width_that_does_not_divide():
    settings = routing_of(type="ercdt", clusters=8)
    table = build_routing(settings, num_layers=1, num_timesteps=1000, num_channels=90).table[0]
    assert (table[::125, 45:].sum(0) == 1).all()
    assert table[:, :45].all()


@pytest.fixture
def roaming():
    settings = routing_of(type="max_roaming", beta=0.8, period=3, seed=0)
    return build_routing(settings, num_layers=2, num_timesteps=50, num_channels=20)


def test_roaming_moves_one_channel_per_task(roaming):
    before = roaming.table.clone()
    roaming.rule.roam({n: b.numpy() for n, b in roaming.named_buffers()})
    switched_on, switched_off = roaming.table & ~before, before & ~roaming.table
    assert (switched_on.sum(-1) == 1).all()
    assert (switched_off.sum(-1) == 1).all()
    assert torch.equal(roaming.visited, before | switched_on)
    assert (roaming.table.sum(-1) == 16).all()


def test_roaming_ends_when_all_is_visited(roaming):
    for step in range(1, 100):
        roaming.after_step(step)
    assert roaming.progress() == {"roaming_updates": 4, "roaming_visited": 1.0}  # C - C_beta
    assert (roaming.table.sum(-1) == 16).all()


def test_roaming_keeps_its_period_and_continues_from_a_checkpoint(roaming):
    start = roaming.table.clone()
    roaming.after_step(2)
    assert torch.equal(roaming.table, start)
    roaming.after_step(3)
    settings = routing_of(type="max_roaming", beta=0.8, period=3, seed=0)
    resumed = build_routing(settings, num_layers=2, num_timesteps=50, num_channels=20)
    resumed.load_state_dict(roaming.state_dict())
    for masks in (roaming, resumed):
        masks.after_step(6)
    assert torch.equal(roaming.table, resumed.table)
    assert int(resumed.updates) == 2


def test_unknown_routing_lists_the_known_ones():
    with pytest.raises(Refusal, match="routing = 'magic': unknown; known: none, random, dtr"):
        build(type="magic")
