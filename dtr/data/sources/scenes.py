"""Scenes for the text-conditional slot: two tinted real digits on one canvas, with captions.

Scene i is a function of (seed, i). Test scenes are composed of digits that no training scene has.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np

from dtr.config.stages import SourceSettings
from dtr.data.sources.mnist import DIGIT_SIDE, mnist_digits, stratified_split
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.settings import Count

if TYPE_CHECKING:
    import pandas as pd

PALETTE = {
    "red": (255, 64, 64),
    "green": (64, 224, 64),
    "blue": (80, 112, 255),
    "yellow": (255, 232, 64),
    "magenta": (240, 80, 240),
    "cyan": (64, 224, 240),
}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PLACE = {  # of the subject
    "left of": "on the left",
    "right of": "on the right",
    "above": "at the top",
    "below": "at the bottom",
}
MARGIN = 2  # empty pixels of a 28-pixel digit that are cut off before it is shrunk
HELD_OUT = 500  # digits of which only test scenes are composed
SMALLEST = 32  # canvas pixels; digits of fewer than 16 are hard to read


class ScenesSettings(SourceSettings):
    """Pictures of two tinted digits with five captions each, composed of the same digits."""

    captions_per_image: ClassVar[int] = 5

    type: Literal["scenes"]
    mirror: Literal[False]  # captions say left and right
    count: Count
    seed: int


class Scene(NamedTuple):
    """What a picture shows: the subject stands `relation` ("left of", ...) the object."""

    subject_colour: str
    subject_digit: int
    relation: str
    object_colour: str
    object_digit: int


def scenes(settings: ScenesSettings) -> tuple[np.ndarray, "pd.DataFrame"]:
    """Images uint8 [count, R, R, 3] and their index with path, label, captions and split.

    The label is the digit that is read first, from the left or from the top.
    """
    import pandas as pd

    images, captions, table = digit_scenes(
        settings.resolution, settings.count, settings.seed, num_test=settings.num_test
    )
    subject_first = table["relation"].isin(["left of", "above"])
    index = {
        "path": [f"scene#{i}" for i in range(len(images))],
        "label": table["subject_digit"].where(subject_first, table["object_digit"]),
        "captions": captions,
        "split": table["split"],
    }
    return images, pd.DataFrame(index)


def digit_scenes(
    resolution: int, count: int, seed: int, *, num_test: int
) -> tuple[np.ndarray, list[list[str]], "pd.DataFrame"]:
    """Scenes of two digits side by side or one above the other, never mirrored.

    count: scenes in all, of which the last `num_test` form the test split.
    Returns images uint8 [count, R, R, 3], five captions of each, and a table with the fields of
    `Scene`, `subject_source` and `object_source` (numbers of the digits' images) and `split`.
    """
    import pandas as pd

    if resolution < SMALLEST or resolution % 2:
        raise Refusal(f"resolution = {resolution}: scenes need an even one of at least {SMALLEST}")
    if not 0 < num_test < count:
        raise Refusal(f"num_test = {num_test}: must be above 0 and below count ({count})")
    digits, labels = mnist_digits(DIGIT_SIDE)
    small = _shrunk(digits[..., 0], resolution // 2)
    held_out = stratified_split(labels, HELD_OUT) == "test"
    pools = {"train": np.flatnonzero(~held_out), "test": np.flatnonzero(held_out)}
    images, captions, rows = [], [], []
    for number in range(count):
        split = "train" if number < count - num_test else "test"
        draws = generator(seed, "scene", number)
        sources = draws.choice(pools[split], size=2, replace=False)
        colours = [str(colour) for colour in draws.choice(list(PALETTE), size=2)]
        relation = str(draws.choice(list(INVERSE)))
        subject, other = labels[sources].tolist()
        scene = Scene(colours[0], subject, relation, colours[1], other)
        images.append(_drawn(scene, *small[sources]))
        captions.append(paraphrases(scene))
        rows.append((*scene, *sources.tolist(), split))
    columns = (*Scene._fields, "subject_source", "object_source", "split")
    return np.stack(images), captions, pd.DataFrame(rows, columns=columns)


def paraphrases(scene: Scene) -> list[str]:
    """Five captions of a scene; some name the subject first, some the object."""
    subject = f"{scene.subject_colour} {NUMBERS[scene.subject_digit]}"
    other = f"{scene.object_colour} {NUMBERS[scene.object_digit]}"
    relation, inverse = scene.relation, INVERSE[scene.relation]
    here, there = PLACE[relation], PLACE[inverse]
    return [
        f"a {subject} {relation} a {other}",
        f"a {other} {inverse} a {subject}",
        f"the {subject} is {relation} the {other}",
        f"a {subject} {here} and a {other} {there}",
        f"{there} a {other} and {here} a {subject}",
    ]


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption of a scene can have, sorted."""
    words = {*PALETTE, *NUMBERS}
    for relation in INVERSE:
        for caption in paraphrases(Scene("red", 0, relation, "red", 0)):
            words.update(caption.split())
    return tuple(sorted(words))


def _shrunk(digits: np.ndarray, side: int) -> np.ndarray:
    """Grey digits [n, 28, 28] without most of their empty margin, [n, side, side] uint8."""
    from PIL import Image

    inner = (MARGIN, MARGIN, DIGIT_SIDE - MARGIN, DIGIT_SIDE - MARGIN)
    filtered = Image.Resampling.LANCZOS
    return np.stack(
        [np.asarray(Image.fromarray(d).resize((side, side), filtered, box=inner)) for d in digits]
    )


def _drawn(scene: Scene, subject: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The picture of a scene from two grey digits [s, s]: uint8 [2s, 2s, 3] on black."""
    pair = [_tinted(subject, scene.subject_colour), _tinted(other, scene.object_colour)]
    if scene.relation in ("right of", "below"):
        pair.reverse()
    side = len(subject)
    before = side // 2
    across = scene.relation in ("left of", "right of")
    margin = (before, side - before)
    padding = (margin, (0, 0), (0, 0)) if across else ((0, 0), margin, (0, 0))
    return np.pad(np.concatenate(pair, axis=1 if across else 0), padding)


def _tinted(digit: np.ndarray, colour: str) -> np.ndarray:
    return np.round(digit[..., None] * (np.array(PALETTE[colour]) / 255)).astype(np.uint8)
