"""The paper's numbers: what was copied, from where, and that nothing was made up."""

import math
from collections import Counter

import pytest

from dtr.experiments import BACKBONES, EXPERTS, RUNS, SLOTS
from dtr.reporting import published as source
from dtr.reporting.tables.layout import LAYOUTS


@pytest.mark.parametrize(
    ("table", "run", "metric", "value"),
    [
        ("table1", "ffhq256-b2-none", "fid", 10.99),
        ("table1", "in256-l2-dtr-a4", "inception_score", 156.48),
        ("table1", "coco256-b2-rtr", "fid", 10.49),
        ("table1", "in64-adm-dtr-a4", "precision", 0.88),
        ("table2_ffhq", "ffhq256-b2-none", "fid", 12.93),
        ("table2_imagenet", "in256-l2-dtr-a4-ant_uw_8", "fid", 4.61),
        ("table4_coco", "coco256-b2-dtr-a5", "fid", 6.93),
        ("table5", "in256-s2-dtr-a4", "recall", 0.54),
        ("table6", source.run_key(EXPERTS), "fid", 9.48),
        ("table6", source.run_key(EXPERTS), "parameters_millions", 521),
        ("table8", "ffhq256-b2-maxroaming", "fid", 39.9),
    ],
)
def test_values_are_the_papers(table: str, run: str, metric: str, value: float) -> None:
    assert source.value_of(table, run, metric)["value"] == value


def test_training_length_chooses_among_quoted_rows() -> None:
    row = source.value_of("table3", "cited:DiT-XL/2", "fid", iterations=2_350_000)
    assert row["value"] == 2.55 and "quoted" in row["note"]
    assert source.value_of("table3", "cited:DiT-XL/2", "fid", iterations=1) is None


def test_provenance_is_named_for_every_value_and_explained() -> None:
    frame, legend = source.results_frame(), source.published()["provenance_codes"]
    assert (frame["provenance"].ne("") | frame["value"].isna()).all()
    used = {code for codes in frame["provenance"] if codes for code in codes.split(", ")}
    assert used <= set(legend)
    assert source.value_of("table5", "in256-b2-none", "fid")["provenance"] == "switch_dit_readme"
    assert source.value_of("table2_ffhq", "ffhq256-b2-none-p2", "fid")["n_samples"] == 10_000


def test_counts_of_rows_by_table() -> None:
    assert Counter(row["table"] for row in source.published()["results"]) == {
        "table1": 15,
        "table2_ffhq": 8,
        "table2_imagenet": 6,
        "table3": 3,
        "table4_ffhq": 7,
        "table4_coco": 5,
        "table4_in256": 7,
        "table4_in64": 5,
        "table5": 6,
        "table6": 3,
        "table8": 5,
        "figure3": 24,
        "figure4": 9,
        "figure5": 80,
    }


def test_unknown_values_stay_null_and_are_only_in_figures() -> None:
    frame = source.results_frame()
    assert set(frame.loc[frame["value"].isna(), "table"]) == {"figure3", "figure4", "figure5"}
    hidden = source.value_of("figure4", "ffhq256-b2-rtr-b0.2", "fid")
    assert math.isnan(hidden["value"]) and hidden["provenance"] == ""


def test_figure5_points_stated_in_prose() -> None:
    known = source.results_frame().query("table == 'figure5' and value.notna()")
    assert known[["run", "iterations", "value"]].values.tolist() == [
        ["in256-b2-none", 400_000, 31.0],
        ["in256-b2-dtr-a4", 200_000, 31.0],
    ]


def test_runs_tables_and_iterations_agree_with_the_experiments() -> None:
    runs = {run.id: run for run in RUNS}
    for row in source.published()["results"]:
        ids = row["run"] if isinstance(row["run"], list) else [row["run"]]
        for run in (runs[run] for run in ids if not run.startswith("cited:")):
            assert row["table"] in run.used_by, (row["table"], run.id)
            assert row["iterations"] == run.iterations or row["table"] == "figure5"


def test_complexity_is_known_for_table_7_and_unknown_for_dtr_on_xl() -> None:
    assert source.complexity_of("DiT-B/2", "dtr", "gflops")["value"] == 23.02
    assert source.complexity_of("DiT-L/2", "none", "iterations_per_second")["value"] == 3.72
    assert source.complexity_of("DiT-XL/2", "dtr", "gflops") == {"value": None, "provenance": ""}
    assert source.complexity_of("ADM-64", "none", "gflops") is None
    assert {row["backbone"] for row in source.published()["complexity"]} <= set(BACKBONES)


def test_every_slot_has_an_evaluation_protocol() -> None:
    assert set(source.published()["eval_protocols"]) == {*SLOTS, "shared"}


def test_every_published_table_cell_has_its_place_on_the_page() -> None:
    placed = {
        (group.panel, row.runs[group.slot], metric, row.iterations)
        for layout in LAYOUTS
        for group in layout.groups
        for metric in group.metrics
        for row in layout.rows
        if group.slot in row.runs
    }
    for row in source.results_frame().query("table.str.startswith('table')").to_dict("records"):
        key = (row["table"], row["run"], row["metric"])
        assert {(*key, row["iterations"]), (*key, None)} & placed, key
