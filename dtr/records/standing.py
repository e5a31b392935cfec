"""How a sweep stands at this moment, cell by cell, by its files alone. Free of torch and pandas.

It is quick for the largest scale: of a training record, whose history may be long, only the head
is read, of a log only the end.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import TIMED
from dtr.planning.evaluations import components, evaluations, evaluations_for
from dtr.planning.places import Places
from dtr.planning.runs import all_runs, lineage, milestones, selected_runs
from dtr.records.lease import holder
from dtr.records.workdir import LOCK, LOG, in_use

State = Literal["done", "running", "trained", "waiting", "diverged", "failed"]
STATES: tuple[State, ...] = ("done", "running", "trained", "waiting", "diverged", "failed")
WORST: tuple[State, ...] = ("failed", "diverged", "running", "waiting", "trained", "done")
HEAD, TAIL = 16_384, 8_192  # bytes
LOOKED_AT = 16  # logs of missing sample files
STATUS = re.compile(r'"status": ?"(\w+)"')
REASON = re.compile(r'"reason": ?("(?:[^"\\]|\\.)*")')
# The last line of a log whose job did not come to its end.
ERROR = re.compile(
    r"(dtr [\w-]+: |[\w.]*(Error|Exception)\b"
    r"|.*(out of memory|oom.?kill|Killed|Segmentation fault))"
)
# Of one that stopped in good order, or left the work to another.
ORDERLY = re.compile(r"saved at step|another process is working|is being trained|recorded in")


class Cell(NamedTuple):
    """One place of a table or figure: a measured model, or another record; with its state."""

    target: str
    name: str  # of the model, or of the timed size
    seed: int
    step: int
    protocol: str  # empty where nothing is sampled
    state: State
    said: str  # reason, or how far it is


@dataclass
class Training:
    """One run and seed up to one of its steps: how far, how fast, where."""

    run: str
    seed: int
    step: int  # that is wanted
    state: State
    reached: int = 0
    rate: float | None = None  # steps per second
    holder: dict[str, Any] = field(default_factory=dict)  # host, pid and cluster job
    said: str = ""

    @property
    def left(self) -> float | None:
        """Seconds up to the wanted step; None where nothing says how fast it is."""
        return None if not self.rate else max(0, self.step - self.reached) / self.rate


class Standing:
    """The cells and trainings of a scale at this moment; everything is read when it is made."""

    def __init__(self, scale: Scale) -> None:
        self.scale, self.places = scale, Places(scale.results)
        self.known = all_runs(scale)
        self._work: dict[tuple[str, int], tuple[bool, int, float | None, dict]] = {}
        self._models: dict[tuple[str, int, int], Training] = {}
        self.cells = [cell for target in scale.targets for cell in self._cells_of(target)]
        self.cells += self._others()
        self.trainings = self._trainings()

    def _cells_of(self, target: str) -> Iterator[Cell]:
        for name, _, seed, step, protocol in evaluations_for(self.scale, target):
            record = self.places.metrics(name, seed, step, protocol.id)
            state, said = self._measured(record, name, seed, step, protocol)
            yield Cell(target, name, seed, step, protocol.id, state, said)
        if target == "figure6":
            for run in selected_runs(self.scale).values():
                if run.needed_by(target):
                    step = training_steps(self.scale, run)
                    for seed in self.scale.seeds:
                        state, said = self._compared(run.id, seed, step)
                        yield Cell(target, run.id, seed, step, "", state, said)
        if target == "table7":
            for backbone in TIMED:
                found = _outcome(self.places.throughput(backbone)) or ("waiting", "")
                yield Cell(target, backbone, 0, 0, "", *found)

    def _others(self) -> Iterator[Cell]:
        """Runs of the scale's own that no table shows, as `others`."""
        shown = {cell[1:5] for cell in self.cells}
        for name, _, seed, step, protocol in evaluations(self.scale):
            if (name, seed, step, protocol.id) not in shown:
                record = self.places.metrics(name, seed, step, protocol.id)
                found = self._measured(record, name, seed, step, protocol)
                yield Cell("others", name, seed, step, protocol.id, *found)

    def _measured(
        self, record: str, name: str, seed: int, step: int, protocol: Any
    ) -> tuple[State, str]:
        if found := _outcome(record):
            return found
        models = [self.model(run, seed, step) for run in components(name)]
        worst = min(models, key=lambda model: WORST.index(model.state))
        if worst.state != "done":
            return worst.state, worst.said
        job = f"{name}-seed{seed}-step{step}-{protocol.id}"
        total = -(-protocol.n_samples // self.scale.evaluation.shard_size)
        there = _names(self.places.samples(name, seed, step, protocol.id))
        missing = [number for number in range(total) if f"shard-{number}.npz" not in there]
        logs = [self.places.log("sample", f"{job}-{number}") for number in missing[:LOOKED_AT]]
        for log in logs or [self.places.log("measure", job)]:
            if error := last_error(log):
                return "failed", f"{error} ({log})"
        return "trained", f"{total - len(missing)} of {total} files of samples"

    def _compared(self, run: str, seed: int, step: int) -> tuple[State, str]:
        if found := _outcome(self.places.cka(run, seed)):
            return found
        model = self.model(run, seed, step)
        return ("trained", "") if model.state == "done" else (model.state, model.said)

    def model(self, run: str, seed: int, step: int) -> Training:
        """A run and seed at one of its steps."""
        key = run, seed, step
        if key not in self._models:
            self._models[key] = self._look(run, seed, step)
        return self._models[key]

    def _look(self, run: str, seed: int, step: int) -> Training:
        if found := _outcome(self.places.training(run, seed, step)):
            return Training(run, seed, step, found[0], reached=step, said=found[1])
        held, reached, rate, who = self._work_of(run, seed)
        made = Training(run, seed, step, "waiting", reached=min(reached, step), rate=rate)
        steps = milestones(self.scale, self.known[run])
        if held and step == min((one for one in steps if one >= max(1, reached)), default=step):
            made.state, made.holder = "running", who
            made.said = f"step {made.reached:,} of {step:,}"
        elif held:
            made.said = f"at step {made.reached:,} of {step:,}"
        elif error := last_error(log := self.places.log("train", f"{run}-seed{seed}-step{step}")):
            made.state, made.said = "failed", f"{error} ({log})"
        elif made.reached:
            made.said = f"stopped at step {made.reached:,} of {step:,}"
        return made

    def _work_of(self, run: str, seed: int) -> tuple[bool, int, float | None, dict]:
        """Whether a run's work folder is held, its last step and rate, and who holds it."""
        owner = lineage(self.scale, self.known[run]).id
        if (owner, seed) not in self._work:
            found = (False, 0, None, {})
            for folder in _folders(Path(self.places.work(owner, seed))):
                entry = last_entry(folder / LOG)
                held = (folder / LOCK).exists() and in_use(folder)
                if held or (entry.get("step", 0) >= found[1] and not found[0]):
                    who = (held and holder(folder, locked=False)) or {}
                    found = (held, entry.get("step", 0), entry.get("rate"), who)
            self._work[owner, seed] = found
        return self._work[owner, seed]

    def _trainings(self) -> list[Training]:
        """Every run and seed up to its end."""
        return [
            self.model(run.id, seed, training_steps(self.scale, run))
            for run in selected_runs(self.scale).values()
            for seed in self.scale.seeds
        ]

    @cached_property
    def at_work(self) -> list[Training]:
        """Every training that goes on at this moment, up to its next milestone."""
        return [one for one in self._models.values() if one.state == "running"]

    @cached_property
    def remaining_seconds(self) -> tuple[float, int]:
        """Of training, one job after the other, and of how many runs nothing says how long."""
        rates = {}
        for one in self.trainings:
            if one.rate:
                rates.setdefault(self._kind(one.run), []).append(one.rate)
        total, unknown = 0.0, 0
        for one in self.trainings:
            if one.state in ("done", "diverged"):
                continue
            known = [one.rate] if one.rate else rates.get(self._kind(one.run))
            if not known:
                unknown += 1
                continue
            total += max(0, one.step - one.reached) * len(known) / sum(known)
        return total, unknown

    def _kind(self, run: str) -> tuple[str, str]:
        return self.known[run].slot, self.known[run].backbone


def _outcome(record: str) -> tuple[State, str] | None:
    """What a record says of itself; None where there is none."""
    try:
        with open(record, "rb") as stream:
            text = stream.read(HEAD).decode("utf-8", errors="replace")
            if not (found := STATUS.search(text)):
                text += stream.read().decode("utf-8", errors="replace")
                found = STATUS.search(text)
    except OSError:
        return None
    if found is None:
        return "failed", f"no status in {record}"
    if found[1] == "ok":
        return "done", ""
    reason = REASON.search(text)
    said = _unquoted(reason[1]) if reason else ""
    return ("diverged" if found[1] == "diverged" else "failed"), said


def _unquoted(text: str) -> str:
    try:
        return " ".join(json.loads(text).split())
    except ValueError:
        return text


def last_entry(log: Path) -> dict[str, Any]:
    """The newest whole line of a training log; empty where there is none."""
    for line in reversed(_end_of(log)):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            return entry
    return {}


def last_error(log: str) -> str | None:
    """The last line of what a job printed, if the job ended by an error there."""
    lines = [line.strip() for line in _end_of(Path(log)) if line.strip()]
    if not lines or not ERROR.match(lines[-1]) or ORDERLY.search(lines[-1]):
        return None
    return lines[-1][:200]


def _end_of(path: Path) -> list[str]:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            return stream.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(Path(one.path) for one in os.scandir(folder) if one.is_dir())
    except OSError:
        return []


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()
