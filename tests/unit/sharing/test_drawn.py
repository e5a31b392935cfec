"""A planted defect in what is built from records is found: tables, claims, the page."""

from pathlib import Path

import pytest

from dtr.sharing.verify import verify
from dtr.support.files import write_text
from tests.unit.sharing.conftest import build
from tests.unit.sharing.planting import assert_found, edited, found_in, measured


def change_a_value(root):
    """A number in a record, after the tables and the page."""
    edited(measured(root), lambda record: record["metrics"][0].update(value=0.01, low=0.01))
    return "stale", "tables/table1.csv"


def change_the_papers_number(root):
    path = root / "tables/table1.csv"
    lines = path.read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if ",10.99," in line)
    lines[number] = lines[number].replace(",10.99,", ",19.99,")
    path.write_text("".join(lines))
    return "altered", "tables/table1.csv"


def change_a_claim(root):
    path = root / "claims/claims.csv"
    path.write_text(path.read_text().replace("not measured", "confirmed").replace("here", "hier"))
    return "altered", "claims/claims.csv"


def change_the_page(root):
    write_text(root / "report/index.html", "<title>another page</title>")
    return "altered", "report/index.html"


def lose_the_page(root):
    (root / "report/index.html").unlink()
    return "missing", "report/index.html"


def build_with_other_numbers(root):
    """The page of a version whose copy of the paper's numbers was another one."""
    name = "report/built.json"
    edited(root / name, lambda note: note.update(published_sha256="0" * 64))
    return "stale", name


DEFECTS = [
    change_a_value,
    change_the_papers_number,
    change_a_claim,
    change_the_page,
    lose_the_page,
    build_with_other_numbers,
]


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    assert_found(sound, plant, capsys)


def test_the_published_number_is_named_in_the_line(sound):
    root = Path(sound.results)
    change_the_papers_number(root)
    lines = [one.line for one in verify(root)[0] if one.file == "tables/table1.csv"]
    assert any("the paper's value 19.99; expected 10.99" in line for line in lines)


def test_a_page_is_stale_once_its_records_change(sound):
    root = Path(sound.results)
    change_a_value(root)
    assert ("stale", "report/built.json") in found_in(root)
    build(sound)  # which does not hide what was done
    value = measured(root).relative_to(root).as_posix()
    assert found_in(root) == [("altered", value)]
