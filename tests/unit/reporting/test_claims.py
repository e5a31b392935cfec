"""The paper's claims: every kind of comparison from records to a verdict."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from dtr.config.resolve import training_steps
from dtr.config.scale import Scale
from dtr.experiments import EXPERTS
from dtr.planning.evaluations import protocol
from dtr.planning.runs import all_runs
from dtr.reporting.claims.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NO_EFFECT,
    NOT_RUN,
    REPRODUCED,
    SMALLER,
)
from dtr.reporting.published import value_of
from tests.synthetic_claims import (
    AGREES,
    DISAGREES,
    DTR,
    NONE,
    UNDECIDED,
    measure,
    result,
    write_measured,
)
from tests.synthetic_results import write_throughput, write_training


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


def test_one_seed_without_an_interval_is_inconclusive(tested: Scale) -> None:
    measure(tested, {DTR: [3.0], NONE: [9.0]}, half=math.inf)
    for path in Path(tested.results).glob("runs/*/*/*/metrics/*.json"):
        path.write_text(re.sub(r"-?Infinity", "null", path.read_text()))
    found = result(tested, "dtr-ffhq256")
    assert found.verdict == UNDECIDED and found.comparisons[0].interval_text == ""


def test_a_conjunction_waits_for_all_of_its_parts(tested: Scale) -> None:
    others = ("maxroaming", "ercdt8", "cdtr8")
    measure(tested, {DTR: [3.0]} | {f"ffhq256-b2-{name}": [4.0] for name in others[:2]})
    found = result(tested, "other-routings")
    assert [one.verdict for one in found.comparisons] == [AGREES, AGREES, NOT_RUN]
    assert found.verdict == NOT_RUN and "cdtr8" in found.comparisons[2].reason
    measure(tested, {"ffhq256-b2-cdtr8": [2.0]})
    assert result(tested, "other-routings").verdict == DISAGREES
    measure(tested, {"ffhq256-b2-cdtr8": [3.01]})
    assert result(tested, "other-routings").verdict == UNDECIDED
    measure(tested, {"ffhq256-b2-cdtr8": [4.0]})
    assert result(tested, "other-routings").verdict == AGREES


def test_experts_are_compared_as_one_model(tested: Scale) -> None:
    joined = "+".join(EXPERTS)
    measure(tested, {"in256-l2-dtr-a4": [3.0], joined: [4.0], "in256-l2-none": [5.0]})
    found = result(tested, "experts")
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


def test_a_share_that_rises_is_no_gain(tested: Scale) -> None:
    sizes = {"l": (11.0, 10.0), "b": (24.0, 20.0), "s": (52.0, 40.0)}
    for size, values in sizes.items():
        for method, fid in zip(("dtr-a4", "none"), values, strict=True):
            measure(tested, {f"in256-{size}2-{method}": [fid]}, panel="table5")
    found = result(tested, "size")
    assert [one.verdict for one in found.comparisons] == [DISAGREES, AGREES, AGREES]
    assert found.verdict == DISAGREES


def test_convergence_compares_half_of_a_training_with_all_of_another(tested: Scale) -> None:
    own = protocol(tested, "class_conditional", reduced=True)
    sizes = ("s2", "b2", "l2")
    for size in sizes:
        write_measured(tested, f"in256-{size}-none", own, fid=3.0)
        write_measured(tested, f"in256-{size}-dtr-a4", own, fid=1.0)
    assert result(tested, "convergence").verdict == NOT_RUN
    for size in sizes:
        run = f"in256-{size}-dtr-a4"
        half = training_steps(tested, all_runs(tested)[run]) // 2
        write_measured(tested, run, own, fid=2.0, step=half)
    found = result(tested, "convergence")
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


def test_all_places_together_need_two_seeds(tested: Scale) -> None:
    for place in ("ffhq256-b2", "in256-l2", "coco256-b2", "ffhq64-adm", "in64-adm"):
        measure(tested, {f"{place}-dtr-a4": [3.0], f"{place}-none": [4.0]})
    found = result(tested, "dtr")
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


def test_guidance_counters_use_their_own_protocols(tested: Scale) -> None:
    fids = {1.0: (3.0, 4.0), 2.5: (6.0, 5.0)}
    for guidance, (alone, routed) in fids.items():
        own = protocol(tested, "class_conditional", guidance=guidance)
        write_measured(tested, "in256-l2-none-ant_uw_8", own, fid=alone)
        write_measured(tested, "in256-l2-dtr-a4-ant_uw_8", own, fid=routed)
    found = result(tested, "counter-guidance")
    assert found.verdict == AGREES and found.claim.kind == "counter"


def test_cost_needs_time_within_the_margin_and_equal_counts(tested: Scale) -> None:
    for backbone in ("DiT-S/2", "DiT-B/2", "DiT-L/2"):
        write_throughput(tested, backbone, ratio=1.01, low=1.005, high=1.015)
    assert result(tested, "cost").verdict == NOT_RUN  # no parameters yet
    for run in (DTR, NONE, "in256-l2-dtr-a4", "in256-l2-none"):
        write_training(tested, run)
    found = result(tested, "cost")
    assert found.verdict == REPRODUCED
    assert "4 pairs" in found.comparisons[0].interval and found.comparisons[-1].effect.value == 0
    write_throughput(tested, "DiT-L/2", ratio=1.048, low=1.043, high=1.053)
    assert result(tested, "cost").verdict == INCONCLUSIVE
    write_throughput(tested, "DiT-L/2", ratio=1.2, low=1.195, high=1.205)
    assert result(tested, "cost").verdict == CONTRADICTED
    write_throughput(tested, "DiT-L/2", ratio=1.01, low=1.005, high=1.015)
    write_training(tested, DTR, parameters=7)
    assert result(tested, "cost").verdict == CONTRADICTED
