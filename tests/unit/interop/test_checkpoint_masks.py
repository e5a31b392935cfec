"""Masks of a released checkpoint, and the routing that they have to fit."""

import pytest
import torch

from dtr.routing import dtr_masks
from tests.unit.interop.conftest import (
    ROUTINGS,
    WIDTH,
    imported,
    network_of,
    refused,
    released,
    routed,
    settings_of,
    with_masks,
)


def test_dtr_masks_become_one_shared_table(tmp_path):
    state, settings, _ = released("dit_class_dtr")
    assert imported(state, settings, tmp_path).routing.table.shape == (1, 1000, WIDTH)


def test_masks_of_ones_are_no_routing(tmp_path):
    state, settings, _ = released("dit_class_none")
    model = imported(state | with_masks(torch.ones(2, 1000, WIDTH)), settings, tmp_path)
    assert model.routing is None


def test_ones_are_random_masks_of_all_channels(tmp_path):
    state, settings, _ = released("dit_class_none")
    settings = settings_of(network_of(settings), {"type": "random", "beta": 1.0, "seed": 0})
    model = imported(state | with_masks(torch.ones(2, 1000, WIDTH)), settings, tmp_path)
    assert model.routing.table.all()


def test_masks_that_do_not_fit_the_routing(tmp_path):
    state, settings, _ = released("dit_class_dtr")
    other = routed(settings, type="dtr", beta=0.8, alpha=2.0)
    ours = dtr_masks(1000, WIDTH, beta=0.8, alpha=2.0)
    differing = 2 * int((ours != dtr_masks(1000, WIDTH, beta=0.8, alpha=4.0)).sum())
    message = refused(state, other, tmp_path)
    assert f"{differing} of 96000 entries" in message
    assert "'dtr' with beta 0.8, alpha 2.0" in message
    assert "79.2% of the channels active" in refused(state, routed(settings, type="none"), tmp_path)
    random = ROUTINGS["random"]
    assert "all blocks have the same" in refused(state, routed(settings, **random), tmp_path)
    assert "19 of 48 channels" in refused(
        state, routed(settings, **random | {"beta": 0.4}), tmp_path
    )
    roaming = routed(settings, type="max_roaming", beta=0.8, period=5, seed=0)
    assert "cannot be imported" in refused(state, roaming, tmp_path)


def test_one_layer_with_other_masks_is_seen(tmp_path):
    state, settings, _ = released("dit_class_dtr")
    masks = state["blocks.1.routing._unit_mapping"].clone()
    masks[500] = 1.0
    state["blocks.1.routing._unit_mapping"] = masks
    assert "10 of 96000 entries" in refused(state, settings, tmp_path)  # 48 - int(0.8 * 48)


@pytest.mark.parametrize("routing", ["dtr", "random"])
def test_a_plain_dit_is_no_routed_one(routing, tmp_path):
    state, settings, _ = released("dit_class_none")
    message = refused(state, routed(settings, **ROUTINGS[routing]), tmp_path)
    assert f"holds no routing masks; they are needed for routing '{routing}'" in message


def test_masks_are_zeros_and_ones(tmp_path):
    state, settings, _ = released("dit_class_random")
    state["blocks.0.routing._unit_mapping"] = state["blocks.0.routing._unit_mapping"] * 0.5
    assert "other than 0 and 1" in refused(state, settings, tmp_path)
