"""Results of two machines become one folder, or the conflicts are named and nothing is touched."""

import shutil
from pathlib import Path

import pytest

from dtr.cli import main
from dtr.records.reference import collect
from dtr.records.table import Records
from dtr.records.workdir import exclusive
from dtr.sharing.verify import verify
from dtr.support.files import canonical_json, read_json, write_json, write_text
from tests.synthetic_results import write_throughput
from tests.unit.sharing.conftest import build, made_of

MODEL = "runs/in256-l2-none/seed0/step1000"


@pytest.fixture
def halves(sound, tmp_path) -> tuple[Path, Path]:
    """The same experiment on two machines: DiT-B/2 on one, DiT-L/2 on the other."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, other in ((first, "in256"), (second, "ffhq256")):
        shutil.copytree(sound.results, folder)
        for path in [*(folder / "runs").glob(f"{other}*"), *(folder / "work").glob(f"{other}*")]:
            shutil.rmtree(path)
    return first, second


def contents(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def merged(first: Path, second: Path, out: Path, *options: str) -> int:
    return main(["merge", str(first), str(second), "--out", str(out), *options])


def test_two_halves_are_the_whole(sound, halves, tmp_path):
    before = [contents(half) for half in halves]
    assert merged(*halves, tmp_path / "out") == 0
    assert [contents(half) for half in halves] == before
    scale = sound.model_copy(update={"results": str(tmp_path / "out")})
    assert {one.kind for one in verify(tmp_path / "out", scale=scale)[0]} == {"missing"}  # the page
    build(scale)
    assert verify(tmp_path / "out")[0] == []
    assert Records(scale).metrics.keys() == Records(sound).metrics.keys()
    ages = {path.stat().st_mtime for path in (tmp_path / "out/runs").rglob("*") if path.is_file()}
    assert len(ages) == 1  # no input is newer than what was made of it


def test_other_seeds_are_joined(grid, sound, tmp_path):
    """And archives of records are merged as they are."""
    collect(sound, tmp_path / "first")
    collect(sound, tmp_path / "second")
    content = read_json(tmp_path / "second/scale.json")
    write_json(tmp_path / "second/scale.json", content | {"seeds": [1]})
    for name in ("first", "second"):
        arguments = ["pack", str(tmp_path / name), "--out", str(tmp_path / f"{name}.zip")]
        assert main(arguments) == 0
    assert merged(tmp_path / "first.zip", tmp_path / "second.zip", tmp_path / "out") == 0
    assert read_json(tmp_path / "out/scale.json")["seeds"] == [0, 1]


def test_another_protocol_is_refused_by_its_field(grid, sound, halves, tmp_path, capsys):
    changed = made_of(grid, halves[1])
    evaluation = changed.evaluation.model_copy(update={"sampling_steps": 17})
    note = read_json(halves[1] / "report/built.json")
    note["scale"] = changed.model_copy(update={"evaluation": evaluation}).plain()
    write_json(halves[1] / "report/built.json", note)
    assert merged(*halves, tmp_path / "out") == 2
    assert "evaluation.sampling_steps: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def change_weights(second):
    record = read_json(second / MODEL / "train.json")
    write_json(second / MODEL / "train.json", record | {"weights_sha256": "b" * 64})
    return f"{MODEL}/train.json: weights_sha256"


def change_a_value(second):
    (path,) = (second / MODEL / "metrics").glob("*.json")
    record = read_json(path)
    record["metrics"][0]["value"] = 9.0
    write_json(path, record)
    return f"{path.relative_to(second)}: metrics"


def change_data(second):
    path = second / "data/digits/manifest.json"
    manifest = read_json(path)
    write_json(path, manifest | {"content_hash": "e" * 64})
    ours = manifest["content_hash"][:12]
    return f"data/digits: {ours} in the first, eeeeeeeeeeee in the second"


@pytest.mark.parametrize("change", [change_weights, change_a_value, change_data])
def test_conflicts_are_listed_and_nothing_is_copied(sound, tmp_path, capsys, change):
    shutil.copytree(sound.results, tmp_path / "second")
    expected = change(tmp_path / "second")
    assert merged(Path(sound.results), tmp_path / "second", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert f"conflict: {expected}" in said.out
    assert "1 conflicts; nothing was copied" in said.err
    assert not (tmp_path / "out").exists()
    write_text(tmp_path / "second" / MODEL / "samples/more.txt", "of the other model")
    options = (Path(sound.results), tmp_path / "second", tmp_path / "out", "--prefer-first")
    assert merged(*options) == 0
    for name in ("train.json", "ema.safetensors"):
        ours, taken = (folder / MODEL / name for folder in (options[0], tmp_path / "out"))
        assert ours.read_bytes() == taken.read_bytes()
    mixed = (tmp_path / "out" / MODEL / "samples/more.txt").exists()
    assert mixed == (change is change_data)  # a model that differs is taken whole


def test_speeds_of_two_machines_are_no_conflict(sound, tmp_path, capsys):
    """Table 7 is a timing, of which two machines never have the same."""
    speed = write_throughput(sound, "DiT-S/2", ratio=1.02)
    shutil.copytree(sound.results, tmp_path / "second")
    second = sound.model_copy(update={"results": str(tmp_path / "second")})
    write_throughput(second, "DiT-S/2", ratio=1.3)
    write_throughput(second, "DiT-B/2", ratio=1.1)
    assert merged(Path(sound.results), tmp_path / "second", tmp_path / "out") == 0
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if line.startswith("kept: ")]
    assert line.startswith("kept: analysis/throughput/DiT-S-2.json: a step 1.020 times")
    assert line.endswith("; the first's is taken")
    taken = tmp_path / "out/analysis/throughput"
    assert (taken / speed.name).read_bytes() == speed.read_bytes()
    assert (taken / "DiT-B-2.json").is_file()
    # Beside a conflict it is listed, and not counted.
    change_weights(tmp_path / "second")
    assert merged(Path(sound.results), tmp_path / "second", tmp_path / "third") == 2
    assert "1 conflicts; nothing was copied" in capsys.readouterr().err


def test_the_work_that_is_further_is_kept(sound, tmp_path):
    shutil.copytree(sound.results, tmp_path / "second")
    (note,) = (tmp_path / "second/work").rglob("step-*.json")
    for path in (note, note.with_suffix(".pt")):
        path.rename(path.with_stem("step-000000200"))
    for number, pair in enumerate(
        [(Path(sound.results), tmp_path / "second"), (tmp_path / "second", Path(sound.results))]
    ):
        out = tmp_path / f"out{number}"
        assert merged(*pair, out) == 0
        assert [path.stem for path in (out / "work").rglob("*.pt")] == ["step-000000200"]


def test_what_is_there_or_at_work_is_left_alone(sound, halves, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    assert merged(*halves, tmp_path / "out") == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert merged(*halves, halves[0] / "below") == 2
    assert merged(halves[0], halves[0], tmp_path / "new") == 2
    (work,) = (halves[1] / "work").glob("*/*/*")
    with exclusive(work):
        assert merged(*halves, tmp_path / "new") == 76
    assert not (tmp_path / "new").exists()


def test_a_folder_without_its_scale_is_told_it(sound, halves, tmp_path):
    shutil.rmtree(halves[0] / "report")
    assert merged(*halves, tmp_path / "out") == 2
    settings = canonical_json(sound.plain())
    assert merged(*halves, tmp_path / "out", "--settings", settings) == 0
