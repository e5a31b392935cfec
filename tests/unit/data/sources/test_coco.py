"""COCO: images and captions joined by number, what is refused, and the list of prompts."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dtr.cli import main
from dtr.data.captions import evaluation_prompts
from dtr.data.datasets import ImageDataset, prepare_dataset
from dtr.data.prompts import COUNT, RULE, prompt_facts
from dtr.data.sources.coco import CocoSettings, coco
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json

TRAIN, TEST = 12, 5


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def name_of(split: str, number: int) -> str:
    return f"COCO_{split}2014_{number:012d}.png"


def annotations(split: str, numbers: range) -> dict:
    """Five captions of each image, six of the first, as mixed as COCO's file has them."""
    images = [{"id": n, "file_name": name_of(split, n)} for n in reversed(numbers)]
    captions = [(n, k) for k in range(5) for n in numbers] + [(numbers[0], 5)]
    entries = [
        {"id": 1000 * k + n, "image_id": n, "caption": f" {split} {n}\n caption {k}."}
        for n, k in captions
    ]
    return {"info": {}, "images": images, "annotations": entries[::-1]}


@pytest.fixture
def files(tmp_path) -> Path:
    """Training images in a folder, validation images in a zip, captions beside them."""
    train, test = range(100, 100 + TRAIN), range(200, 200 + TEST)
    (tmp_path / "train2014").mkdir()
    for number in train:
        (tmp_path / "train2014" / name_of("train", number)).write_bytes(picture(number))
    with zipfile.ZipFile(tmp_path / "val2014.zip", "w") as archive:
        for number in test:
            archive.writestr(f"val2014/{name_of('val', number)}", picture(number))
    for split, numbers in (("train", train), ("val", test)):
        path = tmp_path / f"captions_{split}2014.json"
        path.write_text(json.dumps(annotations(split, numbers)))
    return tmp_path


def settings(files: Path, **changes) -> CocoSettings:
    value = {"type": "coco", "resolution": 8, "mirror": True, "num_test": TEST}
    value |= {"images": f"{files}/train2014", "captions": f"{files}/captions_train2014.json"}
    value |= {"test_images": f"{files}/val2014.zip"}
    value |= {"test_captions": f"{files}/captions_val2014.json"}
    return CocoSettings(**value | changes)


def refusal(files: Path, **changes) -> str:
    with pytest.raises(Refusal) as refused:
        coco(settings(files, **changes))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def change(path: Path, function) -> None:
    content = json.loads(path.read_text())
    function(content)
    path.write_text(json.dumps(content))


def test_images_and_captions_are_joined_by_number(files, capsys):
    prepare_dataset("coco", settings(files, expected=13), files / "out")
    dataset = ImageDataset.open(files / "out/manifest.json")
    numbers = dataset.index["image_id"].tolist()
    assert numbers == [*range(100, 100 + TRAIN), *range(200, 200 + TEST)]
    assert dataset.positions("test").tolist() == list(range(TRAIN, TRAIN + TEST))
    for row, number in enumerate(numbers):
        split = "train" if row < TRAIN else "val"
        expected = [f"{split} {number} caption {k}." for k in range(6 if number % 100 == 0 else 5)]
        assert list(dataset.index["captions"][row]) == expected
        assert number == int(dataset.index["path"][row][-16:-4])
    assert np.array_equal(dataset.images[TRAIN], coco(settings(files)).read(TRAIN))
    told = dataset.manifest["source"]
    assert told["captions"] == {"train": 5 * TRAIN + 1, "test": 5 * TEST + 1}
    path = files / "captions_val2014.json"
    assert told["caption_files"]["test_captions"] == hash_file(path)
    assert "warning: " in (said := capsys.readouterr().err) and "12 images, expected 13" in said


def test_few_captions_are_a_line_of_warning(files):
    path = files / "captions_train2014.json"
    change(path, lambda content: content["annotations"].pop())  # the last is one of image 100
    change(path, lambda content: content["annotations"].pop())
    (line,) = coco(settings(files)).remarks
    assert line == f"warning: {path}: 1 images have fewer than 5 captions"


def test_a_caption_of_a_missing_image_is_refused(files):
    (files / "train2014" / name_of("train", 103)).unlink()
    assert refusal(files) == (
        f"{files}/captions_train2014.json: captions of {name_of('train', 103)}, which "
        f"{files}/train2014 does not have (1 such images)"
    )
    path = files / "captions_val2014.json"
    change(path, lambda content: content["annotations"][0].update(image_id=7))
    changed = {"images": f"{files}/val2014.zip", "captions": str(path)}
    assert "a caption belongs to image 7, which is not in `images`" in refusal(files, **changed)


def test_an_image_without_a_caption_is_refused(files):
    path = files / "captions_train2014.json"
    (files / "train2014/new.png").write_bytes(picture(1))
    assert refusal(files) == (
        f"{files}/train2014: image new.png has no caption in {path} (1 such images)"
    )
    (files / "train2014/new.png").unlink()

    def without(content):
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 105]

    change(path, without)
    assert f"image {name_of('train', 105)} has no caption" in refusal(files)


def test_other_files_are_refused_in_one_line(files):
    path = files / "captions_train2014.json"
    whole = path.read_text()
    for text, message in (
        (whole[:-40], "not readable as JSON"),
        ("[]", "not a COCO caption file"),
        ('{"images": [3], "annotations": []}', "not a COCO caption file"),
        (whole.replace("000000000104", "000000000105"), "the same `id` or `file_name`"),
    ):
        path.write_text(text)
        assert message in refusal(files)
    path.write_text(whole)
    (files / "train2014/again").mkdir()
    (files / "train2014/again" / name_of("train", 103)).write_bytes(picture(1))
    assert f"two files are called {name_of('train', 103)}" in refusal(files)
    assert f"num_test = 4: {files}/val2014.zip has 5 images; accepted" in refusal(
        files, num_test=4, images=f"{files}/val2014.zip", captions=f"{files}/captions_val2014.json"
    )


def test_the_list_of_prompts_is_the_same_from_the_captions_and_from_the_images(files, capsys):
    prepare_dataset("coco", settings(files), files / "out")
    lists = []
    for source in ("captions_val2014.json", "out/manifest.json"):
        arguments = ["prompts", "--captions", str(files / source), "--out", str(files / "p.json")]
        assert main([*arguments, "--count", str(TEST + 2)]) == 0
        lists.append(read_json(files / "p.json"))
    assert lists[0]["prompts"] == lists[1]["prompts"]
    first, second = lists[0]["prompts"][:TEST], lists[0]["prompts"][TEST:]
    assert {prompt["image"] for prompt in first} == {name_of("val", n) for n in range(200, 205)}
    assert len({prompt["image"] for prompt in second}) == 2
    captions = {prompt["caption"] for prompt in first + second}
    assert len(captions) == TEST + 2
    assert (lists[0]["seed"], lists[0]["count"], lists[0]["rule"]) == (0, TEST + 2, RULE)
    assert f"7 prompts, sha256 {lists[0]['sha256']}" in capsys.readouterr().out
    told = read_json(files / "out/manifest.json")["source"]["prompts"]
    assert told["count"] == 5 * TEST + 1 < COUNT


def test_the_prompts_are_those_of_the_rule():
    """Golden values: a list that was published does not change."""
    captions = [[f"{image} {number}" for number in range(5)] for image in range(6)]
    prompts = [captions[i][k] for i, k in evaluation_prompts(captions, 8, seed=0)]
    assert prompts == GOLDEN
    assert prompt_facts(captions, count=8)["sha256"] == GOLDEN_HASH


GOLDEN = ["2 4", "0 0", "5 2", "4 3", "1 0", "3 3", "5 0", "3 4"]
GOLDEN_HASH = "c55193137430edf990c3aaaa8c8f92ac8d98b8c238a042fa913b14c002aafae4"
