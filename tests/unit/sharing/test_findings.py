"""Names and links that lead out of results, and what is no file, are found first."""

import os
import shutil
from pathlib import Path

import pytest

from dtr.sharing.verify import verify
from tests.unit.sharing.planting import STEP, assert_found


def link_out(root):
    path = root / STEP / "train.json"
    shutil.copy(path, root.parent / "elsewhere.json")
    path.unlink()
    path.symlink_to(root.parent / "elsewhere.json")
    return "unsafe", f"{STEP}/train.json"


def put_a_pipe(root):
    os.mkfifo(root / "work/in256-l2-none/lock")
    return "unsafe", "work/in256-l2-none/lock"


DEFECTS = [
    link_out,
    put_a_pipe,
]


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    assert_found(sound, plant, capsys)


def test_names_cannot_break_the_list_into_other_lines(sound):
    folder = Path(sound.results) / "runs/a\nmissing: b/seed0/step1"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text("{")
    (line,) = [one.line for one in verify(Path(sound.results))[0] if one.kind == "broken"]
    assert "\n" not in line
