"""`dtr status` and `dtr clean` as somebody sees them."""

import json
from pathlib import Path

import pytest

from dtr.cli import main
from dtr.commands.status import duration
from dtr.planning.places import Places
from dtr.records.workdir import append_log, exclusive
from dtr.support.files import canonical_json
from tests.synthetic_results import write_everything, write_training

RUN = "in256-l2-dtr-a4"


def said(scale, capsys, *options: str) -> str:
    assert main(["status", "--settings", canonical_json(scale.plain()), *options]) == 0
    return capsys.readouterr().out


def test_a_finished_sweep_is_one_screen(scale, capsys):
    write_everything(scale)
    text = said(scale, capsys)
    assert "6 of 6 trainings, 8 of 8 cells." in text
    assert "  table1   ########" in text
    assert "failed 0" in text and "Failed:" not in text
    assert len(text.splitlines()) < 24
    assert max(map(len, text.splitlines()[1:])) <= 100  # the first names the folder


def test_what_is_at_work_and_what_failed_is_named(scale, capsys):
    write_everything(scale)
    for path in Path(scale.results).glob(f"runs/{RUN}/seed0/step1000/**/*.json"):
        path.unlink()
    write_training(scale, "in256-l2-rtr", status="diverged", reason="loss not finite by step 20")
    for path in Path(scale.results).glob("runs/in256-l2-rtr/seed0/step1000/metrics/*.json"):
        path.unlink()
    folder = Path(Places(scale.results).work(RUN, 0)) / ("c" * 16)
    folder.mkdir(parents=True)
    append_log(folder, {"step": 400, "rate": 0.01})
    (folder / "lease-1").write_text(json.dumps({"host": "node17", "pid": 12, "job": "88"}))
    (folder / "lock").touch()
    text = said(scale, capsys)
    told = json.loads(said(scale, capsys, "--json"))
    assert f"{RUN} seed 0: step 400 of 1,000, 0.01 steps/s, 16 h 40 min left" in text
    assert "on node17, pid 12, job 88" in text
    assert "Diverged:\n  in256-l2-rtr seed 0 step 1000: loss not finite by step 20" in text
    assert told["running"][0]["where"] == {"host": "node17", "pid": 12, "job": "88"}
    assert told["seconds_left"] == pytest.approx(60_000)
    assert {cell["state"] for cell in told["cells"]} == {"done", "running", "diverged"}


def test_watching_ends_when_all_is_done(scale, capsys, monkeypatch):
    looks = []

    def finish(seconds: float) -> None:
        looks.append(seconds)
        write_everything(scale)

    monkeypatch.setattr("dtr.commands.status.time.sleep", finish)
    lines = said(scale, capsys, "--watch", "--every", "5", "--json").splitlines()
    assert looks == [5.0]
    assert [json.loads(line)["trained"] for line in lines] == [0, 6]


def test_read_only_results_are_looked_at(scale, capsys):
    """Nothing is written: neither there nor for the check of a scale file."""
    write_everything(scale)
    root = Path(scale.results)
    before = sorted(root.rglob("*"))
    root.chmod(0o500)
    try:
        said(scale, capsys)
    finally:
        root.chmod(0o700)
    assert sorted(root.rglob("*")) == before


def test_durations_are_in_their_two_largest_units():
    values = {5: "5 s", 125: "2 min", 3700: "1 h 1 min", 90_000: "1 d 1 h"}
    assert {seconds: duration(seconds) for seconds in values} == values


@pytest.fixture
def works(scale) -> dict[str, Path]:
    """Work folders, by what they are; there are no data, so those of runs may be used again."""
    places = Places(scale.results)
    folders = {
        "present": Path(places.work(RUN, 0)) / ("a" * 16),
        "seed": Path(places.work(RUN, 7)) / ("b" * 16),
        "run": Path(places.work("somebody-elses", 0)) / ("c" * 16),
        "strange": Path(places.work("renamed", 0)) / ("d" * 16),
    }
    for folder in folders.values():
        folder.mkdir(parents=True)
        for name in ("lock", "step-000000100.pt", "step-000000100.json", "train.jsonl"):
            (folder / name).write_text("x" * 100)
    (folders["strange"] / "notes.txt").write_text("mine")
    return folders


def test_clean_lists_and_only_with_yes_removes(scale, works, capsys):
    arguments = ["clean", "--settings", canonical_json(scale.plain())]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "seed 7 is none of the scale's" in text
    assert "somebody-elses is no run of the digits scale" in text
    assert "kept, notes.txt is not of a training" in text
    assert str(works["present"]) not in text
    assert "clean: 2 folders, 800 B, nothing was removed; --yes removes them" in text
    assert all(folder.is_dir() for folder in works.values())
    assert main([*arguments, "--yes"]) == 0
    assert "clean: 2 of 2 folders removed" in capsys.readouterr().out
    left = {name for name, folder in works.items() if folder.exists()}
    assert left == {"present", "strange"}


def test_clean_leaves_a_folder_in_use(scale, works, capsys):
    with exclusive(works["run"]):
        assert main(["clean", "--settings", canonical_json(scale.plain()), "--yes"]) == 0
    assert "kept, a process works there" in capsys.readouterr().out
    assert (works["run"] / "step-000000100.pt").is_file()
    assert not works["seed"].exists()
