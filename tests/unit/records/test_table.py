"""Reading records: everything that is there, and damage as a row."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from dtr.config.scale import Scale
from dtr.records.table import MOST_POINTS, Records
from tests.synthetic_results import (
    model_folder,
    write_control,
    write_everything,
    write_metrics,
    write_training,
)

RUN = "in256-l2-none"


def test_an_empty_folder_is_an_empty_table(scale: Scale) -> None:
    records = Records(scale)
    assert records.frame.empty and "metric" in records.frame
    assert not records.broken


def test_a_record_becomes_one_row_per_metric(scale: Scale) -> None:
    write_metrics(scale, RUN, fid=2.5)
    rows = Records(scale).frame.query("metric == 'fid@digits-cnn'").to_dict("records")
    assert len(rows) == 1
    wanted = {"run": RUN, "slot": "class_conditional", "seed": 0, "step": 1000, "value": 2.5}
    assert wanted.items() <= rows[0].items()
    assert (rows[0]["n"], rows[0]["status"], rows[0]["direction"]) == (1000, "ok", "lower")


def test_controls_have_a_slot_but_no_model(scale: Scale) -> None:
    write_control(scale, "unconditional", fid=0.25)
    row = Records(scale).frame.query("metric == 'fid@digits-cnn'").iloc[0]
    assert (row["run"], row["slot"], row["seed"], row["value"]) == (
        "real",
        "unconditional",
        -1,
        0.25,
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[: len(text) // 2], "not readable as JSON"),
        (lambda text: "\x00" * 40, "not readable as JSON"),
        (lambda text: "[]", "not a JSON object"),
        (lambda text: text.replace('"value": 3.5', '"value": NaN'), "metrics.0.value"),
        (lambda text: text.replace('"metrics"', '"other"').replace('"status"', '"s"'), "status"),
        (lambda text: text.replace(f'"{RUN}"', '"in256-l2-rtr"'), "run is 'in256-l2-rtr'"),
        (lambda text: text.replace('"seed": 0,\n  "step"', '"seed": 7,\n  "step"'), "seed is 7"),
        (
            lambda text: text.replace('"schema_version": 2', '"schema_version": 1'),
            "version reads 2",
        ),
    ],
)
def test_a_damaged_record_is_a_row_that_says_so(scale: Scale, damage, said: str) -> None:
    path = write_metrics(scale, RUN)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    write_metrics(scale, "in256-l2-dtr-a4")
    records = Records(scale)
    (name,) = records.broken
    assert name.startswith(f"runs/{RUN}/seed0/step1000/metrics/") and said in records.broken[name]
    assert "\n" not in records.broken[name]
    assert set(records.frame.query("status == 'broken'")["run"]) == {RUN}
    assert set(records.frame.query("status == 'ok'")["run"]) == {"in256-l2-dtr-a4"}


def test_bytes_that_are_no_text_are_damage_too(scale: Scale) -> None:
    write_training(scale, RUN).write_bytes(b"\xff\xfe\x00")
    assert len(Records(scale).broken) == 1


def test_files_in_strange_places_are_told_apart(scale: Scale) -> None:
    for name in ("seedX/step1/train.json", "seed0/stepX/metrics/p.json"):
        path = Path(scale.results) / "runs" / RUN / name
        path.parent.mkdir(parents=True)
        path.write_text("{}", encoding="utf-8")
    assert len(Records(scale).broken) == 2


def test_the_longest_training_of_each_seed_is_the_final_one(scale: Scale) -> None:
    path = write_training(scale, RUN)
    for step in (0, 600):
        folder = model_folder(scale, RUN, step=step)
        folder.mkdir(parents=True)
        record = json.loads(path.read_text(encoding="utf-8")) | {"step": step}
        (folder / "train.json").write_text(json.dumps(record), encoding="utf-8")
    records = Records(scale)
    assert len(records.trainings) == 3
    assert [record.step for record in records.final_trainings()] == [1000]


def test_a_model_of_other_settings_is_outdated(scale: Scale) -> None:
    settings = json.loads(write_training(scale, RUN).read_text(encoding="utf-8"))["settings"]
    assert Records(scale).outdated(RUN, 0, 1000) is None
    settings["training"]["learning_rate"] = 0.5
    write_training(scale, RUN, settings=settings)
    said = Records(scale).outdated(RUN, 0, 1000)
    assert said == "trained with training.learning_rate = 0.5, now 0.003"


def test_everything_is_read(scale: Scale) -> None:
    write_everything(scale)
    records = Records(scale)
    assert len(records.trainings) == 6 and len(records.metrics) == 10 and not records.broken


@pytest.mark.parametrize("count", [10, MOST_POINTS, MOST_POINTS + 1, 10 * MOST_POINTS + 7])
def test_a_long_history_is_kept_in_means(scale: Scale, count: int) -> None:
    """Histories of hundreds of thousands of steps would not fit into memory together."""
    points = [
        {"step": 10 * n, "loss": float(n % 2), "mse": n, "vb": 0.0} for n in range(1, count + 1)
    ]
    write_training(scale, RUN, history=points)
    (record,) = Records(scale).trainings.values()
    kept = record.history
    assert (
        len(kept) == count if count <= MOST_POINTS else MOST_POINTS / 2 < len(kept) <= MOST_POINTS
    )
    steps = [point.step for point in kept]
    assert steps[-1] == 10 * count and sorted(set(steps)) == steps
    # Each stands for the points up to its step.
    widths = [end - start for start, end in pairwise([0, *(step // 10 for step in steps)])]
    total = sum(width * point.mse for width, point in zip(widths, kept, strict=True))
    assert total == pytest.approx(sum(range(1, count + 1)))
