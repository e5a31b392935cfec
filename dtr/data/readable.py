"""Images that a source reads one at a time: they need not fit into memory. Free of torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class Unreadable(Exception):
    """One image that cannot be used; its text is the reason, without the name of the image."""


@runtime_checkable
class ReadableImages(Protocol):
    """What a source may return instead of an array and its index.

    names: of all images found, in their order; one that turns out unreadable is left out.
    identity: hash of all that the pixels depend on: work that was interrupted goes on if it is the
    same.  allow_unreadable: how many may be left out before all of it is refused.
    remarks: one line each, told before the work begins.  facts: JSON types, for the manifest, asked
    for after `index`.  A source that knows its number of classes before it reads an image may say
    it as `num_classes`.
    """

    names: Sequence[str]
    identity: str
    allow_unreadable: int
    remarks: Sequence[str]
    facts: Mapping[str, Any]

    def read(self, number: int) -> np.ndarray:
        """Image `number`, uint8 [R, R, 3], or `Unreadable`. Called from several threads."""
        ...

    def index(self, kept: np.ndarray) -> "pd.DataFrame":
        """Rows of the images `kept`, ascending numbers [n] int64: path, label, split."""
        ...
