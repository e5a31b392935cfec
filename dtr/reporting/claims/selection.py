"""The claim that one of several runs is the best."""

import math
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import Field

from dtr.config.stages import Protocol
from dtr.reporting.claims.decisions import CONTRADICTED, INCONCLUSIVE, REPRODUCED
from dtr.reporting.claims.evidence import Evaluator
from dtr.reporting.claims.shared import RunKey, fid_evidence, impossible, of_metric
from dtr.reporting.claims.statistics import not_told_apart
from dtr.reporting.claims.verdicts import Comparison, Evidence, combine, settle
from dtr.reporting.published import value_of
from dtr.support.settings import Settings


class BestOf(Settings):
    """`best` has the lowest FID of all: a selection among k, not k - 1 independent duels."""

    best: RunKey
    others: Annotated[list[RunKey], Field(min_length=1)]
    panel: str

    def carry_out(self, evaluator: Evaluator) -> Iterator[Comparison]:
        """One comparison with the best of the others, and the set that may be the best."""
        names = (self.best, *self.others)
        known = {name: value_of(self.panel, name, "fid") for name in names}
        rival = min(self.others, key=lambda name: known[name]["value"] if known[name] else math.inf)
        comparison = of_metric(
            (self.best, f"the best of {len(self.others)} others"),
            "fid",
            "lower",
            [known[self.best], known[rival]],
        )
        if reason := impossible(evaluator, *names):
            comparison.reason = reason
            yield comparison
            return
        own, evidence = fid_evidence(evaluator, names, self.panel)
        seeds = set.intersection(*(set(one.values) for one in evidence.values()))
        if not seeds:
            settle(comparison, evidence, [0] * len(names))
        elif len(seeds) == 1:
            self._duels(comparison, evidence)
        else:
            self._select(comparison, evidence, evaluator, own)
        comparison.quantity, comparison.protocol_id = f"fid@{own.extractor}", own.id
        yield comparison

    def _rival(self, evidence: dict[str, Evidence]) -> str:
        """The best of the others here, by the seeds that all runs have."""
        seeds = set.intersection(*(set(one.values) for one in evidence.values()))
        return min(
            self.others, key=lambda name: np.mean([evidence[name].numbers[seed] for seed in seeds])
        )

    def _duels(self, comparison: Comparison, evidence: dict[str, Evidence]) -> None:
        """One seed: the worst of the verdicts against each of the others."""
        verdicts = []
        for name in sorted(self.others, key=lambda name: name == self._rival(evidence)):
            settle(comparison, {self.best: evidence[self.best], name: evidence[name]})
            verdicts.append(comparison.verdict)
        comparison.verdict, comparison.support = combine(verdicts), None  # not the last duel's

    def _select(
        self, comparison: Comparison, evidence: dict[str, Evidence], evaluator, own: Protocol
    ) -> None:
        spread = evaluator.spread(evidence, own, "fid")
        rival = self._rival(evidence)
        settle(comparison, {n: evidence[n] for n in (self.best, rival)}, spread=spread)
        comparison.support = None  # the selection decides, not this duel
        if spread is None:
            comparison.verdict = INCONCLUSIVE
            return
        values = {name: one.numbers for name, one in evidence.items()}
        chosen = comparison.chosen = tuple(
            not_told_apart(values, spread, selections=evaluator.selections)
        )
        if self.best not in chosen:
            comparison.verdict = CONTRADICTED
        elif len(chosen) == 1:
            comparison.verdict = REPRODUCED
        else:
            comparison.verdict = INCONCLUSIVE
