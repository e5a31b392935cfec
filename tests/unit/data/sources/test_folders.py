"""Folders and archives of image files: what is found, of which class, and what is refused."""

import io
import json
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtr.cli import run_verb
from dtr.data import trees
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.data.sources.folders import FoldersSettings, folders, shared_split
from dtr.support.errors import Refusal

COUNT, KINDS = 210, ("a dog", "cat", "Ähre")
OWN = {"type": "folders", "resolution": 8, "mirror": True, "num_test": 20}


def picture(number: int) -> bytes:
    """A picture of its own colours and size, as PNG or BMP."""
    draws = np.random.default_rng(number)
    height, width = draws.integers(5, 20, 2)
    stream = io.BytesIO()
    pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "BMP" if number % 7 == 0 else "PNG")
    return stream.getvalue()


def name_of(number: int) -> str:
    suffix = "bmp" if number % 7 == 0 else ("PNG" if number % 2 else "png")
    return f"{KINDS[number % 3]}/{number:03d}.{suffix}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Pictures of three classes with a few files beside them."""
    folder = tmp_path_factory.mktemp("my photos")
    for number in range(COUNT):
        path = folder / name_of(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number))
    (folder / "notes.txt").write_text("notes")
    (folder / "cat/x.HEIC").write_bytes(b"")
    (folder / "cat/._001.png").write_bytes(b"no image, of a Mac")
    (folder / ".thumbs").mkdir()
    (folder / ".thumbs/small.png").write_bytes(b"")
    return folder


def settings(path, **changes) -> FoldersSettings:
    return FoldersSettings(**OWN | {"path": str(path)} | changes)


def prepared(path, folder: Path, **changes) -> ImageDataset:
    prepare_dataset("photos", settings(path, **changes), folder)
    return ImageDataset.open(folder / "manifest.json")


def refusal(path, **changes) -> str:
    with pytest.raises(Refusal) as refused:
        folders(settings(path, **changes))
    text = str(refused.value)
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> ImageDataset:
    return prepared(photos, tmp_path_factory.mktemp("whole"), classes=True)


def test_sub_folders_are_classes_by_sorted_name(whole):
    assert len(whole.images) == COUNT
    assert whole.manifest["source"]["classes"] == sorted(KINDS)
    kinds = whole.index["path"].str.split("/").str[0]
    assert [sorted(KINDS)[label] for label in whole.labels()] == kinds.tolist()
    assert whole.index["path"].tolist() == sorted(map(name_of, range(COUNT)))
    assert whole.manifest["split_counts"] == {"train": COUNT - 20, "test": 20}
    assert sorted(np.bincount(whole.labels()[whole.positions("test")])) == [6, 7, 7]


@pytest.mark.parametrize("told", [2, 1000])
def test_another_number_of_classes_is_refused_before_an_image_is_read(
    photos, tmp_path, monkeypatch, capsys, told
):
    monkeypatch.setattr("dtr.data.crops.decode", None)
    own = json.dumps(OWN | {"path": str(photos), "classes": True})
    arguments = ["prepare-data", "--dataset", "photos", "--settings", own, "--classes", str(told)]
    assert run_verb([*arguments, "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"dtr prepare-data: photos: images of 3 classes; the slot's num_classes = {told}: set it "
        f"to 3, or prepare a dataset of {told} classes"
    )
    assert not any(tmp_path.iterdir())


def test_the_right_number_of_classes_and_none_at_all_are_accepted(photos, tmp_path):
    for number, told in enumerate((3, None)):
        out = tmp_path / str(number)
        prepare_dataset("photos", settings(photos, classes=True), out, classes=told)
        assert (out / "manifest.json").is_file()


def test_without_classes_every_label_is_0(photos, whole):
    images = folders(settings(photos))
    index = images.index(np.arange(COUNT))
    assert set(index["label"]) == {0}
    assert images.facts["classes"] == []
    assert np.array_equal(images.read(17), whole.images[17])


def test_files_of_other_kinds_are_counted(photos, whole):
    assert whole.manifest["source"]["others"] == {".txt": 1, ".heic": 1, "hidden": 1}
    images = folders(settings(photos, expected=211))
    assert images.remarks == [
        f"{photos}: files left out by their names: {trees.told(images.tree.others)}",
        f"warning: {photos}: 210 images, expected 211",
    ]
    assert len(folders(settings(photos, expected=210)).remarks) == 1


def test_names_that_are_no_text_are_written_in_one_line(tmp_path):
    odd = os.fsdecode(b"caf\xe9\n.png")
    (tmp_path / odd).write_bytes(picture(1))
    (tmp_path / "é.png").write_bytes(picture(2))
    dataset = prepared(tmp_path, tmp_path / ".out", num_test=1)
    assert dataset.index["path"].tolist() == [r"caf\udce9\n.png", "é.png"]


def test_links_are_followed_but_not_in_circles(photos, tmp_path):
    (tmp_path / "all").symlink_to(photos)
    (tmp_path / "one.png").symlink_to(photos / name_of(1))
    (tmp_path / "self").symlink_to(tmp_path)
    images = folders(settings(tmp_path))
    assert len(images.names) == COUNT + 1
    assert np.array_equal(images.read(COUNT), folders(settings(photos)).read(
        images.names.index(f"all/{name_of(1)}")
    ))  # fmt: skip


def test_files_that_cannot_be_read_are_unreadable(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    (tmp_path / "3.png").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "4.png")
    (tmp_path / "5.jpg").write_bytes(b"text")
    out = tmp_path / ".out"
    with pytest.raises(Refusal) as refused:
        prepared(tmp_path, out, num_test=1)
    assert str(refused.value) == (
        "3 of the first 6 images unreadable: 3.png (No such file or directory), "
        "4.png (not a regular file), 5.jpg (no image, or damaged); accepted: allow_unreadable = 0"
    )
    dataset = prepared(tmp_path, out, num_test=1, allow_unreadable=3)
    assert dataset.index["path"].tolist() == ["0.png", "1.png", "2.png"]
    assert list(dataset.manifest["source"]["unreadable"]) == ["3.png", "4.png", "5.jpg"]
    assert dataset.manifest["split_counts"] == {"train": 2, "test": 1}


def test_a_large_file_is_not_read_into_memory(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(1))
    zipped(tmp_path / "x.zip", {"a.png": picture(1), "b.png": b""})
    tarred(tmp_path / "x.tar", {"a.png": picture(1), "b.png": b""})
    monkeypatch.setattr(trees, "LARGEST", 10)
    for path in (tmp_path, tmp_path / "x.zip", tmp_path / "x.tar"):
        with pytest.raises(trees.Unreadable, match="bytes; accepted: up to 10"):
            folders(settings(path, num_test=1)).read(0)


def test_what_interrupted_work_depends_on(photos, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture(1))
    (tmp_path / "b.png").write_bytes(picture(1))
    one = {"num_test": 1}
    before = folders(settings(tmp_path, **one)).identity
    assert folders(settings(tmp_path, mirror=False, allow_unreadable=1, **one)).identity == before
    assert folders(settings(tmp_path, resolution=9, **one)).identity != before
    os.utime(path, ns=(1, 1))
    assert folders(settings(tmp_path, **one)).identity != before


# Archives


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def in_tars(folder: Path) -> Path:
    """ImageNet's form: one tar of each class in a tar."""
    inner = {}
    for kind in KINDS:
        members = {
            name_of(n).split("/")[1]: picture(n)
            for n in range(COUNT)
            if name_of(n).startswith(kind)
        }
        inner[f"{kind}.tar"] = tarred(folder / "inner.tar", members).read_bytes()
    return tarred(folder / "train.tar", inner)


EVERY = {name_of(n): picture(n) for n in range(COUNT)}


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: zipped(folder / "x.zip", EVERY),
        lambda folder: zipped(folder / "x.ZIP", {f"top/{n}": c for n, c in EVERY.items()}),
        lambda folder: tarred(folder / "x.tar", {f"./{n}": c for n, c in EVERY.items()}),
        lambda folder: tarred(folder / "x.tar", {f"a/b/{n}": c for n, c in EVERY.items()}),
        in_tars,
    ],
    ids=["zip", "zip with a folder", "tar", "tar with folders", "tar of tars"],
)
def test_an_archive_holds_what_its_folder_would(made, whole, tmp_path):
    dataset = prepared(made(tmp_path), tmp_path / "out", classes=True)
    assert dataset.manifest["content_hash"] == whole.manifest["content_hash"]
    assert dataset.manifest["source"]["classes"] == sorted(KINDS)
    assert [path.name for path in tmp_path.rglob("*.png")] == []


def test_of_two_members_of_one_name_the_later_counts(tmp_path):
    path = tarred(tmp_path / "x.tar", {"a.png": picture(1), "b.png": picture(2)})
    tarred(path, {"a.png": picture(3)}, "a")
    images = folders(settings(path, num_test=1))
    assert images.names == ["a.png", "b.png"]
    assert np.array_equal(images.read(0), images_of(tmp_path, picture(3)))


def images_of(folder: Path, content: bytes) -> np.ndarray:
    (folder / "alone").mkdir()
    for name in ("1.png", "2.png"):
        (folder / "alone" / name).write_bytes(content)
    return folders(settings(folder / "alone", num_test=1)).read(0)


@pytest.mark.parametrize("name", ["/a.png", "../a.png", "b/../../a.png", "..\\a.png", "C:\\a.png"])
def test_members_that_point_out_of_an_archive_are_refused(name, tmp_path):
    members = {"ok.png": picture(1), name: picture(2)}
    for path in (zipped(tmp_path / "x.zip", members), tarred(tmp_path / "x.tar", members)):
        assert f"{path}: member {name}: points out of the archive" in refusal(path)
    nested = {"n.tar": (tmp_path / "x.tar").read_bytes()}
    path = tarred(tmp_path / "y.tar", nested)
    assert f"{path}: n.tar: member {name}: points out" in refusal(path)


def test_links_in_archives_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("a.png")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    assert "member a.png: a link; accepted in archives: plain files" in refusal(tmp_path / "x.tar")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        member = zipfile.ZipInfo("a.png")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert "member a.png: a link; accepted in archives: plain files" in refusal(tmp_path / "x.zip")


def test_an_encrypted_zip_is_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": picture(1)})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + offset] |= 1
    path.write_bytes(content)
    assert "member a.png: encrypted" in refusal(path)


@pytest.mark.parametrize("kept", [0, 100, 0.3, 0.5])
def test_archives_that_are_cut_off_are_refused(kept, tmp_path):
    members = {f"{n}.png": picture(n) for n in range(8)}
    for path, kind in (
        (zipped(tmp_path / "x.zip", members), "no zip"),
        (tarred(tmp_path / "x.tar", members), "no uncompressed tar"),
    ):
        content = path.read_bytes()
        path.write_bytes(content[: kept if isinstance(kept, int) else int(len(content) * kept)])
        assert refusal(path).startswith(f"{path}: damaged, cut off, or {kind}")


def test_a_tar_that_ends_after_a_whole_member_is_refused(tmp_path):
    path = tarred(tmp_path / "x.tar", {"a.png": b"x" * 512, "b.png": b"x" * 512})
    content = path.read_bytes()
    for end in (2048, 2048 + 100, 1024 + 200):
        path.write_bytes(content[:end])
        assert "x.tar: damaged, cut off" in refusal(path)
    path.write_bytes(content[:1024] + b"y" * 512 + content[1536:])
    assert "x.tar: damaged, cut off" in refusal(path)
    inner = tarred(tmp_path / "y.tar", {"n.tar": content[:2048]})
    assert "y.tar: n.tar: damaged, cut off" in refusal(inner)


def test_a_damaged_member_of_a_zip_is_unreadable(tmp_path):
    path = zipped(tmp_path / "x.zip", {"a.png": picture(1), "b.png": picture(2)})
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(content)
    images = folders(settings(path, num_test=1))
    with pytest.raises(trees.Unreadable):
        images.read(0)
    assert images.read(1).shape == (8, 8, 3)


def test_a_compressed_tar_is_refused(tmp_path):
    path = tarred(tmp_path / "x.tar.gz", {"a.png": picture(1)}, "w:gz")
    assert "neither a folder nor called .zip or .tar (uncompressed)" in refusal(path)
    assert "no uncompressed tar" in refusal(path.rename(tmp_path / "x.tar"))


# Other refusals


def test_a_path_without_images_is_refused(tmp_path, monkeypatch):
    assert "no such folder, .zip or .tar" in refusal(tmp_path / "gone")
    monkeypatch.chdir(tmp_path)
    assert refusal("~/photos").endswith("~ is not expanded, write it out")
    (tmp_path / "empty").mkdir()
    assert "empty: no images (found: nothing); accepted: .jpg, .jpeg" in refusal("empty")
    (tmp_path / "empty/a.heic").touch()
    (tmp_path / "empty/b").touch()
    assert "no images (found: 1 .heic, 1 without suffix)" in refusal("empty")
    for letter in "cdefgg":
        (tmp_path / f"empty/{letter}.{letter}").touch()
    assert "1 .c, 1 .d, 1 .e, 1 .f, 1 .g, 2 of other kinds)" in refusal("empty")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_refused(tmp_path):
    (tmp_path / "own").mkdir(mode=0)
    assert "own: not readable (Permission denied)" in refusal(tmp_path)


def test_images_without_a_class_are_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").write_bytes(picture(1))
    assert "a single sub-folder (cat); accepted" in refusal(tmp_path, classes=True)
    (tmp_path / "2.png").write_bytes(picture(2))
    assert "2.png lies in no sub-folder" in refusal(tmp_path, classes=True)


def test_a_wrong_setting_is_one_line_without_a_traceback(photos, tmp_path, capsys):
    own = f'{{"type": "folders", "path": "{photos}", "resolution": 8, "mirror": true, "num_test": '
    for rest, message in (
        ("210}", "num_test = 210: 210 images of 1 classes; accepted: at most 209"),
        ('5, "allow_unreadable": -1}', "allow_unreadable = -1"),
        ('5, "path": ""}', "path = "),
        ('5, "classes": "yes"}', "classes = "),
    ):
        arguments = ["prepare-data", "--dataset", "x", "--settings", own + rest]
        assert run_verb([*arguments, "--out", str(tmp_path / "out")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("dtr prepare-data: ") and message in line
        assert not (tmp_path / "out").exists()


# The split


def test_every_class_gives_its_share():
    labels = np.repeat([0, 1, 2, 3], [1, 10, 100, 889])
    test = shared_split(labels, 100) == "test"
    assert np.bincount(labels[test], minlength=4).tolist() == [0, 1, 10, 89]
    assert np.array_equal(test, shared_split(labels, 100) == "test")
    members = np.flatnonzero(test & (labels == 3))
    assert members.max() - members.min() > 700  # drawn from all of a class


@pytest.mark.parametrize("counts", [[1, 1, 1, 7], [2, 2], [5], [1, 2, 3, 4, 5], [3, 1, 3]])
def test_one_of_each_class_is_left_for_training(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    most = sum(counts) - len(counts)
    for num_test in range(1, most + 1):
        split = shared_split(labels, num_test)
        assert (split == "test").sum() == num_test
        assert set(labels[split == "train"]) == set(labels)
    with pytest.raises(Refusal, match=f"at most {most}"):
        shared_split(labels, most + 1)
