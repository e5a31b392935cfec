"""The kinds of comparison that claims are made of, as data, and how each is carried out."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dtr.config.checks import why_not
from dtr.config.resolve import training_steps
from dtr.config.scale import ShareDone
from dtr.experiments import RUNS
from dtr.planning.evaluations import components, panel_protocol, protocol
from dtr.planning.runs import all_runs
from dtr.reporting.claims.evidence import CONTRASTS, Evaluator
from dtr.reporting.claims.verdicts import (
    CONTRADICTED,
    REPRODUCED,
    Comparison,
    Estimate,
    exact,
    judge,
    relative_gain,
    settle,
)
from dtr.reporting.published import complexity_of, published, results_frame, value_of
from dtr.reporting.tables.cells import NAMES
from dtr.support.errors import Refusal
from dtr.support.settings import Count, Positive, Settings

ITERATIONS = {run.id: run.iterations for run in RUNS}


def _known(name: str) -> str:
    for run in components(name):
        if run not in ITERATIONS:
            raise ValueError(f"{run!r}: no such run; they are listed in dtr/experiments.py")
    return name


RunKey = Annotated[str, AfterValidator(_known)]  # several sampled as one are joined by "+"


class Better(Settings):
    """`better` has the better metric than each of `worse`, under the protocol of `panel`.

    share: of its training at which `better` is measured; Fig. 5 has shares.
    """

    better: RunKey
    worse: Annotated[list[RunKey], Field(min_length=1)]
    panel: str
    metric: Literal[tuple(NAMES)] = "fid"
    guidance: Positive | None = None
    share: ShareDone = 1.0

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison per run of `worse`."""
        for worse in self.worse:
            yield self._against(worse, evaluator)

    def _against(self, worse: str, evaluator: Evaluator) -> Comparison:
        scale, (_, direction, decimals) = evaluator.scale, NAMES[self.metric]
        sides = {self.better: self.share, worse: 1.0}
        comparison = Comparison(
            *(self._label(name, share) for name, share in sides.items()),
            self.metric,
            direction,
            decimals=decimals,
            **_paper(*(self._published(name, share) for name, share in sides.items())),
        )
        if reason := _impossible(evaluator, *sides) or self._unmeasured(evaluator):
            comparison.reason = reason
            return comparison
        known = {name: all_runs(scale)[components(name)[0]] for name in sides}
        slot = known[worse].slot
        if self.guidance is None:
            own = panel_protocol(scale, self.panel, slot)
        else:
            own = protocol(scale, slot, guidance=self.guidance)
        comparison.quantity = f"{self.metric}@{own.extractor}"
        comparison.protocol_id = own.id
        evidence = {}
        for name, share in sides.items():
            step = max(1, round(share * training_steps(scale, known[name])))
            evidence[name] = evaluator.metric(name, step, own, self.metric)
        return settle(comparison, evidence, lambda first, second: (first, second))

    def _label(self, name: str, share: float) -> str:
        runs = components(name)
        text = runs[0] if len(runs) == 1 else f"{runs[0]} to {runs[-1]} as one model"
        if self.guidance is not None:
            text += f" at guidance {self.guidance:g}"
        return text if share == 1 else f"{text} after {share:.0%} of its steps"

    def _unmeasured(self, evaluator: Evaluator) -> str | None:
        """Why the scale's evaluation has no such point, if it has none."""
        evaluation, scale = evaluator.scale.evaluation, evaluator.scale.scale
        if self.guidance is not None and self.guidance not in evaluation.guidance_sweep:
            return f"the guidance sweep of the {scale} scale has no {self.guidance:g}"
        for share in (self.share, 1.0):
            if self.panel == "figure5" and share not in evaluation.convergence:
                return f"the {scale} scale does not measure Figure 5 at {share:.0%} of a run"
        return None

    def _published(self, name: str, share: float) -> dict | None:
        if self.guidance is None:
            trained = round(share * ITERATIONS[components(name)[0]])
            return value_of(self.panel, name, self.metric, iterations=trained)
        frame = results_frame()
        rows = frame[
            (frame["table"] == self.panel)
            & (frame["run"] == name)
            & (frame["metric"] == self.metric)
            & (frame["guidance"] == self.guidance)
        ]
        return rows.iloc[0].to_dict() if len(rows) else None


class LargerGain(Settings):
    """The relative gain in FID of the pair `larger` (routed, plain) exceeds that of `smaller`."""

    larger: tuple[RunKey, RunKey]
    smaller: tuple[RunKey, RunKey]
    panel: str

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison of two gains, in per cent."""
        names = (*self.larger, *self.smaller)
        comparison = Comparison(
            *(f"gain of {routed} over {plain}" for routed, plain in (self.larger, self.smaller)),
            "relative gain in FID, per cent",
            "higher",
            decimals=1,
        )
        rows = [value_of(self.panel, name, "fid") for name in names]
        if all(rows):
            gains = _gains(*(exact(row["value"]) for row in rows))
            comparison.paper = (gains[0].value, gains[1].value)
            comparison.source = _sources(*rows)
        if reason := _impossible(evaluator, *names):
            comparison.reason = reason
        else:
            known = [all_runs(evaluator.scale)[name] for name in names]
            own = panel_protocol(evaluator.scale, self.panel, known[0].slot)
            comparison.protocol_id = own.id
            evidence = {
                run.id: evaluator.metric(run.id, training_steps(evaluator.scale, run), own, "fid")
                for run in known
            }
            settle(comparison, evidence, _gains)
        yield comparison


def _gains(*values: Estimate) -> tuple[Estimate, Estimate]:
    return relative_gain(*values[:2]), relative_gain(*values[2:])


class CkaContrast(Settings):
    """A contrast of CKA over timesteps is higher in `higher` than in `lower`, or than 0."""

    contrast: Literal[tuple(CONTRASTS)]
    higher: RunKey
    lower: RunKey | None = None

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison; a single seed has no interval, so its sign alone decides."""
        quantity = f"CKA, {self.contrast.replace('_', ' ')}"
        comparison = Comparison(self.higher, self.lower or "0", quantity, "higher")
        runs = [run for run in (self.higher, self.lower) if run]
        if reason := _impossible(evaluator, *runs):
            comparison.reason = reason
        else:
            evidence = {run: evaluator.cka(run, self.contrast) for run in runs}
            settle(comparison, evidence, lambda *sides: (*sides, exact(0.0))[:2])
        yield comparison


class TimePerStep(Settings):
    """A step with DTR takes less than `below` times one without, for one of the paper's sizes."""

    backbone: str
    below: Annotated[float, Field(gt=1)]

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison with a stated margin; its interval is over pairs of steps, not seeds."""
        rates = [
            complexity_of(self.backbone, routing, "iterations_per_second")
            for routing in ("none", "dtr")
        ]
        comparison = Comparison(
            f"{self.backbone}: time of a step with DTR by one without",
            f"the margin {self.below:g}",
            "ratio of times",
            "lower",
            threshold=self.below,
            paper=(rates[0]["value"] / rates[1]["value"], self.below),
            source=_sources(*rates),
        )
        if absence := evaluator.absences.of_speed(self.backbone):
            comparison.reason = absence.text
        else:
            record = evaluator.records.throughput[self.backbone]
            speed = record.speed
            comparison.here = (speed.ratio, self.below)
            comparison.effect = Estimate(speed.ratio, speed.low, speed.high)
            comparison.interval = f"bootstrap, {record.pairs} pairs of steps"
            comparison.verdict = judge(comparison.effect, claimed="lower", threshold=self.below)
        yield comparison


class SameParameters(Settings):
    """Two runs have equally many parameters: a count, so that one record of each is enough."""

    runs: tuple[RunKey, RunKey]

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison of counts."""
        comparison = Comparison(*self.runs, "parameters", "equal", decimals=0)
        if reason := _impossible(evaluator, *self.runs):
            comparison.reason = reason
        else:
            evidence = {run: evaluator.parameters(run) for run in self.runs}
            settle(comparison, evidence, lambda first, second: (first, second))
        if comparison.here is not None:
            comparison.interval = "counted"
            same = comparison.here[0] == comparison.here[1]
            comparison.verdict = REPRODUCED if same else CONTRADICTED
        yield comparison


class Quoted(Settings):
    """A published value that no run of the benchmark stands for."""

    label: str
    panel: str | None = None  # None: among the values beyond the paper
    iterations: Count | None = None

    def row(self) -> dict:
        """Its published value and provenance; a label that is not there is refused."""
        if self.panel is not None:
            found = value_of(self.panel, self.label, "fid", iterations=self.iterations)
        else:
            found = next(
                (
                    {"value": row["metrics"]["fid"], "provenance": ", ".join(row["provenance"])}
                    for row in published()["beyond_the_paper"]
                    if row["label"] == self.label
                ),
                None,
            )
        if found is None:
            raise Refusal(f"claims: {self.label!r}: no such row in published.yaml")
        return found


class NeverRun(Settings):
    """`better` has the lower FID than `worse`, where this benchmark has no pair to compare."""

    better: Quoted
    worse: Quoted
    reason: str

    def carry_out(self, _evaluator: Evaluator) -> Iterator[Comparison]:
        """The published values only."""
        rows = (self.better.row(), self.worse.row())
        labels = (self.better.label, self.worse.label)
        own = {"reason": self.reason, "decimals": 2}
        yield Comparison(*labels, "fid", "lower", **own, **_paper(*rows))


def _impossible(evaluator: Evaluator, *names: str) -> str | None:
    """Why the scale cannot train one of the models."""
    known = all_runs(evaluator.scale)
    reasons = (why_not(evaluator.scale, known[run]) for name in names for run in components(name))
    return next(filter(None, reasons), None)


def _paper(*rows: dict | None) -> dict:
    """Both published values and where they are from; nothing if the paper has no such pair."""
    if None in rows:
        return {}
    return {"paper": tuple(row["value"] for row in rows), "source": _sources(*rows)}


def _sources(*rows: dict) -> str:
    return ", ".join(dict.fromkeys(row["provenance"] for row in rows if row["provenance"]))
