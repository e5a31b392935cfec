"""Captions of images: reading and checking, one per visit in training, prompts for evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.files import read_json


class Captioned(NamedTuple):
    """What a caption file says of an image."""

    number: int  # its id
    captions: list[str]


def read_captions(path: str | Path) -> dict[str, Captioned]:
    """Number and captions of every image of a COCO annotation file, by file name.

    Captions are in the order of their ids, without ids in the file's order. Refused in one line:
    another format, a caption of an image that the file does not list, an image without a caption,
    two images of one id or name.
    """
    content = read_json(path)
    try:
        images = [(image["id"], image["file_name"]) for image in content["images"]]
        entries = [
            (entry.get("id", 0), entry["image_id"], entry["caption"])
            for entry in content["annotations"]
        ]
        names, entries = dict(images), sorted(entries, key=lambda entry: entry[0])
    except (KeyError, TypeError, AttributeError):
        raise Refusal(
            f"{path}: not a COCO caption file: it needs `images` with `id` and `file_name`, and "
            "`annotations` with `image_id` and `caption`"
        ) from None
    if len({*names.values()}) < len(images):
        raise Refusal(f"{path}: two images have the same `id` or `file_name`")
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    for _, image, caption in entries:
        if image not in names:
            raise Refusal(f"{path}: a caption belongs to image {image!r}, which is not in `images`")
        captions[names[image]].append(caption)
    checked = check_captions(list(captions.values()), list(captions), source=path)
    return {
        name: Captioned(number, own)
        for (number, name), own in zip(names.items(), checked, strict=True)
    }


def check_captions(
    captions: Sequence[Sequence[str]], images: Sequence[str], *, source: str | Path
) -> list[list[str]]:
    """The captions with single spaces; refused are images without one and captions of no word.

    images: their names, for the message.  source: where the captions come from.
    """
    if len(captions) != len(images):
        raise Refusal(f"{source}: captions of {len(captions)} images, expected {len(images)}")
    checked = []
    for image, own in zip(images, captions, strict=True):
        if len(own) == 0:
            raise Refusal(f"{source}: image {image} has no caption, at least one is needed")
        for caption in own:
            if not isinstance(caption, str) or not caption.strip():
                raise Refusal(f"{source}: image {image} has the caption {caption!r}, which is none")
        checked.append([" ".join(caption.split()) for caption in own])
    return checked


def flatten(captions: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """All captions in one list, and where each image's begin: (list, [n + 1] int64).

    Image i has the captions first[i] to first[i + 1] - 1.
    """
    first = np.cumsum([0, *map(len, captions)], dtype=np.int64)
    return [caption for own in captions for caption in own], first


def draw_captions(first: np.ndarray, rows: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """One caption for each visited image, uniform among its own: positions [B] int64.

    first: [n + 1] as `flatten` gives it; rows: [B] int64 images.
    """
    return first[rows] + draws.integers(first[rows + 1] - first[rows])


def evaluation_prompts(
    captions: Sequence[Sequence[str]], count: int, *, seed: int
) -> list[tuple[int, int]]:
    """The images and caption numbers that prompt `count` samples: [(image, number), ...].

    One caption of every image in a seeded order, then a second one of as many as needed, and so
    on; no caption comes twice. Prompt i depends on neither `count` nor the sampling.
    """
    available = sum(map(len, captions))
    if count > available:
        raise Refusal(f"n_samples = {count}: the test images have only {available} captions")
    numbers = [
        generator(seed, "prompt", image).permutation(len(own)) for image, own in enumerate(captions)
    ]
    prompts: list[tuple[int, int]] = []
    turn = 0
    while len(prompts) < count:
        order = generator(seed, "prompt order", turn).permutation(len(captions)).tolist()
        prompts += [(i, int(numbers[i][turn])) for i in order if turn < len(captions[i])]
        turn += 1
    return prompts[:count]
