"""The jobs of the workflow as a graph, without Snakemake: what stands behind a table or figure.

It says what workflow/rules/*.smk say, a test compares both. Free of torch.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dtr.config.pretrained import is_pretrained
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale, SlotSettings
from dtr.config.stages import Protocol
from dtr.experiments import FIGURES, TABLES, TIMED
from dtr.planning.evaluations import Evaluation, components, evaluations, protocol, used_slots
from dtr.planning.places import Places, models_of
from dtr.planning.runs import previous_milestone, selected_runs
from dtr.planning.targets import target_files, target_records


class Job(NamedTuple):
    """One job; others know it by its first output."""

    stage: str  # its rule
    outputs: tuple[str, ...]
    needs: tuple[str, ...] = ()  # first outputs of the jobs that it waits for
    name: str = ""  # id of a run, name of a measured model, or of a dataset
    seed: int = 0
    step: int = 0
    before: int = 0  # step that a training continues
    protocol: Protocol | None = None
    images: int = 0  # drawn, or measured
    asset: str = ""  # autoencoder or extractor that is used on the dataset

    @property
    def key(self) -> str:
        """By which the jobs that wait for it know it."""
        return self.outputs[0]

    def there(self) -> bool:
        """Whether all of its outputs exist, whatever they were made with."""
        return all(Path(output).exists() for output in self.outputs)


def catalogue(scale: Scale) -> dict[str, Job]:
    """Every job that the rules of a scale can be asked for, by its first output."""
    return {job.key: job for job in _jobs(scale)}


def jobs_behind(known: Mapping[str, Job], wanted: Iterable[str]) -> dict[str, Job]:
    """The jobs that make the files `wanted` out of nothing, each once, as `known` orders them."""
    found: set[str] = set()
    queue = list(wanted)
    while queue:
        key = queue.pop()
        if key not in found:
            found.add(key)
            queue.extend(known[key].needs)
    return {key: job for key, job in known.items() if key in found}


def remaining(jobs: Mapping[str, Job], wanted: Iterable[str], *, there: set[str]) -> set[str]:
    """Which of `jobs` are still to be done for `wanted`, given those whose outputs are there.

    As for Snakemake: what is missing is made only if somebody needs it, and what is made again has
    everything after it made again. Changed settings, which it notices too, are not looked at.
    """
    missing = jobs.keys() - there
    after: dict[str, list[str]] = {}
    for key, job in jobs.items():
        for need in job.needs:
            after.setdefault(need, []).append(key)
    left: set[str] = set()
    queue = [key for key in wanted if key in missing]
    while queue:
        key = queue.pop()
        if key not in left:
            left.add(key)
            queue.extend(need for need in jobs[key].needs if need in missing)
            queue.extend(after.get(key, []))
    return left


def file_of(scale: Scale, target: str) -> str:
    """The file that a table or figure is asked for by."""
    places = Places(scale.results)
    return places.table(target) if target in TABLES else places.figure(target)


def _jobs(scale: Scale) -> Iterator[Job]:
    yield from _data_jobs(scale)
    yield from _training_jobs(scale)
    for evaluation in dict.fromkeys(evaluations(scale)):
        yield from _evaluation_jobs(scale, evaluation)
    yield from _other_measurements(scale)
    yield from _report_jobs(scale)


def _data_jobs(scale: Scale) -> Iterator[Job]:
    places = Places(scale.results)
    for name in scale.datasets:
        own = (places.dataset(name), places.index(name))
        yield Job("prepare_data", own, name=name)
    for kind, assets in (
        ("autoencoder", scale.autoencoders),
        ("extractor", scale.extractors),
        ("text_encoder", scale.text_encoders),
    ):
        for name, settings in assets.items():
            record = getattr(places, kind)(name)
            own = (record, places.weights_of(record))
            if is_pretrained(settings):
                yield Job(f"fetch_{kind}", own, name=name)
            elif kind != "text_encoder":
                yield Job(f"train_{kind}", own, (places.dataset(settings.dataset),), name)
    for slot in scale.slots.values():
        data, extractor = places.dataset(slot.dataset), places.extractor(slot.extractor)
        real, own = real_images(scale, slot), {"name": slot.dataset, "asset": slot.extractor}
        if slot.reference is None:
            yield Job("real_features", (real,), (data, extractor), **own)
        else:
            computed = scale.references[slot.reference].file is None
            needs = (data, extractor) if computed else (extractor,)
            yield Job("reference", (real,), needs, slot.reference, asset=slot.extractor)
        if slot.autoencoder is not None:
            latents = places.latents(slot.dataset, slot.autoencoder)
            own = {"name": slot.dataset, "asset": slot.autoencoder}
            needs = (data, places.autoencoder(slot.autoencoder), *told_by(scale, slot.text_encoder))
            yield Job("cache_latents", (latents,), needs, **own)


def real_images(scale: Scale, slot: SlotSettings) -> str:
    """The file of real images that the samples of a slot are measured against."""
    places = Places(scale.results)
    if slot.reference is None:
        return places.real_features(slot.dataset, slot.extractor)
    return places.reference(slot.reference, slot.extractor)


def told_by(scale: Scale, text_encoder: str | None) -> tuple[str, ...]:
    """The record of a text encoder of others; ours is made from its settings."""
    if text_encoder is None or not is_pretrained(scale.text_encoders[text_encoder]):
        return ()
    return (Places(scale.results).text_encoder(text_encoder),)


def told_classes(scale: Scale, dataset: str) -> int:
    """How many classes the slots with a dataset are told of; 0 where none is told any."""
    told = (slot for slot in scale.slots.values() if slot.dataset == dataset)
    return max((slot.num_classes for slot in told if slot.num_classes > 1), default=0)


def training_data(scale: Scale, slot_name: str) -> str:
    """Manifest of what the runs of a slot are trained on: latents, or the dataset itself."""
    places, slot = Places(scale.results), scale.slots[slot_name]
    if slot.autoencoder is None:
        return places.dataset(slot.dataset)
    return places.latents(slot.dataset, slot.autoencoder)


def _training_jobs(scale: Scale) -> Iterator[Job]:
    """Every milestone of every run that is measured, and its end."""
    places, runs = Places(scale.results), selected_runs(scale)
    steps = {(run.id, training_steps(scale, run)) for run in runs.values()}
    for evaluation in evaluations(scale):
        steps.update((run, evaluation.step) for run in components(evaluation.name))
    for run_id, step in sorted(steps):
        run = runs[run_id]
        before = previous_milestone(scale, run, step)
        for seed in scale.seeds:
            record = places.training(run_id, seed, step)
            earlier = () if before is None else (places.training(before[0], seed, before[1]),)
            yield Job(
                "train",
                (record, places.weights_of(record)),
                (training_data(scale, run.slot), *earlier),
                run_id,
                seed,
                step,
                0 if before is None else before[1],
            )


def _evaluation_jobs(scale: Scale, one: Evaluation) -> Iterator[Job]:
    """The shards of samples of a measured model, and its measurement."""
    places, slot = Places(scale.results), scale.slots[one.slot]
    models = models_of(places, one.name, one.seed, one.step)
    needs = list(models)
    if slot.autoencoder is not None:
        needs.append(places.autoencoder(slot.autoencoder))
    if slot.text_encoder is not None:
        needs += [places.dataset(slot.dataset), *told_by(scale, slot.text_encoder)]
    if scale.execution.keep_samples is not None:
        needs.append(places.extractor(slot.extractor))
    own = {"name": one.name, "seed": one.seed, "step": one.step, "protocol": one.protocol}
    total, size = one.protocol.n_samples, scale.evaluation.shard_size
    shards = []
    for number, first in enumerate(range(0, total, size)):
        shards.append(places.shard(one.name, one.seed, one.step, one.protocol.id, number))
        drawn = min(size, total - first)
        yield Job("sample", (shards[-1],), tuple(needs), images=drawn, **own)
    real = real_images(scale, slot)
    needs = (*models, *shards, places.extractor(slot.extractor), real)
    record = places.evaluation(one)
    yield Job("measure", (record,), needs, images=total, asset=slot.extractor, **own)


def _other_measurements(scale: Scale) -> Iterator[Job]:
    places = Places(scale.results)
    for slot_name in used_slots(scale):
        real = real_images(scale, scale.slots[slot_name])
        record = places.real_metrics(slot_name, protocol(scale, slot_name).id)
        yield Job("measure_real", (record,), (real,), slot_name)
    for run_id, run in selected_runs(scale).items():
        step = training_steps(scale, run)
        for seed in scale.seeds:
            needs = (places.training(run_id, seed, step), training_data(scale, run.slot))
            yield Job("cka", (places.cka(run_id, seed),), needs, run_id, seed, step)
    for backbone in TIMED:
        yield Job("throughput", (places.throughput(backbone),), name=backbone)


def _report_jobs(scale: Scale) -> Iterator[Job]:
    places = Places(scale.results)
    for stage, names, others in (
        ("table", TABLES, (".md", ".tex")),
        ("figure", FIGURES, (".png", ".pdf")),
    ):
        for name in names:
            if name in scale.targets:
                file = file_of(scale, name)
                own = (file, *places.beside(file, *others))
                yield Job(stage, own, tuple(target_records(scale, name)), name)
    records, claims = target_records(scale), places.claims()
    own = (claims, *places.beside(claims, ".md", ".json"))
    yield Job("verdicts", own, tuple(records))
    yield Job("page", (places.page(),), (*records, *target_files(scale), claims))
