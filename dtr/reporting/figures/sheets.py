"""Sample sheets: the same image indices of every run of a slot, small enough for the page."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dtr.config.scale import Scale
from dtr.data.datasets import ImageDataset
from dtr.experiments import SLOTS, Run
from dtr.planning.evaluations import Evaluation, components, final_evaluations, untrained_controls
from dtr.planning.places import Places
from dtr.planning.runs import all_runs
from dtr.records.heads import COLUMNS, ROWS, choose, head_of_samples
from dtr.records.table import Records
from dtr.reporting.figures.style import ROUTING_NAMES, WEIGHTING_NAMES
from dtr.support.errors import Refusal
from dtr.support.files import replacing

LARGEST = 64  # pixels; larger images are shrunk and stored as JPEG


@dataclass
class Strip:
    """The images of one run: a data URI, and what they are."""

    title: str
    run: str
    uri: str
    width: int
    height: int
    alt: str


@dataclass
class Sheet:
    """All strips of one slot; `labels` say what the models were told, image by image."""

    slot: str
    heading: str
    strips: list[Strip] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def build_sheets(records: Records, folder: Path) -> list[Sheet]:
    """One sheet per slot that has samples; writes <folder>/samples-<run>-step<step>.png."""
    sheets = []
    for slot in SLOTS:
        if slot in records.scale.slots:
            sheet = _sheet(records, slot, folder)
            if any(strip.run for strip in sheet.strips):
                sheets.append(sheet)
    return sheets


def _sheet(records: Records, slot: str, folder: Path) -> Sheet:
    sheet, chosen = Sheet(slot, SLOTS[slot].dataset), None
    places = Places(records.scale.results)
    for model, title in _shown_models(records.scale, slot):
        place = places.samples(model.name, model.seed, model.step, model.protocol.id)
        images, told = head_of_samples(Path(place))
        if images is None:
            continue
        if chosen is None:
            chosen = choose(told.get("labels"), len(images))
        if len(images) <= chosen.max():
            continue
        if SLOTS[slot].told == "class" and "labels" in told:
            sheet.labels = [str(label) for label in told["labels"][chosen]]
        elif "captions" in told:
            sheet.labels = [str(caption) for caption in told["captions"][chosen]]
        alt = f"{len(chosen)} samples of {model.name}, seed {model.seed}, step {model.step}"
        strip = strip_of(images[chosen], title, model.name, alt)
        write_picture(strip, folder / f"samples-{model.name}-step{model.step}")
        sheet.strips.append(strip)
    if (real := _real_images(records, slot)) is not None:
        sheet.strips.insert(0, real)
    return sheet


def _shown_models(scale: Scale, slot: str) -> list[tuple[Evaluation, str]]:
    """The untrained network and the last model of every run of a slot, with their titles."""
    runs, seed = all_runs(scale), scale.seeds[0]
    models = [(one, "untrained") for one in untrained_controls(scale) if one.slot == slot]
    for one in final_evaluations(scale, slot):
        if one.seed == seed:
            models.append((one, _title([runs[part] for part in components(one.name)])))
    return models


def _title(runs: list[Run]) -> str:
    """What distinguishes a run, or several experts that were sampled as one model."""
    run, experts = runs[0], len(runs)
    if experts > 1:
        return f"{experts} experts, {run.backbone}"
    parts = [run.backbone, ROUTING_NAMES.get(run.routing.type, run.routing.type)]
    parts += [f"α = {run.alpha:g}"] if run.alpha is not None else []
    parts += [f"β = {run.beta:g}"] if run.beta is not None else []
    if run.weighting.type != "vanilla":
        parts.append(WEIGHTING_NAMES.get(run.weighting.type, run.weighting.type))
    parts += ["continued"] if run.extends is not None else []
    return ", ".join(parts)


def strip_of(images: np.ndarray, title: str, run: str, alt: str) -> Strip:
    """[n, H, W, 3] uint8 as one picture of rows of ten."""
    if images.shape[1] > LARGEST:
        small = (LARGEST, LARGEST)
        images = np.stack([Image.fromarray(i).resize(small, Image.LANCZOS) for i in images])
        kind, options = "jpeg", {"quality": 85}
    else:
        kind, options = "png", {"optimize": True}
    rows = -(-len(images) // COLUMNS)
    height, width = images.shape[1:3]
    columns = min(COLUMNS, len(images))
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // COLUMNS * (height + 1), index % COLUMNS * (width + 1)
        canvas[top : top + height, left : left + width] = image
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, kind, **options)
    uri = f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
    return Strip(title, run, uri, canvas.shape[1], canvas.shape[0], alt)


def write_picture(strip: Strip, name: Path) -> None:
    """Write a strip as a file; `name` is its path without the suffix."""
    kind, data = strip.uri.removeprefix("data:image/").split(";base64,")
    with replacing(name.with_name(f"{name.name}.{kind}")) as temporary:
        temporary.write_bytes(base64.b64decode(data))


def _real_images(records: Records, slot: str) -> Strip | None:
    """The first images of the data that fills the slot, for comparison."""
    dataset = records.scale.slots[slot].dataset
    try:
        images = ImageDataset.open(Places(records.scale.results).dataset(dataset)).images
        chosen = images[:: max(1, len(images) // (COLUMNS * ROWS))][: COLUMNS * ROWS]
        chosen = np.concatenate([chosen[row::ROWS] for row in range(ROWS)])  # sorted by class
    except (OSError, Refusal):
        return None
    return strip_of(chosen, "real images", "", f"{len(chosen)} real images of {dataset}")
