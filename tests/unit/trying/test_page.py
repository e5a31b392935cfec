"""The folder of a try: its numbers, its page, and that it needs nothing from outside."""

import re
import shutil

import pandas as pd
import pytest

from dtr.records.schema import Measure
from dtr.records.table import Records
from dtr.reporting import html
from dtr.reporting.figures.training import history_frame
from dtr.support.errors import Refusal
from dtr.support.files import read_json, write_json
from dtr.trying.describe import trial_of
from dtr.trying.gather import check_folder, gather
from dtr.trying.numbers import IDENTICAL, NO_VALUE, ONE_SEED, Difference, Model, compare, results
from dtr.trying.page import build_page
from dtr.trying.plan import scale_of_try
from dtr.trying.trial import read_trial
from dtr.trying.words import percent, power_sentence, verdict_sentence
from tests.synthetic_results import write_metrics, write_training
from tests.unit.trying.conftest import FID, asked


def model(values: dict[int, float], role: str = "none") -> Model:
    measures = {
        seed: Measure(name="fid", n=10, value=value, direction="lower")
        for seed, value in values.items()
    }
    return Model(role, role, role, {"fid": measures})


def difference(first: dict[int, float], second: dict[int, float]) -> Difference:
    return compare(model(first, "method"), model(second), "fid", -20.0)


def test_differences_are_paired_by_seed():
    found = difference(FID["method"], FID["none"])
    assert found.by_seed[0] == pytest.approx(-25.0)
    assert found.seeds == [0, 1, 2]
    assert found.low < found.percent < found.high < 0
    assert found.verdict == "better"
    assert difference(FID["none"], FID["method"]).verdict == "worse"
    assert found.needed >= 2


def test_equal_values_are_identical_and_the_difference_is_0():
    found = difference(FID["dtr"], FID["dtr"])
    assert (found.verdict, found.percent, found.low, found.high) == (IDENTICAL, 0, 0, 0)
    assert found.detectable is None
    assert "to the last digit" in verdict_sentence("mine", found)


def test_small_differences_are_no_effect_and_wild_ones_say_nothing():
    close = {seed: value * (1 + 0.001 * (-1) ** seed) for seed, value in FID["dtr"].items()}
    assert difference(close, FID["dtr"]).verdict == "no effect larger than 5 %"
    wild = {0: 1.0, 1: 9.0, 2: 3.0}
    assert difference(wild, FID["dtr"]).verdict == "inconclusive"


def test_only_the_seeds_that_both_have_are_compared():
    assert difference({0: 1.0, 1: 2.0}, {1: 2.0, 2: 4.0}).verdict == ONE_SEED
    assert difference({0: 1.0}, {2: 4.0}).verdict == NO_VALUE
    for values in ({1: 2.0}, {3: 1.0}):
        one = difference({1: 2.0}, values)
        assert (one.low, one.needed) == (None, None)
        assert verdict_sentence("mine", one).endswith(".")


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (-12.34, "−12.3"), (0.004, "+0.004"), (2000, "+2,000.0")]
)
def test_per_cent(value, text):
    assert percent(value) == f"{text}\u00a0%"


def test_the_page_says_all_of_it(gathered):
    trial, out = gathered
    text = build_page(out).read_text(encoding="utf-8")
    found = results(trial, out)
    assert [one.differences[0].verdict for one in found] == ["better", "better"]
    for one in found:
        for other in one.differences:
            assert verdict_sentence(trial.name, other) in text
            assert power_sentence(other, one) in text
    assert "10.99 without routing and 7.32 with DTR (−33.4\u00a0%)" in text
    assert text.count('<img src="data:image/png;base64,') == 6
    assert text.count("<svg") == 4  # masks and overlap of two slots
    assert "Squares of timesteps and channels" in text  # its source
    assert "0.035" in text  # 35 seconds for 1,000 steps
    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert "Asked classes" in text


def test_a_weighting_with_one_seed(scale, root, tmp_path):
    question = asked(root, method="p2", family="weighting", constants={}, seeds=[4])
    own = scale_of_try(scale, question)
    trial = trial_of(own, question)
    for run in trial.places[0].runs.values():
        write_training(own, run, seed=4)
        write_metrics(own, run, seed=4)
    gather(own, trial, tmp_path / "out")
    text = build_page(tmp_path / "out").read_text(encoding="utf-8")
    assert "p2 beside vanilla loss and DTR" in text
    assert "Weight of the noise error in the loss of p2: " in text
    assert "nothing is concluded from it" in text
    assert "<h3>Samples</h3>" not in text  # there are none
    assert "<h3>Masks</h3>" not in text


def test_the_page_of_the_scale_does_not_count_the_runs_of_a_try(tried, scale):
    assert {record.seed for record in Records(scale).final_trainings()} == {0, 1, 2}
    history = history_frame(Records(scale))
    assert set(history["seed"]) == {0}
    assert not history["run"].str.contains("-try-").any()
    trained = html._overview(scale, Records(scale))["trained"]
    assert sorted(record.run for record in trained) == [
        "ffhq256-b2-dtr-a4", "ffhq256-b2-none", "in256-l2-dtr-a4", "in256-l2-none",
    ]  # fmt: skip


def test_all_numbers_lie_beside_it(gathered):
    _, out = gathered
    build_page(out)
    content = read_json(out / "try.json")
    first = content["results"][0]
    assert first["models"]["method"]["fid"] == {str(k): v for k, v in FID["method"].items()}
    assert {one["against"] for one in first["differences"]} == {"none", "dtr"}
    table = pd.read_csv(out / "try.csv")
    fid = table[(table["metric"] == "fid@digits-cnn") & (table["role"] == "dtr")]
    assert fid["value"].tolist() == [*FID["dtr"].values()] * 2


def test_a_folder_that_was_sent_shows_the_same_page(gathered, tried, tmp_path, monkeypatch):
    _, out = gathered
    page = build_page(out).read_bytes()
    numbers = (out / "try.json").read_bytes()
    sent = tmp_path / "elsewhere/sent"
    shutil.move(out, sent)
    shutil.rmtree(tried[0].results)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert build_page(sent).read_bytes() == page
    assert (sent / "try.json").read_bytes() == numbers


def test_a_second_try_leaves_nothing_of_the_first(tried, gathered):
    scale, trial = tried
    _, out = gathered
    build_page(out)
    gather(scale, trial.model_copy(update={"seeds": [0, 1], "places": trial.places[:1]}), out)
    build_page(out)
    assert not list(out.rglob("*class_conditional*"))
    assert not list(out.rglob("seed2/*/train.json"))


def test_a_method_that_was_edited_meanwhile_is_noticed(tried, tmp_path):
    scale, trial = tried
    run = trial.places[0].runs["method"]
    path = write_training(scale, run, seed=1, sources={"routing": "0" * 64})
    with pytest.raises(Refusal, match=f"{path}: trained with another version of .*checker.py"):
        gather(scale, trial, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_value_has_its_reason(gathered):
    trial, out = gathered
    run = trial.places[0].runs["method"]
    (metrics,) = out.glob(f"runs/{run}/seed1/*/metrics/*.json")
    record = read_json(metrics)
    write_json(metrics, record | {"status": "diverged", "reason": "not finite", "metrics": []})
    text = build_page(out).read_text(encoding="utf-8")
    assert "diverged: not finite" in text
    assert results(trial, out)[0].differences[0].seeds == [0, 2]


def test_damaged_folders_are_refused_by_name(gathered, tmp_path):
    _, out = gathered
    with pytest.raises(Refusal, match=r"no results of a try \(try.json is missing\)"):
        read_trial(tmp_path)
    content = read_json(out / "try.json")
    write_json(out / "try.json", content | {"schema_version": 99})
    with pytest.raises(Refusal, match="schema_version = 99; accepted: 1"):
        build_page(out)
    content["trial"]["seeds"] = "all"
    write_json(out / "try.json", content)
    with pytest.raises(Refusal, match=r"try.json: trial: seeds"):
        build_page(out)


def test_no_folder_of_somebody_else_is_written_to(scale, root, tmp_path):
    results_of = tmp_path / "results"
    results_of.mkdir()
    for out, reason in (
        (results_of, "is or holds the results"),
        (tmp_path, "is or holds the results"),
        (root / "results/reference/digits", "holds something else than a try"),
        (root / "README.md", "is no folder"),
    ):
        with pytest.raises(Refusal, match=f"--out .*{reason}"):
            check_folder(out, results_of)
    check_folder(tmp_path / "new", results_of)
