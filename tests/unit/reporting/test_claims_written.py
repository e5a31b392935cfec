"""The file of the paper's claims, and how claims and their verdicts are written down."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from markupsafe import escape

from dtr.config.scale import Scale
from dtr.experiments import EXPERTS, RUNS
from dtr.records.table import Records
from dtr.reporting.claims import judged as source
from dtr.reporting.claims.judged import (
    Claim,
    ClaimResult,
    build_claims,
    claims_summary,
    grouped,
    load_claims,
    write_claims,
)
from dtr.reporting.claims.verdicts import NOT_RUN, VERDICTS
from dtr.reporting.html import environment
from dtr.reporting.published import results_frame, value_of
from dtr.support.errors import Refusal
from dtr.support.settings import parse
from tests.synthetic_claims import AGREES, DTR, NONE, measure, uniform, write_matrices
from tests.synthetic_results import write_throughput

# The file of claims


def test_runs_of_the_claims_exist_and_share_what_they_are_compared_on() -> None:
    runs = {run.id: run for run in RUNS}
    for claim in load_claims():
        for part in claim.better:
            keys = [part.better, *part.worse]
            assert len({runs[key.split("+")[0]].slot for key in keys}) == 1, claim.id
            for key in keys:
                for run in key.split("+"):
                    assert part.panel in runs[run].used_by, (claim.id, run)
    keys = {key for claim in load_claims() for part in claim.better for key in part.worse}
    assert "+".join(EXPERTS) in keys


def test_groups_are_headings_that_occur_once() -> None:
    names = [name for name, _ in grouped([ClaimResult("x", one, []) for one in load_claims()])]
    assert len(names) == len(set(names))


def test_an_unknown_run_is_refused_by_name() -> None:
    shared = {"id": "x", "kind": "claim", "group": "g", "title": "t", "text": "t", "paper": "p"}
    with pytest.raises(Refusal, match="'nobody': no such run"):
        part = {"better": "nobody", "worse": [NONE], "panel": "table1"}
        parse(Claim, shared | {"better": [part]}, source="claims.yaml")
    with pytest.raises(Refusal, match="compares nothing"):
        parse(Claim, shared, source="claims.yaml")


def test_published_numbers_are_looked_up(whole: Scale) -> None:
    found = {one.claim.id: one.comparisons for one in build_claims(whole, Records(whole))}
    pair = tuple(value_of("table1", run, "fid")["value"] for run in (DTR, NONE))
    assert found["dtr-ffhq256"][0].paper == pair
    assert found["dtr-ffhq256"][0].expected == pytest.approx(100 * (7.32 / 10.99 - 1))
    assert found["dtr-ffhq256"][0].strength == pytest.approx(-21.4, abs=0.05)
    assert found["convergence"][1].paper == (31.0, 31.0)
    assert found["counter-guidance"][1].paper == (13.27, 28.71)
    assert found["counter-xl"][0].paper == (9.40, 10.85)
    assert found["long-training"][0].paper == (2.33, 2.55)
    assert found["cost"][0].paper_text == "1.006"
    assert found["beta-ffhq256"][0].paper_text == "7.32 and unknown"
    contrary = {
        name for name, all_of in found.items() for one in all_of if one.paper_agrees is False
    }
    assert contrary == {"alpha-in256", "size"}


def test_no_published_number_is_typed_into_the_claims() -> None:
    texts, numbers = [], []

    def walk(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                walk(inner, name)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, key)
        elif isinstance(value, str):
            texts.append(value)
        else:
            numbers.append(key)

    walk(yaml.safe_load(source.CLAIMS.read_text(encoding="utf-8")))
    assert set(numbers) <= {"guidance", "share", "below", "iterations"}
    known = results_frame().query("metric == 'fid'")["value"].dropna()
    typed = {number for text in texts for number in re.findall(r"\d+\.\d\d?(?!\d)", text)}
    assert typed and not {float(number) for number in typed} & set(known)


# Summary and output


def test_the_summary_adds_up(whole: Scale) -> None:
    measure(whole, {DTR: [3.0], NONE: [4.0], "in256-l2-dtr-a4": [4.0], "in256-l2-none": [3.0]})
    results = build_claims(whole, Records(whole))
    summary = claims_summary(results)
    kinds = Counter(one.claim.kind for one in results)
    for kind, total in kinds.items():
        assert sum(count for count, _ in summary.parts(kind)) == total
    assert set(summary.counts["claim"]) <= set(VERDICTS)
    claims = kinds["claim"]
    assert summary.text.startswith(
        f"At the digits scale, of {claims} claims of the paper: 0 reproduced"
    )
    named = "1 agrees (1 seed), 1 disagrees (1 seed)"
    assert f"{named}, 2 not testable here, {claims - 4} not run" in summary.text


def test_two_of_a_kind_are_counted_in_the_plural() -> None:
    counts = {"claim": Counter({AGREES: 2, NOT_RUN: 1}), "counter": Counter()}
    summary = source.ClaimsSummary("digits", counts)
    assert "2 agree (1 seed), 1 not run" in summary.text


def test_files_hold_every_claim(whole: Scale, tmp_path: Path) -> None:
    measure(whole, {DTR: [3.0], NONE: [4.0]})
    results = build_claims(whole, Records(whole))
    write_claims(results, tmp_path / "claims")
    written = json.loads((tmp_path / "claims/claims.json").read_text())
    assert [one["id"] for one in written["claims"]] == [claim.id for claim in load_claims()]
    (first,) = written["claims"][1]["comparisons"]
    assert first["effect"]["value"] == pytest.approx(-25.0) and first["paper"] == [7.32, 10.99]
    lines = (tmp_path / "claims/claims.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(one.comparisons) for one in results)
    assert lines[2].startswith(f"dtr-ffhq256,claim,agrees (1 seed),{DTR},lower,{NONE}")
    assert any(",7.32,unknown,0.0,,n" in line for line in lines)  # Figure 4
    table = (tmp_path / "claims/claims.md").read_text().splitlines()
    assert table[0].startswith("At the digits scale") and len(table) == 4 + len(results)
    assert "−25.0 % [−28.1, −21.8]" in table[5]


def render(results: list[ClaimResult]) -> str:
    return environment().get_template("claims.html.j2").module.claims_section(grouped(results))


def test_the_page_has_every_claim_once(whole: Scale) -> None:
    seeds3 = whole.model_copy(update={"seeds": [0, 1, 2]})
    measure(seeds3, {DTR: [3.0, 3.1, 2.9], NONE: [4.0, 4.1, 3.9], "in256-l2-none": [3.0]})
    write_matrices(seeds3, NONE, [uniform(0.5, 0.5)])
    write_matrices(seeds3, DTR, [uniform(0.9, 0.1)])
    write_throughput(seeds3, "DiT-L/2", ratio=1.01, low=1.005, high=1.015)
    results = build_claims(seeds3, Records(seeds3))
    results[0].comparisons[0].reason = "<b>not markup</b>"
    text = render(results)
    for one in results:
        assert text.count(f'id="claim-{one.claim.id}"') == 1
        sentence = escape(one.sentence.replace(" %", "\u00a0%"))
        assert f'<p class="sentence">{sentence}</p>' in text
    assert text.count('class="badge') == len(results)
    assert text.count('<span class="badge reproduced">reproduced</span>') == 1
    assert text.count('<span class="badge agrees one-seed">agrees (1 seed)</span>') == 1
    assert "&lt;b&gt;not markup" in text and "<b>not markup" not in text
    assert text.count("not as claimed") == 2
    assert set(re.findall(r'<th scope="(\w+)"', text)) == {"col"}
    assert not re.findall(r"<th(?! scope)[ >]", text)
    assert "nan" not in re.sub(r"<[^>]*>", "", text).lower()
