"""Rows across files: what is read, what is refused, and images written into several of them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from dtr.cli import main
from dtr.data import datasets, shards, streaming
from dtr.data.datasets import ImageDataset, Index
from dtr.data.shards import Chosen, Shards
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json
from tests.unit.data.conftest import COUNT, SIDE, Pictures

PER_SHARD = 16
ROWS = np.arange(60).reshape(10, 2, 3)


@pytest.mark.parametrize("cuts", [[], [3], [1, 4, 4, 9]])
def test_rows_are_those_of_the_whole_array(cuts):
    rows = Shards(np.split(ROWS, cuts))
    assert (len(rows), rows.shape, rows.dtype) == (10, (10, 2, 3), ROWS.dtype)
    wanted = np.array([9, 0, 3, 3, 4, 8])
    assert np.array_equal(rows[wanted], ROWS[wanted])
    assert np.array_equal(rows[2:7], ROWS[2:7]) and np.array_equal(rows[::-4], ROWS[::-4])
    for number in (0, 5, -1, np.int64(9)):
        assert np.array_equal(rows[number], ROWS[number])
    inner = np.array([0, 1, 1, 0, 1, 0])
    assert np.array_equal(rows.take(wanted, inner), ROWS[wanted, inner])
    assert rows[wanted[:0]].shape == (0, 2, 3)
    for beyond in ([10], [-1]):
        with pytest.raises(IndexError):
            rows[np.array(beyond)]


def test_rows_are_copies():
    whole = ROWS.copy()
    rows = Shards([whole])
    for some in (rows[:], rows[np.arange(10)], rows[0]):
        some[...] = -1
    assert np.array_equal(whole, ROWS)


def test_chosen_rows_are_cut_like_an_array():
    chosen = Chosen(Shards(np.split(ROWS, [3])), np.array([7, 2, 5, 0]))
    assert (len(chosen), chosen.shape, chosen.ndim) == (4, (4, 2, 3), 3)
    assert np.array_equal(chosen[1:3], ROWS[[2, 5]])


@pytest.fixture
def prepare(prepare, monkeypatch):
    """Prepares pictures in blocks of 8 and shards of 16; returns the dataset."""
    monkeypatch.setattr(streaming, "BLOCK", 8)
    monkeypatch.setattr(streaming, "SHARD_BYTES", PER_SHARD * SIDE * SIDE * 3 + 1)
    return prepare


def counts(folder) -> list[int]:
    return [len(np.load(path)) for path in sorted(folder.glob("images-*.npy"))]


def test_images_lie_in_several_files(prepare, tmp_path):
    dataset = prepare(Pictures(damaged={3, 17, 18}, allowed=3))
    assert counts(tmp_path / "data") == [15, 14, 16, 2]
    kept = [number for number in range(COUNT) if number not in (3, 17, 18)]
    assert np.array_equal(dataset.images[:], [Pictures().read(number) for number in kept])
    manifest = dataset.manifest
    assert list(manifest["files"]) == [*(f"images-0000{n}.npy" for n in range(4)), "index.parquet"]
    for name, size in manifest["sizes"].items():
        path = tmp_path / "data" / name
        assert (size, manifest["files"][name]) == (path.stat().st_size, hash_file(path))


def test_how_images_are_cut_does_not_matter_for_what_they_are(prepare, monkeypatch, tmp_path):
    several = prepare(Pictures())
    monkeypatch.setattr(streaming, "SHARD_BYTES", 1 << 30)
    one = prepare(Pictures(), tmp_path / "one")
    assert one.manifest["content_hash"] == several.manifest["content_hash"]
    assert np.array_equal(one.images[:], several.images[:])


def test_a_file_without_a_readable_image_is_none(prepare, tmp_path):
    dataset = prepare(Pictures(damaged=set(range(16, 32)), allowed=16))
    assert counts(tmp_path / "data") == [16, 16, 2]
    assert np.array_equal(dataset.images[16], Pictures().read(32))


@pytest.mark.parametrize("stop_at", [4, 15, 16, 20, 24, 31, 32, 49])
def test_a_new_start_goes_on_in_the_unfinished_file(prepare, tmp_path, stop_at):
    damaged = {3, 17}
    whole = prepare(Pictures(damaged, 2), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(Pictures(damaged, 2, stop_at=stop_at))
    pictures = Pictures(damaged, 2)
    dataset = prepare(pictures)
    assert pictures.asked == set(range(stop_at // 8 * 8, COUNT))
    assert dataset.manifest == whole.manifest


def lose_shard_line(work):
    """As when a kill comes between the last block of a shard and its own line."""
    lines = (work / "blocks.jsonl").read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if "shard" in json.loads(line))
    (work / "blocks.jsonl").write_text("".join(lines[:last]))


def lose_first_file(work):
    (work / "images-00000.npy").unlink()


def shorten_second_file(work):
    content = (work / "images-00001.npy").read_bytes()
    (work / "images-00001.npy").write_bytes(content[:-1])


@pytest.mark.parametrize(
    ("damage", "start"), [(lose_shard_line, 32), (lose_first_file, 0), (shorten_second_file, 24)]
)
def test_only_files_that_are_there_are_believed(prepare, tmp_path, damage, start):
    whole = prepare(Pictures(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        prepare(Pictures(stop_at=33))
    damage(tmp_path / "data/preparing")
    pictures = Pictures()
    assert prepare(pictures).manifest == whole.manifest
    assert pictures.asked == set(range(start, COUNT))


def test_an_earlier_preparation_leaves_nothing_behind(prepare, monkeypatch, tmp_path, capsys):
    prepare(Pictures())
    np.save(tmp_path / "data/images.npy", np.zeros(3))
    capsys.readouterr()
    monkeypatch.setattr(streaming, "SHARD_BYTES", 1 << 30)
    prepare(Pictures())
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "images-00000.npy", "index.parquet", "manifest.json",
    ]  # fmt: skip
    assert "equal another one" not in capsys.readouterr().err


def test_duplicates_are_told(prepare, capsys):
    assert prepare(Pictures(kinds=40)).manifest["duplicates"] == 10
    assert "noise: 10 images equal another one" in capsys.readouterr().err


def test_too_little_disk_is_refused_before_an_image_is_read(prepare, monkeypatch):
    usage = type("Usage", (), {"free": COUNT * SIDE * SIDE * 3 - 1})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    pictures = Pictures()
    with pytest.raises(Refusal, match=r"preparing: 0\.0 GiB are needed, 0\.0 GiB are free"):
        prepare(pictures)
    assert not pictures.asked


def test_files_of_0_2_are_still_read(prepare, tmp_path):
    """One file of images, and no sizes in the manifest."""
    folder = tmp_path / "data"
    images = prepare(Pictures()).images[:]
    for path in folder.glob("images-*.npy"):
        path.unlink()
    np.save(folder / "images.npy", images)
    manifest = read_json(folder / "manifest.json")
    del manifest["sizes"]
    manifest["files"] = {name: hash_file(folder / name) for name in ("images.npy", "index.parquet")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert np.array_equal(ImageDataset.open(folder / "manifest.json").images[:], images)


def test_a_column_is_read_when_it_is_asked_for(prepare, tmp_path, monkeypatch):
    dataset = prepare(Pictures())
    read = []
    monkeypatch.setattr(
        datasets.pd, "read_parquet", lambda path, columns: read.append(columns) or frame
    )
    frame = pd.DataFrame({"label": range(COUNT)})
    assert isinstance(dataset.index, Index)
    assert "captions" not in dataset.index and "label" in dataset.index
    assert dataset.labels().tolist() == dataset.labels().tolist() == list(range(COUNT))
    assert read == [["label"]]


def test_contents_are_compared_on_demand(prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shards, "SMALL", 0)
    prepare(Pictures())
    arguments = ["check-data", "--data", str(tmp_path / "data/manifest.json")]
    assert main(arguments) == 0
    assert "manifest.json: 5 files are as recorded" in capsys.readouterr().out
    path = tmp_path / "data/images-00002.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert len(ImageDataset.open(tmp_path / "data/manifest.json").images) == COUNT
    assert main(arguments) == 2
    assert "images-00002.npy: content differs from its manifest" in capsys.readouterr().err
