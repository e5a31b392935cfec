"""`python -m dtr measure`: what it records, and options that contradict each other."""

import json
import math

import numpy as np
import pytest

from dtr.cli import main
from dtr.metrics.features import (
    write_real_features,
)
from dtr.records.schema import (
    MetricsRecord,
    ModelRecord,
    read_record,
    write_record,
)
from tests.unit.metrics.conftest import PROTOCOL

pytestmark = pytest.mark.usefixtures("few_subsets")


@pytest.fixture
def measured(assets, capsys):
    """Runs `measure` on the two sample files; options are replaced, or left out where None."""
    root, extractor, dataset = assets
    write_real_features(dataset, extractor, root / "real.npz")
    record = ModelRecord(
        run="a-run", seed=0, step=5, reached_step=5, status="ok", fingerprint=None,
        dataset_hash=None, settings={}, weights_sha256="", parameters=1, provenance={},
    )  # fmt: skip
    write_record(root / "model" / "train.json", record)
    out = root / "record.json"

    def run(**changes):
        options = {
            "model": [root / "model"], "samples": [root / "shard-0.npz", root / "shard-1.npz"],
            "extractor": [extractor], "features": [root / "features"],
            "real": [root / "real.npz"], "slot": ["unconditional"], "bootstrap": [2],
            "protocol": [json.dumps(PROTOCOL.plain())],
        } | changes  # fmt: skip
        arguments = ["measure", "--out", str(out)]
        for name, values in options.items():
            arguments += [] if values is None else [f"--{name}", *map(str, values)]
        try:
            status = main(arguments)
        except SystemExit as ended:
            status = ended.code
        return status, capsys.readouterr().err.splitlines(), out

    return run


def test_the_verb_measures_and_says_nothing(measured):
    status, said, out = measured()
    record = read_record(MetricsRecord, out)
    assert (status, said, record.status) == (0, [], "ok")
    assert (record.run, record.seed, record.step) == ("a-run", 0, 5)
    assert record.metrics


@pytest.mark.parametrize(
    ("seconds", "total"),
    [((1.5, 2.25), 3.75), ((1.5, None), math.nan), ((None, None), math.nan)],
)
def test_the_record_says_how_long_sampling_took_if_all_files_do(measured, assets, seconds, total):
    root, *_ = assets
    for shard, told in enumerate(seconds):
        file = root / f"shard-{shard}.npz"
        timed = {} if told is None else {"seconds": np.array(told)}
        np.savez(file, **np.load(file), **timed)
    *_, out = measured()
    record = read_record(MetricsRecord, out)
    assert record.status == "ok"
    assert record.sampling_seconds == pytest.approx(total, nan_ok=True)


@pytest.mark.parametrize(
    ("drawn", "expected"),
    [((None, None), "host"), (("device", "device"), "device"), (("device", None), "mixed")],
)
def test_the_record_says_where_noise_was_drawn(measured, assets, drawn, expected):
    root, *_ = assets
    for shard, told in enumerate(drawn):
        file = root / f"shard-{shard}.npz"
        arrays = {name: array for name, array in np.load(file).items() if name != "rng"}
        np.savez(file, **arrays, **({} if told is None else {"rng": np.array(told)}))
    *_, out = measured()
    assert read_record(MetricsRecord, out).sampling_rng == expected


def test_a_control_and_an_older_record_have_no_time_of_sampling(measured):
    *_, out = measured(model=None, samples=None, extractor=None, features=None)
    assert math.isnan(read_record(MetricsRecord, out).sampling_seconds)
    older = json.loads(out.read_text(encoding="utf-8"))
    assert older.pop("sampling_seconds", "absent") is None
    out.write_text(json.dumps(older), encoding="utf-8")
    assert math.isnan(read_record(MetricsRecord, out).sampling_seconds)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": None}, "--samples: given without --model, which measures real images alone"),
        ({"model": None, "samples": None}, "--extractor: given without --model"),
        ({"model": None, "samples": None, "extractor": None}, "--features: given without --model"),
        ({"samples": None}, "--samples: missing; needed to measure the samples of a --model"),
        ({"extractor": None}, "--extractor: missing; needed"),
        ({"features": None}, "--features: missing; needed"),
        ({"extractor": ["x/other-cnn"]}, "x/other-cnn: the protocol names 'digits-cnn'; accepted"),
        ({"extractor": ["x/digits-cnn"]}, "x/digits-cnn/record.json: no such file"),
        ({"samples": ["x.npz"]}, "x.npz: no such file"),
        ({"real": ["x.npz"]}, "x.npz: no such file"),
        ({"model": ["x"]}, "x/train.json: no such file"),
        ({"bootstrap": [0]}, "--bootstrap: 0; accepted: an integer of 1 or more"),
        ({"threads": [0]}, "--threads: 0; accepted: an integer of 1 or more"),
    ],
)
def test_options_that_contradict_each_other_write_no_record(changes, message, measured):
    status, said, out = measured(**changes)
    assert status == 2
    (line,) = said
    assert message in line
    assert not out.exists()


def test_a_failed_measurement_is_recorded_and_said(measured, assets):
    root, _, _ = assets
    np.savez(root / "wide.npz", arr_0=np.zeros((120, 24, 40, 3), np.uint8))
    status, said, out = measured(samples=[root / "wide.npz"])
    record = json.loads(out.read_text())
    assert (status, record["status"], record["metrics"]) == (0, "failed", [])
    (line,) = said
    assert "wide.npz: images of 24 x 40 pixels; the extractor accepts 32 x 32 or 16 x 16" in line
    assert record["reason"] in line
    assert line.startswith("dtr measure: failed: ")
