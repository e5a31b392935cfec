"""The bench: its cases run, ratios are of one round, a slowdown is an error. No time is judged."""

import json
import multiprocessing

import pytest

from dtr.analysis.throughput import paper_settings
from dtr.bench import run, scaling_cases
from dtr.bench.compare import compare
from dtr.bench.run import CASES, LONG, BenchRecord, chosen_cases
from dtr.bench.timing import Bench, Case, CaseTimes, Timing, Variant, time_case
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
            timing["fastest"] *= factor
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


def test_a_record_is_compared_with_what_was_in_the_same_file_before(bench):
    *_, out = bench("--cases", "features")
    edited(out, 1e-12).replace(out)
    status, *_ = bench("--cases", "features", "--against", str(out))
    assert status == 2


def test_what_cannot_be_compared_is_refused_before_anything_is_timed(bench, tmp_path, monkeypatch):
    *_, out = bench("--cases", "features")
    other, kept = edited(out, 1), out.read_text(encoding="utf-8")
    monkeypatch.setattr(run, "time_case", None)

    def refused(text: str | None, says: str) -> None:
        other.unlink() if text is None else other.write_text(text, encoding="utf-8")
        status, _, said, _ = bench("--cases", "features", "--against", str(other))
        assert (status, len(said)) == (2, 1) and says in said[0], said

    refused(kept.replace('"small": true', '"small": false'), "of device cpu, this one is of cpu in")
    refused(kept.replace('"features"', '"noise"'), "none of these cases is timed there; those are:")
    refused("{", f"--against {other}: not readable as JSON")
    refused("{}", "schema_version 1: this version reads")
    refused(None, f"--against {other}: no such file")
    assert out.read_text(encoding="utf-8") == kept


def record(**timings: tuple[float, float]) -> BenchRecord:
    """A record of the case `features`: median and fastest of each variant."""
    made = [
        Timing(variant=name, rounds=3, seconds=median, fastest=fastest, ratio=None)
        for name, (median, fastest) in timings.items()
    ]
    cases = [CaseTimes(name="features", unit="image", timings=made)]
    machine = {"cpu": "one", "threads": 2}
    return BenchRecord(device="cpu", threads=2, cases=cases, provenance=machine, wall_seconds=1)


def test_slower_is_what_is_slower_at_its_best_too(capsys):
    before = record(steady=(1.0, 0.9), disturbed=(1.0, 0.9), gone=(1.0, 0.9))
    now = record(steady=(1.5, 1.4), disturbed=(3.0, 0.95), new=(9.0, 9.0))
    assert compare(now, before, slower=1.25) == ["features (steady)"]
    said = capsys.readouterr().out
    assert "new                                not timed before" in said
    assert "gone                               not timed now" in said
    now.provenance["cpu"] = "another"
    assert compare(now, before, slower=2) == []
    assert "another cpu: one before, another now" in capsys.readouterr().out


def test_processes_take_their_steps_together(bench):
    """Two processes beside one, which are gone when the case is done."""
    status, _, _, out = bench("--cases", "scaling", "--processes", "2")
    (case,) = read_record(BenchRecord, out).cases
    assert status == 0 and [t.variant for t in case.timings] == ["1 process", "2 processes"]
    assert not multiprocessing.active_children()
    status, printed, *_ = bench("--cases", "scaling", "--processes", "1")
    assert status == 0 and "left out: one process; --processes 2 compares" in printed


def test_a_process_that_fails_is_the_reason_of_its_case(bench, monkeypatch):
    monkeypatch.setattr(scaling_cases, "of_paper", lambda *_: paper_settings("DiT-S/2", 3))
    status, printed, *_ = bench("--cases", "scaling", "--processes", "2")
    assert status == 0
    assert "left out: 2 processes: Refusal: training.batch_size = 3: not divisible" in printed
    assert not multiprocessing.active_children()


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
