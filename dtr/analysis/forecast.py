"""What a scale would cost, by table and figure and all together: jobs, operations, hours, bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dtr.analysis.cost import Costs
from dtr.config.scale import Scale
from dtr.planning.jobs import Job, catalogue, file_of, jobs_behind, remaining
from dtr.planning.places import Places
from dtr.records.timed import Timed
from dtr.support.errors import Refusal

HOUR = 3600.0
EVERYTHING, TOGETHER = "everything", "together"


@dataclass
class Amount:
    """What some jobs take. Hours are of one machine, or as recorded, one job after the other."""

    jobs: int = 0
    there: int = 0  # all outputs exist
    remaining: int = 0
    operations: int = 0
    hours: float = 0.0
    hours_remaining: float = 0.0
    recorded: int = 0  # jobs whose hours are recorded

    def add(self, other: "Amount") -> None:
        """Count what `other` takes, too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Part:
    """What one table or figure takes, or several together; a job that many need counts once."""

    name: str
    runs: int = 0
    seeds: int = 0
    trainings: int = 0  # of a run with a seed, up to its end
    total: Amount = field(default_factory=Amount)
    stages: dict[str, Amount] = field(default_factory=dict)  # by rule
    disk: dict[str, int | None] = field(default_factory=dict)  # bytes by kind; None: not known


@dataclass
class Forecast:
    """The cost of a scale: every target on its own, and their union."""

    scale: str
    results: str
    device: str
    tflops: float
    recorded_in: list[str]
    passed_over: int  # recorded trainings of other settings
    targets: list[Part]
    union: Part

    def plain(self) -> dict[str, Any]:
        """The same as JSON types."""
        own = vars(self) | {"targets": [_plain(part) for part in self.targets]}
        return own | {"union": _plain(self.union)}


def forecast(scale: Scale, targets: Sequence[str], *, tflops: float) -> Forecast:
    """What `targets` would cost, or without any the whole scale; starts and writes nothing.

    tflops: 10^12 operations per second of the machine.  A target that is none of the scale's is
    refused.
    """
    for target in targets:
        if target not in scale.targets:
            raise Refusal(
                f"--targets {target}: not a target of the {scale.scale} scale; accepted: "
                f"{', '.join(scale.targets)}"
            )
    known = catalogue(scale)
    there = {key for key, job in known.items() if job.there()}
    timed = Timed(scale)
    costs = Costs(scale, timed, tflops * 1e12)
    names = list(dict.fromkeys(targets or scale.targets))
    files = {name: file_of(scale, name) for name in names}
    if targets:
        together, union = TOGETHER if len(names) > 1 else names[0], list(files.values())
    else:
        together, union = EVERYTHING, [Places(scale.results).page()]
    return Forecast(
        scale.scale,
        scale.results,
        scale.execution.device,
        tflops,
        list(map(str, timed.folders)),
        timed.passed_over,
        [_part(name, known, [file], there, costs) for name, file in files.items()],
        _part(together, known, union, there, costs),
    )


def _part(
    name: str, known: dict[str, Job], wanted: Iterable[str], there: set[str], costs: Costs
) -> Part:
    jobs = jobs_behind(known, wanted)
    left = remaining(jobs, wanted, there=there)
    part = Part(name)
    trained = {(job.name, job.seed) for job in jobs.values() if job.stage == "train" and job.step}
    part.trainings = len(trained)
    part.runs, part.seeds = len({run for run, _ in trained}), len({seed for _, seed in trained})
    work: dict[str, int] = {}
    for key, job in jobs.items():
        own = _amount(job, costs, is_there=key in there, is_left=key in left)
        part.stages.setdefault(job.stage, Amount()).add(own)
        part.total.add(own)
        for kind, size in costs.disk(job).items():
            before = part.disk.get(kind, 0)
            part.disk[kind] = None if size is None or before is None else before + size
        if job.stage == "train" and job.step:
            folder, size = costs.checkpoints(job)
            work[folder] = size
    if work:
        part.disk["checkpoints"] = sum(work.values())
    return part


def _amount(job: Job, costs: Costs, *, is_there: bool, is_left: bool) -> Amount:
    cost = costs.of(job)
    hours = cost.seconds / HOUR
    return Amount(
        jobs=1,
        there=int(is_there),
        remaining=int(is_left),
        operations=cost.operations,
        hours=hours,
        hours_remaining=hours if is_left else 0.0,
        recorded=int(cost.recorded),
    )


def _plain(part: Part) -> dict[str, Any]:
    own = vars(part) | {"total": vars(part.total)}
    return own | {"stages": {stage: vars(amount) for stage, amount in part.stages.items()}}
