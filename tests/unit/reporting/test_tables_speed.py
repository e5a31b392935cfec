"""Table 7: costs that are computed, and speed that is measured or is not."""

from dtr.config.scale import Scale
from dtr.records.table import Records
from dtr.reporting.tables.build import build_table
from dtr.reporting.tables.formats import plain_text
from tests.synthetic_results import (
    write_throughput,
)
from tests.synthetic_tables import tables_of


def test_costs_are_computed_and_speed_is_pending(whole: Scale) -> None:
    table = tables_of(whole)["table7"]
    for row in table.rows:
        cost, speed, ratio = row.cells
        assert cost.value_text == cost.paper_text, row.labels
        assert (speed.status, speed.reason) == ("pending", "no speed record yet")
        assert ratio.status == ("pending" if row.labels[1] == "DTR" else "")
    assert [row.cells[2].paper_text for row in table.rows[1::2]] == ["0.994", "0.996", "0.997"]
    assert table.rows[1].cells[2].source == "derived: 8.14 / 8.19"


def test_speed_is_not_run_where_table7_is_no_target(scale: Scale) -> None:
    speed = tables_of(scale)["table7"].rows[0].cells[1]
    assert speed.status == "not run" and "table7 is not among the targets" in speed.reason


def test_measured_speed_has_its_ratio_with_an_interval(whole: Scale) -> None:
    write_throughput(
        whole,
        "DiT-B/2",
        ratio=1.25,  # seconds with DTR by seconds without
        low=1.0,
        high=2.0,
        iterations_per_second={"dtr": 1.2, "none": 1.5},
    )
    rows = tables_of(whole)["table7"].rows
    plain, routed = rows[2], rows[3]
    assert (plain.cells[1].value, routed.cells[1].value) == (1.5, 1.2)
    assert plain.cells[2].status == "" and plain.cells[1].reason == ""
    ratio = routed.cells[2]
    assert (ratio.status, ratio.value, ratio.low, ratio.high) == ("measured", 0.8, 0.5, 1.0)
    assert plain_text(ratio) == "0.996 / 0.800 [0.500, 1.000]"
    assert "0.800 [0.500, 1.000] of the rate without DTR" in routed.cells[1].details
    for cell in (plain.cells[1], routed.cells[1], ratio):
        assert "batch 1, 2 threads" in cell.details and "n = 4" in cell.details
        assert "protocol" not in cell.details
        assert not cell.best_value and not cell.best_paper
    assert rows[0].cells[1].status == "pending"


def test_a_broken_speed_record_shows_as_broken(scale: Scale) -> None:
    write_throughput(scale, "DiT-S/2").write_text("{", encoding="utf-8")
    _, speed, ratio = tables_of(scale)["table7"].rows[1].cells
    assert (speed.status, ratio.status) == ("broken", "broken") and "JSON" in speed.reason


def test_speed_that_could_not_be_measured_is_failed_with_its_reason(whole: Scale) -> None:
    reason = "needs 10.1 GB of memory"
    write_throughput(whole, "DiT-L/2", status="failed", reason=reason, speed=None)
    table = build_table("table7", Records(whole))
    cells = {(row.labels[0], cell.metric): cell for row in table.rows for cell in row.cells}
    cell = cells["DiT-L/2", "iterations_per_second"]
    assert (cell.status, cell.reason) == ("failed", "needs 10.1 GB of memory")
    assert cells["DiT-S/2", "iterations_per_second"].status == "pending"
