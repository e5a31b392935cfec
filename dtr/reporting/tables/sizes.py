"""Differences to the paper in size, where the same is measured in the same way as in the paper.

The paper's protocol is workflow/config/paper.yaml, which a test compares with the paper. A value of
another protocol, or of other networks, has a direction only.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dtr.config.pretrained import PretrainedSettings
from dtr.config.reading import load_scale_file
from dtr.config.resolve import run_settings, training_steps
from dtr.config.scale import Scale
from dtr.experiments import RUNS, Run
from dtr.planning.evaluations import components, panel_protocol
from dtr.reporting.claims.statistics import own_strength

PAPER = Path(__file__).parents[3] / "workflow" / "config" / "paper.yaml"
ENGINES = ("inception", "inception_clean")  # what FID is defined by, with a second beside or not
NEAR = 2.0  # below so many standard deviations a difference may be the seed's
# Where files lie and how large batches are changes no number; names are looked up.
PLACES = {"path", "images", "captions", "test_images", "test_captions", "allow_unreadable"}
FETCHED = set(PretrainedSettings.model_fields) - {"rehearsal"} | {"batch"}
NAMES = {"dataset", "autoencoder", "text_encoder", "extractor", "reference"}
CHANCE = {"seed", "kid_subset", "dtype"}  # of a protocol; none is of the paper's metrics


@dataclass(frozen=True)
class Difference:
    """A measured value beside the paper's.

    share: of the paper's value.  strength: in standard deviations of what retraining with other
    seeds does to it (`own_strength`), known of FID alone.
    """

    share: float
    strength: float | None = None

    @property
    def near(self) -> bool:
        """Whether it is within the noise of one seed."""
        return self.strength is not None and abs(self.strength) < NEAR

    @property
    def text(self) -> str:
        """In per cent; ≈ says that it is within the noise of one seed."""
        said = f"{100 * self.share:+.1f} %".replace("-", "−")
        return f"{said} ≈" if self.near else said

    @property
    def details(self) -> str:
        """The same in words."""
        said = f"{100 * self.share:+.1f} % of the paper's value".replace("-", "−")
        if self.strength is None:
            return said
        said += f", {abs(self.strength):.1f} standard deviations of retraining"
        return f"{said}: within the noise of one seed" if self.near else said


def difference(metric: str, value: float, paper: float, seeds: int) -> Difference | None:
    """Of the mean over `seeds` seeds to the paper's value; None where either is no positive one."""
    if not (value > 0 and paper > 0):
        return None
    strength = own_strength(value, paper, seeds=seeds) if metric == "fid" else None
    return Difference(value / paper - 1, strength)


def comparable(scale: Scale, panel: str, slot: str, name: str) -> bool:
    """Whether a value of the runs behind `name` in a panel of a table compares in size.

    It does if data, networks, training and measurement are those of the paper. A rehearsal has
    nothing to compare.
    """
    if scale.rehearsal or slot not in scale.slots:
        return False
    if scale.extractors[scale.slots[slot].extractor].type not in ENGINES or not PAPER.is_file():
        return False
    paper, known = _paper(), {run.id: run for run in RUNS}
    return _measured(scale, panel, slot) == _measured(paper, panel, slot) and all(
        run in known and _trained(scale, known[run]) == _trained(paper, known[run])
        for run in components(name)
    )


@cache
def _paper() -> Scale:
    return load_scale_file(PAPER)


def _measured(scale: Scale, panel: str, slot: str) -> list[Any]:
    """What is measured and how, without the names that a scale gives to its parts."""
    own, place = panel_protocol(scale, panel, slot), scale.slots[slot]
    reference = own.reference and (own.reference.published, own.reference.images)
    parts = [scale.extractors[place.extractor].model_dump(exclude=FETCHED | {"type"})]
    parts += [
        None if name is None else known[name].model_dump(exclude=FETCHED | {"folder"})
        for name, known in (
            (place.autoencoder, scale.autoencoders),
            (place.text_encoder, scale.text_encoders),
        )
    ]
    data = scale.datasets[place.dataset].model_dump(exclude=PLACES)
    return [own.model_dump(exclude=NAMES | CHANCE), reference, data, *parts]


def _trained(scale: Scale, run: Run) -> list[Any] | None:
    """How a run is trained; the precision of its products is left open by the paper."""
    if run.slot not in scale.slots or run.backbone not in scale.backbones:
        return None
    own = run_settings(scale, run, 0).model_dump()
    own["training"].pop("precision")
    return [training_steps(scale, run), own]
