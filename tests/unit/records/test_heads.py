"""The first images of a model, read from whole files of samples or from what was kept of them."""

from pathlib import Path

import numpy as np

from dtr.config.scale import Scale
from dtr.records.heads import (
    HEAD,
    choose,
    head_of_array,
    head_of_samples,
    kept_heads,
    write_head,
)
from tests.synthetic_results import write_samples


def test_the_head_of_an_archive_is_read_without_the_rest(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int64).reshape(6, 4)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", arr_0=array)
        assert np.array_equal(head_of_array(tmp_path / "a.npz", "arr_0", 2), array[:2])
        assert np.array_equal(head_of_array(tmp_path / "a.npz", "arr_0", 99), array)
    assert head_of_array(tmp_path / "a.npz", "labels", 2) is None
    assert head_of_array(tmp_path / "none.npz", "arr_0", 2) is None


def test_what_is_kept_is_what_a_sheet_chooses_of_the_first_seed(scale: Scale) -> None:
    run = "in256-l2-dtr-a4"
    folder = write_samples(scale, run, shade=200)
    write_samples(scale, run, shade=100, seed=1)
    write_samples(scale, "in256-l2-dtr-a1", shade=100)  # of Table 4 alone
    whole, told = head_of_samples(folder)
    chosen = choose(told["labels"], len(whole))
    ((place, arrays),) = kept_heads(scale.model_copy(update={"seeds": [0, 1]}))
    assert place == folder / HEAD
    write_head(place, arrays)
    (folder / "shard-0.npz").unlink()
    images, told = head_of_samples(folder)
    assert np.array_equal(images, whole[chosen])
    assert told["labels"].tolist() == [*range(10), *range(10)]
    assert np.array_equal(choose(told["labels"], len(images)), np.arange(20))  # and again the same
