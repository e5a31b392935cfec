"""`dtr verify` as a whole: sound results pass, parts of results, code in results, other seeds."""

import shutil
from pathlib import Path

from dtr.cli import main
from dtr.planning.evaluations import evaluations
from dtr.planning.places import Places
from dtr.records.reference import collect
from dtr.sharing.verify import verify
from dtr.support.files import canonical_json, write_text
from tests.unit.sharing.conftest import made_of
from tests.unit.sharing.planting import STEP, edited, found_in, measured


def test_sound_results_pass(sound, capsys):
    assert verify(Path(sound.results))[0] == []
    assert main(["verify", sound.results]) == 0
    assert "nothing found; looked at: " in capsys.readouterr().out


def test_the_reference_results_pass(root, capsys):
    """They are records only; other runs than those of Table 1 have fewer seeds."""
    folder = str(root / "results/reference/digits")
    assert main(["verify", folder, "--partial"]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_collected_records_are_checked_as_records_only(sound, tmp_path):
    collect(sound, tmp_path / "reference")
    assert found_in(tmp_path / "reference") == []
    edited(measured(tmp_path / "reference"), lambda record: record["metrics"].clear())
    assert found_in(tmp_path / "reference") == [
        ("altered", measured(tmp_path / "reference").relative_to(tmp_path / "reference").as_posix())
    ]


def test_a_partial_sweep_is_no_fault_if_that_is_said(sound):
    root = Path(sound.results)
    shutil.rmtree(root / STEP)
    for name in ("tables", "claims", "report"):
        shutil.rmtree(root / name)
    missing = found_in(root, scale=sound)
    assert {kind for kind, _ in missing} == {"missing"}
    assert ("missing", f"{STEP}/train.json") in missing
    assert ("missing", "report/index.html") in missing
    assert found_in(root, scale=sound, partial=True) == []
    write_text(root / "data/digits/images.npy", "others")
    assert found_in(root, scale=sound, partial=True) == [("altered", "data/digits/images.npy")]


def test_results_that_were_moved_pass(sound, tmp_path, monkeypatch):
    shutil.move(sound.results, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert found_in(Path("elsewhere")) == []


def test_code_named_by_results_is_not_run_unless_asked_for(sound, tmp_path, monkeypatch, capsys):
    """A scale may name a file of Python as a part; that of a stranger stays unread."""
    monkeypatch.chdir(tmp_path)
    part = tmp_path / "part.py"
    part.write_text(
        "import os\nos.mkdir('was-run')\n"
        "from dtr.routing import no_masks\n"
        "def masks(settings, layers, timesteps, channels):\n"
        "    return no_masks(settings, layers, timesteps, channels)\n"
    )
    own = {"id": "own", "slot": "unconditional", "backbone": "DiT-B/2", "iterations": 1000}
    own |= {"routing": {"type": "part.py:masks"}}
    note = Path(sound.results) / "report/built.json"
    edited(note, lambda content: content["scale"].update(extra_runs=[own]))
    assert main(["verify", sound.results]) == 2
    assert "code from outside this package, which is not run here" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists()
    record = Path(sound.results) / STEP / "train.json"
    edited(record, lambda one: one["settings"].update(routing={"type": "part.py:masks"}))
    assert ("broken", f"{STEP}/train.json") in found_in(Path(sound.results), scale=sound)
    assert not (tmp_path / "was-run").exists()
    assert main(["verify", sound.results, "--run-parts"]) == 2
    assert (tmp_path / "was-run").exists()


def test_a_folder_without_a_scale_has_to_be_told_it(sound, tmp_path, capsys):
    (Path(sound.results) / "report/built.json").unlink()
    assert main(["verify", sound.results, "--partial"]) == 2
    assert "no scale is stored here" in capsys.readouterr().err
    assert (
        main(["verify", sound.results, "--partial", "--settings", canonical_json(sound.plain())])
        == 0
    )
    assert main(["verify", str(tmp_path / "absent")]) == 2
    assert "neither a results folder nor an archive" in capsys.readouterr().err


def test_more_seeds_are_missing_cells(grid, sound):
    more = made_of(grid, Path(sound.results), seeds=[0, 1])
    found = found_in(Path(sound.results), scale=more, partial=True)
    # Tables say of a cell which seeds it has; those of one seed are not those of two.
    assert {kind for kind, _ in found} <= {"stale"}
    missing = [
        file for kind, file in found_in(Path(sound.results), scale=more) if kind == "missing"
    ]
    wanted = {Places(".").evaluation(one)[2:] for one in evaluations(more) if one.seed == 1}
    assert wanted <= set(missing)
