"""What one try compares, in a form that outlives its scale: `trial` of try.json. Free of torch.

A results folder of a try is read without the method's file, which its reader may not have.
"""

from pathlib import Path
from typing import Any, Literal

from dtr.support.errors import Refusal
from dtr.support.files import read_json
from dtr.support.settings import Settings, parse

SCHEMA = 1
FILE = "try.json"
ROLES = ("method", "none", "dtr")  # of the compared runs, in the order of the page
ALPHA = 4.0  # of the DTR that a method is held against: the paper's


class Place(Settings):
    """One slot: what fills it, how it is measured, and the three runs on it, by role."""

    slot: str
    paper: str  # the paper's dataset
    dataset: str  # what fills its place
    backbone: str
    channels: int  # that the widest mask covers
    steps: int
    protocol_id: str
    n_samples: int
    extractor: str
    runs: dict[Literal[ROLES], str]
    published: dict[Literal["none", "dtr"], float]  # the paper's FID

    @property
    def expected(self) -> float:
        """The paper's effect of DTR on FID here, in per cent; below 0 is better."""
        return 100 * (self.published["dtr"] / self.published["none"] - 1)


class Trial(Settings):
    """A method with its constants, and where and with which seeds it was tried."""

    name: str
    family: Literal["routing", "weighting"]
    method: str
    constants: dict[str, Any]
    source: str | None  # text of its file; None: part of a package
    source_sha256: str | None  # None: one of ours
    scale: str
    seeds: list[int]
    places: list[Place]
    notices: list[str]
    deviations: list[str]

    @property
    def labels(self) -> dict[str, str]:
        """How the page calls the three."""
        plain = "no routing" if self.family == "routing" else "vanilla loss"
        return dict(zip(ROLES, (self.name, plain, f"DTR, α = {ALPHA:g}"), strict=True))


def read_trial(out: Path) -> Trial:
    """The trial behind a results folder; refused by name if it is none or of another version."""
    file = out / FILE
    if not file.is_file():
        raise Refusal(f"{out}: no results of a try ({FILE} is missing)")
    content = read_json(file)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise Refusal(f"{file}: schema_version = {version}; accepted: {SCHEMA}")
    return parse(Trial, content.get("trial"), source=f"{file}: trial")
