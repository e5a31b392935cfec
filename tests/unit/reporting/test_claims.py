"""The paper's claims: every way from records to a verdict, and what they compare."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from dtr.config.checks import load_scale
from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import EXPERTS
from dtr.planning.evaluations import panel_protocol, protocol
from dtr.planning.runs import all_runs
from dtr.records.table import Records
from dtr.reporting.claims.evidence import diagonal_growth, level, low_over_high
from dtr.reporting.claims.judged import build_claims, claims_summary
from dtr.reporting.claims.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_RUN,
    ONE_SEED,
    REPRODUCED,
    SMALLER,
    UNTESTABLE,
)
from dtr.reporting.published import value_of
from dtr.support.errors import Refusal
from tests.synthetic_claims import (
    TIMESTEPS,
    measure,
    result,
    uniform,
    write_matrices,
    write_measured,
)
from tests.synthetic_results import model_folder, write_throughput, write_training

DTR, NONE = "ffhq256-b2-dtr-a4", "ffhq256-b2-none"
AGREES, DISAGREES, UNDECIDED = ONE_SEED.values()


@pytest.fixture
def whole(whole: Scale) -> Scale:
    """All runs, every claim about them tested."""
    return whole.model_copy(update={"untestable": {}})


@pytest.fixture
def seeds3(whole: Scale) -> Scale:
    """All runs with three seeds."""
    return whole.model_copy(update={"seeds": [0, 1, 2]})


# Verdicts from records


@pytest.mark.parametrize(
    ("routed", "plain", "verdict"),
    [
        ([3.0, 3.1, 2.9], [4.0, 4.2, 3.9], REPRODUCED),
        ([4.0, 4.2, 3.9], [3.0, 3.1, 2.9], CONTRADICTED),
        ([3.0, 4.1, 3.9], [4.0, 3.2, 3.9], INCONCLUSIVE),
        ([3.9, 4.3, 3.8], [4.0, 4.2, 3.9], SMALLER),  # the paper: a third
        ([4.01, 4.19, 3.91], [4.0, 4.2, 3.9], NO_EFFECT),
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
    change = math.exp(np.mean(np.log(routed)) - np.mean(np.log(plain))) - 1
    assert one.effect.value == pytest.approx(100 * change)
    assert ("t-interval, 3 seeds" in one.interval) == (len(routed) == 3)


def test_pairing_removes_what_seeds_share(seeds3: Scale) -> None:
    measure(seeds3, {DTR: [3.0, 6.0, 9.0], NONE: [3.5, 6.9, 10.6]})
    assert result(seeds3, "dtr-ffhq256").verdict == REPRODUCED


def test_the_spread_of_a_training_is_that_of_all_runs_of_the_network(seeds3: Scale) -> None:
    quiet = {DTR: [3.8, 3.9, 4.0], NONE: [4.0, 4.1, 4.2]}
    measure(seeds3, quiet)
    (alone,) = result(seeds3, "dtr-ffhq256").comparisons
    assert (alone.verdict, alone.analysis.spread.freedom) == (REPRODUCED, 2)
    measure(seeds3, {"ffhq256-b2-rtr": [3.9, 4.5, 4.1], "in256-l2-none": [1.0, 9.0, 2.0]})
    (one,) = result(seeds3, "dtr-ffhq256").comparisons
    assert (one.verdict, one.analysis.spread.freedom) == (SMALLER, 4)
    assert "spread of all runs of the network (4 degrees of freedom)" in one.interval
    assert one.effect.value == alone.effect.value


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
    measure(whole, {measured: [3.0], pair[run]: [4.0], "in256-l2-none": [5.0]})
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
    grid["evaluation"]["n_samples_reduced"] = 600
    scale = load_scale(grid | {"results": str(tmp_path)}, source="digits.yaml")
    runs = {
        f"{run}-{weighting}": [fid]
        for weighting in ("p2", "min_snr_5", "ant_uw_8")
        for run, fid in ((DTR, 3.0), (NONE, 4.0))
    }
    measure(scale, runs)
    assert result(scale, "weighted-ffhq256").verdict == NOT_RUN
    measure(scale, runs, panel="table2_ffhq")
    found = result(scale, "weighted-ffhq256")
    assert found.verdict == AGREES and len(found.comparisons) == 3
    assert {one.protocol_id[:4] for one in found.comparisons} == {"n600"}


def test_experts_are_compared_as_one_model(whole: Scale) -> None:
    joined = "+".join(EXPERTS)
    measure(whole, {"in256-l2-dtr-a4": [3.0], joined: [4.0], "in256-l2-none": [5.0]})
    found = result(whole, "experts")
    assert found.verdict == AGREES and len(found.comparisons) == 2
    assert "as one model" in found.comparisons[0].first
    assert "as one model" in found.comparisons[1].second


def test_gains_are_ratios(seeds3: Scale) -> None:
    sizes = {"l": (5.0, 10.0), "b": (16.0, 20.0), "s": (36.0, 40.0)}
    noise = {"dtr-a4": (1.0, 1.02, 0.99), "none": (1.01, 1.02, 0.98)}
    for size, values in sizes.items():
        for (method, factors), fid in zip(noise.items(), values, strict=True):
            noisy = [fid * factor for factor in factors]
            measure(seeds3, {f"in256-{size}2-{method}": noisy}, panel="table5")
    found = result(seeds3, "size")
    assert found.verdict == REPRODUCED
    assert [one.here for one in found.comparisons[1:]] == [
        pytest.approx((0.5, 0.8), rel=0.01),
        pytest.approx((0.8, 0.9), rel=0.01),
    ]
    measure(seeds3, {"in256-l2-dtr-a4": [9.5, 9.7, 9.4]}, panel="table5")
    assert result(seeds3, "size").verdict == CONTRADICTED


def test_a_share_that_rises_is_no_gain(whole: Scale) -> None:
    sizes = {"l": (11.0, 10.0), "b": (24.0, 20.0), "s": (52.0, 40.0)}
    for size, values in sizes.items():
        for method, fid in zip(("dtr-a4", "none"), values, strict=True):
            measure(whole, {f"in256-{size}2-{method}": [fid]}, panel="table5")
    found = result(whole, "size")
    assert [one.verdict for one in found.comparisons] == [DISAGREES, AGREES, AGREES]
    assert found.verdict == DISAGREES


def test_convergence_compares_half_of_a_training_with_all_of_another(whole: Scale) -> None:
    own = protocol(whole, "class_conditional", reduced=True)
    sizes = ("s2", "b2", "l2")
    for size in sizes:
        write_measured(whole, f"in256-{size}-none", own, fid=3.0)
        write_measured(whole, f"in256-{size}-dtr-a4", own, fid=1.0)
    assert result(whole, "convergence").verdict == NOT_RUN
    for size in sizes:
        run = f"in256-{size}-dtr-a4"
        half = training_steps(whole, all_runs(whole)[run]) // 2
        write_measured(whole, run, own, fid=2.0, step=half)
    found = result(whole, "convergence")
    assert found.verdict == AGREES
    assert [one.here for one in found.comparisons] == [(2.0, 3.0)] * 3


def test_all_places_together_are_one_question(seeds3: Scale) -> None:
    pairs = {"ffhq256-b2": 0.7, "in256-l2": 0.8, "coco256-b2": 0.75, "ffhq64-adm": 0.7}
    for place, factor in (pairs | {"in64-adm": 0.8}).items():
        assert result(seeds3, "dtr").verdict == NOT_RUN
        measure(seeds3, {f"{place}-none": [4.0, 4.2, 3.9]})
        measure(seeds3, {f"{place}-dtr-a4": [factor * fid for fid in (4.1, 4.2, 3.8)]})
    found = result(seeds3, "dtr")
    (one,) = found.comparisons
    assert (found.verdict, one.verdict) == (REPRODUCED, REPRODUCED)
    assert one.effect.low < one.effect.value < one.effect.high < 0
    assert one.effect.value == pytest.approx(-25.1, abs=0.5)
    assert "random-effects mean of 5 places" in one.interval
    paper = [
        value_of("table1", f"{place}-dtr-a4", "fid")["value"] for place in (*pairs, "in64-adm")
    ]
    plain = [value_of("table1", f"{place}-none", "fid")["value"] for place in (*pairs, "in64-adm")]
    mean = np.mean(np.log(paper) - np.log(plain))
    assert one.expected == pytest.approx(100 * math.expm1(mean))


def test_all_places_together_need_two_seeds(whole: Scale) -> None:
    for place in ("ffhq256-b2", "in256-l2", "coco256-b2", "ffhq64-adm", "in64-adm"):
        measure(whole, {f"{place}-dtr-a4": [3.0], f"{place}-none": [4.0]})
    found = result(whole, "dtr")
    assert found.verdict == NOT_RUN and "needs two seeds or more" in found.sentence


def test_two_weightings_are_alike_within_the_margin(seeds3: Scale) -> None:
    fids = [4.0, 4.2, 3.9]
    runs = [f"{DTR}-{weighting}" for weighting in ("p2", "min_snr_5", "ant_uw_8")]
    measure(seeds3, dict.fromkeys([DTR, *runs], fids), panel="table2_ffhq")
    assert result(seeds3, "alone-ffhq256").verdict == REPRODUCED
    measure(seeds3, {runs[0]: [2 * fid for fid in fids]}, panel="table2_ffhq")
    found = result(seeds3, "alone-ffhq256")
    assert [one.verdict for one in found.comparisons] == [CONTRADICTED, REPRODUCED, REPRODUCED]
    assert found.verdict == CONTRADICTED


def test_claims_of_a_group_share_their_error(seeds3: Scale) -> None:
    weak = [4.0, 4.11, 4.0], [4.2, 4.2, 4.2]
    measure(seeds3, dict(zip((DTR, NONE), weak, strict=True)))
    assert result(seeds3, "dtr-ffhq256").verdict == REPRODUCED
    measure(seeds3, dict(zip(("in256-l2-dtr-a4", "in256-l2-none"), weak, strict=True)))
    for claim in ("dtr-ffhq256", "dtr-in256"):
        found = result(seeds3, claim)
        assert found.comparisons[0].verdict == REPRODUCED
        assert found.verdict != REPRODUCED


# Which of several is the best

SHARES = [f"{DTR}-b{share}" for share in (0.2, 0.4, 0.6)]  # of claim beta-ffhq256


@pytest.mark.parametrize(
    ("best", "others", "chosen", "verdict"),
    [
        (3.0, (5.0, 6.0, 7.0), {DTR}, REPRODUCED),
        (3.0, (3.01, 6.0, 7.0), {DTR, SHARES[0]}, INCONCLUSIVE),
        (6.0, (3.0, 6.0, 7.0), {SHARES[0]}, CONTRADICTED),
    ],
)
def test_the_best_is_selected(
    seeds3: Scale, best: float, others: tuple[float, ...], chosen: set[str], verdict: str
) -> None:
    factors = ((1.0, 1.03, 0.98), (1.01, 1.02, 0.98), (1.0, 1.02, 0.99), (1.0, 1.03, 0.99))
    fids = zip((DTR, *SHARES), (best, *others), factors, strict=True)
    measure(
        seeds3, {run: [fid * factor for factor in own] for run, fid, own in fids}, panel="figure4"
    )
    found = result(seeds3, "beta-ffhq256")
    (one,) = found.comparisons
    assert (set(one.chosen), found.verdict) == (chosen, verdict)
    assert one.second == "the best of 3 others" and one.here[1] == pytest.approx(
        min(others), rel=0.01
    )


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ((5.0, 6.0, 7.0), AGREES),
        ((5.0, 3.01, 7.0), UNDECIDED),
        ((5.0, 2.0, 3.01), DISAGREES),
    ],
)
def test_the_best_of_one_seed_must_win_every_duel(
    whole: Scale, others: tuple[float, ...], verdict: str
) -> None:
    fids = dict(zip((DTR, *SHARES), ([3.0], *([fid] for fid in others)), strict=True))
    measure(whole, fids, panel="figure4")
    found = result(whole, "beta-ffhq256")
    assert found.verdict == verdict and found.comparisons[0].here == (3.0, min(others))


def test_a_selection_needs_all_of_its_runs(whole: Scale) -> None:
    measure(whole, {run: [3.0] for run in (DTR, *SHARES[:2])}, panel="figure4")
    found = result(whole, "beta-ffhq256")
    assert found.verdict == NOT_RUN and SHARES[2] in found.comparisons[0].reason


def test_runs_with_one_shared_seed_do_not_make_a_selection(seeds3: Scale) -> None:
    fids = {DTR: [3.0, 3.1, 2.9], SHARES[0]: [4.0, 4.2, 3.9]}
    measure(seeds3, fids | {SHARES[1]: [2.0], SHARES[2]: [8.0]}, panel="figure4")
    assert result(seeds3, "beta-ffhq256").verdict == DISAGREES


# Claims that a scale cannot test


def test_what_a_budget_would_decide_is_not_tested(whole: Scale) -> None:
    scale = whole.model_copy(update={"untestable": {"dtr-ffhq256": "Trained too briefly."}})
    measure(scale, {DTR: [3.0], NONE: [4.0], "in256-l2-dtr-a4": [3.0], "in256-l2-none": [4.0]})
    found = result(scale, "dtr-ffhq256")
    assert (found.verdict, found.sentence) == (UNTESTABLE, "Trained too briefly.")
    assert found.comparisons[0].verdict == AGREES  # what was measured is still shown
    assert result(scale, "dtr-in256").verdict == AGREES
    assert "1 not testable here" in claims_summary(build_claims(scale, Records(scale))).text


def test_untestable_claims_are_left_out_of_their_family(seeds3: Scale) -> None:
    weak = [4.0, 4.11, 4.0], [4.2, 4.2, 4.2]
    for pair in ((DTR, NONE), ("in256-l2-dtr-a4", "in256-l2-none")):
        measure(seeds3, dict(zip(pair, weak, strict=True)))
    scale = seeds3.model_copy(update={"untestable": {"dtr-in256": "Too short."}})
    assert result(scale, "dtr-ffhq256").verdict == REPRODUCED


# What scales leave out


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
    assert "not among the targets" in reasons["size"][1]
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
        write_matrices(whole, run, [uniform(low, high), uniform(low, high + 0.05)])
    for claim in ("cka-random", "cka-halves", "cka-diagonal"):
        assert result(whole, claim).verdict == AGREES, claim
    write_matrices(whole, DTR, [uniform(0.5, 0.9), uniform(0.3, 0.9)])
    assert result(whole, "cka-halves").verdict == DISAGREES
    assert result(whole, "cka-diagonal").verdict == DISAGREES


def test_cka_of_three_seeds_has_an_interval(seeds3: Scale) -> None:
    for seed, shift in enumerate((0.0, 0.02, -0.01)):
        write_matrices(seeds3, NONE, [uniform(0.5, 0.5)], seed=seed)
        write_matrices(seeds3, "ffhq256-b2-rtr", [uniform(0.8 + shift, 0.9)], seed=seed)
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
    write_matrices(whole, NONE, [uniform(0.5, 0.5)])
    write_matrices(whole, DTR, blocks, **changes)
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


# Records that do not count


def test_records_of_another_scale_are_refused(whole: Scale, scale: Scale) -> None:
    with pytest.raises(Refusal, match="another scale"):
        build_claims(scale, Records(whole))


def test_a_missing_model_folder_is_no_evidence(whole: Scale) -> None:
    assert not model_folder(whole, DTR).exists()
    assert {one.verdict for one in build_claims(whole, Records(whole))} == {NOT_RUN}
