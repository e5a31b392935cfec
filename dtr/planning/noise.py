"""The noise panel: Table 1's models with DTR and without, sampled again with other noise.

Trainings by draws of samples tell how much of a difference in FID comes from which of the two.
Free of torch.
"""

from collections.abc import Iterator

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.config.stages import Protocol
from dtr.experiments import Run
from dtr.planning.evaluations import Evaluation, panel_protocol, used_slots
from dtr.planning.places import Places
from dtr.planning.runs import selected_runs

PANEL = "table1"
ROUTINGS = ("dtr", "none")  # compared, first minus second
DRAWS = 3  # of samples per training; the first is the one that the tables show
APART = 1000  # between the seeds of draws: the seed of the training is added to them


def noise_protocols(scale: Scale, slot: str) -> list[Protocol]:
    """The protocol of a slot with the noise of each draw."""
    own = panel_protocol(scale, PANEL, slot)
    return [own.model_copy(update={"seed": own.seed + APART * draw}) for draw in range(DRAWS)]


def noise_runs(scale: Scale) -> Iterator[tuple[str, list[Run]]]:
    """Each slot that has both, with its runs in the order of ROUTINGS."""
    selected = [run for run in selected_runs(scale).values() if PANEL in run.used_by]
    for slot in used_slots(scale):
        own = {run.routing.type: run for run in selected if run.slot == slot}
        if all(routing in own for routing in ROUTINGS):
            yield slot, [own[routing] for routing in ROUTINGS]


def drawn_protocols(scale: Scale) -> dict[str, Protocol]:
    """Every protocol of the panel by its id."""
    return {one.protocol.id: one.protocol for one in noise_evaluations(scale)}


def noise_records(scale: Scale) -> list[str]:
    """Path of every metrics record of the panel."""
    places = Places(scale.results)
    return [places.evaluation(one) for one in noise_evaluations(scale)]


def noise_evaluations(scale: Scale) -> list[Evaluation]:
    """Every model and draw of the panel."""
    return [
        Evaluation(run.id, slot, seed, training_steps(scale, run), protocol)
        for slot, runs in noise_runs(scale)
        for run in runs
        for seed in scale.seeds
        for protocol in noise_protocols(scale, slot)
    ]
