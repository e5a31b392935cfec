"""The files that a scale, a table or a figure needs, and those it becomes. Free of torch."""

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import FIGURES, TABLES, TIMED
from dtr.planning.evaluations import evaluations, evaluations_for, protocol, used_slots
from dtr.planning.places import Places
from dtr.planning.runs import selected_runs


def measured_records(scale: Scale, target: str | None = None) -> list[str]:
    """Path of every metrics record of the scale, or of those that one table or figure shows."""
    places = Places(scale.results)
    wanted = evaluations(scale) if target is None else evaluations_for(scale, target)
    slots = used_slots(scale) if target in (None, "table1") else []
    return [places.evaluation(evaluation) for evaluation in wanted] + [
        places.real_metrics(slot, protocol(scale, slot).id) for slot in slots
    ]


def analysis_records(scale: Scale, target: str | None = None) -> list[str]:
    """Path of every record of the scale that needs no samples, or of those of one target."""
    targets = scale.targets if target is None else [target]
    places, paths = Places(scale.results), []
    if "figure6" in targets:
        compared = [run for run in selected_runs(scale).values() if run.needed_by("figure6")]
        paths += [places.cka(run.id, seed) for run in compared for seed in scale.seeds]
    if "table7" in targets:
        paths += [places.throughput(backbone) for backbone in TIMED]
    return paths


def target_records(scale: Scale, target: str | None = None) -> list[str]:
    """Path of every record behind the scale's tables and figures, or behind one of them."""
    return measured_records(scale, target) + analysis_records(scale, target)


def target_files(scale: Scale) -> list[str]:
    """The files of the scale's tables and figures, as far as Snakemake is told of them."""
    places = Places(scale.results)
    tables = [places.table(name) for name in TABLES if name in scale.targets]
    return tables + [places.figure(name) for name in FIGURES if name in scale.targets]


def trained_records(scale: Scale) -> list[str]:
    """Path of the training record of every run and seed of the scale."""
    places = Places(scale.results)
    return [
        places.training(run.id, seed, training_steps(scale, run))
        for run in selected_runs(scale).values()
        for seed in scale.seeds
    ]
