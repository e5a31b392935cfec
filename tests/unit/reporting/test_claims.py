"""The paper's claims: every way to a verdict, what they compare, and how they are written down."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dtr.config.checks import load_scale
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.config.stages import Protocol
from dtr.experiments import EXPERTS, RUNS
from dtr.planning.evaluations import Evaluation, panel_protocol, protocol
from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.reporting import html
from dtr.reporting.claims import judged as source
from dtr.reporting.claims.evidence import diagonal_growth, level, low_over_high
from dtr.reporting.claims.judged import (
    Claim,
    ClaimResult,
    build_claims,
    claims_summary,
    grouped,
    load_claims,
    write_claims,
)
from dtr.reporting.claims.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    ONE_SEED,
    REPRODUCED,
    VERDICTS,
    Comparison,
    Estimate,
    combine,
    difference,
    exact,
    judge,
    over_seeds,
    relative_gain,
)
from dtr.reporting.published import results_frame, value_of
from dtr.support.errors import Refusal
from dtr.support.settings import parse
from tests import synthetic_results as synthetic
from tests.synthetic_results import model_folder, write_evaluation, write_throughput, write_training

DTR, NONE = "ffhq256-b2-dtr-a4", "ffhq256-b2-none"
AGREES, DISAGREES, UNDECIDED = ONE_SEED.values()
TIMESTEPS = [0, 100, 600, 700]


@pytest.fixture
def seeds3(whole: Scale) -> Scale:
    """All runs with three seeds."""
    return whole.model_copy(update={"seeds": [0, 1, 2]})


def result(scale: Scale, claim: str) -> ClaimResult:
    found = build_claims(scale, Records(scale))
    return next(one for one in found if one.claim.id == claim)


def write_measured(
    scale: Scale, name: str, own: Protocol, *, fid: float, half: float = 0.1, **changes: Any
) -> None:
    """An FID, uncertain by `half`, of a run or of several joined by "+"."""
    run = all_runs(scale)[name.split("+")[0]]
    seed, step = changes.pop("seed", 0), changes.pop("step", training_steps(scale, run))
    fids = {"value": fid, "low": fid - half, "high": fid + half}
    measured = {"name": f"fid@{own.extractor}", "n": own.n_samples, "direction": "lower"} | fids
    evaluation = Evaluation(name, run.slot, seed, step, own)
    write_evaluation(scale, evaluation, **{"metrics": [measured]} | changes)


def write_cka(scale: Scale, run: str, blocks: list[list[list]], **changes: Any) -> None:
    """A CKA record of these matrices over TIMESTEPS."""
    path = synthetic.write_cka(scale, run, level=0.5, **changes)
    record = json.loads(path.read_text())
    record["timesteps"] = TIMESTEPS
    record["blocks"] = [{"unbiased": matrix, "biased": matrix} for matrix in blocks]
    path.write_text(json.dumps(record))


def measure(scale: Scale, fids: dict[str, list[float]], panel: str = "table1", **more: Any) -> None:
    """FID of runs for seeds 0, 1, ..., under the protocol of a panel."""
    for run, values in fids.items():
        settings = panel_protocol(scale, panel, all_runs(scale)[run.split("+")[0]].slot)
        for seed, fid in enumerate(values):
            write_measured(scale, run, settings, fid=fid, seed=seed, **more)


# Statistics


def test_intervals_have_their_closed_forms() -> None:
    found = difference(Estimate(3.0, 2.8, 3.3), Estimate(4.0, 3.9, 4.4))
    wanted = (-1.0, -1 - math.hypot(0.2, 0.4), -1 + math.hypot(0.3, 0.1))
    assert (found.value, found.low, found.high) == pytest.approx(wanted)
    found = over_seeds([exact(-1.0), exact(-1.2), exact(-0.8)])
    half = 4.302652729911275 * 0.2 / math.sqrt(3)  # Student's t with two degrees of freedom
    assert (found.value, found.low, found.high) == pytest.approx((-1, -1 - half, -1 + half))
    alone = Estimate(2.0, 1.5, 2.5)
    assert over_seeds([alone]) == alone


def test_relative_gains_are_per_cent_and_unknown_where_undefined() -> None:
    assert relative_gain(exact(8.9), exact(12.59)).value == pytest.approx(29.309, abs=1e-3)
    found = relative_gain(Estimate(1.0, 0.9, 1.1), exact(2.0))
    assert (found.low, found.value, found.high) == pytest.approx((45.0, 50.0, 55.0))
    assert math.isnan(relative_gain(Estimate(1.0, -0.1, 1.1), exact(2.0)).high)
    assert math.isnan(relative_gain(exact(0.0), exact(2.0)).value)


@pytest.mark.parametrize(
    ("effect", "claimed", "outcome"),
    [
        (Estimate(-1, -2, -0.1), "lower", REPRODUCED),
        (Estimate(-1, -2, -0.1), "higher", CONTRADICTED),
        (Estimate(1, 0.1, 2), "lower", CONTRADICTED),
        (Estimate(1, 0.1, 2), "higher", REPRODUCED),
        (Estimate(-1, -2, 0.0), "lower", INCONCLUSIVE),
        (Estimate(-1), "lower", INCONCLUSIVE),  # no interval, no verdict
        (exact(0.0), "higher", INCONCLUSIVE),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side(effect, claimed: str, outcome: str) -> None:
    assert judge(effect, claimed=claimed, seeds=3) == outcome
    assert judge(effect, claimed=claimed, seeds=1) == ONE_SEED[outcome]
    shifted = Estimate(effect.value + 5, effect.low + 5, effect.high + 5)
    assert judge(shifted, claimed=claimed, threshold=5.0) == outcome


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([REPRODUCED, REPRODUCED], REPRODUCED),
        ([REPRODUCED, CONTRADICTED], CONTRADICTED),
        ([REPRODUCED, INCONCLUSIVE], INCONCLUSIVE),
        ([INCONCLUSIVE, CONTRADICTED], CONTRADICTED),
        ([CONTRADICTED, NOT_RUN], NOT_RUN),
        ([], NOT_RUN),
        ([REPRODUCED, AGREES], AGREES),
        ([REPRODUCED, DISAGREES], DISAGREES),
        ([CONTRADICTED, DISAGREES], CONTRADICTED),
        ([AGREES, UNDECIDED], UNDECIDED),
        ([AGREES, INCONCLUSIVE], INCONCLUSIVE),
        ([REPRODUCED, UNDECIDED], UNDECIDED),
    ],
)
def test_a_claim_needs_all_of_its_comparisons(parts: list[str], whole: str) -> None:
    assert combine(parts) == combine(reversed(parts)) == whole


# Verdicts from records


@pytest.mark.parametrize(
    ("routed", "plain", "verdict"),
    [
        ([3.0, 3.1, 2.9], [4.0, 4.2, 3.9], REPRODUCED),
        ([4.0, 4.2, 3.9], [3.0, 3.1, 2.9], CONTRADICTED),
        ([3.0, 4.1, 3.9], [4.0, 3.2, 3.9], INCONCLUSIVE),
        ([3.0], [4.0], AGREES),
        ([4.0], [3.0], DISAGREES),
        ([3.0], [3.1], UNDECIDED),  # both are uncertain by 0.1
    ],
)
def test_paired_differences_decide(seeds3: Scale, routed, plain, verdict: str) -> None:
    measure(seeds3, {DTR: routed, NONE: plain})
    found = result(seeds3, "dtr-ffhq256")
    assert found.verdict == verdict
    (one,) = found.comparisons
    assert one.seeds == tuple(range(len(routed)))
    assert one.here == pytest.approx((np.mean(routed), np.mean(plain)))
    assert one.effect.value == pytest.approx(np.mean(routed) - np.mean(plain))
    assert ("t-interval, 3 seeds" in one.interval) == (len(routed) == 3)


def test_pairing_removes_what_seeds_share(seeds3: Scale) -> None:
    measure(seeds3, {DTR: [3.0, 6.0, 9.0], NONE: [3.5, 6.6, 9.4]})
    assert result(seeds3, "dtr-ffhq256").verdict == REPRODUCED


def test_one_seed_without_an_interval_is_inconclusive(whole: Scale) -> None:
    measure(whole, {DTR: [3.0], NONE: [9.0]}, half=math.inf)
    for path in Path(whole.results).glob("runs/*/*/*/metrics/*.json"):
        path.write_text(re.sub(r"-?Infinity", "null", path.read_text()))
    found = result(whole, "dtr-ffhq256")
    assert found.verdict == UNDECIDED and found.comparisons[0].interval_text == ""


def test_what_is_missing_is_named(whole: Scale) -> None:
    measure(whole, {NONE: [3.0]})
    found = result(whole, "dtr-ffhq256")
    assert found.verdict == NOT_RUN
    assert found.comparisons[0].reason == f"{DTR}: no metrics record yet"


def test_a_conjunction_waits_for_all_of_its_parts(whole: Scale) -> None:
    others = ("maxroaming", "ercdt8", "cdtr8")
    measure(whole, {DTR: [3.0]} | {f"ffhq256-b2-{name}": [4.0] for name in others[:2]})
    found = result(whole, "other-routings")
    assert [one.verdict for one in found.comparisons] == [AGREES, AGREES, NOT_RUN]
    assert found.verdict == NOT_RUN and "cdtr8" in found.comparisons[2].reason
    measure(whole, {"ffhq256-b2-cdtr8": [2.0]})
    assert result(whole, "other-routings").verdict == DISAGREES
    measure(whole, {"ffhq256-b2-cdtr8": [3.01]})
    assert result(whole, "other-routings").verdict == UNDECIDED
    measure(whole, {"ffhq256-b2-cdtr8": [4.0]})
    assert result(whole, "other-routings").verdict == AGREES


def test_a_diverged_seed_is_left_out_and_named(seeds3: Scale) -> None:
    measure(seeds3, {DTR: [3.0, 3.1, 2.9], NONE: [4.0, 4.1, 3.9]})
    diverged = {"status": "diverged", "reason": "loss nan", "metrics": []}
    settings = panel_protocol(seeds3, "table1", "unconditional")
    write_measured(seeds3, DTR, settings, fid=3.0, seed=1, **diverged)
    (one,) = result(seeds3, "dtr-ffhq256").comparisons
    assert one.seeds == (0, 2) and one.reason == f"without {DTR} (seed 1): diverged: loss nan"
    assert one.verdict == REPRODUCED
    for seed in (0, 2):
        write_measured(seeds3, DTR, settings, fid=3.0, seed=seed, **diverged)
    (one,) = result(seeds3, "dtr-ffhq256").comparisons
    assert one.verdict == NOT_RUN and one.reason == f"{DTR}: diverged: loss nan"


def test_a_diverged_training_explains_a_missing_measurement(whole: Scale) -> None:
    measure(whole, {NONE: [3.0]})
    write_training(whole, DTR, status="diverged", reason="loss nan")
    assert result(whole, "dtr-ffhq256").comparisons[0].reason == f"{DTR}: diverged: loss nan"


def test_a_broken_record_does_not_count(whole: Scale) -> None:
    measure(whole, {DTR: [3.0], NONE: [4.0]})
    (path,) = Path(whole.results).glob(f"runs/{DTR}/*/*/metrics/*.json")
    path.write_text("{")
    found = result(whole, "dtr-ffhq256")
    assert found.verdict == NOT_RUN and "broken" in found.comparisons[0].reason


@pytest.mark.parametrize("run", [DTR, EXPERTS[2]])
def test_an_outdated_model_does_not_count(whole: Scale, run: str) -> None:
    pair = {DTR: NONE, EXPERTS[2]: "in256-l2-dtr-a4"}
    measured = "+".join(EXPERTS) if run in EXPERTS else run
    measure(whole, {measured: [3.0], pair[run]: [4.0]})
    claim = "dtr-ffhq256" if run == DTR else "experts"
    assert result(whole, claim).verdict in (AGREES, DISAGREES)
    path = write_training(whole, run)
    record = json.loads(path.read_text())
    record["settings"]["training"]["learning_rate"] = 7.0
    path.write_text(json.dumps(record))
    found = result(whole, claim)
    assert found.verdict == NOT_RUN
    assert "outdated: trained with training.learning_rate = 7.0" in found.comparisons[0].reason


def test_only_the_protocol_of_the_table_counts(grid: dict, tmp_path: Path) -> None:
    grid["evaluation"]["n_samples_reduced"] = 1000
    scale = load_scale(grid | {"results": str(tmp_path)}, source="digits.yaml")
    runs = (f"{DTR}-min_snr_5", f"{NONE}-min_snr_5", DTR)
    measure(scale, dict(zip(runs, ([3.0], [4.0], [3.5]), strict=True)))
    assert result(scale, "min_snr-ffhq256").verdict == NOT_RUN
    measure(scale, dict(zip(runs, ([3.0], [4.0], [3.5]), strict=True)), panel="table2_ffhq")
    found = result(scale, "min_snr-ffhq256")
    assert found.verdict == AGREES
    assert {one.protocol_id[:5] for one in found.comparisons} == {"n1000"}


def test_experts_are_compared_as_one_model(whole: Scale) -> None:
    measure(whole, {"in256-l2-dtr-a4": [3.0], "+".join(EXPERTS): [4.0]})
    found = result(whole, "experts")
    assert found.verdict == AGREES and "as one model" in found.comparisons[0].second


def test_gains_are_relative(seeds3: Scale) -> None:
    sizes = {"l": (5.0, 10.0), "b": (16.0, 20.0), "s": (36.0, 40.0)}
    for size, values in sizes.items():
        for method, fid in zip(("dtr-a4", "none"), values, strict=True):
            noisy = [fid * factor for factor in (1.0, 1.02, 0.99)]
            measure(seeds3, {f"in256-{size}2-{method}": noisy}, panel="table5")
    found = result(seeds3, "size")
    assert found.verdict == REPRODUCED
    assert [one.here for one in found.comparisons] == [
        pytest.approx((50, 20)),
        pytest.approx((20, 10)),
    ]
    measure(seeds3, {"in256-l2-dtr-a4": [9.5, 9.7, 9.4]}, panel="table5")
    assert result(seeds3, "size").verdict == CONTRADICTED


def test_convergence_compares_half_of_a_training_with_all_of_another(whole: Scale) -> None:
    own = protocol(whole, "class_conditional", reduced=True)
    half = training_steps(whole, all_runs(whole)["in256-b2-dtr-a4"]) // 2
    write_measured(whole, "in256-b2-none", own, fid=3.0)
    write_measured(whole, "in256-b2-dtr-a4", own, fid=1.0)
    assert result(whole, "convergence").verdict == NOT_RUN
    write_measured(whole, "in256-b2-dtr-a4", own, fid=2.0, step=half)
    found = result(whole, "convergence")
    assert found.verdict == AGREES and found.comparisons[0].here == (2.0, 3.0)


def test_what_a_scale_does_not_measure_is_said(grid: dict, tmp_path: Path) -> None:
    grid["evaluation"] |= {"guidance_sweep": [1.0, 1.5], "convergence": [0.3, 1.0]}
    grid["targets"] = ["table1"]
    del grid["slots"]["text_conditional"]
    scale = load_scale(grid | {"results": str(tmp_path)}, source="digits.yaml")
    reasons = {
        one.claim.id: [comparison.reason for comparison in one.comparisons]
        for one in build_claims(scale, Records(scale))
    }
    assert "has no 2.5" in reasons["counter-guidance"][1]
    assert "Figure 5 at 50%" in reasons["convergence"][0]
    assert "fills no slot 'text_conditional'" in reasons["dtr-coco256"][0]
    assert "table7 is not among the targets" in reasons["cost"][0]
    assert "not among the targets" in reasons["size"][0]
    assert "not among the targets" in reasons["counter-guidance"][0]


def test_guidance_counters_use_their_own_protocols(whole: Scale) -> None:
    fids = {1.0: (3.0, 4.0), 2.5: (6.0, 5.0)}
    for guidance, (alone, routed) in fids.items():
        own = protocol(whole, "class_conditional", guidance=guidance)
        write_measured(whole, "in256-l2-none-ant_uw_8", own, fid=alone)
        write_measured(whole, "in256-l2-dtr-a4-ant_uw_8", own, fid=routed)
    found = result(whole, "counter-guidance")
    assert found.verdict == AGREES and found.claim.kind == "counter"


# CKA and cost


def uniform(low: float, high: float) -> list[list[float]]:
    """A matrix over TIMESTEPS: `low` among the first two, `high` among the last two, else 0.1."""
    matrix = np.full((4, 4), 0.1)
    matrix[:2, :2], matrix[2:, 2:] = low, high
    np.fill_diagonal(matrix, 1.0)
    return matrix.tolist()


def test_contrasts_of_cka_have_their_closed_forms() -> None:
    blocks = np.array([uniform(0.9, 0.3), uniform(0.7, 0.5), uniform(0.9, 0.9)])
    timesteps = np.array(TIMESTEPS)
    pairs = [0.9, 0.3, 0.7, 0.5, 0.9, 0.9] + [0.1] * 12
    assert level(blocks, timesteps, 1000) == pytest.approx(np.mean(pairs))
    halves = (0.9 + 0.7 + 0.9) / 3 - (0.3 + 0.5 + 0.9) / 3
    assert low_over_high(blocks, timesteps, 1000) == pytest.approx(halves)
    assert diagonal_growth(blocks, timesteps, 1000) == pytest.approx(0.9 - 0.6)
    blocks[0, 0, 1] = math.nan
    assert math.isfinite(level(blocks, timesteps, 1000))
    assert math.isnan(level(np.full((1, 4, 4), math.nan), timesteps, 1000))


def test_cka_of_one_seed_agrees_at_most(whole: Scale) -> None:
    for run, low, high in ((NONE, 0.5, 0.5), (DTR, 0.9, 0.1), ("ffhq256-b2-rtr", 0.9, 0.9)):
        write_cka(whole, run, [uniform(low, high), uniform(low, high + 0.05)])
    for claim in ("cka-random", "cka-halves", "cka-diagonal"):
        assert result(whole, claim).verdict == AGREES, claim
    write_cka(whole, DTR, [uniform(0.5, 0.9), uniform(0.3, 0.9)])
    assert result(whole, "cka-halves").verdict == DISAGREES
    assert result(whole, "cka-diagonal").verdict == DISAGREES


def test_cka_of_three_seeds_has_an_interval(seeds3: Scale) -> None:
    for seed, shift in enumerate((0.0, 0.02, -0.01)):
        write_cka(seeds3, NONE, [uniform(0.5, 0.5)], seed=seed)
        write_cka(seeds3, "ffhq256-b2-rtr", [uniform(0.8 + shift, 0.9)], seed=seed)
    assert result(seeds3, "cka-random").verdict == REPRODUCED


@pytest.mark.parametrize(
    ("blocks", "changes", "said"),
    [
        ([uniform(0.9, 0.1)], {"step": 3}, "outdated: CKA of step 3"),
        ([], {}, "the record is empty"),
        ([[[None] * 4] * 4], {}, "undefined"),
    ],
)
def test_useless_cka_records_do_not_count(whole: Scale, blocks, changes: dict, said: str) -> None:
    write_cka(whole, NONE, [uniform(0.5, 0.5)])
    write_cka(whole, DTR, blocks, **changes)
    found = result(whole, "cka-halves")
    assert found.verdict == NOT_RUN and said in found.comparisons[0].reason


def test_cost_needs_time_within_the_margin_and_equal_counts(whole: Scale) -> None:
    for backbone in ("DiT-S/2", "DiT-B/2", "DiT-L/2"):
        write_throughput(whole, backbone, ratio=1.01, low=1.005, high=1.015)
    assert result(whole, "cost").verdict == NOT_RUN  # no parameters yet
    for run in (DTR, NONE, "in256-l2-dtr-a4", "in256-l2-none"):
        write_training(whole, run)
    found = result(whole, "cost")
    assert found.verdict == REPRODUCED
    assert "4 pairs" in found.comparisons[0].interval and found.comparisons[-1].effect.value == 0
    write_throughput(whole, "DiT-L/2", ratio=1.048, low=1.043, high=1.053)
    assert result(whole, "cost").verdict == INCONCLUSIVE
    write_throughput(whole, "DiT-L/2", ratio=1.2, low=1.195, high=1.205)
    assert result(whole, "cost").verdict == CONTRADICTED
    write_throughput(whole, "DiT-L/2", ratio=1.01, low=1.005, high=1.015)
    write_training(whole, DTR, parameters=7)
    assert result(whole, "cost").verdict == CONTRADICTED


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
    assert found["convergence"][0].paper == (31.0, 31.0)
    assert found["counter-guidance"][1].paper == (13.27, 28.71)
    assert found["counter-xl"][0].paper == (9.40, 10.85)
    assert found["long-training"][0].paper == (2.33, 2.55)
    assert found["cost"][0].paper_text == "1.006"
    assert found["beta-ffhq256"][0].paper_text == "7.32 and unknown"
    contrary = {
        name for name, all_of in found.items() for one in all_of if one.paper_agrees is False
    }
    assert contrary == {"min_snr-ffhq256", "alpha-in256", "size"}


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

    walk(yaml.safe_load(source.SOURCE.read_text(encoding="utf-8")))
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
    assert (20 <= kinds["claim"] <= 25) and kinds["counter"] == 4
    assert summary.text.startswith("At the digits scale, of 23 claims of the paper: 0 reproduced")
    assert "1 agrees (1 seed), 1 disagrees (1 seed), 21 not run" in summary.text


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
    (first,) = written["claims"][0]["comparisons"]
    assert first["effect"]["value"] == -1.0 and first["paper"] == [7.32, 10.99]
    lines = (tmp_path / "claims/claims.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(len(one.comparisons) for one in results)
    assert lines[1].startswith(f"dtr-ffhq256,claim,agrees (1 seed),{DTR},lower,{NONE}")
    assert any(",7.32,unknown,0.0,,n2000" in line for line in lines)  # Figure 4
    table = (tmp_path / "claims/claims.md").read_text().splitlines()
    assert table[0].startswith("At the digits scale") and len(table) == 4 + len(results)
    assert "−1.000 [−1.141, −0.859]" in table[4]


def render(results: list[ClaimResult]) -> str:
    template = html._environment().get_template("claims.html.j2").module
    return template.claims_line(claims_summary(results)) + template.claims_section(grouped(results))


def test_the_page_has_every_claim_once(seeds3: Scale) -> None:
    measure(seeds3, {DTR: [3.0, 3.1, 2.9], NONE: [4.0, 4.1, 3.9], "in256-l2-none": [3.0]})
    write_cka(seeds3, NONE, [uniform(0.5, 0.5)])
    write_cka(seeds3, DTR, [uniform(0.9, 0.1)])
    write_throughput(seeds3, "DiT-L/2", ratio=1.01, low=1.005, high=1.015)
    results = build_claims(seeds3, Records(seeds3))
    results[0].comparisons[0].reason = "<b>not markup</b>"
    text = render(results)
    for one in results:
        assert text.count(f'id="claim-{one.claim.id}"') == 1
    assert text.count('class="badge') == len(results)
    assert text.count('<span class="badge reproduced">reproduced</span>') == 1
    assert text.count('<span class="badge agrees one-seed">agrees (1 seed)</span>') == 1
    assert "&lt;b&gt;not markup" in text and "<b>not markup" not in text
    assert text.count("not as claimed") == 3
    assert set(re.findall(r'<th scope="(\w+)"', text)) == {"row", "col"}
    assert not re.findall(r"<th(?! scope)[ >]", text)
    assert "nan" not in re.sub(r"<[^>]*>", "", text).lower()


def test_a_comparison_shows_no_interval_that_it_does_not_have() -> None:
    one = Comparison("a", "b", "fid", "lower", effect=exact(-0.5))
    assert (one.effect_text, one.interval_text) == ("−0.5000", "")


def test_records_of_another_scale_are_refused(whole: Scale, scale: Scale) -> None:
    with pytest.raises(Refusal, match="another scale"):
        build_claims(scale, Records(whole))


def test_a_missing_model_folder_is_no_evidence(whole: Scale) -> None:
    assert not model_folder(whole, DTR).exists()
    assert {one.verdict for one in build_claims(whole, Records(whole))} == {NOT_RUN}
