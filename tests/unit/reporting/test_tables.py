"""Tables from records: values, intervals, statuses, and the same content in every format."""

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
from dtr.records.workdir import append_log, exclusive
from dtr.reporting.tables.build import build_table, build_tables
from dtr.reporting.tables.cells import NAMES, Cell
from dtr.reporting.tables.formats import plain_text, to_csv, to_latex, to_markdown, write_tables
from dtr.reporting.tables.layout import LAYOUTS, run_of
from dtr.reporting.tables.table import Table, summary
from tests.synthetic_results import (
    metrics_record,
    model_folder,
    write_control,
    write_everything,
    write_metrics,
    write_throughput,
    write_training,
)

RUN = "in256-l2-none"


def tables_of(scale: Scale) -> dict[str, Table]:
    return {table.name: table for table in build_tables(scale, Records(scale))}


def cell_of(table: Table, run: str, metric: str = "fid") -> Cell:
    cells = [cell for row in table.rows for cell in row.cells]
    return next(cell for cell in cells if (cell.run, cell.metric) == (run, metric))


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


def test_another_protocol_never_enters_a_column(scale: Scale) -> None:
    folder = model_folder(scale, RUN) / "metrics"
    folder.mkdir(parents=True)
    record = metrics_record(scale, RUN, "class_conditional", 0, 1000) | {"protocol_id": "other"}
    (folder / "other.json").write_text(json.dumps(record), encoding="utf-8")
    assert cell_of(tables_of(scale)["table1"], RUN).status == "pending"


def test_an_unfinished_length_never_enters_a_column(scale: Scale) -> None:
    write_metrics(scale, RUN, step=600)
    assert cell_of(tables_of(scale)["table1"], RUN).status == "pending"


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_without_numbers_shows_its_status_and_reason(scale: Scale, status: str) -> None:
    write_metrics(scale, RUN, status=status, reason="loss is nan at step 70", metrics=[])
    cell = cell_of(tables_of(scale)["table1"], RUN)
    assert (cell.status, cell.reason, cell.value) == (status, "loss is nan at step 70", None)
    assert plain_text(cell) == f"12.59 / {status}"


def test_a_diverged_training_shows_before_its_metrics_exist(scale: Scale) -> None:
    write_training(scale, RUN, status="diverged", reason="loss is nan at step 70")
    cell = cell_of(tables_of(scale)["table1"], RUN)
    assert (cell.status, cell.reason) == ("diverged", "loss is nan at step 70")


def test_a_training_that_goes_on_shows_how_far_it_is(scale: Scale) -> None:
    folder = Path(scale.results) / "work" / RUN / "seed0" / "0123456789abcdef"
    with exclusive(folder):
        append_log(folder, {"step": 430})
        cell = cell_of(tables_of(scale)["table1"], RUN)
        said = "training of seed 0 is at step 430 of 1,000"
        assert (cell.status, cell.reason) == ("running", said)
        write_metrics(scale, RUN)
        assert cell_of(tables_of(scale)["table1"], RUN).status == "measured"
    assert cell_of(tables_of(scale)["table1"], "in256-l2-dtr-a4").status == "pending"


def test_a_broken_record_breaks_its_own_cells_only(scale: Scale) -> None:
    write_everything(scale)
    write_metrics(scale, RUN).write_text("{", encoding="utf-8")
    table = tables_of(scale)["table1"]
    assert {cell_of(table, RUN, name).status for name in ("fid", "recall")} == {"broken"}
    assert cell_of(table, "in256-l2-dtr-a4").status == "measured"


def test_a_record_of_other_settings_shows_as_outdated(scale: Scale) -> None:
    path = write_training(scale, RUN)
    settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
    settings["weighting"] = {"type": "p2", "k": 1.0, "gamma": 1.0}
    write_training(scale, RUN, settings=settings)
    write_metrics(scale, RUN)
    cell = cell_of(tables_of(scale)["table1"], RUN)
    assert (cell.status, cell.value) == ("outdated", None)
    assert cell.reason == "trained with weighting.type = 'p2', now 'vanilla'"


def test_a_missing_metric_is_pending_by_name(scale: Scale) -> None:
    record = metrics_record(scale, RUN, "class_conditional", 0, 1000)
    write_metrics(scale, RUN, metrics=record["metrics"][:1])
    table = tables_of(scale)["table1"]
    assert cell_of(table, RUN).status == "measured"
    assert cell_of(table, RUN, "recall").reason == "the record has no recall@digits-cnn"


def test_controls_fill_their_rows(scale: Scale) -> None:
    write_control(scale, "class_conditional", fid=0.25)
    write_metrics(scale, RUN, step=0, fid=800.0)
    real, untrained = tables_of(scale)["table1"].rows[-2:]
    index = 1  # FID of ImageNet 256
    assert (real.cells[index].value, untrained.cells[index].value) == (0.25, 800.0)
    assert not real.cells[index].best_value
    assert "against the other real images, a smaller reference" in real.cells[index].details


def scale_of_seeds(digits: dict, tmp_path: Path, seeds: list[int]) -> Scale:
    return load_scale(digits | {"results": str(tmp_path), "seeds": seeds}, source="digits.yaml")


ROUTINGS = [f"in256-l2-{routing}" for routing in ("none", "rtr", "dtr-a4")]


@pytest.mark.parametrize(
    ("values", "bold"),
    [
        (((3.0, 3.4), (4.0, 4.4), (5.0, 5.4)), [True, False, False]),
        (((3.0, 4.0), (3.9, 5.0), (4.1, 6.0)), [True, True, False]),  # the second overlaps
        (((3.0, 5.0), (4.5, 5.5), (4.0, 6.0)), [False] * 3),  # nothing is told apart
        (((3.0, 3.4), (4.0,), (5.0, 5.4)), [False] * 3),  # of one its spread is not known
        (((3.0,), (4.0,), (5.0,)), [False] * 3),
        (((3.0, 3.4),), [False]),
    ],
)
def test_bold_here_is_what_the_seeds_tell_apart_from_the_rest(
    digits: dict, tmp_path: Path, values: tuple, bold: list[bool]
) -> None:
    scale = scale_of_seeds(digits, tmp_path, [0, 1])
    for run, found in zip(ROUTINGS, values, strict=False):
        for seed, fid in enumerate(found):
            write_metrics(scale, run, seed=seed, fid=fid)
    table = tables_of(scale)["table1"]
    assert [cell_of(table, run).best_value for run in ROUTINGS[: len(bold)]] == bold


def test_bold_follows_the_direction_of_the_metric_here_and_in_the_paper(
    digits: dict, tmp_path: Path
) -> None:
    scale = scale_of_seeds(digits, tmp_path, [0, 1])
    for run, score in zip(ROUTINGS, (6.0, 7.0, 5.0), strict=True):
        for seed in (0, 1):
            write_metrics(scale, run, seed=seed, inception_score=score + seed / 10)
    table = tables_of(scale)["table1"]
    best = [cell_of(table, run, "inception_score").best_value for run in ROUTINGS]
    assert best == [False, True, False]
    assert [cell_of(table, run).best_paper for run in ROUTINGS] == [False, False, True]
    line = next(line for line in to_markdown(table).splitlines() if line.startswith("| R-TR"))
    assert "| 105.88 / **7.05 [7.00, 7.10]** |" in line
    assert r"105.88 / \textbf{7.05 [7.00, 7.10]}" in to_latex(table)


def test_a_metric_that_its_controls_refute_is_marked_and_never_bold(
    digits: dict, tmp_path: Path
) -> None:
    scale = scale_of_seeds(digits, tmp_path, [0, 1])
    for run, recall in zip(ROUTINGS, (0.5, 0.7, 0.6), strict=True):
        for seed in (0, 1):
            write_metrics(scale, run, seed=seed, recall=recall, precision=recall)
    controls = {"fid": 800.0, "inception_score": 1.0, "precision": 0.2, "recall": 0.95}
    write_metrics(scale, RUN, step=0, **controls)
    write_control(scale, "class_conditional", fid=0.1, recall=0.88, precision=0.89)
    for name in ("table1", "table2", "table4", "table5", "table6"):  # not beside the controls only
        table = tables_of(scale)[name]
        refuted = {column.measured_as: column.refuted for column in table.columns}
        assert {name for name, said in refuted.items() if said} == {"recall@digits-cnn"}
        said = "refuted by its controls: 0.95 for an untrained network, 0.88 for real images"
        cell = cell_of(table, RUN, "recall")
        assert refuted["recall@digits-cnn"] == said and said in cell.details
        assert f"†: recall@digits-cnn of ImageNet 256 is {said}; values" in to_markdown(table)
        assert "Recall ↑ / recall@digits-cnn †" in to_markdown(table)
        assert r"recall@digits-cnn \dag{}" in to_latex(table)
        assert said in to_csv(table)
    table = tables_of(scale)["table1"]
    assert not any(cell_of(table, run, "recall").best_value for run in ROUTINGS)
    assert cell_of(table, "in256-l2-rtr", "precision").best_value


@pytest.mark.parametrize("known", ["neither", "real", "untrained"])
def test_without_both_controls_nothing_is_refuted(scale: Scale, known: str) -> None:
    write_metrics(scale, RUN)
    if known == "real":
        write_control(scale, "class_conditional", recall=0.1)
    elif known == "untrained":
        write_metrics(scale, RUN, step=0, recall=0.99)
    assert not any(column.refuted for column in tables_of(scale)["table1"].columns)


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


def test_speed_that_could_not_be_measured_is_failed_with_its_reason(whole: Scale) -> None:
    reason = "needs 10.1 GB of memory"
    write_throughput(whole, "DiT-L/2", status="failed", reason=reason, speed=None)
    table = build_table("table7", Records(whole))
    cells = {(row.labels[0], cell.metric): cell for row in table.rows for cell in row.cells}
    cell = cells["DiT-L/2", "iterations_per_second"]
    assert (cell.status, cell.reason) == ("failed", "needs 10.1 GB of memory")
    assert cells["DiT-S/2", "iterations_per_second"].status == "pending"


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
