"""Cells without a number: pending, going on, failed, outdated, broken."""

import json
from pathlib import Path

import pytest

from dtr.config.scale import Scale
from dtr.records.workdir import append_log, exclusive
from dtr.reporting.tables.formats import plain_text
from tests.synthetic_results import (
    metrics_record,
    model_folder,
    write_everything,
    write_metrics,
    write_training,
)
from tests.synthetic_tables import RUN, cell_of, tables_of


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
