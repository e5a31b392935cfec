"""Scenes: captions say what the picture shows, and a scene is a function of seed and number."""

import numpy as np
import pytest

from dtr.data.sources.mnist import mnist_digits, stratified_split
from dtr.data.sources.scenes import NUMBERS, PALETTE, Scene, digit_scenes, paraphrases, vocabulary
from dtr.support.errors import Refusal

COUNT, TESTS, SEED = 60, 20, 0


@pytest.fixture(scope="module")
def scenes():
    return digit_scenes(32, COUNT, SEED, num_test=TESTS)


def understood(caption: str) -> dict[str, tuple[str, int]]:
    """What a reader takes from a caption: {place: (colour, digit)}, places as in "left"."""
    words = caption.split()
    things = [i for i, word in enumerate(words) if word in PALETTE]
    named = [(words[i], NUMBERS.index(words[i + 1])) for i in things]
    places = [word for word in words if word in ("left", "right", "top", "bottom")]
    places += [{"above": "top", "below": "bottom"}[w] for w in words if w in ("above", "below")]
    if len(places) == 1:
        opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
        places.append(opposite[places[0]])
    assert len(named) == len(places) == 2
    return dict(zip(places, named, strict=True))


HALVES = {
    "left": np.s_[:, :16],
    "right": np.s_[:, 16:],
    "top": np.s_[:16],
    "bottom": np.s_[16:],
}


def test_the_five_captions_of_a_scene_differ_in_words_and_agree_in_meaning(scenes):
    _, captions, table = scenes
    for own, (_, row) in zip(captions, table.iterrows(), strict=True):
        assert len(own) == 5
        meanings = [understood(caption) for caption in own]
        assert all(meaning == meanings[0] for meaning in meanings)
        subject, other = (
            (row[f"{role}_colour"], row[f"{role}_digit"]) for role in ("subject", "object")
        )
        places = {
            "left of": ("left", "right"),
            "right of": ("right", "left"),
            "above": ("top", "bottom"),
            "below": ("bottom", "top"),
        }
        assert meanings[0] == dict(zip(places[row["relation"]], (subject, other), strict=True))
        different = subject != other
        assert len(set(own)) == 5 if different else len(set(own)) >= 4


def test_the_picture_shows_the_named_colours_and_digits_where_the_caption_says(scenes):
    images, captions, table = scenes
    digits, labels = mnist_digits(28)
    sources = table[["subject_source", "object_source"]].to_numpy()
    assert np.array_equal(labels[sources], table[["subject_digit", "object_digit"]].to_numpy())
    for image, own, numbers in zip(images, captions, sources, strict=True):
        strengths = []
        for place, (colour, digit) in understood(own[0]).items():
            half = image[HALVES[place]].reshape(-1, 3).astype(float)
            ink = half.sum(axis=0)
            tint = np.array(PALETTE[colour])
            assert np.allclose(ink / ink.max(), tint / tint.max(), atol=0.03)
            strengths.append((half.max(axis=1).sum() / tint.max(), digit))
        # The digit of each half is recognised by the amount of its ink, whatever its place.
        amounts = {(n, labels[n]): digits[n, 2:26, 2:26, 0].sum() / 255 for n in numbers}
        for strength, digit in strengths:
            shares = [strength / a * (24 / 16) ** 2 for (_, k), a in amounts.items() if k == digit]
            assert any(0.9 < share < 1.1 for share in shares)


def test_digits_stay_upright_and_are_not_mirrored(scenes):
    """A half of the canvas, enlarged, is closer to its source than to the source's mirror."""
    images, _, table = scenes
    digits = mnist_digits(28)[0][..., 0].astype(float)
    nearer = []
    for image, (_, row) in zip(images, table.iterrows(), strict=True):
        grey = image.max(axis=2).astype(float)
        across = row["relation"] in ("left of", "right of")
        canvas = grey[8:24] if across else grey[:, 8:24]
        place = slice(0, 16) if row["relation"] in ("left of", "above") else slice(16, 32)
        small = canvas[:, place] if across else canvas[place]
        source = digits[row["subject_source"], 2:26, 2:26]
        blocks = np.kron(small / small.max(), np.ones((3, 3)))
        source = np.kron(source / 255, np.ones((2, 2)))
        distance = [np.abs(blocks - view).sum() for view in (source, source[:, ::-1], source[::-1])]
        nearer.append(np.argmin(distance) == 0)
    assert np.mean(nearer) == 1.0


def test_a_scene_depends_on_seed_and_number_alone(scenes):
    images, captions, table = scenes
    again = digit_scenes(32, 45, SEED, num_test=5)
    assert np.array_equal(again[0][:40], images[:40])
    assert again[1][:40] == captions[:40]
    assert again[2][:40].equals(table[:40])
    assert not np.array_equal(digit_scenes(32, COUNT, SEED + 1, num_test=TESTS)[0], images)


def test_test_scenes_share_no_digit_with_training_scenes(scenes):
    """Digits of test scenes are those that the test split of the digits themselves has."""
    _, _, table = scenes
    assert table["split"].tolist() == ["train"] * (COUNT - TESTS) + ["test"] * TESTS
    held_out = stratified_split(mnist_digits(28)[1], 500) == "test"
    for role in ("subject", "object"):
        assert np.array_equal(held_out[table[f"{role}_source"]], table["split"] == "test")
    assert (table["subject_source"] != table["object_source"]).all()


def test_all_colours_digits_and_relations_occur():
    _, captions, table = digit_scenes(32, 400, 0, num_test=100)
    assert set(table["subject_colour"]) == set(table["object_colour"]) == set(PALETTE)
    assert set(table["subject_digit"]) == set(table["object_digit"]) == set(range(10))
    assert table["relation"].nunique() == 4
    words = {word for own in captions for caption in own for word in caption.split()}
    assert words == set(vocabulary())


def test_the_example_of_the_specification():
    captions = paraphrases(Scene("red", 3, "left of", "blue", 7))
    assert captions[0] == "a red three left of a blue seven"
    assert captions[1] == "a blue seven right of a red three"


@pytest.mark.parametrize("resolution", [30, 33])
def test_unsuitable_resolutions_are_refused(resolution):
    with pytest.raises(Refusal, match=f"resolution = {resolution}: .* at least 32"):
        digit_scenes(resolution, 10, 0, num_test=2)


@pytest.mark.parametrize("num_test", [0, 10])
def test_an_empty_split_is_refused(num_test):
    with pytest.raises(Refusal, match=f"num_test = {num_test}"):
        digit_scenes(32, 10, 0, num_test=num_test)


def test_larger_canvases_hold_larger_digits():
    images, _, _ = digit_scenes(64, 3, 0, num_test=1)
    assert images.shape == (3, 64, 64, 3) and images.dtype == np.uint8
