"""Captions: what is refused, one per visit, and the list of prompts for evaluation."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dtr.data.captions import (
    check_captions,
    draw_captions,
    evaluation_prompts,
    flatten,
    read_captions,
)
from dtr.seeding import generator
from dtr.support.errors import Refusal

COCO = {
    "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}],
    "annotations": [
        {"id": 1, "image_id": 3, "caption": "A dog.\n"},
        {"id": 2, "image_id": 7, "caption": "Two  cats on a sofa "},
        {"id": 3, "image_id": 3, "caption": "The dog"},
    ],
}
CAPTIONS = [[f"{image} {number}" for number in range(2 + image % 3)] for image in range(30)]


def written(folder: Path, content) -> Path:
    path = folder / "captions.json"
    path.write_text(json.dumps(content))
    return path


def test_a_coco_file_is_read_by_file_name(tmp_path):
    captions = read_captions(written(tmp_path, COCO))
    assert captions == {"b.jpg": (7, ["Two cats on a sofa"]), "a.jpg": (3, ["A dog.", "The dog"])}


def refusal_of(folder: Path, content) -> str:
    with pytest.raises(Refusal) as refused:
        read_captions(written(folder, content))
    text = str(refused.value)
    assert "captions.json" in text and "\n" not in text
    return text


def test_a_file_without_captions_of_an_image_is_refused_naming_it(tmp_path):
    without = COCO | {"annotations": [a for a in COCO["annotations"] if a["image_id"] == 3]}
    assert "image b.jpg has no caption" in refusal_of(tmp_path, without)
    assert "image b.jpg has no caption" in refusal_of(tmp_path, COCO | {"annotations": []})


@pytest.mark.parametrize("caption", ["", " \n", None, 3])
def test_an_empty_caption_is_refused_naming_the_image(tmp_path, caption):
    extra = [*COCO["annotations"], {"image_id": 7, "caption": caption}]
    assert f"image b.jpg has the caption {caption!r}" in refusal_of(
        tmp_path, COCO | {"annotations": extra}
    )


def test_a_caption_of_an_unlisted_image_is_refused(tmp_path):
    extra = [*COCO["annotations"], {"image_id": 99, "caption": "A tree"}]
    assert "image 99" in refusal_of(tmp_path, COCO | {"annotations": extra})


@pytest.mark.parametrize("content", [[], {}, {"images": [], "annotations": [{"caption": "A"}]}])
def test_other_formats_are_refused(tmp_path, content):
    assert "not a COCO caption file" in refusal_of(tmp_path, content)


def test_captions_of_another_number_of_images_are_refused():
    with pytest.raises(Refusal, match="captions of 1 images, expected 2"):
        check_captions([["a"]], ["x", "y"], source="index.parquet")


def test_flat_captions_keep_their_images():
    flat, first = flatten(CAPTIONS)
    assert first.dtype == np.int64
    for image, own in enumerate(CAPTIONS):
        assert flat[first[image] : first[image + 1]] == own


def test_a_visit_draws_one_of_the_images_own_captions_uniformly():
    _, first = flatten(CAPTIONS)
    rows = np.repeat(np.arange(30), 400)
    drawn = draw_captions(first, rows, generator(0, "captions", 1))
    assert np.array_equal(np.searchsorted(first, drawn, side="right") - 1, rows)
    for image, own in enumerate(CAPTIONS):
        counts = np.bincount(drawn[rows == image] - first[image], minlength=len(own))
        assert counts.sum() == 400 and np.abs(counts - 400 / len(own)).max() < 60
    assert np.array_equal(drawn, draw_captions(first, rows, generator(0, "captions", 1)))
    assert not np.array_equal(drawn, draw_captions(first, rows, generator(0, "captions", 2)))


def test_every_image_prompts_once_before_any_prompts_twice():
    prompts = evaluation_prompts(CAPTIONS, 40, seed=0)
    assert len(prompts) == len(set(prompts)) == 40
    images = [image for image, _ in prompts]
    assert sorted(images[:30]) == list(range(30)) and images[:30] != list(range(30))
    assert max(Counter(images).values()) == 2
    assert all(number < len(CAPTIONS[image]) for image, number in prompts)
    assert len({number for _, number in prompts[:30]}) > 1


def test_all_captions_are_used_once_before_prompts_run_out():
    available = sum(map(len, CAPTIONS))
    prompts = evaluation_prompts(CAPTIONS, available, seed=0)
    assert sorted(prompts) == [(i, n) for i, own in enumerate(CAPTIONS) for n in range(len(own))]
    with pytest.raises(Refusal, match=f"n_samples = {available + 1}: .* only {available} captions"):
        evaluation_prompts(CAPTIONS, available + 1, seed=0)


def test_a_shorter_list_is_the_beginning_of_a_longer_one():
    assert evaluation_prompts(CAPTIONS, 10, seed=0) == evaluation_prompts(CAPTIONS, 50, seed=0)[:10]
    assert evaluation_prompts(CAPTIONS, 10, seed=0) != evaluation_prompts(CAPTIONS, 10, seed=1)
