"""What does not fit together in a scale: each problem is one line that names the culprit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dtr.experiments import BACKBONES, RUNS, SLOTS, Run
from dtr.registry import known_names

if TYPE_CHECKING:
    from dtr.config.scale import Scale, SlotSettings


CAPTIONS_PER_SCENE = 5


def problems(scale: Scale) -> Iterator[str]:
    """Every contradiction between the parts of a scale."""
    if not scale.results.strip():
        yield "results is empty: name a folder"
    if len(set(scale.seeds)) < len(scale.seeds):
        yield f"seeds = {scale.seeds}: each seed may appear once"
    for kind in ("autoencoders", "extractors"):
        for name, asset in getattr(scale, kind).items():
            yield from _unknown(f"{kind}.{name}.dataset", asset.dataset, scale.datasets)
    for preset, size in scale.backbones.items():
        family = BACKBONES[preset][0]
        misplaced = hasattr(size, "adaln_chunks") and family != "dit_text"
        if misplaced or (family == "adm") != hasattr(size, "model_channels"):
            yield f"backbones.{preset}: has the settings of another kind of network"
            return
    for name, slot in scale.slots.items():
        yield from _unknown(f"slots.{name}.dataset", slot.dataset, scale.datasets)
        yield from _unknown(f"slots.{name}.extractor", slot.extractor, scale.extractors)
        yield from _slot_problems(scale, name, slot)
    batches = {"training.batch_size": scale.training.batch_size} | {
        f"slots.{name}.batch_size": slot.batch_size
        for name, slot in scale.slots.items()
        if slot.batch_size is not None
    }
    for where, batch in batches.items():
        for what, count in (
            ("ant_uw_clusters", scale.weighting.ant_uw_clusters),
            ("execution.accumulation", scale.execution.accumulation),
        ):
            if batch % count:
                yield f"{where} = {batch}: not divisible by {what} ({count})"
    ids = Counter(run.id for run in (*RUNS, *scale.extra_runs))
    for index, run in enumerate(scale.extra_runs):
        where = f"extra_runs.{index}"
        if ids[run.id] > 1:
            yield f"{where}.id = {run.id!r}: this run exists already, choose another id"
        yield from (f"{where}.{problem}" for problem in _run_problems(scale, run))


def _slot_problems(scale: Scale, name: str, slot: SlotSettings) -> Iterator[str]:
    """Why a slot's data and networks do not fit each other."""
    if SLOTS[name][1] != "class" and slot.num_classes != 1:
        yield f"slots.{name}.num_classes = {slot.num_classes}: told no class, this slot has 1"
    if SLOTS[name][1] == "class" and slot.num_classes < 2:
        yield f"slots.{name}.num_classes = {slot.num_classes}: at least 2 are needed here"
    told = SLOTS[name][1]
    if (told == "text") != (slot.text_encoder is not None):
        yield f"slots.{name}.text_encoder = {slot.text_encoder!r}: this slot is told {told}"
    if slot.text_encoder is not None:
        yield from _unknown(f"slots.{name}.text_encoder", slot.text_encoder, scale.text_encoders)
    if told == "text" and slot.dataset in scale.datasets:
        kind = scale.datasets[slot.dataset].kind
        if kind != "scenes":
            yield f"slots.{name}.dataset = {slot.dataset!r}: {kind} images have no captions"
        elif (wanted := scale.evaluation.n_samples) > (
            available := CAPTIONS_PER_SCENE * scale.datasets[slot.dataset].num_test
        ):
            yield (f"evaluation.n_samples = {wanted}: slot {name!r} has {available} test captions")
    if slot_space(name) == "pixel":
        if slot.autoencoder is not None:
            yield f"slots.{name}.autoencoder = {slot.autoencoder!r}: a pixel slot has none"
        return
    if slot.autoencoder is None:
        yield f"slots.{name}.autoencoder: missing; known: {', '.join(scale.autoencoders)}"
        return
    yield from _unknown(f"slots.{name}.autoencoder", slot.autoencoder, scale.autoencoders)
    if slot.autoencoder not in scale.autoencoders or slot.dataset not in scale.datasets:
        return
    resolution = scale.datasets[slot.dataset].resolution
    factor = scale.autoencoders[slot.autoencoder].downsampling
    if resolution % factor:
        yield (
            f"datasets.{slot.dataset}.resolution = {resolution}: autoencoder "
            f"{slot.autoencoder!r} needs a multiple of {factor}"
        )
    for preset, size in scale.backbones.items():
        if BACKBONES[preset][1] == "pixel":
            continue
        if resolution // factor % size.patch_size:
            yield (
                f"backbones.{preset}.patch_size = {size.patch_size}: does not divide the "
                f"{resolution // factor} latent pixels of slot {name!r}"
            )


def _run_problems(scale: Scale, run: Run) -> Iterator[str]:
    """Why a run that somebody asked for by name cannot be trained."""
    family, space = BACKBONES[run.backbone]
    told = SLOTS[run.slot][1]
    if (family == "dit_text") != (told == "text") or space != slot_space(run.slot):
        yield (
            f"backbone = {run.backbone!r}: impossible on slot {run.slot!r} "
            f"({slot_space(run.slot)} space, conditioned on {told})"
        )
    first, last = run.timesteps
    if not 0 <= first < last <= scale.diffusion.num_timesteps:
        yield f"timesteps = [{first}, {last}]: must be a range within [0, 1000]"
    known = tuple(known.id for known in (*RUNS, *scale.extra_runs) if known.id != run.id)
    if run.extends is not None and run.extends not in known:
        yield f"extends = {run.extends!r}: no such run"
    yield from _unknown("routing", run.routing, known_names("routing"))
    yield from _unknown("weighting", run.weighting, known_names("weighting"))
    if run.routing in ("dtr", "cdtr") and run.alpha is None:
        yield f"alpha is missing: routing {run.routing!r} needs it, a number above 0"
    if run.routing in ("ercdt", "cdtr") and run.clusters is None:
        yield f"clusters is missing: routing {run.routing!r} needs it, a count above 0"
    if (reason := why_not(scale, run)) is not None:
        yield f"id = {run.id!r}: {reason}"


def why_not(scale: Scale, run: Run) -> str | None:
    """The reason why this scale cannot train `run`, or None if it can."""
    if run.slot not in scale.slots:
        return f"the {scale.scale} scale fills no slot {run.slot!r}"
    if run.backbone not in scale.backbones:
        return f"the {scale.scale} scale gives no size for {run.backbone!r}"
    return None


def slot_space(slot: str) -> str:
    """Whether models of a slot work on "pixel" or "latent" images."""
    return "pixel" if slot.startswith("pixel") else "latent"


def _unknown(where: str, name: str, known: Mapping[str, Any] | tuple[str, ...]) -> Iterator[str]:
    if name not in known:
        yield f"{where} = {name!r}: unknown; known: {', '.join(known) or 'none'}"
