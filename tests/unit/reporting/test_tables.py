"""Tables: the paper's rows and values, measured cells, and the files they are written to."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dtr.config.checks import load_scale
from dtr.config.scale import Scale
from dtr.records.table import Records
from dtr.reporting.tables.build import build_table, build_tables
from dtr.reporting.tables.cells import NAMES
from dtr.reporting.tables.formats import plain_text, to_csv, to_latex, to_markdown, write_tables
from dtr.reporting.tables.layout import LAYOUTS, run_of
from dtr.reporting.tables.table import summary
from tests.synthetic_results import (
    write_control,
    write_everything,
    write_metrics,
)
from tests.synthetic_tables import RUN, cell_of, tables_of


def test_without_records_every_cell_has_the_papers_value_and_a_status(scale: Scale) -> None:
    tables = tables_of(scale)
    assert list(tables) == [f"table{number}" for number in range(1, 9)]
    counts = summary(list(tables.values()))
    assert set(counts) == {"pending", "not run", "computed"}
    assert all(
        cell.paper_text
        for table in tables.values()
        for row in table.rows
        if row.kind != "control"
        for cell in row.cells
        if cell.status
    )
    cell = cell_of(tables["table1"], RUN)
    assert (cell.paper_text, cell.status, cell.reason) == (
        "12.59",
        "pending",
        "no metrics record yet",
    )
    other = cell_of(tables["table1"], "ffhq64-adm-none")
    assert other.status == "not run" and "pixel_unconditional" in other.reason
    other = cell_of(tables["table4"], "in256-l2-dtr-a3")
    assert other.status == "not run" and "targets" in other.reason


def test_table1_stacks_latent_above_pixel_models_as_the_paper_does(scale: Scale) -> None:
    table = tables_of(scale)["table1"]
    upper, lower = table.tiers()
    assert (upper.heading, lower.heading) == ("Latent models", "Pixel models")
    assert [(heading, width) for _, heading, width in upper.groups()] == [
        ("FFHQ 256", 1),
        ("ImageNet 256", 4),
        ("COCO 2014 256", 1),
    ]
    assert [(heading, width) for _, heading, width in lower.groups()] == [
        ("FFHQ 64", 1),
        ("ImageNet 64", 4),
    ]
    assert [row.kind for row in table.rows] == ["paper"] * 3 + ["control"] * 2
    assert [len(row.cells) for row in upper.rows] == [6] * 5


def test_a_tier_leaves_out_rows_without_a_cell_in_it(scale: Scale) -> None:
    upper, lower = tables_of(scale)["table4"].tiers()
    labels = [row.labels[0] for row in upper.rows]
    assert labels == ["no routing", *(f"α = {alpha}" for alpha in ("0.5", 1, 2, 3, 4, 5))]
    assert [row.labels[0] for row in lower.rows] == [
        label for label in labels if label not in ("α = 0.5", "α = 2")
    ]


def test_other_tables_have_one_tier_with_everything(scale: Scale) -> None:
    for name, table in tables_of(scale).items():
        if name not in ("table1", "table4"):
            (tier,) = table.tiers()
            assert (tier.heading, tier.columns, tier.rows) == ("", table.columns, table.rows), name


def test_a_measured_cell_carries_value_interval_n_seed_and_protocol(scale: Scale) -> None:
    write_metrics(scale, RUN, fid=4.0)
    tables = tables_of(scale)
    for name in ("table1", "table2", "table4", "table5", "table6"):  # one run, many tables
        cell = cell_of(tables[name], RUN)
        assert (cell.value, cell.low, cell.high) == (4.0, 3.8, 4.2), name
        assert (cell.n, cell.seeds, cell.measured_as) == (1000, (0,), "fid@digits-cnn")
        assert cell.protocol_id in cell.details and "bootstrap" in cell.details
    assert plain_text(cell) == "12.59 / 4.00 [3.80, 4.20]"


def test_several_seeds_give_their_mean_and_range(digits: dict, tmp_path: Path) -> None:
    settings = digits | {"results": str(tmp_path), "seeds": [0, 1, 2]}
    scale = load_scale(settings, source="digits.yaml")
    for seed, value in ((0, 4.0), (1, 5.0), (7, 100.0)):
        write_metrics(scale, RUN, seed=seed, fid=value)
    cell = cell_of(tables_of(scale)["table1"], RUN)
    assert (cell.value, cell.low, cell.high, cell.seeds) == (4.5, 4.0, 5.0, (0, 1))
    assert cell.interval == "range over 2 seeds" and cell.reason == "2 of 3 seeds"


def test_controls_fill_their_rows(scale: Scale) -> None:
    write_control(scale, "class_conditional", fid=0.25)
    write_metrics(scale, RUN, step=0, fid=800.0)
    real, untrained = tables_of(scale)["table1"].rows[-2:]
    index = 1  # FID of ImageNet 256
    assert (real.cells[index].value, untrained.cells[index].value) == (0.25, 800.0)
    assert not real.cells[index].best_value
    assert "against the other real images, a smaller reference" in real.cells[index].details


def test_quoted_rows_are_no_cells_to_reproduce(scale: Scale) -> None:
    table = tables_of(scale)["table3"]
    assert [row.kind for row in table.rows] == ["quoted", "quoted", "paper"]
    assert "quoted" not in table.counts()
    assert [row.cells[0].paper_text for row in table.rows] == [
        "2,350,000",
        "7,000,000",
        "2,000,000",
    ]


def test_experts_are_one_row_with_the_reason_of_their_parts(scale: Scale) -> None:
    row = tables_of(scale)["table6"].rows[1]
    assert row.cells[2].paper_text == "9.48" and row.cells[2].status == "not run"
    assert row.cells[1].value == pytest.approx(521.2, abs=0.1)


def test_the_scales_own_run_joins_the_table_it_names(digits: dict, tmp_path: Path) -> None:
    extra = {
        "id": "mine",
        "slot": "class_conditional",
        "backbone": "DiT-L/2",
        "routing": {"type": "dtr", "alpha": 7.0},
        "iterations": 400_000,
        "used_by": ["table1"],
    }
    settings = digits | {"results": str(tmp_path), "extra_runs": [extra]}
    scale = load_scale(settings, source="digits.yaml")
    write_metrics(scale, "mine", fid=1.5)
    tables = tables_of(scale)
    (row,) = [row for row in tables["table1"].rows if row.kind == "extra"]
    assert row.labels == ("mine",) and row.cells[1].value == 1.5
    assert row.cells[1].paper is None and row.cells[0].status == ""
    assert not [row for row in tables["table8"].rows if row.kind == "extra"]


def test_all_formats_tell_the_same(scale: Scale, tmp_path: Path) -> None:
    write_everything(scale)
    tables = build_tables(scale, Records(scale))
    write_tables(tables, tmp_path / "tables")
    assert len(list((tmp_path / "tables").iterdir())) == 24
    table = tables[0]
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    cells = [cell for row in table.rows for cell in row.cells if cell.status]
    assert len(lines) == len(cells)
    value = next(line for line in lines if (line["run"], line["metric"]) == (RUN, "fid"))
    assert (value["paper"], value["value"], value["n"]) == ("12.59", "4.2", "1000")
    markdown, latex = to_markdown(table), to_latex(table)
    assert "16.18 / 3.90 [3.70, 4.09]" in markdown and "**8.90** / 4.40 [4.18, 4.62]" in markdown
    assert "16.18 / 3.90 [3.70, 4.09]" in latex and r"\textbf{8.90} / 4.40" in latex
    widths = {line.count(" & ") for line in latex.splitlines() if line.endswith(r"\\")}
    assert widths == {n for tier in table.tiers() for n in (len(tier.columns), len(tier.groups()))}
    assert latex.count("{") == latex.count("}") and r"$\downarrow$" in latex
    assert markdown.count("**Latent models**\n\n| Routing |") == 1
    upper, lower = markdown.split("**Pixel models**\n\n")
    for lines, width in ((upper, 6), (lower, 5)):
        assert {line.count("|") for line in lines.splitlines() if "|" in line} == {width + 2}


def test_headings_of_files_say_whose_features_stand_where(scale: Scale) -> None:
    for table in build_tables(scale, Records(scale)):
        markdown, latex = to_markdown(table), to_latex(table)
        for text in (markdown, latex):
            assert "Cells: the paper’s value / the value here" in text
        for column in table.columns:
            measured = NAMES[column.metric][1] and column.group.slot in scale.slots
            said = f"{column.metric}@digits-cnn" if measured else ""
            assert column.measured_as == said
            if measured:
                assert f"{column.heading} / {said}" in markdown, table.name
                assert r" / fid@digits-cnn" in latex and "Inception features" in latex
    assert "| FFHQ 256 FID-10K ↓ / fid@digits-cnn | ImageNet 256 FID ↓ / fid@digits-cnn |" in (
        to_markdown(build_table("table2", Records(scale)))
    )


def test_files_explain_empty_places_and_missing_values_once(scale: Scale) -> None:
    tables = tables_of(scale)
    for name, blanks in (("table2", True), ("table4", True), ("table5", False), ("table8", False)):
        for text in (to_markdown(tables[name]), to_latex(tables[name])):
            assert text.count("no value in the paper, and none here") == blanks, name
    markdown = to_markdown(tables["table1"])
    assert markdown.count("no metrics record yet") == 1
    assert "\npending: no metrics record yet (cells: 15).\n" in markdown


def test_tables_need_no_torch() -> None:
    code = "import dtr.reporting.tables.build, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_row_finds_the_run_that_the_paper_shows_there() -> None:
    """Rows select runs by their fields; which ids these are, is written down as data."""
    known = json.loads(Path(__file__).with_name("layout_runs.json").read_text(encoding="utf-8"))
    found = {
        layout.name: [[list(row.labels), row.runs] for row in layout.rows] for layout in LAYOUTS
    }
    assert found == known


def test_a_row_without_its_one_run_is_an_error() -> None:
    with pytest.raises(LookupError, match=r"unconditional, DiT-B/2, dtr, 7\.0"):
        run_of("unconditional", "dtr", alpha=7.0)
