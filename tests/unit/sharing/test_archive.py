"""An archive says what is in it, is read without trust, and is a reference folder once unpacked."""

import json
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from dtr.cli import main
from dtr.records.reference import collect, reference_scale
from dtr.records.table import Records
from dtr.reporting.built import write_built
from dtr.sharing import archive
from dtr.sharing.archive import pack, unpacked
from dtr.sharing.verify import verify
from dtr.support.errors import Refusal
from tests.synthetic_results import write_metrics


@pytest.fixture
def packed(sound, tmp_path) -> Path:
    assert main(["pack", sound.results, "--out", str(tmp_path / "results.zip")]) == 0
    return tmp_path / "results.zip"


def rewritten(path: Path, change) -> Path:
    """The archive with its entries changed: `change` maps (name, content) to both, or to None."""
    with zipfile.ZipFile(path) as source:
        entries = [(entry.filename, source.read(entry)) for entry in source.infolist()]
    out = path.with_name("changed.zip")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries:
            if (kept := change(name, content)) is not None:
                target.writestr(*kept)
    return out


def test_an_archive_is_verified_as_it_is(packed, capsys):
    assert verify(packed)[0] == []
    assert main(["verify", str(packed)]) == 0
    assert "nothing found" in capsys.readouterr().out


def test_what_is_in_it(packed, sound):
    with zipfile.ZipFile(packed) as content:
        names = set(content.namelist())
        crate = json.loads(content.read("ro-crate-metadata.json"))
        environment = json.loads(content.read("environment.json"))
    assert {"scale.json", "tables/table1.csv", "claims/claims.csv", "report/index.html"} <= names
    assert not any(name.endswith((".safetensors", ".npz", ".npy", ".pt")) for name in names)
    entities = {one["@id"]: one for one in crate["@graph"]}
    about = entities["ro-crate-metadata.json"]
    assert about["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    top = entities[about["about"]["@id"]]
    assert {"name", "description", "datePublished", "license", "hasPart"} <= top.keys()
    assert {part["@id"] for part in top["hasPart"]} | {"ro-crate-metadata.json"} == names
    assert entities["#dtr"]["identifier"] == ["0123456789abcdef0123456789abcdef01234567"]
    assert environment["made_on"][0]["provenance"]["packages"]["torch"] == "2.14.1"


def test_equal_results_make_equal_archives(packed, sound, tmp_path):
    pack(Records(sound), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_an_unpacked_archive_is_a_reference_folder(packed, sound, tmp_path):
    with zipfile.ZipFile(packed) as content:
        content.extractall(tmp_path / "sent")
    assert verify(tmp_path / "sent")[0] == []
    found = Records(reference_scale(tmp_path / "sent"))
    assert found.trainings.keys() == Records(sound).trainings.keys()


def test_part_of_a_sweep_is_packed_with_the_page_of_that_moment(sound, tmp_path):
    """It keeps its place, so that its links to records lead there."""
    root = Path(sound.results)
    (root / "now").mkdir()
    for name in ("tables", "claims", "report"):
        (root / name).rename(root / "now" / name)
    write_built(Records(sound), root / "now")
    shutil.rmtree(root / "runs/in256-l2-rtr")
    assert main(["pack", str(root), "--out", str(tmp_path / "part.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "part.zip") as content:
        assert {"now/report/index.html", "now/tables/table1.csv"} <= set(content.namelist())
    assert {one.kind for one in verify(tmp_path / "part.zip")[0]} == {"missing"}
    assert verify(tmp_path / "part.zip", partial=True)[0] == []


def test_reference_results_can_be_packed(sound, tmp_path):
    collect(sound, tmp_path / "reference")
    assert main(["pack", str(tmp_path / "reference"), "--out", str(tmp_path / "r.zip")]) == 0
    assert verify(tmp_path / "r.zip")[0] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda name, text: (name, text.replace(b"3.", b"2.", 1)), "altered: tables/table1.csv"),
        (lambda name, text: None, "altered: tables/table1.csv: found no such file"),
        (lambda name, text: (f"tables/{name[7:-3]}txt", text), "does not list"),
    ],
)
def test_a_changed_archive_is_told(packed, capsys, change, message):
    changed = rewritten(
        packed, lambda name, text: change(name, text) if "table1.csv" in name else (name, text)
    )
    assert main(["verify", str(changed)]) == 2
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["../outside.json", "/tmp/outside.json", "runs/../../x", "C:/x", "runs\\..\\..\\x"]
)
def test_a_name_that_leads_out_is_refused_before_anything_is_written(packed, tmp_path, name):
    with zipfile.ZipFile(packed, "a") as content:
        content.writestr(zipfile.ZipInfo(name), b"escaped")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(Refusal, match="leads out of the archive"):
        verify(packed)
    assert set(tmp_path.rglob("*")) == before


def test_a_link_in_an_archive_is_refused(packed):
    entry = zipfile.ZipInfo("runs/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(packed, "a") as content:
        content.writestr(entry, "/etc/passwd")
    with pytest.raises(Refusal, match="is a link or a device"):
        verify(packed)


def test_a_file_twice_in_an_archive_is_refused(packed):
    with pytest.warns(UserWarning), zipfile.ZipFile(packed, "a") as content:
        content.writestr("scale.json", "{}")
    with pytest.raises(Refusal, match=r"'scale\.json' is there twice"):
        verify(packed)


def test_a_bomb_is_refused_by_its_name_and_by_its_content(packed, monkeypatch):
    monkeypatch.setattr(archive, "MOST_BYTES", 10_000)
    with pytest.raises(Refusal, match="bytes unpacked; accepted: up to 10000"):
        verify(packed)
    monkeypatch.setattr(archive, "_check_entries", lambda *_: None)  # as if sizes were lied about
    with pytest.raises(Refusal, match="unpacks to more than 10000 bytes"), unpacked(packed):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    with pytest.raises(Refusal, match="accepted: up to 3"):
        verify(packed)


def test_damaged_archives_are_refused_in_one_line(packed, capsys):
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 0xFF
    packed.write_bytes(content)
    assert main(["verify", str(packed)]) == 2
    said = capsys.readouterr()
    assert (said.err + said.out).strip() and "Traceback" not in said.err


def test_what_cannot_be_packed_is_refused(sound, scale, tmp_path, capsys):
    with pytest.raises(Refusal, match="no records to pack"):
        pack(Records(scale.model_copy(update={"results": str(tmp_path / "none")})), tmp_path / "x")
    write_metrics(sound, "in256-l2-none").write_text("{")
    assert main(["pack", sound.results, "--out", str(tmp_path / "x.zip")]) == 2
    assert "not readable as JSON" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
