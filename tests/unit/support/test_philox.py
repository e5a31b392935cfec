"""Philox4x32-10: the published words, and values of them that do not depend on any cutting."""

import pytest
import torch

from dtr.seeding import stream_words
from dtr.support.philox import KNOWN, _known_answers, kept, normal, philox4x32


def streams(count: int) -> torch.Tensor:
    return torch.tensor([stream_words(0, "test", index) for index in range(count)])


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_published_words(counter, key, expected):
    found = philox4x32(*(tuple(torch.tensor(word) for word in words) for words in (counter, key)))
    assert tuple(int(word) for word in found) == expected


def test_what_a_compiled_kernel_is_asked_holds_the_published_words():
    *_, answers = _known_answers("cpu")
    for place, (_, _, expected) in enumerate(KNOWN):
        assert answers[:, place, place].tolist() == list(expected)


def test_normal_values_are_normal():
    values = normal(streams(4), torch.arange(4), (4, 64, 64)).double()
    assert values.shape == (4, 4, 64, 64) and values.isfinite().all()
    flat = values.flatten(1)
    assert flat.mean(dim=1).abs().max() < 5 / 128
    assert (flat.var(dim=1) - 1).abs().max() < 0.06
    assert (flat**4).mean().item() == pytest.approx(3, abs=0.15)
    assert torch.corrcoef(flat).fill_diagonal_(0).abs().max() < 0.05
    # The two of a pair of one word's radius, and neighbours in a row.
    for step in (1, 2, 3):
        assert (flat[:, step:] * flat[:, :-step]).mean().abs() < 0.03


def test_neither_the_batch_nor_the_size_changes_a_value():
    keys, numbers = streams(1).expand(6, 4), torch.arange(6)
    whole = normal(keys, numbers, (3, 5, 5))
    for start in (0, 2, 4):
        part = slice(start, start + 2)
        assert torch.equal(normal(keys[part], numbers[part], (3, 5, 5)), whole[part])
    longer = normal(keys, numbers, (3, 5, 7)).flatten(1)
    assert torch.equal(longer[:, :75], whole.flatten(1))
    other = normal(keys, numbers + 6, (3, 5, 5))
    assert not torch.isclose(other, whole).all(dim=(1, 2, 3)).any()


def test_one_number_serves_all_streams():
    own = normal(streams(3), torch.tensor([5]), (8,))
    assert torch.equal(own, normal(streams(3), torch.tensor([5, 5, 5]), (8,)))


@pytest.mark.parametrize("dropped", [0.1, 0.5])
def test_factors_of_dropout(dropped):
    factors = kept(streams(2), torch.arange(2), (32, 33, 31), dropped=dropped)
    zero = (factors == 0).float().mean().item()
    assert zero == pytest.approx(dropped, abs=0.01)
    share = 1 - round(dropped * 65536) / 65536
    assert factors.unique().tolist() == pytest.approx([0, 1 / share])
    assert factors.mean().item() == pytest.approx(1, abs=0.02)


def test_no_dropout_keeps_everything():
    assert kept(streams(1), torch.arange(1), (9,), dropped=0.0).tolist() == [[1.0] * 9]
