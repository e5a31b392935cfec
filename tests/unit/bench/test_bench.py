"""The bench: its cases run, ratios are of one round, a slowdown is an error. No time is judged."""

import json

import pytest

from dtr.bench import run
from dtr.bench.run import CASES, LONG, BenchRecord, chosen_cases
from dtr.bench.timing import Bench, Case, Variant, time_case
from dtr.cli import main
from dtr.records.schema import read_record
from dtr.support.errors import Refusal

QUICK = "step-digits,host,noise,sampling-digits,intervals,features"


@pytest.fixture
def bench(tmp_path, capsys):
    """Runs the verb in small; gives the status, what it printed, what it refused and the record."""
    out = tmp_path / "bench.json"

    def call(*options: str):
        arguments = ["bench", "--small", "--seconds", "0", "--threads", "1", "--out", str(out)]
        status = main([*arguments, *options])
        said = capsys.readouterr()
        return status, said.out, said.err.splitlines(), out

    return call


def test_quick_cases_run_and_are_recorded(bench):
    status, printed, _, out = bench("--cases", QUICK)
    assert status == 0
    record = read_record(BenchRecord, out)
    assert [case.name for case in record.cases] == QUICK.split(",")
    assert record.small and record.device == "cpu" and record.provenance["packages"]["torch"]
    for case in record.cases:
        assert case.reason is None and case.timings, case.name
        assert all(timing.seconds > 0 and timing.rounds >= 1 for timing in case.timings)
        assert case.timings[0].ratio == (1 if CASES[case.name].alike else None)
    assert "DTR, batches ahead" in printed and "GFLOP/s" in printed


def edited(out, factor: float):
    """The record, as if it had been taken on a machine so many times slower."""
    value = json.loads(out.read_text(encoding="utf-8"))
    for case in value["cases"]:
        for timing in case["timings"]:
            timing["seconds"] *= factor
    other = out.with_name("before.json")
    other.write_text(json.dumps(value), encoding="utf-8")
    return other


def test_a_slowdown_is_an_error_and_no_slowdown_is_none(bench):
    *_, out = bench("--cases", "features")
    status, printed, *_ = bench("--cases", "features", "--against", str(edited(out, 1e6)))
    assert status == 0 and "x of before" in printed
    status, _, said, _ = bench("--cases", "features", "--against", str(edited(out, 1e-12)))
    assert status == 2
    assert said[-1].endswith("slower than 1.25 times before: features (digits_cnn)")


def test_what_cannot_be_compared_is_refused(bench, tmp_path):
    absent = tmp_path / "absent.json"
    status, _, said, out = bench("--cases", "features", "--against", str(absent))
    assert status == 2 and said == [f"dtr bench: --against {absent}: no such file"]
    assert not out.exists()
    *_, out = bench("--cases", "features")
    other = edited(out, 1)
    other.write_text(other.read_text().replace('"small": true', '"small": false'))
    status, _, said, _ = bench("--cases", "features", "--against", str(other))
    assert status == 2 and "of device cpu, this one is of cpu in small" in said[-1]


def test_unknown_cases_are_refused_and_long_ones_are_named():
    with pytest.raises(Refusal, match="--cases nonsense: unknown; known: step-digits"):
        chosen_cases(["nonsense"], "cpu")
    everything = {case.name for case in chosen_cases([], "cuda")}
    assert everything - {case.name for case in chosen_cases([], "cpu")} == set(LONG)
    assert [case.name for case in chosen_cases(["host", "host"], "cpu")] == ["host"]


def test_the_list_says_what_there_is(bench):
    status, printed, _, out = bench("--list")
    assert status == 0 and not out.exists()
    assert [line.split()[0] for line in printed.splitlines()] == list(CASES)


def test_a_ratio_is_the_median_of_those_within_a_round(monkeypatch, tmp_path):
    clock = iter([1.0, 3.0, 10.0, 20.0, 100.0, 400.0])  # plain, fast; fast, plain; plain, fast
    monkeypatch.setattr("dtr.bench.timing.seconds_of", lambda *_: next(clock))
    case = Case("toy", "thing", "", lambda _: {name: Variant(int) for name in ("plain", "fast")})
    times = time_case(case, Bench("cpu", tmp_path), seconds=0)
    plain, fast = times.timings
    assert (plain.rounds, plain.seconds, plain.fastest, plain.ratio) == (3, 20.0, 1.0, 1)
    assert fast.ratio == 3.0  # of 3, 0.5 and 4


def test_a_case_that_cannot_run_says_why(tmp_path):
    def build(_: Bench):
        raise Refusal("needs 400 GB of memory, 3 GB are free")

    case = Case("features", "thing", "", build)
    times = time_case(case, Bench("cpu", tmp_path), seconds=0)
    assert times.reason == "needs 400 GB of memory, 3 GB are free"
    assert "  left out: needs 400 GB of memory, 3 GB are free" in run.lines(times)
