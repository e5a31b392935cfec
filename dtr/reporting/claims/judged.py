"""The paper's claims (report/claims.yaml) with verdicts, for the page, CSV, Markdown and JSON."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import yaml
from pydantic import Field, model_validator

from dtr.config.checks import CLAIMS
from dtr.config.scale import Scale
from dtr.records.table import Records
from dtr.reporting.claims.comparisons import (
    CkaContrast,
    NeverRun,
    SameParameters,
    TimePerStep,
)
from dtr.reporting.claims.decisions import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPRODUCED,
    all_of,
    decide,
    family_adjusted,
)
from dtr.reporting.claims.evidence import Evaluator
from dtr.reporting.claims.quality import Alike, Better, LargerGain, OnAverage
from dtr.reporting.claims.selection import BestOf
from dtr.reporting.claims.sentences import sentence
from dtr.reporting.claims.sides import name_sides
from dtr.reporting.claims.verdicts import (
    NOT_RUN,
    ONE_SEED,
    UNTESTABLE,
    VERDICTS,
    Comparison,
    combine,
)
from dtr.reporting.published import UNKNOWN
from dtr.support.errors import Refusal
from dtr.support.files import write_json, write_text
from dtr.support.settings import Name, Settings, parse

KINDS = {"claim": "claims of the paper", "counter": "known findings against the method"}
PLURALS = {
    ONE_SEED[REPRODUCED]: "agree (1 seed)",
    ONE_SEED[CONTRADICTED]: "disagree (1 seed)",
}
ALWAYS_NAMED = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)  # in a summary, also at 0


class Claim(Settings):
    """One claim and all comparisons that it needs; `paper` says where it is made."""

    id: Name
    kind: Literal[tuple(KINDS)]
    group: str
    title: str
    text: str
    paper: str
    better: list[Better] = Field(default_factory=list)
    alike: list[Alike] = Field(default_factory=list)
    best_of: list[BestOf] = Field(default_factory=list)
    on_average: list[OnAverage] = Field(default_factory=list)
    larger_gain: list[LargerGain] = Field(default_factory=list)
    cka: list[CkaContrast] = Field(default_factory=list)
    time_per_step: list[TimePerStep] = Field(default_factory=list)
    same_parameters: list[SameParameters] = Field(default_factory=list)
    never_run: list[NeverRun] = Field(default_factory=list)

    @property
    def parts(self) -> list[Any]:
        """The comparisons of every kind, each with its `carry_out`."""
        return [
            *self.better,
            *self.alike,
            *self.best_of,
            *self.on_average,
            *self.larger_gain,
            *self.cka,
            *self.time_per_step,
            *self.same_parameters,
            *self.never_run,
        ]

    @model_validator(mode="after")
    def _compares(self) -> Self:
        if not self.parts:
            raise ValueError(f"{self.id}: compares nothing")
        return self


@dataclass
class ClaimResult:
    """A claim with its comparisons carried out at one scale, and what they say together.

    `unfair` is the reason why the scale's budget would decide it, and not the method.
    """

    scale: str
    claim: Claim
    comparisons: list[Comparison]
    unfair: str = ""
    verdict: str = NOT_RUN

    @property
    def sentence(self) -> str:
        """The verdict as a person would say it."""
        return self.unfair or sentence(self.verdict, self.comparisons)


@dataclass
class ClaimsSummary:
    """How many verdicts of each sort there are, by kind of claim, at one scale."""

    scale: str
    counts: dict[str, Counter[str]]

    def parts(self, kind: str) -> list[tuple[int, str]]:
        """(count, words) to be read out one after the other; they add up to all of the kind."""
        counts = self.counts[kind]
        return [
            (counts[verdict], PLURALS.get(verdict, verdict) if counts[verdict] != 1 else verdict)
            for verdict in VERDICTS
            if counts[verdict] or verdict in ALWAYS_NAMED
        ]

    @property
    def text(self) -> str:
        """The summary in one line."""
        sentences = [
            f"of {self.counts[kind].total()} {words}: "
            + ", ".join(f"{count} {verdict}" for count, verdict in self.parts(kind))
            for kind, words in KINDS.items()
        ]
        return f"At the {self.scale} scale, {'; '.join(sentences)}."


@cache
def load_claims() -> tuple[Claim, ...]:
    """The claims in the order of the page; a mistake in the file is refused by its place."""
    if not CLAIMS.is_file():
        raise Refusal(f"{CLAIMS}: missing; the page is built from a repository clone")
    claims = parse(
        tuple[Claim, ...],
        yaml.safe_load(CLAIMS.read_text(encoding="utf-8")),
        source=CLAIMS.name,
    )
    for name, count in Counter(claim.id for claim in claims).items():
        if count > 1:
            raise Refusal(f"{CLAIMS.name}: id = {name!r}: there are {count} claims of this id")
    return claims


def build_claims(scale: Scale, records: Records) -> list[ClaimResult]:
    """Every claim with its verdict, from whatever records of `scale` exist."""
    if records.scale != scale:
        raise Refusal(f"scale = {scale.scale!r}: the records are of another scale")
    evaluator, results = Evaluator(records), []
    selections = Counter(claim.group for claim in load_claims() for _ in claim.best_of)
    for claim in load_claims():
        evaluator.selections = max(1, selections[claim.group])
        carried_out = [one for part in claim.parts for one in part.carry_out(evaluator)]
        name_sides(carried_out)
        unfair = scale.untestable.get(claim.id, "")
        results.append(ClaimResult(scale.scale, claim, carried_out, unfair))
    for _, own in grouped(results):
        conclude(own)
    return results


def conclude(family: list[ClaimResult]) -> None:
    """Fill in the verdicts of a group of claims, whose errors are held down together."""
    tested = []
    for result in family:
        parts = [comparison.support for comparison in result.comparisons]
        result.verdict = UNTESTABLE if result.unfair else combine(_alone(result.comparisons))
        if not result.unfair and result.verdict != NOT_RUN and any(parts):
            tested.append((result, parts))
    adjusted = family_adjusted([all_of(parts) for _, parts in tested])
    for (result, parts), support in zip(tested, adjusted, strict=True):
        if None not in parts or decide(support) == CONTRADICTED:
            result.verdict = decide(support)


def _alone(comparisons: list[Comparison]) -> Iterator[str]:
    """The verdict of each comparison, where one that has p-values does not contradict by itself."""
    for one in comparisons:
        undecided = one.support is not None and one.verdict == CONTRADICTED
        yield INCONCLUSIVE if undecided else one.verdict


def claims_summary(results: list[ClaimResult]) -> ClaimsSummary:
    """Verdicts counted, the paper's claims and the findings against it apart."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for result in results:
        counts[result.claim.kind][result.verdict] += 1
    return ClaimsSummary(results[0].scale, counts)


def grouped(results: Iterable[ClaimResult]) -> list[tuple[str, list[ClaimResult]]]:
    """The claims under the headings of their groups, in order."""
    return [(name, list(own)) for name, own in groupby(results, lambda one: one.claim.group)]


def write_claims(results: list[ClaimResult], folder: Path) -> None:
    """Write claims.csv (a line per comparison), claims.md and claims.json."""
    write_text(folder / "claims.csv", to_csv(results))
    write_text(folder / "claims.md", to_markdown(results))
    write_json(folder / "claims.json", to_json(results))


def to_json(results: list[ClaimResult]) -> dict[str, Any]:
    """Everything about every claim; NaN becomes null."""
    return {
        "scale": results[0].scale,
        "summary": {kind: dict(counts) for kind, counts in claims_summary(results).counts.items()},
        "claims": [
            {name: getattr(result.claim, name) for name in ("id", "kind", "title", "text", "paper")}
            | {
                "verdict": result.verdict,
                "sentence": result.sentence,
                "comparisons": [
                    _finite(asdict(one) | {"effect": _effect(one)}) for one in result.comparisons
                ],
            }
            for result in results
        ],
    }


def _effect(comparison: Comparison) -> dict[str, float | None]:
    """Value and bounds of the effect, empty where it has none."""
    effect = comparison.effect
    if effect is None:
        return dict.fromkeys(("value", "low", "high"))
    bounds = (effect.low, effect.high) if effect.bounded else (None, None)
    return {"value": effect.value, "low": bounds[0], "high": bounds[1]}


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(results: list[ClaimResult]) -> str:
    """One line per comparison, with the verdict on it and on its claim."""
    said = ("first", "claimed", "second", "quantity", "verdict", "reason", "interval", "source")
    numbers = ("effect", "low", "high", "here_first", "here_second", "paper_first", "paper_second")
    columns = ["claim", "kind", "claim_verdict", *said, *numbers]
    columns += ["threshold", "seeds", "protocol_id"]
    lines = []
    for result in results:
        for one in result.comparisons:
            none = (None, None)
            values = (*_effect(one).values(), *(one.here or none), *(one.paper or none))
            lines.append(
                [result.claim.id, result.claim.kind, result.verdict]
                + [getattr(one, name) for name in said]
                + [UNKNOWN if value != value else value for value in values]
                + [one.threshold, " ".join(map(str, one.seeds)), one.protocol_id]
            )
    # As they are: numbers beside words stay numbers.
    return pd.DataFrame(lines, columns=columns, dtype=object).to_csv(index=False)


def to_markdown(results: list[ClaimResult]) -> str:
    """The summary and a pipe table, one row per claim."""
    lines = [claims_summary(results).text, ""]
    lines += ["| Claim | Paper | Verdict | Effect here | Remark |", "|---|---|---|---|---|"]
    for result in results:
        effects = "; ".join(
            " ".join(filter(None, (one.effect_text, one.interval_text)))
            for one in result.comparisons
            if one.effect is not None
        )
        remarks = "; ".join(dict.fromkeys(filter(None, (one.reason for one in result.comparisons))))
        cells = (result.claim.title, result.claim.paper, result.verdict, effects or "–", remarks)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
