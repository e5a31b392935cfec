"""What is bold, and metrics that the controls refute."""

from pathlib import Path

import pytest

from dtr.config.scale import Scale
from dtr.reporting.tables.formats import to_csv, to_latex, to_markdown
from tests.synthetic_results import (
    write_control,
    write_metrics,
)
from tests.synthetic_tables import RUN, cell_of, scale_of_seeds, tables_of

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
