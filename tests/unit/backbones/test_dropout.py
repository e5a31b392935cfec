"""Dropout by image: its share, its scale, and that neighbours in the batch do not matter."""

import pytest
import torch

from dtr.backbones.dropout import ImageDropout


def streams(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def dropped(*seeds: int, layers: int = 1) -> list[torch.Tensor]:
    """Ones after each of several layers that share their streams."""
    shared = streams(*seeds)
    made = []
    for _ in range(layers):
        layer = ImageDropout(0.3)
        layer.streams = shared
        made.append(layer(torch.ones(len(seeds), 8, 32, 32)))
    return made


def test_share_and_scale():
    (values,) = dropped(1, 2)
    assert values.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (values == 0).float().mean() == pytest.approx(0.3, abs=0.02)


def test_an_image_keeps_its_masks_in_any_company():
    together, alone = dropped(1, 2, 3, layers=2), dropped(2, layers=2)
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[1], one[0])


def test_images_and_layers_differ():
    first, second = dropped(1, 2, layers=2)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], second[0])


def test_nothing_is_dropped_outside_training():
    layer = ImageDropout(0.3).eval()
    layer.streams = streams(1)
    assert torch.equal(layer(torch.ones(1, 100)), torch.ones(1, 100))


def test_a_batch_without_its_streams_is_an_error():
    layer = ImageDropout(0.3)
    layer.streams = streams(1, 2)
    with pytest.raises(ValueError, match="shorter"):
        layer(torch.ones(3, 4))
