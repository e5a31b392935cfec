"""What a machine lacks for a scale: planted one by one, each with its mend."""

import shutil
from types import SimpleNamespace

import pytest
import yaml

from dtr.cli import run_verb
from dtr.commands import doctor


@pytest.fixture
def examined(digits, tmp_path, monkeypatch, capsys):
    """Looks at a scale; its exit status, its lines, and the line on stderr."""
    monkeypatch.chdir(tmp_path)

    def run(**changes):
        file = tmp_path / "scale.yaml"
        file.write_text(yaml.safe_dump(digits | {"results": "out"} | changes), encoding="utf-8")
        status = run_verb(["doctor", "--configfile", str(file)])
        told = capsys.readouterr()
        return status, told.out.splitlines(), told.err.strip()

    return run


def with_photos(digits: dict, **changes) -> dict:
    """The digits and, beside them, photographs that nobody trains on."""
    photos = {"type": "folders", "path": "photos", "resolution": 32, "mirror": True, "num_test": 0}
    return {"datasets": digits["datasets"] | {"photos": photos | changes}}


def test_a_machine_that_has_everything(examined):
    status, lines, said = examined()
    assert (status, said) == (0, "")
    assert all(line.startswith(("ok", "warning")) for line in lines)
    for about in ("versions", "device", "memory", "results", "disk", "dataset digits"):
        assert any(f" {about} " in line for line in lines), about


def test_a_missing_and_an_empty_dataset_folder(examined, digits, tmp_path):
    status, lines, said = examined(**with_photos(digits))
    assert (status, said) == (2, "dtr doctor: missing for the digits scale: dataset photos")
    (line,) = [line for line in lines if line.startswith("missing")]
    assert "photos: no such file or folder; put it there, or say in datasets.photos.path" in line
    (tmp_path / "photos").mkdir()
    assert any("photos: is empty" in line for line in examined(**with_photos(digits))[1])
    (tmp_path / "photos/one.png").write_bytes(b"1")
    assert examined(**with_photos(digits))[0] == 0


def test_another_number_of_classes_than_a_slot_is_told(examined, digits, tmp_path):
    for wnid in ("n01", "n02", "n03", ".thumbs"):
        (tmp_path / "photos" / wnid).mkdir(parents=True)
    slots = digits["slots"] | {"class_conditional": digits["slots"]["class_conditional"] | {
        "dataset": "photos", "num_classes": 4}}  # fmt: skip
    own = with_photos(digits, classes=True) | {"slots": slots}
    (line,) = [line for line in examined(**own)[1] if line.startswith("missing")]
    assert "photos has 3 classes; set num_classes, 4 in the slot, to what there is" in line
    (tmp_path / "photos/n04").mkdir()
    assert examined(**own)[0] == 0
    manifest = tmp_path / "out/data/photos/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"num_classes": 5}')
    (line,) = [line for line in examined(**own)[1] if line.startswith("missing")]
    assert "prepared with 5 classes" in line


def test_missing_assets_and_references(examined, digits):
    inception = {"type": "inception", "path": "assets"}
    reference = {"dataset": "digits", "file": "stats.npz", "source": "the published batch"}
    status, lines, _ = examined(
        extractors=digits["extractors"] | {"inception": inception},
        references={"published": reference, "own": {"dataset": "digits"}},
    )
    missing = [line for line in lines if line.startswith("missing")]
    assert status == 2 and len(missing) == 2
    assert "put weights-inception-2015-12-05-6726825d.pth of torch-fidelity" in missing[0]
    assert "put the published batch there, or leave out references.published.file" in missing[1]
    assert any("computed from digits" in line for line in lines)
    allowed = inception | {"download": True}
    _, lines, _ = examined(extractors=digits["extractors"] | {"inception": allowed})
    assert any("warning  asset inception" in line and "github.com" in line for line in lines)


def test_gpus_that_are_not_there(examined, digits, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    status, lines, _ = examined(execution=digits["execution"] | {"device": "cuda"})
    assert status == 2
    assert any("missing  device" in line and "execution.device: cpu" in line for line in lines)


def test_too_few_gpus_and_too_little_shared_memory(examined, digits, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    usage = SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(doctor, "SHARED", doctor.Path("."))
    changes = {"device": "cuda", "processes": 2}
    status, lines, _ = examined(execution=digits["execution"] | changes)
    assert status == 2
    assert any("1 GPUs; execution.processes = 2; set it to what there is" in x for x in lines)
    assert any("missing  shared memory" in line and "--shm-size" in line for line in lines)


def test_several_machines_without_slurm(examined, digits, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    status, lines, _ = examined(execution=digits["execution"] | {"nodes": 2})
    assert status == 2
    assert any("missing  nodes" in x and "no srun; execution.nodes = 2" in x for x in lines)


def test_a_disk_that_is_too_small_is_a_warning(examined, monkeypatch):
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    status, lines, _ = examined()
    assert status == 0
    assert any("warning  disk" in line and "1 kB free" in line for line in lines)


def test_a_results_folder_that_cannot_be_written(examined, monkeypatch):
    def refused(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refused)
    status, lines, said = examined()
    assert status == 2 and said.endswith("missing for the digits scale: results")
    assert any("Permission denied; give yourself the right" in line for line in lines)


def test_a_package_of_another_version(examined, monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=1000", "nowhere-to-be-found>=1"])
    status, lines, _ = examined()
    assert status == 2
    (line,) = [line for line in lines if line.startswith("missing")]
    assert "is not >=1000" in line and "nowhere-to-be-found is not installed" in line


def test_an_optional_package_is_asked_for_where_it_is_needed(examined, digits, monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert examined()[0] == 0
    clip = {"clip": {"type": "clip"}}
    status, lines, _ = examined(text_encoders=clip)
    assert status == 2
    assert any("transformers is not installed" in line and ".[paper]" in line for line in lines)
