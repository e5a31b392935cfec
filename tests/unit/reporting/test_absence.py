"""Why a value is missing: one answer, whoever asks."""

from pathlib import Path

import pytest

from dtr.config.scale import Scale
from dtr.planning.evaluations import protocol
from dtr.records.table import Records
from dtr.records.workdir import append_log, exclusive
from dtr.reporting.absence import Absence, Absences, foremost
from dtr.reporting.claims.judged import build_claims
from dtr.reporting.tables.build import build_table
from tests.synthetic_results import write_cka, write_metrics, write_throughput, write_training

RUN = "ffhq256-b2-dtr-a4"


def in_table(scale: Scale, table: str, label: str, metric: str) -> Absence:
    built = build_table(table, Records(scale))
    row = next(row for row in built.rows if label in row.labels)
    slots = ("unconditional", "class_conditional")
    cell = next(
        cell
        for column, cell in zip(built.columns, row.cells, strict=True)
        if column.group.slot in slots and cell.metric == metric
    )
    return Absence(cell.status, cell.reason)


def in_claim(scale: Scale, claim: str) -> str:
    found = build_claims(scale, Records(scale))
    return next(one for one in found if one.claim.id == claim).comparisons[0].reason


def diverged(scale: Scale) -> None:
    write_training(scale, RUN, status="diverged", reason="loss nan")


def broken(scale: Scale) -> None:
    write_metrics(scale, RUN).write_text("{", encoding="utf-8")


def without_the_metric(scale: Scale) -> None:
    write_metrics(scale, RUN, metrics=[])


@pytest.mark.parametrize("happened", [None, diverged, broken, without_the_metric])
def test_a_cell_and_a_claim_give_the_same_reason(whole: Scale, happened) -> None:
    write_metrics(whole, "ffhq256-b2-none")
    if happened is not None:
        happened(whole)
    absence = in_table(whole, "table1", "DTR", "fid")
    assert in_claim(whole, "dtr-ffhq256") == f"{RUN}: {absence.text}"
    assert absence.reason


def test_a_claim_too_says_how_far_a_training_is(whole: Scale) -> None:
    write_metrics(whole, "ffhq256-b2-none")
    folder = Path(whole.results) / "work" / RUN / "seed0" / "0123456789abcdef"
    with exclusive(folder):
        append_log(folder, {"step": 430})
        assert in_claim(whole, "dtr-ffhq256").endswith(
            "running: training of seed 0 is at step 430 of 2,000"
        )


def test_a_claim_too_tells_a_broken_speed_record_from_none(whole: Scale) -> None:
    assert in_claim(whole, "cost") == "no speed record yet"
    write_throughput(whole, "DiT-S/2").write_text("{", encoding="utf-8")
    absence = in_table(whole, "table7", "DiT-S/2", "iterations_per_second")
    assert absence.status == "broken" and in_claim(whole, "cost") == absence.text


def test_a_broken_cka_record_is_told_from_none(whole: Scale) -> None:
    assert Absences(Records(whole)).of_cka(RUN, 0) == Absence("pending", "no CKA record yet")
    path = write_cka(whole, RUN, level=0.5)
    assert Absences(Records(whole)).of_cka(RUN, 0) is None
    path.write_text("{", encoding="utf-8")
    assert Absences(Records(whole)).of_cka(RUN, 0).status == "broken"
    write_cka(whole, RUN, level=0.5, status="diverged", reason="loss nan", blocks=[])
    assert Absences(Records(whole)).of_cka(RUN, 0).text == "diverged: loss nan"


def test_what_no_target_measures_is_not_run(scale: Scale) -> None:
    """Guidance that only Fig. 3 asks for, where the scale asks for Table 1 alone."""
    own = protocol(scale, "class_conditional", guidance=2.5)
    absence = Absences(Records(scale)).of_metric("in256-l2-none", 0, 1000, own, "fid")
    assert absence == Absence("not run", "no target of the digits scale measures it")


def test_of_several_seeds_the_worst_speaks() -> None:
    late, bad = Absence("pending", "no metrics record yet"), Absence("diverged", "loss nan")
    assert foremost([late, bad]) == foremost([bad, late]) == bad
