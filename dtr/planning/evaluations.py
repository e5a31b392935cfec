"""Which models are measured under which protocol, and the tables and figures that show them.

Models at several steps of one run are its milestones. Free of torch.
"""

from collections.abc import Iterator
from typing import NamedTuple

from dtr.config.scale import Scale
from dtr.config.stages import Protocol
from dtr.experiments import EXPERTS, FIGURES, SLOTS, TABLES, Run
from dtr.planning.runs import all_runs, selected_runs, training_steps

REDUCED = ("table2_ffhq", "figure5")  # where the paper takes 10,000 samples instead of 50,000
UNMEASURED = ("table7", "figure2", "figure6")  # shown without samples
# The paper's own sizes in Table 7, by the name of their file.
TIMED = {"DiT-S-2": "DiT-S/2", "DiT-B-2": "DiT-B/2", "DiT-L-2": "DiT-L/2"}


class Evaluation(NamedTuple):
    """One model under one protocol: the place of one metrics record."""

    name: str  # id of a run, or of all experts joined by "+"
    slot: str
    seed: int
    step: int
    protocol: Protocol


def protocol(
    scale: Scale, slot_name: str, *, guidance: float | None = None, reduced: bool = False
) -> Protocol:
    """How models of a slot are sampled and measured at this scale.

    guidance: in place of the scale's, where the slot has any.  reduced: with the fewer samples of
    Table 2's FFHQ half and of Fig. 5.
    """
    slot, evaluation = scale.slots[slot_name], scale.evaluation
    guided = SLOTS[slot_name][1] != "none"
    return Protocol(
        dataset=slot.dataset,
        autoencoder=slot.autoencoder,
        text_encoder=slot.text_encoder,
        extractor=slot.extractor,
        n_samples=evaluation.n_samples_reduced if reduced else evaluation.n_samples,
        # ADM clips predicted pixels to their range; latents have none.
        x0_clamp=1.0 if slot.autoencoder is None else evaluation.x0_clamp,
        guidance=(guidance or evaluation.guidance) if guided else None,
        **{
            name: getattr(evaluation, name)
            for name in Protocol.model_fields
            if name in type(evaluation).model_fields
            and name not in ("n_samples", "x0_clamp", "guidance")
        },
    )


def panel_protocol(scale: Scale, panel: str, slot: str) -> Protocol:
    """The protocol behind the cells of a table's panel ("table2_ffhq")."""
    return protocol(scale, slot, reduced=panel in REDUCED)


def evaluations(scale: Scale) -> list[Evaluation]:
    """Every measured model of the scale once, in the order of the runs; then the controls."""
    wanted = dict.fromkeys(
        evaluation
        for run in selected_runs(scale).values()
        for evaluation in _of_run(scale, run, scale.targets)
    )
    return [*wanted, *untrained_controls(scale)]


def evaluations_for(scale: Scale, target: str) -> list[Evaluation]:
    """The measured models that one table or figure shows."""
    runs = [run for run in selected_runs(scale).values() if run.needed_by(target)]
    wanted = dict.fromkeys(
        evaluation for run in runs for evaluation in _of_run(scale, run, [target])
    )
    return [*wanted, *(untrained_controls(scale) if target == "table1" else ())]


def _of_run(scale: Scale, run: Run, targets: list[str]) -> Iterator[Evaluation]:
    """What `targets` show of a run; a run of the scale's own is always measured."""
    uses = [use for use in run.used_by if use.split("_")[0] in targets]
    if run in scale.extra_runs:
        uses.append("extra")
    final = training_steps(scale, run)
    for use in uses:
        for step, wanted in _asked(scale, run, use, final):
            for seed in scale.seeds:
                yield Evaluation(model_name(run), run.slot, seed, step, wanted)


def _asked(scale: Scale, run: Run, use: str, final: int) -> Iterator[tuple[int, Protocol]]:
    if use in UNMEASURED:
        return
    if use == "figure3":
        for guidance in scale.evaluation.guidance_sweep:
            yield final, protocol(scale, run.slot, guidance=guidance)
    elif use == "figure5":
        for step in convergence_steps(scale, run):
            yield step, protocol(scale, run.slot, reduced=True)
    else:
        yield final, panel_protocol(scale, use, run.slot)


def model_name(run: Run) -> str:
    """Name of the model a run is part of.

    An expert alone denoises only its timesteps: experts are measured together, as one model.
    """
    return "+".join(EXPERTS) if run.id in EXPERTS else run.id


def final_evaluations(scale: Scale, slot: str) -> list[Evaluation]:
    """The last model of each run of a slot once per seed, under the protocol met first."""
    runs = all_runs(scale)
    found: dict[tuple[str, int], Evaluation] = {}
    for one in evaluations(scale):
        if one.slot == slot and one.step == training_steps(scale, runs[components(one.name)[0]]):
            found.setdefault((one.name, one.seed), one)
    return list(found.values())


def components(name: str) -> list[str]:
    """Ids of the runs behind the name of a measured model: one, or all experts."""
    return name.split("+")


def convergence_steps(scale: Scale, run: Run) -> list[int]:
    """Steps at which Fig. 5 measures a run, ascending; the last is the end of its training."""
    final = training_steps(scale, run)
    return sorted({max(1, round(share * final)) for share in scale.evaluation.convergence})


def baseline_run(scale: Scale, slot: str) -> Run | None:
    """The unrouted, unweighted run of a slot whose untrained network is the control row."""
    for run in selected_runs(scale).values():
        if (run.slot, run.routing, run.weighting) == (slot, "none", "vanilla"):
            return run
    return None


def untrained_controls(scale: Scale) -> list[Evaluation]:
    """The network of each slot's baseline before its first step: what "bad" means there."""
    baselines = ((slot, baseline_run(scale, slot)) for slot in used_slots(scale))
    return [
        Evaluation(model_name(run), slot, scale.seeds[0], 0, protocol(scale, slot))
        for slot, run in baselines
        if run is not None
    ]


def used_slots(scale: Scale) -> list[str]:
    """Slots that at least one selected run trains on, in the paper's order."""
    used = {run.slot for run in selected_runs(scale).values()}
    return [slot for slot in SLOTS if slot in used]


def record_path(scale: Scale, evaluation: Evaluation) -> str:
    """Where the metrics of one measured model are."""
    name, _, seed, step, own = evaluation
    return f"{scale.results}/runs/{name}/seed{seed}/step{step}/metrics/{own.id}.json"


def real_record_path(scale: Scale, slot: str) -> str:
    """Where the metrics of real images against real images are."""
    return f"{scale.results}/controls/{slot}/real/metrics/{protocol(scale, slot).id}.json"


def measured_records(scale: Scale, target: str | None = None) -> list[str]:
    """Path of every metrics record of the scale, or of those that one table or figure shows."""
    wanted = evaluations(scale) if target is None else evaluations_for(scale, target)
    slots = used_slots(scale) if target in (None, "table1") else []
    return [record_path(scale, evaluation) for evaluation in wanted] + [
        real_record_path(scale, slot) for slot in slots
    ]


def cka_record_path(scale: Scale, run_id: str, seed: int) -> str:
    """Where the similarity between a model's timesteps is."""
    return f"{scale.results}/analysis/cka/{run_id}-seed{seed}.json"


def throughput_record_path(scale: Scale, backbone: str) -> str:
    """Where the training speed of one of the paper's sizes is."""
    return f"{scale.results}/analysis/throughput/{backbone.replace('/', '-')}.json"


def analysis_records(scale: Scale, target: str | None = None) -> list[str]:
    """Path of every record of the scale that needs no samples, or of those of one target."""
    targets = scale.targets if target is None else [target]
    paths = []
    if "figure6" in targets:
        compared = [run for run in selected_runs(scale).values() if run.needed_by("figure6")]
        paths += [cka_record_path(scale, run.id, seed) for run in compared for seed in scale.seeds]
    if "table7" in targets:
        paths += [throughput_record_path(scale, backbone) for backbone in TIMED.values()]
    return paths


def target_records(scale: Scale, target: str | None = None) -> list[str]:
    """Path of every record behind the scale's tables and figures, or behind one of them."""
    return measured_records(scale, target) + analysis_records(scale, target)


def target_files(scale: Scale) -> list[str]:
    """The files of the scale's tables and figures, as far as Snakemake is told of them."""
    tables = [f"{scale.results}/tables/{name}.csv" for name in TABLES if name in scale.targets]
    figures = [f"{scale.results}/figures/{name}.svg" for name in FIGURES if name in scale.targets]
    return tables + figures


def protocols(scale: Scale) -> dict[str, Protocol]:
    """Every protocol of the scale by its id."""
    known = [evaluation.protocol for evaluation in evaluations(scale)]
    return {own.id: own for own in (*known, *(protocol(scale, slot) for slot in scale.slots))}


def trained_records(scale: Scale) -> list[str]:
    """Path of the training record of every run and seed of the scale."""
    return [
        training_record_path(scale, run.id, seed, training_steps(scale, run))
        for run in selected_runs(scale).values()
        for seed in scale.seeds
    ]


def training_record_path(scale: Scale, run_id: str, seed: int, step: int) -> str:
    """Where the training record of a model is."""
    return f"{scale.results}/runs/{run_id}/seed{seed}/step{step}/train.json"


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
