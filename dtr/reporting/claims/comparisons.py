"""Comparisons of claims that are no matter of image quality: similarity, time, parameters."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from dtr.reporting.claims.decisions import CONTRADICTED, REPRODUCED
from dtr.reporting.claims.evidence import CONTRASTS, Evaluator
from dtr.reporting.claims.shared import MARGIN_CKA, RunKey, as_published, impossible, sources
from dtr.reporting.claims.verdicts import Comparison, Estimate, judge, settle
from dtr.reporting.published import complexity_of, published, value_of
from dtr.support.errors import Refusal
from dtr.support.settings import Count, Settings


class CkaContrast(Settings):
    """A contrast of CKA over timesteps is higher in `higher` than in `lower`, or than 0."""

    contrast: Literal[tuple(CONTRASTS)]
    higher: RunKey
    lower: RunKey | None = None

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison; a single seed has no interval, so its sign alone decides."""
        quantity = f"CKA, {self.contrast.replace('_', ' ')}"
        comparison = Comparison(
            self.higher, self.lower or "0", quantity, "higher", margin=MARGIN_CKA
        )
        runs = [run for run in (self.higher, self.lower) if run]
        if reason := impossible(evaluator, *runs):
            comparison.reason = reason
        else:
            evidence = {run: evaluator.cka(run, self.contrast) for run in runs}
            weights = (1, -1)[: len(runs)]
            settle(comparison, evidence, weights, sides=lambda *sides: (*sides, 0.0)[:2])
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
            source=sources(*rates),
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
        if reason := impossible(evaluator, *self.runs):
            comparison.reason = reason
        else:
            evidence = {run: evaluator.parameters(run) for run in self.runs}
            settle(comparison, evidence)
        if comparison.here is not None:
            comparison.interval = "counted"
            same = comparison.here[0] == comparison.here[1]
            comparison.verdict = REPRODUCED if same else CONTRADICTED
            comparison.support = comparison.analysis = None  # nothing was estimated
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
        yield Comparison(*labels, "fid", "lower", **own, **as_published(*rows))
