"""Dropout by image: its share, its scale, and that neighbours in the batch do not matter."""

import pytest
import torch

from dtr.backbones.dropout import ImageDropout, ImageStreams, dropouts_of
from dtr.seeding import stream_words


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


def keyed(numbers: list[int]) -> list[torch.Tensor]:
    """Ones after two layers that draw from keys."""
    network = torch.nn.Sequential(ImageDropout(0.3), ImageDropout(0.3))
    keys = torch.tensor([stream_words(0, "dropout")]).expand(len(numbers), 4)
    layers = dropouts_of(network)
    for layer in layers:
        layer.streams = ImageStreams(keys, torch.tensor(numbers))
    return [layer(torch.ones(len(numbers), 8, 32, 32)) for layer in layers]


def test_from_keys_an_image_keeps_its_masks_and_layers_differ():
    together, alone = keyed([0, 1, 2]), keyed([1])
    for many, one in zip(together, alone, strict=True):
        assert torch.equal(many[1], one[0])
        assert (many == 0).float().mean() == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(together[0][0], together[0][1])


def test_nothing_is_dropped_outside_training():
    layer = ImageDropout(0.3).eval()
    layer.streams = streams(1)
    assert torch.equal(layer(torch.ones(1, 100)), torch.ones(1, 100))


def test_a_batch_without_its_streams_is_an_error():
    layer = ImageDropout(0.3)
    layer.streams = streams(1, 2)
    with pytest.raises(ValueError, match="shorter"):
        layer(torch.ones(3, 4))
