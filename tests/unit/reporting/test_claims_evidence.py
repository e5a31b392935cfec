"""Which records are evidence for a claim, and what is said of those that are not."""

import json
from pathlib import Path

import pytest

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.experiments import EXPERTS
from dtr.planning.evaluations import panel_protocol
from dtr.records.table import Records
from dtr.reporting.claims.judged import build_claims, claims_summary
from dtr.reporting.claims.verdicts import (
    NOT_RUN,
    REPRODUCED,
    UNTESTABLE,
)
from dtr.support.errors import Refusal
from tests.synthetic_claims import (
    AGREES,
    DISAGREES,
    DTR,
    NONE,
    measure,
    result,
    write_measured,
)
from tests.synthetic_results import model_folder, write_training


def test_what_is_missing_is_named(tested: Scale) -> None:
    measure(tested, {NONE: [3.0]})
    found = result(tested, "dtr-ffhq256")
    assert found.verdict == NOT_RUN
    assert found.comparisons[0].reason == f"{DTR}: no metrics record yet"


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


def test_a_diverged_training_explains_a_missing_measurement(tested: Scale) -> None:
    measure(tested, {NONE: [3.0]})
    write_training(tested, DTR, status="diverged", reason="loss nan")
    assert result(tested, "dtr-ffhq256").comparisons[0].reason == f"{DTR}: diverged: loss nan"


def test_a_broken_record_does_not_count(tested: Scale) -> None:
    measure(tested, {DTR: [3.0], NONE: [4.0]})
    (path,) = Path(tested.results).glob(f"runs/{DTR}/*/*/metrics/*.json")
    path.write_text("{")
    found = result(tested, "dtr-ffhq256")
    assert found.verdict == NOT_RUN and "broken" in found.comparisons[0].reason


@pytest.mark.parametrize("run", [DTR, EXPERTS[2]])
def test_an_outdated_model_does_not_count(tested: Scale, run: str) -> None:
    pair = {DTR: NONE, EXPERTS[2]: "in256-l2-dtr-a4"}
    measured = "+".join(EXPERTS) if run in EXPERTS else run
    measure(tested, {measured: [3.0], pair[run]: [4.0], "in256-l2-none": [5.0]})
    claim = "dtr-ffhq256" if run == DTR else "experts"
    assert result(tested, claim).verdict in (AGREES, DISAGREES)
    path = write_training(tested, run)
    record = json.loads(path.read_text())
    record["settings"]["training"]["learning_rate"] = 7.0
    path.write_text(json.dumps(record))
    found = result(tested, claim)
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


def test_what_a_budget_would_decide_is_not_tested(tested: Scale) -> None:
    scale = tested.model_copy(update={"untestable": {"dtr-ffhq256": "Trained too briefly."}})
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


def test_records_of_another_scale_are_refused(tested: Scale, scale: Scale) -> None:
    with pytest.raises(Refusal, match="another scale"):
        build_claims(scale, Records(tested))


def test_a_missing_model_folder_is_no_evidence(tested: Scale) -> None:
    assert not model_folder(tested, DTR).exists()
    assert {one.verdict for one in build_claims(tested, Records(tested))} == {NOT_RUN}
