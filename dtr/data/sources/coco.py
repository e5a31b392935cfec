"""COCO 2014, or any images with a caption file of its format: training and validation apart.

Images and captions are joined by the numbers of the images; how a file becomes an image is told in
`dtr.data.crops`. All validation images are test images: their captions prompt the samples.
"""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from dtr.config.stages import SourceSettings
from dtr.data.readable import ReadableImages
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json
from dtr.support.settings import Count

if TYPE_CHECKING:
    import pandas as pd

    from dtr.data.captions import Captioned
    from dtr.data.trees import Tree

Path = Annotated[str, Field(min_length=1)]  # relative to the working directory, or absolute


class CocoSettings(SourceSettings):
    """Where images and captions lie; num_test: how many validation images there are.

    captions_per_image: the fewest; some images of COCO have six or seven, and all are used.
    """

    captions_per_image: ClassVar[int] = 5

    type: Literal["coco"]
    images: Path  # of training: a folder, .zip or .tar
    captions: Path  # captions_train2014.json
    test_images: Path
    test_captions: Path  # captions_val2014.json
    allow_unreadable: Annotated[int, Field(ge=0)] = 0  # files that may be left out
    expected: Count | None = None  # training images that there should be; otherwise a warning

    @property
    def expected_images(self) -> int | None:
        return None if self.expected is None else self.expected + self.num_test


def coco(settings: CocoSettings) -> ReadableImages:
    """Training images, then validation images, each by name, each read when it is asked for."""
    from dtr.data.trees import told

    train = _part(settings.images, settings.captions)
    test = _part(settings.test_images, settings.test_captions)
    if len(test.tree.names) != settings.num_test:
        raise Refusal(
            f"num_test = {settings.num_test}: {settings.test_images} has {len(test.tree.names)} "
            "images; accepted: their number"
        )
    remarks = [
        f"{path}: files left out by their names: {told(part.tree.others)}"
        for path, part in ((settings.images, train), (settings.test_images, test))
        if part.tree.others
    ]
    if settings.expected not in (None, len(train.tree.names)):
        found = len(train.tree.names)
        remarks.append(f"warning: {settings.images}: {found} images, expected {settings.expected}")
    for path, part in ((settings.captions, train), (settings.test_captions, test)):
        if few := sum(len(own.captions) < settings.captions_per_image for own in part.captioned):
            remarks.append(
                f"warning: {path}: {few} images have fewer than {settings.captions_per_image} "
                "captions"
            )
    facts = {
        "found": len(train.tree.names) + len(test.tree.names),
        "others": dict(sorted((train.tree.others + test.tree.others).items())),
        "captions": {
            "train": sum(len(own.captions) for own in train.captioned),
            "test": sum(len(own.captions) for own in test.captioned),
        },
        "caption_files": {
            name: hash_file(getattr(settings, name)) for name in ("captions", "test_captions")
        },
    }
    return CocoImages(settings, train, test, remarks, facts)


@dataclass(frozen=True)
class _Part:
    """The images of one split and, in the same order, what is said of each."""

    tree: "Tree"
    captioned: "list[Captioned]"


def _part(images: str, captions: str) -> _Part:
    """Images joined with their captions; refused if one is without the other."""
    from dtr.data.captions import read_captions
    from dtr.data.trees import open_tree, printable

    listed = read_captions(captions)
    tree = open_tree(images)
    own = [name.rpartition("/")[2] for name in tree.names]
    found = set(own)
    if len(found) < len(own):
        twice = next(name for name in own if own.count(name) > 1)
        raise Refusal(
            f"{images}: two files are called {printable(twice)}; accepted: names that tell images "
            "apart, as in the caption file"
        )
    if missing := [name for name in listed if name not in found]:
        raise Refusal(
            f"{captions}: captions of {printable(missing[0])}, which {images} does not have "
            f"({len(missing)} such images)"
        )
    if without := [name for name in own if name not in listed]:
        raise Refusal(
            f"{images}: image {printable(without[0])} has no caption in {captions} "
            f"({len(without)} such images)"
        )
    return _Part(tree, [listed[name] for name in own])


@dataclass(frozen=True)
class CocoImages:
    """Images with captions as `dtr.data.readable.ReadableImages`."""

    settings: CocoSettings
    train: _Part
    test: _Part
    remarks: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """File names relative to their folder or archive."""
        return self.train.tree.names + self.test.tree.names

    @property
    def allow_unreadable(self) -> int:
        """How many files may be left out."""
        return self.settings.allow_unreadable

    @property
    def identity(self) -> str:
        """Of the files, the crop and the version of Pillow, whose decoders may differ."""
        from PIL import __version__

        own = [repr(os.path.abspath(p)) for p in (self.settings.images, self.settings.test_images)]
        trees = [self.train.tree.identity, self.test.tree.identity]
        return hash_json([own, trees, self.settings.resolution, __version__])

    def read(self, number: int) -> np.ndarray:
        """Image `number`: uint8 [R, R, 3]."""
        from dtr.data.crops import decode

        tree, count = self.train.tree, len(self.train.tree.names)
        if number >= count:
            tree, number = self.test.tree, number - count
        return decode(tree.content(number), self.settings.resolution)

    def index(self, kept: np.ndarray) -> "pd.DataFrame":
        """Path, number, captions and split of the images `kept`; `facts` then has the prompts."""
        import pandas as pd

        from dtr.data.prompts import prompt_facts
        from dtr.data.trees import printable

        names, captioned = self.names, self.train.captioned + self.test.captioned
        told = [captioned[number] for number in kept]
        split = np.where(kept < len(self.train.captioned), "train", "test")
        tested = [own.captions for own, part in zip(told, split, strict=True) if part == "test"]
        self.facts["prompts"] = prompt_facts(tested)
        return pd.DataFrame(
            {
                "path": [printable(names[number]) for number in kept],
                "image_id": [own.number for own in told],
                "label": np.zeros(len(kept), dtype=np.int64),
                "captions": [own.captions for own in told],
                "split": split,
            }
        )
