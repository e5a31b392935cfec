"""What does not fit together in a scale: each problem is one line that names the culprit."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from string import Template
from typing import Any

from dtr.config.pretrained import is_pretrained
from dtr.config.resolve import run_settings
from dtr.config.results import plain_folder, results_folder
from dtr.config.scale import Scale, SlotSettings, stated_facts
from dtr.experiments import BACKBONES, RUNS, SLOTS, Run
from dtr.registry import BUILT_IN, known_names, load, settings_model
from dtr.routing import build_masks
from dtr.support.errors import Refusal
from dtr.support.settings import parse

CLAIMS = Path(__file__).parents[2] / "report" / "claims.yaml"


def load_scale(value: Mapping[str, Any], *, source: str) -> Scale:
    """Check the content of a scale file and the folder it wants to write to."""
    scale = parse_scale(dict(value), source=source)
    results_folder(scale.results, source=source)
    return scale


def parse_scale(value: Any, *, source: str) -> Scale:
    """A scale from JSON types or JSON text, whose parts fit together."""
    scale = parse(Scale, value, source=source)
    for problem in problems(scale):
        raise Refusal(f"{source}: {problem}")
    return scale.model_copy(update={"results": plain_folder(scale.results, source=source)})


def problems(scale: Scale) -> Iterator[str]:
    """Every contradiction between the parts of a scale."""
    if not scale.results.strip():
        yield "results is empty: name a folder"
    if len(set(scale.seeds)) < len(scale.seeds):
        yield f"seeds = {scale.seeds}: each seed may appear once"
    for kind in ("autoencoders", "extractors"):
        for name, asset in getattr(scale, kind).items():
            if is_pretrained(asset):
                continue
            yield from _unknown(f"{kind}.{name}.dataset", asset.dataset, scale.datasets)
            if (data := scale.datasets.get(asset.dataset)) is not None and not data.num_test:
                yield f"datasets.{asset.dataset}.num_test = 0: {kind}.{name} is tested on some"
    for name, reference in scale.references.items():
        yield from _unknown(f"references.{name}.dataset", reference.dataset, scale.datasets)
    for preset, size in scale.backbones.items():
        if size.type != (kind := BACKBONES.get(preset, size.type)):
            yield f"backbones.{preset}.type = {size.type!r}: the paper's is {kind!r}"
    for name, slot in scale.slots.items():
        yield from _unknown(f"slots.{name}.dataset", slot.dataset, scale.datasets)
        yield from _unknown(f"slots.{name}.extractor", slot.extractor, scale.extractors)
        yield from _reference_problems(scale, name, slot)
        yield from _slot_problems(scale, name, slot)
    yield from _class_problems(scale)
    yield from _deviation_problems(scale)
    yield from _claim_problems(scale)
    yield from _weighting_problems(scale)
    yield from _batch_problems(scale)
    ids = Counter(run.id for run in (*RUNS, *scale.extra_runs))
    for index, run in enumerate(scale.extra_runs):
        where = f"extra_runs.{index}"
        if ids[run.id] > 1:
            yield f"{where}.id = {run.id!r}: this run exists already, choose another id"
        yield from (f"{where}.{problem}" for problem in _run_problems(scale, run))


def _class_problems(scale: Scale) -> Iterator[str]:
    """Slots that are told different numbers of classes of one dataset."""
    told: dict[str, tuple[str, int]] = {}
    for name, slot in scale.slots.items():
        if slot.num_classes > 1:
            other, count = told.setdefault(slot.dataset, (name, slot.num_classes))
            if count != slot.num_classes:
                yield (
                    f"slots.{name}.num_classes = {slot.num_classes}: slots.{other}, of the same "
                    f"dataset, has {count}"
                )


def _deviation_problems(scale: Scale) -> Iterator[str]:
    known = stated_facts(scale)
    for index, text in enumerate(scale.deviations):
        try:
            Template(text).substitute(known)
        except (LookupError, ValueError):
            names = ", ".join(f"${name}" for name in known)
            yield f"deviations.{index}: a dollar names a fact; known: {names}, and $$ for itself"


def _claim_problems(scale: Scale) -> Iterator[str]:
    """Claims that the page does not know; only their ids are read: every job reads a scale."""
    if scale.untestable and CLAIMS.is_file():
        known = re.findall(r"^- id: (\S+)$", CLAIMS.read_text(encoding="utf-8"), re.MULTILINE)
        for name in scale.untestable:
            yield from _unknown("untestable", name, known)


def _weighting_problems(scale: Scale) -> Iterator[str]:
    for name, constants in scale.weighting.items():
        yield from _unknown("weighting", name, known_names("weighting"))
        try:
            parse(settings_model("weighting", name), {"type": name} | constants, source="")
        except Refusal as refusal:
            yield f"weighting.{name}.{str(refusal).removeprefix(': ')}"


def _batch_problems(scale: Scale) -> Iterator[str]:
    """Batches that cannot be cut as loss weightings or the execution need it."""
    batches = {"training.batch_size": scale.training.batch_size} | {
        f"slots.{name}.batch_size": slot.batch_size
        for name, slot in scale.slots.items()
        if slot.batch_size is not None
    }
    clusters = settings_model("weighting", "ant_uw").model_fields["clusters"].default
    clusters = scale.weighting.get("ant_uw", {}).get("clusters", clusters)
    for where, batch in batches.items():
        execution = scale.execution
        cuts = {"processes": execution.processes, "nodes": execution.nodes}
        cuts = {name: count for name, count in cuts.items() if count > 1}
        cuts["accumulation"] = execution.accumulation
        portions = (" times ".join(f"execution.{name}" for name in cuts), prod(cuts.values()))
        for what, count in (("weighting.ant_uw.clusters", clusters), portions):
            if batch % count:
                yield f"{where} = {batch}: not divisible by {what} ({count})"


def _reference_problems(scale: Scale, name: str, slot: SlotSettings) -> Iterator[str]:
    if slot.reference is None:
        return
    where = f"slots.{name}.reference"
    yield from _unknown(where, slot.reference, scale.references)
    reference = scale.references.get(slot.reference)
    if reference is None:
        return
    if reference.dataset != slot.dataset:
        yield f"{where} = {slot.reference!r}: of the dataset {reference.dataset!r}, not the slot's"
    least = max(scale.evaluation.kid_subset, scale.evaluation.neighbours + 1)
    if reference.images < least:
        yield (
            f"references.{slot.reference}.images = {reference.images}: kid_subset and neighbours "
            f"need at least {least}"
        )


def _slot_problems(scale: Scale, name: str, slot: SlotSettings) -> Iterator[str]:
    """Why a slot's data and networks do not fit each other."""
    told, space = SLOTS[name].told, SLOTS[name].space
    if told != "class" and slot.num_classes != 1:
        yield f"slots.{name}.num_classes = {slot.num_classes}: told no class, this slot has 1"
    if told == "class" and slot.num_classes < 2:
        yield f"slots.{name}.num_classes = {slot.num_classes}: at least 2 are needed here"
    if (told == "text") != (slot.text_encoder is not None):
        yield f"slots.{name}.text_encoder = {slot.text_encoder!r}: this slot is told {told}"
    if slot.text_encoder is not None:
        yield from _unknown(f"slots.{name}.text_encoder", slot.text_encoder, scale.text_encoders)
    if told == "text" and slot.dataset in scale.datasets:
        source = scale.datasets[slot.dataset]
        available = source.captions_per_image * source.num_test
        if not available:
            yield f"slots.{name}.dataset = {slot.dataset!r}: {source.type} images have no captions"
        elif (wanted := scale.evaluation.n_samples) > available:
            yield f"evaluation.n_samples = {wanted}: slot {name!r} has {available} test captions"
    if space == "pixel":
        if slot.autoencoder is not None:
            yield f"slots.{name}.autoencoder = {slot.autoencoder!r}: a pixel slot has none"
        return
    if slot.autoencoder is None:
        yield f"slots.{name}.autoencoder: missing; known: {', '.join(scale.autoencoders)}"
        return
    yield from _unknown(f"slots.{name}.autoencoder", slot.autoencoder, scale.autoencoders)
    if slot.autoencoder in scale.autoencoders and slot.dataset in scale.datasets:
        yield from _latent_problems(scale, name, slot)


def _latent_problems(scale: Scale, name: str, slot: SlotSettings) -> Iterator[str]:
    resolution = scale.datasets[slot.dataset].resolution
    factor = scale.autoencoders[slot.autoencoder].downsampling
    if resolution % factor:
        yield (
            f"datasets.{slot.dataset}.resolution = {resolution}: autoencoder "
            f"{slot.autoencoder!r} needs a multiple of {factor}"
        )


def _run_problems(scale: Scale, run: Run) -> Iterator[str]:
    """Why a run that somebody asked for by name cannot be trained."""
    slot = SLOTS[run.slot]
    yield from _unknown("backbone", run.backbone, (*BACKBONES, *scale.backbones))
    size: Any = scale.backbones.get(run.backbone)
    if size is None and run.backbone in BACKBONES:  # what its kind can do is known without a size
        size = settings_model("backbone", BACKBONES[run.backbone])
    if size is not None and (slot.told not in size.told or slot.space != size.space):
        yield (
            f"backbone = {run.backbone!r}: impossible on slot {run.slot!r} "
            f"({slot.space} space, conditioned on {slot.told})"
        )
    first, last = run.timesteps
    if not 0 <= first < last <= scale.diffusion.num_timesteps:
        yield f"timesteps = [{first}, {last}]: must be a range within [0, 1000]"
    known = tuple(known.id for known in (*RUNS, *scale.extra_runs) if known.id != run.id)
    if run.extends is not None and run.extends not in known:
        yield f"extends = {run.extends!r}: no such run"
    if (reason := why_not(scale, run)) is not None:
        yield f"id = {run.id!r}: {reason}"
    else:
        yield from _refused(scale, run)


def _refused(scale: Scale, run: Run) -> Iterator[str]:
    """What its own parts say against a run: constants, sizes, and masks from outside."""
    try:
        settings = run_settings(scale, run, scale.seeds[0])
        load("weighting", settings.weighting.type)
        if settings.routing.type not in BUILT_IN["routing"]:
            # A U-Net has layers of several widths: the widest is tried.
            layers, channels = getattr(settings.backbone, "depth", 1), settings.backbone.channels
            build_masks(settings.routing, layers, scale.diffusion.num_timesteps, channels)
    except Refusal as refusal:
        yield str(refusal)


def why_not(scale: Scale, run: Run) -> str | None:
    """The reason why this scale cannot train `run`, or None if it can."""
    if run.slot not in scale.slots:
        return f"the {scale.scale} scale fills no slot {run.slot!r}"
    if run.backbone not in scale.backbones:
        return f"the {scale.scale} scale gives no size for {run.backbone!r}"
    return None


def _unknown(where: str, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> Iterator[str]:
    if name not in known:
        yield f"{where} = {name!r}: unknown; known: {', '.join(known) or 'none'}"
