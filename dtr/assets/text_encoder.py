"""Captions as tokens: a small frozen encoder with the interface of CLIP's text encoder."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dtr.config.stages import TextEncoderSettings, WordsSettings
from dtr.registry import build
from dtr.seeding import generator
from dtr.support.errors import Refusal

# Every word that a caption of the scenes can have, sorted.
WORDS = (
    *("a", "above", "and", "at", "below", "blue", "bottom", "cyan", "eight", "five", "four"),
    *("green", "is", "left", "magenta", "nine", "of", "on", "one", "red", "right", "seven"),
    *("six", "the", "three", "top", "two", "yellow", "zero"),
)
START, END = "<start>", "<end>"
HEADS = 4
# Of the attention logits: at 1 random heads mix all words alike; at 3 they tell them apart.
SHARPNESS = 3.0


class TextEncoder(Protocol):
    """What a model needs of a text encoder; CLIP ViT-L/14 has 77 tokens of width 768.

    One that has `to(device)` is told where to compute; others do so on the CPU.
    """

    tokens: int
    width: int

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        """Encoded captions, padded: [n, tokens, width] float32; "" is a caption like others."""
        ...


def build_text_encoder(settings: TextEncoderSettings, device: str = "cpu") -> TextEncoder:
    """The encoder that `settings.type` names, on a device if it takes one."""
    encoder = build("text_encoder", settings.type, settings)
    if hasattr(encoder, "to"):
        encoder.to(device)
    return encoder


class WordEncoder:
    """Frozen encoder of a closed vocabulary: a random vector per word, then one random layer.

    Like CLIP it marks start and end, fills up with the end mark, which is not masked, and ends in
    a layer norm. The transformer layer is never trained, but lets every token depend on its
    context: a linear map then finds what is on the left or at the top in 95 % of scenes or
    more, without it in less than 60 %.
    """

    def __init__(self, settings: WordsSettings, vocabulary: Sequence[str] = WORDS) -> None:
        tokens, width, seed = settings.tokens, settings.width, settings.seed
        if width % HEADS:
            raise Refusal(f"text encoder: width = {width}: must be divisible by {HEADS} heads")
        self.tokens, self.width = tokens, width
        words = (START, END, *vocabulary)
        self._number = {word: number for number, word in enumerate(words)}
        # Drawn word by word, so that a word's vector does not depend on the others.
        self._vectors = np.stack([generator(seed, "word", w).standard_normal(width) for w in words])
        self._positions = _positions(tokens, width)
        sizes = {name: (width, width) for name in ("query", "key", "value", "out")}
        sizes |= {"first": (width, 4 * width), "second": (4 * width, width)}
        self._weights = {
            name: generator(seed, "text layer", name).standard_normal(size) / np.sqrt(size[0])
            for name, size in sizes.items()
        }

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        """Encoded captions: [n, tokens, width] float32, a function of seed and caption.

        Refuses a word outside the vocabulary and a caption of more than tokens - 2 words.
        """
        numbers = np.array([self._numbers(c) for c in captions], dtype=np.int64)
        x = self._vectors[numbers.reshape(-1, self.tokens)] + self._positions
        x = x + self._attention(_normalised(x))
        hidden = np.maximum(_normalised(x) @ self._weights["first"], 0)
        return _normalised(x + hidden @ self._weights["second"]).astype(np.float32)

    def _numbers(self, caption: str) -> list[int]:
        words = caption.split()
        if len(words) > self.tokens - 2:
            raise Refusal(
                f"caption {caption!r}: {len(words)} words, at most {self.tokens - 2} fit into "
                f"{self.tokens} tokens"
            )
        for word in words:
            if word not in self._number or word in (START, END):
                raise Refusal(
                    f"caption {caption!r}: {word!r} is none of the {len(self._number) - 2} words "
                    "that the text encoder knows"
                )
        padded = [START, *words, *[END] * (self.tokens - 1 - len(words))]
        return [self._number[word] for word in padded]

    def _attention(self, u: np.ndarray) -> np.ndarray:
        query, key, value = (self._heads(u @ self._weights[n]) for n in ("query", "key", "value"))
        logits = query @ key.swapaxes(-1, -2) * (SHARPNESS / np.sqrt(self.width // HEADS))
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ value
        return mixed.swapaxes(1, 2).reshape(u.shape) @ self._weights["out"]

    def _heads(self, u: np.ndarray) -> np.ndarray:
        """[n, tokens, width] -> [n, heads, tokens, width / heads]."""
        return u.reshape(len(u), self.tokens, HEADS, self.width // HEADS).swapaxes(1, 2)


def _normalised(x: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-6)


def _positions(tokens: int, width: int) -> np.ndarray:
    """Sinusoidal positions: [tokens, width], sines first."""
    frequencies = 10000.0 ** (-np.arange(width // 2) / (width // 2))
    angles = np.outer(np.arange(tokens), frequencies)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
