"""A planted defect in a record is found: settings, place, schema, agreement with others."""

import shutil

import pytest

from tests.unit.sharing.planting import OTHER, STEP, assert_found, edited, measured


def change_learning_rate(root):
    path = root / STEP / "train.json"
    edited(path, lambda record: record["settings"]["training"].update(learning_rate=0.5))
    return "altered", f"{STEP}/train.json"  # its fingerprint is of other settings


def train_under_other_settings(root):
    """As when a scale is changed afterwards: the record is sound, and of another experiment."""
    from dtr.config.stages import RunSettings
    from dtr.support.settings import parse

    def change(record):
        record["settings"]["training"]["learning_rate"] = 0.5
        settings = parse(RunSettings, record["settings"], source="test")
        record["fingerprint"] = settings.fingerprint(record["dataset_hash"], record["parts"])

    edited(root / STEP / "train.json", change)
    return "stale", f"{STEP}/train.json"


def claim_other_data(root):
    edited(root / STEP / "train.json", lambda record: record.update(dataset_hash="e" * 64))
    return "inconsistent", f"{STEP}/train.json"


def stop_early(root):
    edited(root / STEP / "train.json", lambda record: record.update(reached_step=500))
    return "altered", f"{STEP}/train.json"


def write_another_schema(root):
    edited(root / STEP / "train.json", lambda record: record.update(schema_version=1))
    return "broken", f"{STEP}/train.json"


def move_a_record(root):
    shutil.copy(root / STEP / "train.json", root / OTHER / "train.json")
    return "broken", f"{OTHER}/train.json"


def cut_a_record(root):
    path = measured(root)
    path.write_text(path.read_text()[:100])
    return "broken", path.relative_to(root).as_posix()


def nest_a_record(root):
    path = measured(root)
    path.write_text("[" * 100_000)
    return "broken", path.relative_to(root).as_posix()


def lose_a_record(root):
    path = measured(root)
    path.unlink()
    return "missing", path.relative_to(root).as_posix()


def measure_fewer(root):
    path = edited(measured(root), lambda record: record["metrics"][0].update(n=10))
    return "altered", path.relative_to(root).as_posix()


def turn_a_metric(root):
    path = edited(measured(root), lambda record: record["metrics"][0].update(direction="higher"))
    return "altered", path.relative_to(root).as_posix()


def change_the_protocol(root):
    path = edited(measured(root), lambda record: record["protocol"].update(sampling_steps=999))
    return "altered", path.relative_to(root).as_posix()


def turn_an_interval(root):
    path = edited(measured(root), lambda record: record["metrics"][0].update(low=9.0, high=1.0))
    return "altered", path.relative_to(root).as_posix()


def diverge(root):
    def change(record):
        record.update(status="diverged", reached_step=500)

    edited(root / STEP / "train.json", change)
    return "inconsistent", measured(root).relative_to(root).as_posix()


DEFECTS = [
    change_learning_rate,
    train_under_other_settings,
    claim_other_data,
    stop_early,
    write_another_schema,
    move_a_record,
    cut_a_record,
    nest_a_record,
    lose_a_record,
    measure_fewer,
    turn_a_metric,
    change_the_protocol,
    turn_an_interval,
    diverge,
]


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    assert_found(sound, plant, capsys)
