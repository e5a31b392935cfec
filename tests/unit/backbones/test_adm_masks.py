"""Where ADM's masks are, and what a mask hides."""

import pytest
import torch

from dtr.backbones.adm import WidthMasks
from dtr.backbones.adm_blocks import AttentionBlock, ResBlock
from dtr.routing import dtr_masks
from tests.unit.backbones.conftest import (
    DTR,
    RANDOM,
    block_and_inputs,
    build,
    inputs,
    on_meta,
    randomised,
)


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


def test_masks_follow_each_samples_own_timestep():
    model = randomised(build(DTR))
    x, t, y = inputs()
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(model(x, t, y), alone, rtol=1e-4, atol=1e-5)
