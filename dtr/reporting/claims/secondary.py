"""A second outcome that sees more than FID: the noise error of trainings with equal draws.

Models of one seed are trained on the same images, noise and timesteps, so that their errors differ
by the models alone. It is not the paper's metric, and a lower error need not give better images.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dtr.experiments import RUNS, SLOTS, Run
from dtr.records.table import Records
from dtr.reporting.claims.statistics import Effect, paired_effect, pooled_spread
from dtr.reporting.figures.style import ROUTING_NAMES

PANEL, PLAIN = "table1", "none"
LAST = 0.5  # share of a training, counted from its end, whose mean error is compared


@dataclass(frozen=True)
class ErrorRow:
    """A routing against none on one dataset: means here, and the change in per cent."""

    dataset: str
    routing: str
    here: tuple[float, float]
    effect: Effect

    @property
    def text(self) -> str:
        """The change with its interval, per cent."""
        numbers = (self.effect.percent, self.effect.low, self.effect.high)
        return "{:+.2f} % [{:+.2f}, {:+.2f}]".format(*numbers).replace("-", "−")

    @property
    def seen(self) -> bool:
        """Whether the interval excludes no difference."""
        return self.effect.low > 0 or self.effect.high < 0


def error_rows(records: Records) -> list[ErrorRow]:
    """Each routing of Table 1 against none, where two seeds or more have both."""
    return [row for slot in SLOTS if slot in records.scale.slots for row in _rows(records, slot)]


def _rows(records: Records, slot: str) -> Iterator[ErrorRow]:
    runs = [run for run in RUNS if run.slot == slot and PANEL in run.used_by]
    errors = {run.routing.type: _errors(records, run) for run in runs}
    plain = errors.pop(PLAIN, {})
    spread = pooled_spread({PLAIN: plain} | errors, log=True)
    for routing, own in errors.items():
        effect = paired_effect(own, plain, spread=spread)
        if effect is not None:
            seeds = own.keys() & plain.keys()
            here = tuple(sum(one[seed] for seed in seeds) / len(seeds) for one in (own, plain))
            yield ErrorRow(SLOTS[slot].dataset, ROUTING_NAMES[routing], here, effect)


def _errors(records: Records, run: Run) -> dict[int, float]:
    """Mean logged error of the last part of a training, by seed; outdated models have none."""
    found = {}
    for record in records.final_trainings():
        if record.run != run.id or record.seed not in records.scale.seeds:
            continue
        late = [point.mse for point in record.history if point.step > LAST * record.step]
        if late and records.outdated(record.run, record.seed, record.step) is None:
            found[record.seed] = sum(late) / len(late)
    return found
