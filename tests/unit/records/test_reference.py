"""Reference results: collected without images, restored whole, compared value by value."""

import shutil
from pathlib import Path

import pytest

from dtr.cli import main
from dtr.config.checks import load_scale
from dtr.records.reference import HISTORY_POINTS, collect, compare, reference_scale, restore
from dtr.records.table import Records
from dtr.reporting.figures.sheets import build_sheets
from dtr.reporting.html import build_report
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, read_json
from tests.synthetic_results import write_control, write_everything, write_metrics, write_training

RUN = "in256-l2-none"


@pytest.fixture
def results(scale):
    """A scale with all records of Table 1."""
    write_everything(scale)
    write_control(scale, "unconditional")
    return scale


def agreements(scale, folder) -> dict[tuple[str, str], str]:
    return {(one.run, one.metric): one.agreement for one in compare(scale, folder)}


def test_a_reference_has_the_records_and_nothing_large(results, tmp_path):
    folder = tmp_path / "reference"
    count = collect(results, folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files if path.suffix != ".json"} == {"head.npz"}
    assert len([path for path in files if path.suffix == ".json"]) == count + 1
    assert max(path.stat().st_size for path in files) < 20_000
    copied = Records(reference_scale(folder))
    assert copied.broken == {}
    columns = ["run", "seed", "step", "metric", "value"]
    assert copied.frame[columns].equals(Records(results).frame[columns])


def test_its_page_shows_the_same_samples(results, tmp_path):
    collect(results, tmp_path / "reference")
    restored = restore(tmp_path / "reference", tmp_path / "out")
    here, there = (build_sheets(Records(one), tmp_path) for one in (results, restored))
    assert [sheet.labels for sheet in there] == [sheet.labels for sheet in here]
    assert [[strip.uri for strip in sheet.strips] for sheet in there] == [
        [strip.uri for strip in sheet.strips] for sheet in here
    ]
    assert len(there) == 2  # slots with samples


def test_thinned_histories_keep_their_end(results, tmp_path):
    path = write_training(results, RUN)
    whole = read_json(path)["history"]
    collect(results, tmp_path / "reference")
    thin = reference_scale(tmp_path / "reference")
    (record,) = [one for one in Records(thin).trainings.values() if one.run == RUN]
    assert len(whole) > HISTORY_POINTS >= len(record.history) > HISTORY_POINTS // 2
    assert record.history[-1].step == whole[-1]["step"]


def test_restored_results_are_a_results_folder_and_are_replaced(results, tmp_path):
    collect(results, tmp_path / "reference")
    for _ in range(2):
        scale = restore(tmp_path / "reference", tmp_path / "out")
        assert scale.results == str(tmp_path / "out")
        assert len(Records(scale).frame) == len(Records(results).frame)
        old = tmp_path / "out/runs/old/seed0/step1/train.json"
        assert not old.exists()
        for left in (old, tmp_path / "out/report/index.html"):
            left.parent.mkdir(parents=True, exist_ok=True)
            left.write_text("from before")


def test_collecting_again_replaces_the_records_of_before(results, tmp_path):
    folder = tmp_path / "reference"
    count = collect(results, folder)
    write_metrics(results, RUN, fid=1.0)
    assert collect(results, folder) == count


@pytest.mark.parametrize("held", ["notes.txt", "scale.json", "runs/mine/weights.pt"])
def test_a_folder_of_anything_else_is_left_as_it_is(results, tmp_path, held):
    """`collect --out results` once erased all results and checkpoints."""
    collect(results, tmp_path / "reference")
    out = tmp_path / "out"
    for name in {held, "work/step-1.pt"}:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    for attempt in (
        lambda: collect(results, out),
        lambda: restore(tmp_path / "reference", out),
        lambda: collect(results, Path(results.results)),
        lambda: collect(results, Path(results.results).parent),
    ):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(
            Refusal, match=r"left as it is|something else|lies in the results"
        ) as refused:
            attempt()
        assert "\n" not in str(refused.value)
        assert sorted(tmp_path.rglob("*")) == before
    assert (out / held).read_text() == "mine"


def test_a_reference_is_not_restored_onto_itself(results, tmp_path):
    collect(results, tmp_path / "reference")
    with pytest.raises(Refusal, match="name another folder"):
        restore(tmp_path / "reference", tmp_path / "reference")
    assert Records(reference_scale(tmp_path / "reference")).trainings


def test_a_run_agrees_with_itself_and_says_what_differs(digits, results, tmp_path):
    folder = tmp_path / "reference"
    collect(results, folder)
    assert set(agreements(results, folder).values()) == {"identical"}
    write_metrics(results, RUN, fid=4.0)  # [3.8, 4.2], the reference is 4.2 [3.99, 4.41]
    write_metrics(results, "in256-l2-rtr", fid=9.0)
    shutil.rmtree(f"{results.results}/runs/in256-l2-dtr-a4")
    shutil.rmtree(f"{results.results}/controls")
    found = agreements(results, folder)
    assert found[RUN, "fid@digits-cnn"] == "agrees"
    assert found[RUN, "precision@digits-cnn"] == "identical"
    assert found["in256-l2-rtr", "fid@digits-cnn"] == "differs"
    assert found["in256-l2-dtr-a4", "fid@digits-cnn"] == "missing"
    assert found["real", "fid@digits-cnn"] == "missing"


def test_other_seeds_agree_if_their_intervals_overlap(digits, tmp_path):
    first = load_scale(digits | {"results": str(tmp_path / "a"), "seeds": [0, 1]}, source="test")
    second = load_scale(digits | {"results": str(tmp_path / "b"), "seeds": [2]}, source="test")
    write_metrics(first, RUN, seed=0, fid=3.0)
    write_metrics(first, RUN, seed=1, fid=4.0)
    write_metrics(second, RUN, seed=2, fid=4.3)  # [4.09, 4.52] and the reference up to 4.2
    collect(first, tmp_path / "reference")
    assert agreements(second, tmp_path / "reference")[RUN, "fid@digits-cnn"] == "agrees"
    write_metrics(second, RUN, seed=2, fid=4.6)  # [4.37, 4.83]
    assert agreements(second, tmp_path / "reference")[RUN, "fid@digits-cnn"] == "differs"
    write_metrics(second, RUN, seed=2, step=0)
    new = [one for one in compare(second, tmp_path / "reference") if one.step == 0]
    assert {one.agreement for one in new} == {"new"}


def test_nothing_to_collect_and_no_reference_are_refused(scale, tmp_path):
    with pytest.raises(Refusal, match="no records to collect"):
        collect(scale, tmp_path / "reference")
    with pytest.raises(Refusal, match="no reference results"):
        compare(scale, tmp_path / "absent")


def test_a_damaged_record_is_not_collected_and_the_old_reference_stays(results, tmp_path):
    folder = tmp_path / "reference"
    collect(results, folder)
    before = sorted(folder.rglob("*"))
    write_metrics(results, RUN).write_text("{")
    with pytest.raises(Refusal, match=r"metrics/.*not readable as JSON"):
        collect(results, folder)
    assert sorted(folder.rglob("*")) == before


def test_the_verbs(results, tmp_path, capsys, monkeypatch):
    settings, folder = canonical_json(results.plain()), str(tmp_path / "reference")
    assert main(["collect", "--settings", settings, "--out", folder]) == 0
    assert main(["compare", "--settings", settings, "--reference", folder]) == 0
    said = capsys.readouterr().out
    assert " identical; see " in said and "differs" not in said
    write_metrics(results, RUN, fid=99.0)
    assert main(["compare", "--settings", settings, "--reference", folder]) == 0
    assert f"differs: {RUN} step 1000 fid@digits-cnn" in capsys.readouterr().out
    monkeypatch.setattr("dtr.commands.report.FROM_REFERENCE", str(tmp_path / "page"))
    assert main(["report", "--reference", folder]) == 0
    assert (tmp_path / "page/report/index.html").is_file()
    assert main(["report"]) == 2
    assert "--settings, --reference: one of them" in capsys.readouterr().err


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_results_are_not_collected_onto_themselves(results, tmp_path):
    """A restored folder looks like reference results; it once lost all of its records."""
    collect(results, tmp_path / "reference")
    restored = restore(tmp_path / "reference", tmp_path / "out")
    before = contents(tmp_path)
    for out in (tmp_path / "out", tmp_path, tmp_path / "out" / "below"):
        with pytest.raises(Refusal, match="name another folder"):
            collect(restored, out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["report/notes.txt", "tables/mine.csv", "figures/mine.png"])
def test_a_file_beside_a_built_page_is_not_removed(results, tmp_path, name):
    collect(results, tmp_path / "reference")
    restore(tmp_path / "reference", tmp_path / "out")
    (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(Refusal, match="left as it is"):
        restore(tmp_path / "reference", tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_a_readme_beside_the_reference_stays_there(results, tmp_path):
    collect(results, tmp_path / "reference")
    (tmp_path / "reference/README.md").write_text("about")
    for _ in range(2):
        restore(tmp_path / "reference", tmp_path / "out")
    assert not (tmp_path / "out/README.md").exists()


def test_a_built_report_is_replaced(results, tmp_path):
    """All that a report writes is known as its own."""
    collect(results, tmp_path / "reference")
    for _ in range(2):
        scale = restore(tmp_path / "reference", tmp_path / "out")
        build_report(scale, tmp_path / "out")


def test_somebody_elses_scale_json_is_no_mark(results, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/scale.json").write_text('{"scale": "of a map"}')
    with pytest.raises(Refusal, match="something else than reference results"):
        collect(results, tmp_path / "out")
    assert (tmp_path / "out/scale.json").is_file()
