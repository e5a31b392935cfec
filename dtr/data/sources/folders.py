"""Any tree of image files: one's own photographs, FFHQ's PNG files, ImageNet's train/<class>/*.

A folder, a .zip, a .tar or a tar of tars; how a file becomes an image is told in `dtr.data.crops`.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from dtr.config.stages import SourceSettings
from dtr.data.readable import ReadableImages
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.files import hash_json
from dtr.support.settings import Count

if TYPE_CHECKING:
    import pandas as pd

    from dtr.data.trees import Tree


class FoldersSettings(SourceSettings):
    """Where the images lie, and which of them are of one class.

    num_test: images held out, of each class its share.
    """

    type: Literal["folders"]
    path: Annotated[str, Field(min_length=1)]  # relative to the working directory, or absolute
    classes: bool = False  # whether sub-folders, by sorted name, are classes; otherwise all are 0
    allow_unreadable: Annotated[int, Field(ge=0)] = 0  # files that may be left out
    expected: Count | None = None  # image files that there should be; otherwise a warning

    @property
    def expected_images(self) -> int | None:
        return self.expected


def folders(settings: FoldersSettings) -> ReadableImages:
    """The images of `path`, sorted by name, each read when it is asked for."""
    from dtr.data.trees import open_tree, told

    tree = open_tree(settings.path)
    kinds, labels = _classes(settings.path, tree) if settings.classes else ([], None)
    labels = np.zeros(len(tree.names), dtype=np.int64) if labels is None else labels
    shared_split(labels, settings.num_test)  # refused now, and not after all images are read
    remarks = []
    if tree.others:
        remarks.append(f"{settings.path}: files left out by their names: {told(tree.others)}")
    if settings.expected not in (None, len(tree.names)):
        remarks.append(
            f"warning: {settings.path}: {len(tree.names)} images, expected {settings.expected}"
        )
    facts = {
        "found": len(tree.names),
        "others": dict(sorted(tree.others.items())),
        "classes": kinds,
    }
    return FolderImages(settings, tree, labels, remarks, facts)


@dataclass(frozen=True)
class FolderImages:
    """The images of a tree as `dtr.data.readable.ReadableImages`; labels: [n] int64."""

    settings: FoldersSettings
    tree: "Tree"
    labels: np.ndarray
    remarks: list[str]
    facts: dict[str, Any]

    @property
    def num_classes(self) -> int:
        """Classes by folders, 1 without any."""
        return int(self.labels.max()) + 1

    @property
    def names(self) -> list[str]:
        """File names relative to `path`, sorted."""
        return self.tree.names

    @property
    def allow_unreadable(self) -> int:
        """How many files may be left out."""
        return self.settings.allow_unreadable

    @property
    def identity(self) -> str:
        """Of the files, the crop and the version of Pillow, whose decoders may differ."""
        from PIL import __version__

        own = os.path.abspath(self.settings.path)
        return hash_json([repr(own), self.tree.identity, self.settings.resolution, __version__])

    def read(self, number: int) -> np.ndarray:
        """Image `number`: uint8 [R, R, 3]."""
        from dtr.data.crops import decode

        return decode(self.tree.content(number), self.settings.resolution)

    def index(self, kept: np.ndarray) -> "pd.DataFrame":
        """Path, label and split of the images `kept`."""
        import pandas as pd

        from dtr.data.trees import printable

        labels = self.labels[kept]
        return pd.DataFrame(
            {
                "path": [printable(self.names[number]) for number in kept],
                "label": labels,
                "split": shared_split(labels, self.settings.num_test),
            }
        )


def _classes(path: str, tree: "Tree") -> tuple[list[str], np.ndarray]:
    """Names of the first folders, sorted, and the number of each image's: [n] int64.

    First below the folder that holds all images of an archive, which often has one at its top.
    """
    from dtr.data.trees import printable

    first = []
    for name in tree.names:
        folder, slash, _ = name.removeprefix(tree.root).partition("/")
        if not slash:
            where = printable(name)
            raise Refusal(
                f"{path}: {where} lies in no sub-folder; accepted with classes: true: one of each "
                "class, all images in them"
            )
        first.append(folder)
    kinds = sorted(set(first))
    if len(kinds) == 1:
        raise Refusal(
            f"{path}: a single sub-folder ({printable(kinds[0])}); accepted with classes: true: at "
            "least two"
        )
    numbers = {kind: number for number, kind in enumerate(kinds)}
    labels = np.array([numbers[kind] for kind in first], dtype=np.int64)
    return [printable(kind) for kind in kinds], labels


def shared_split(labels: np.ndarray, num_test: int) -> np.ndarray:
    """ "train" or "test" per item: [n] str, with `num_test` of them shared out among the classes.

    Each class gives its share, rounded down, and those with the largest remainders one more; one
    item of each is left for training.
    """
    classes, counts = np.unique(labels, return_counts=True)
    most = len(labels) - len(classes)
    if num_test > most:
        raise Refusal(
            f"num_test = {num_test}: {len(labels)} images of {len(classes)} classes; accepted: at "
            f"most {most}, which leaves one of each class for training"
        )
    given, remainders = np.divmod(num_test * counts, len(labels))
    order = np.argsort(-remainders, kind="stable")
    while missing := num_test - given.sum():
        room = order[given[order] < counts[order] - 1]
        given[room[:missing]] += 1
    split = np.full(len(labels), "train", dtype=object)
    for label, count in zip(classes, given, strict=True):
        members = np.flatnonzero(labels == label)
        chosen = generator("split", int(label)).permutation(len(members))[:count]
        split[members[chosen]] = "test"
    return split
