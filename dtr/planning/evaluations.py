"""Which models are measured under which protocol, and the tables and figures that show them.

Models at several steps of one run are its milestones. Free of torch.
"""

from collections.abc import Iterator
from typing import NamedTuple

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.config.stages import Protocol
from dtr.experiments import EXPERTS, REDUCED, SLOTS, UNMEASURED, Run
from dtr.planning.runs import all_runs, baseline_run, convergence_steps, selected_runs


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
    guided = SLOTS[slot_name].told != "none"
    return Protocol(
        dataset=slot.dataset,
        autoencoder=slot.autoencoder,
        text_encoder=slot.text_encoder,
        extractor=slot.extractor,
        reference=slot.reference and scale.references[slot.reference].identity(slot.reference),
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


def protocols(scale: Scale) -> dict[str, Protocol]:
    """Every protocol of the scale by its id."""
    known = [evaluation.protocol for evaluation in evaluations(scale)]
    return {own.id: own for own in (*known, *(protocol(scale, slot) for slot in scale.slots))}
