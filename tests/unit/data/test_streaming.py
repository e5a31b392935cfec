"""Images read one at a time: written as they come, and after a kill not read again."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from dtr.records.workdir import exclusive
from dtr.support.errors import Refusal
from tests.unit.data.conftest import COUNT, SIDE, Pictures


def test_all_images_are_there_with_their_hashes(prepare, tmp_path, capsys):
    pictures = Pictures(kinds=48)
    dataset = prepare(pictures)
    assert dataset.images.dtype == np.uint8 and dataset.images.shape == (COUNT, SIDE, SIDE, 3)
    for number in range(COUNT):
        assert np.array_equal(dataset.images[number], pictures.read(number))
    expected = [hashlib.sha256(image.tobytes()).hexdigest() for image in dataset.images[:]]
    assert dataset.index["sha256"].tolist() == expected
    assert dataset.index["index"].tolist() == list(range(COUNT))
    assert dataset.manifest["duplicates"] == 2
    assert dataset.manifest["source"] == {"found": COUNT, "unreadable": {}}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [
        "images-00000.npy",
        "index.parquet",
        "manifest.json",
    ]
    said = capsys.readouterr().err
    assert r"noise: look: \n there" in said and "images/s" in said


def test_the_file_is_the_one_that_numpy_writes(prepare, tmp_path):
    dataset = prepare(Pictures(damaged={3}, allowed=1))
    np.save(tmp_path / "again.npy", dataset.images[:])
    again = (tmp_path / "again.npy").read_bytes()
    assert (tmp_path / "data/images-00000.npy").read_bytes() == again


def test_unreadable_images_are_left_out_and_listed(prepare):
    dataset = prepare(Pictures(damaged={0, 20, 49}, allowed=3))
    assert (
        len(dataset.images) == len(dataset.index["label"]) == dataset.manifest["count"] == COUNT - 3
    )
    assert dataset.manifest["source"]["unreadable"] == dict.fromkeys(
        ("0.png", "20.png", "49.png"), "mud"
    )
    assert dataset.index["path"][0] == "1.png"
    assert np.array_equal(dataset.images[19], Pictures().read(21))


def test_more_unreadable_images_than_allowed_are_refused_by_name(prepare, tmp_path):
    with pytest.raises(Refusal) as refused:
        prepare(Pictures(damaged={1, 2, 3, 4}, allowed=2))
    assert str(refused.value) == (
        "4 of the first 16 images unreadable: 1.png (mud), 2.png (mud), 3.png (mud), ...; "
        "accepted: allow_unreadable = 2"
    )
    assert not (tmp_path / "data/manifest.json").exists()
    with pytest.raises(Refusal, match="all 50 images are unreadable"):
        prepare(Pictures(damaged=set(range(COUNT)), allowed=COUNT))


def killed(prepare, **options):
    with pytest.raises(KeyboardInterrupt):
        prepare(Pictures(stop_at=40, **options))


def test_a_new_start_goes_on_after_the_last_block(prepare, tmp_path):
    damaged = {"damaged": {5, 45}, "allowed": 2}
    whole = prepare(Pictures(**damaged), tmp_path / "whole")
    killed(prepare, **damaged)
    pictures = Pictures(**damaged)
    dataset = prepare(pictures)
    assert pictures.asked == set(range(32, COUNT))
    assert dataset.manifest == whole.manifest


def test_a_refused_block_is_looked_at_again(prepare):
    """What could not be read this time may be readable next time."""
    with pytest.raises(Refusal):
        prepare(Pictures(damaged={20}))
    pictures = Pictures()
    assert len(prepare(pictures).images) == COUNT
    assert pictures.asked == set(range(16, COUNT))


@pytest.mark.parametrize("less", [{"identity": "others"}, {"allowed": 0}])
def test_work_that_does_not_fit_any_more_is_done_again(prepare, less):
    killed(prepare, damaged={5}, allowed=1)
    pictures = Pictures(**({"damaged": (), "allowed": 1} | less))
    assert len(prepare(pictures).images) == COUNT
    assert pictures.asked == set(range(COUNT))


def test_only_what_has_its_hash_is_believed(prepare, tmp_path):
    killed(prepare)
    work = tmp_path / "data/preparing"
    shutil.copytree(work, tmp_path / "kept")
    whole = None
    for damage, start in ((flip, 16), (cut_images, 16), (cut_log, 16), (garble_log, 16), (mix, 0)):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "kept", work)
        damage(work)
        pictures = Pictures()
        manifest = prepare(pictures).manifest
        assert pictures.asked == set(range(start, COUNT)), damage.__name__
        assert manifest == (whole or manifest)
        whole = manifest


def flip(work):
    content = bytearray((work / "images-00000.npy").read_bytes())
    content[128 + 20 * SIDE * SIDE * 3] ^= 1
    (work / "images-00000.npy").write_bytes(content)


def cut_images(work):
    content = (work / "images-00000.npy").read_bytes()
    (work / "images-00000.npy").write_bytes(content[: 128 + 31 * SIDE * SIDE * 3])


def cut_log(work):
    content = (work / "blocks.jsonl").read_bytes()
    (work / "blocks.jsonl").write_bytes(content[:-9])


def garble_log(work):
    lines = (work / "blocks.jsonl").read_text().splitlines(keepends=True)
    (work / "blocks.jsonl").write_text("".join(lines[:2]) + '{"sha256": 3, "unreadable": 4}\n')


def mix(work):
    lines = (work / "blocks.jsonl").read_text().splitlines(keepends=True)
    (work / "blocks.jsonl").write_text("".join([json.dumps({"identity": "?"}) + "\n", *lines[1:]]))


def test_two_processes_do_not_prepare_the_same(prepare, tmp_path):
    with (
        exclusive(tmp_path / "data/preparing"),
        pytest.raises(Refusal, match="another process is working here"),
    ):
        prepare(Pictures())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((SIDE, 3, 3), dtype=np.uint8), r"0.png: read as uint8 \[4, 3, 3\]; accepted"),
        (np.zeros((SIDE, SIDE, 3)), r"0.png: read as float64 \[4, 4, 3\]; accepted: uint8"),
        (None, "0.png: raised AttributeError: 'NoneType'"),
    ],
)
def test_a_source_that_reads_something_else_is_refused(prepare, image, message):
    pictures = Pictures()
    pictures.read = lambda number: image if image is not None else image.shape
    with pytest.raises(Refusal, match=message):
        prepare(pictures)


def test_an_index_of_another_length_is_refused(prepare):
    pictures = Pictures()
    pictures.index = lambda kept: Pictures().index(kept[1:])
    with pytest.raises(Refusal, match="source 'mnist': an index of 49 rows for 50 images"):
        prepare(pictures)
