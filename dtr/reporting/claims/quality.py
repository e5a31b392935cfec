"""Comparisons of image quality that claims are made of, as data, and how each is carried out.

A metric that is a distance or a score is compared by its logarithm, so that an effect is a change
in per cent and means the same at any budget; a share (precision, recall) by its difference.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from dtr.config.scale import ShareDone
from dtr.config.stages import Protocol
from dtr.experiments import Run
from dtr.planning.evaluations import components, panel_protocol, protocol
from dtr.planning.runs import all_runs
from dtr.reporting.claims.evidence import Evaluator
from dtr.reporting.claims.shared import (
    ITERATIONS,
    MARGIN_PERCENT,
    Pair,
    RunKey,
    change,
    fid_evidence,
    impossible,
    in_panel,
    measured,
    of_metric,
    sources,
)
from dtr.reporting.claims.statistics import pooled
from dtr.reporting.claims.verdicts import Comparison, settle, with_effect
from dtr.reporting.published import results_frame, value_of
from dtr.reporting.tables.cells import NAMES
from dtr.support.settings import Positive, Settings


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
        sides = {self.better: self.share, worse: 1.0}
        labels = [self._label(name, share) for name, share in sides.items()]
        rows = [self._published(name, share) for name, share in sides.items()]
        comparison = of_metric(labels, self.metric, NAMES[self.metric][1], rows)
        if reason := impossible(evaluator, *sides) or self._unmeasured(evaluator):
            comparison.reason = reason
            return comparison
        own = self._protocol(evaluator, all_runs(evaluator.scale)[components(worse)[0]])
        return measured(comparison, evaluator, sides, own, self.metric)

    def _protocol(self, evaluator: Evaluator, run: Run) -> Protocol:
        if self.guidance is None:
            return panel_protocol(evaluator.scale, self.panel, run.slot)
        return protocol(evaluator.scale, run.slot, guidance=self.guidance)

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


class Alike(Settings):
    """Two runs have nearly the same FID: the difference is within the margin."""

    runs: Pair
    panel: str

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison."""
        rows = [value_of(self.panel, name, "fid") for name in self.runs]
        comparison = of_metric(self.runs, "fid", "equal", rows)
        yield in_panel(comparison, evaluator, self.runs, self.panel)


class LargerGain(Settings):
    """The pair `larger` (routed, plain) gains a larger share of its FID than the pair `smaller`."""

    larger: Pair
    smaller: Pair
    panel: str

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison of two ratios of FID, routed to plain: lower where the gain is larger."""
        names = (*self.larger, *self.smaller)
        comparison = Comparison(
            *(f"FID of {routed} by {plain}" for routed, plain in (self.larger, self.smaller)),
            "ratio of FIDs",
            "lower",
            log=True,
            margin=MARGIN_PERCENT,
        )
        rows = [value_of(self.panel, name, "fid") for name in names]
        if all(rows):
            comparison.paper = ratios(*(row["value"] for row in rows))
            comparison.expected = change(comparison.paper)
            comparison.source = sources(*rows)
        if reason := impossible(evaluator, *names):
            comparison.reason = reason
        else:
            own, evidence = fid_evidence(evaluator, names, self.panel)
            comparison.protocol_id = own.id
            spread = evaluator.spread(names, own, "fid")
            settle(comparison, evidence, (1, -1, -1, 1), spread=spread, sides=ratios)
        yield comparison


class OnAverage(Settings):
    """Over all pairs (routed, plain) together, routing lowers FID: one question, several places."""

    pairs: Annotated[list[Pair], Field(min_length=2)]
    panel: str

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison: the mean of the effects of all places, which may differ."""
        here = len(self.pairs)
        comparison = Comparison(
            f"{here} routed models",
            "their unrouted ones",
            "fid, mean change",
            "lower",
            log=True,
            margin=MARGIN_PERCENT,
        )
        rows = [[value_of(self.panel, name, "fid") for name in pair] for pair in self.pairs]
        logs = [math.log(routed["value"] / plain["value"]) for routed, plain in rows]
        comparison.expected = 100 * math.expm1(math.fsum(logs) / here)
        comparison.source = sources(*(row for pair in rows for row in pair))
        effects, seeds = [], []
        for pair in self.pairs:
            one = Comparison(*pair, "fid", "lower", log=True, margin=MARGIN_PERCENT)
            one = in_panel(one, evaluator, pair, self.panel)
            if one.analysis is None:
                comparison.reason = one.reason or f"{pair[0]}: needs two seeds or more"
                break
            effects.append(one.analysis)
            seeds.append(set(one.seeds))
        else:
            mean, heterogeneity = pooled(effects)
            with_effect(comparison, mean, None)
            comparison.seeds = tuple(sorted(set.intersection(*seeds)))
            comparison.interval = (
                f"random-effects mean of {here} places; {heterogeneity:.0%} of their variation is "
                "not noise"
            )
        yield comparison


def ratios(*values: float) -> tuple[float, float]:
    """Of the first two and of the last two values."""
    return values[0] / values[1], values[2] / values[3]
