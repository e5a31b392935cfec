"""Which runs a scale trains, up to which steps, and what continues what. Free of torch."""

from dtr.config.checks import why_not
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import RUNS, Run
from dtr.support.errors import Refusal


def all_runs(scale: Scale) -> dict[str, Run]:
    """The paper's runs and the scale's own, by id."""
    return {run.id: run for run in (*RUNS, *scale.extra_runs)}


def selected_runs(scale: Scale) -> dict[str, Run]:
    """The runs this scale trains: those its targets need and can have, and its own."""
    return {run.id: run for run in all_runs(scale).values() if reason_not_run(scale, run) is None}


def reason_not_run(scale: Scale, run: Run) -> str | None:
    """Why `run` is not part of this scale, as the report prints it; None if it is."""
    if (reason := why_not(scale, run)) is not None:
        return reason
    if run in scale.extra_runs or any(run.needed_by(target) for target in scale.targets):
        return None
    return f"not among the targets of the {scale.scale} scale ({', '.join(scale.targets)})"


def find_run(scale: Scale, run_id: str) -> Run:
    """The run called `run_id`, refused with its reason if this scale does not train it."""
    run = all_runs(scale).get(run_id)
    if run is None:
        raise Refusal(f"run {run_id!r}: unknown; the runs are listed in dtr/experiments.py")
    if (reason := reason_not_run(scale, run)) is not None:
        raise Refusal(f"run {run_id!r}: {reason}")
    return run


def baseline_run(scale: Scale, slot: str) -> Run | None:
    """The unrouted, unweighted run of a slot whose untrained network is the control row."""
    for run in selected_runs(scale).values():
        if (run.slot, run.routing.type, run.weighting.type) == (slot, "none", "vanilla"):
            return run
    return None


def convergence_steps(scale: Scale, run: Run) -> list[int]:
    """Steps at which Fig. 5 measures a run, ascending; the last is the end of its training."""
    final = training_steps(scale, run)
    return sorted({max(1, round(share * final)) for share in scale.evaluation.convergence})


def milestones(scale: Scale, run: Run) -> list[int]:
    """Steps at which the weights of `run` are wanted, ascending; each continues the one before."""
    steps = {training_steps(scale, run)}
    if baseline_run(scale, run.slot) == run:
        steps.add(0)
    if "figure5" in scale.targets and run.needed_by("figure5"):
        steps.update(convergence_steps(scale, run))
    return sorted(steps)


def previous_milestone(scale: Scale, run: Run, step: int) -> tuple[str, int] | None:
    """(run id, step) that training to `step` continues, in one work directory; step 0 leaves none.

    An extension continues the end of the run that it extends.
    """
    earlier = [number for number in milestones(scale, run) if 0 < number < step]
    if earlier:
        return run.id, earlier[-1]
    extended = all_runs(scale).get(run.extends) if step and run.extends else None
    if extended is None or extended.id not in selected_runs(scale):
        return None
    return extended.id, training_steps(scale, extended)


def lineage(scale: Scale, run: Run) -> Run:
    """The run whose work directory `run` shares: the one it extends, or itself."""
    return run if run.extends is None else lineage(scale, all_runs(scale)[run.extends])
