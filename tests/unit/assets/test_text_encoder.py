"""The frozen encoder: shape, determinism, what makes two captions differ, and what it refuses."""

import itertools

import numpy as np
import pytest

from dtr.assets.text_encoder import END, WordEncoder, build_text_encoder
from dtr.config.stages import WordsSettings
from dtr.data.sources.scenes import INVERSE, NUMBERS, PALETTE, Scene, paraphrases, vocabulary
from dtr.support.errors import Refusal

CAPTIONS = paraphrases(Scene("red", 3, "left of", "blue", 7))


def encoder(*, seed: int = 0, tokens: int = 16, width: int = 64, words=None) -> WordEncoder:
    settings = WordsSettings(type="words", tokens=tokens, width=width, seed=seed)
    return WordEncoder(settings, words or vocabulary())


def test_captions_become_normalised_tokens():
    encoded = encoder().encode(CAPTIONS)
    assert encoded.shape == (5, 16, 64) and encoded.dtype == np.float32
    np.testing.assert_allclose(encoded.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.std(axis=-1), 1, atol=1e-4)


def test_no_caption_and_no_captions():
    empty = encoder().encode([""])
    assert empty.shape == (1, 16, 64) and np.isfinite(empty).all()
    assert not np.allclose(empty, encoder().encode(["a"]))
    assert encoder().encode([]).shape == (0, 16, 64)


def test_tokens_depend_on_caption_and_seed_alone():
    together = encoder().encode(CAPTIONS)
    for caption, tokens in zip(CAPTIONS, together, strict=True):
        np.testing.assert_array_equal(encoder().encode([caption])[0], tokens)
    assert not np.allclose(encoder(seed=1).encode(CAPTIONS), together)


def test_a_larger_vocabulary_does_not_change_known_words():
    larger = encoder(words=("anything", *vocabulary()))
    np.testing.assert_array_equal(larger.encode(CAPTIONS), encoder().encode(CAPTIONS))


def test_every_caption_has_tokens_of_its_own():
    scenes = itertools.product(["red", "blue"], [1, 8], INVERSE, ["red", "green"], [1, 8])
    captions = sorted({caption for scene in scenes for caption in paraphrases(Scene(*scene))})
    encoded = encoder().encode(captions).reshape(len(captions), -1)
    squares = np.square(encoded).sum(axis=1)
    distances = squares[:, None] + squares - 2 * encoded @ encoded.T
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 1


def test_word_order_and_context_matter():
    one, other = encoder().encode(["red left of blue", "blue left of red"])
    assert not np.allclose(one, other, atol=0.1)
    # The same word at the same place: its token tells what the rest of the caption is.
    above, below = encoder().encode(["a red one above a red one", "a red one below a red one"])
    assert np.abs(above[2] - below[2]).max() > 0.1


def test_the_arrangement_can_be_read_linearly():
    """What stands on the left or at the top, from paraphrases that name it first or second."""
    draws = np.random.default_rng(0)
    captions, first = [], []
    for _ in range(6000):
        colours, digits = draws.choice(list(PALETTE), 2).tolist(), draws.integers(10, size=2)
        scene = Scene(colours[0], digits[0], draws.choice(list(INVERSE)), colours[1], digits[1])
        captions.append(paraphrases(scene)[draws.integers(5)])
        leading = scene.relation in ("left of", "above")
        first.append(list(PALETTE).index(colours[0] if leading else colours[1]))
    x = encoder().encode(captions).reshape(len(captions), -1)
    train, test = slice(0, 5000), slice(5000, None)
    y = np.eye(len(PALETTE))[first]
    gram = x[train].T @ x[train] + 10 * np.eye(x.shape[1])
    guesses = (x[test] @ np.linalg.solve(gram, x[train].T @ y[train])).argmax(axis=1)
    assert np.mean(guesses == np.array(first)[test]) > 0.8  # 1 / 6 by chance


@pytest.mark.parametrize("caption", ["an orange three", f"a {END}", "Red"])
def test_unknown_words_are_refused_by_name(caption):
    with pytest.raises(Refusal, match=r"is none of the \d+ words that the text encoder") as refused:
        encoder().encode(["a", caption])
    assert repr(caption) in str(refused.value) and "\n" not in str(refused.value)


def test_captions_that_are_too_long_are_refused():
    fits = " ".join(["red"] * 14)
    assert encoder().encode([fits]).shape == (1, 16, 64)
    with pytest.raises(Refusal, match="15 words, at most 14 fit into 16 tokens"):
        encoder().encode([f"{fits} red"])


def test_all_captions_of_scenes_fit():
    longest = max(
        len(c.split()) for r in INVERSE for c in paraphrases(Scene("red", 0, r, "red", 1))
    )
    assert longest + 2 <= 16
    assert set(PALETTE) | set(NUMBERS) < set(vocabulary())


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(Refusal, match="width = 30"):
        encoder(width=30)


def test_an_encoder_that_takes_a_device_is_told_the_one_of_the_job(monkeypatch):
    """Not the GPU that happens to be there: another job may have it."""
    told = []

    class Moving:
        def to(self, device):
            told.append(device)

    settings = WordsSettings(type="words", tokens=16, width=64, seed=0)
    assert isinstance(build_text_encoder(settings, "cuda"), WordEncoder)  # it computes with NumPy
    monkeypatch.setattr("dtr.assets.text_encoder.build", lambda *_: Moving())
    build_text_encoder(settings)
    build_text_encoder(settings, "cuda")
    assert told == ["cpu", "cuda"]
