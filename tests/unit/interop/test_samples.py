"""Sample files as the one npz of ADM's evaluator, and what is refused of them."""

import zipfile

import numpy as np
import pytest

from dtr.cli import main
from dtr.interop.samples import export_samples
from dtr.support.errors import Refusal


def shard(path, count: int, *, side: int = 4, seed: int = 0, **arrays):
    images = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    np.savez(path, **({"arr_0": images} | arrays))
    return path


def refused(shards, out) -> str:
    with pytest.raises(Refusal) as refusal:
        export_samples(shards, out)
    assert not out.exists()
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


def test_shards_are_joined_in_order(tmp_path):
    shards = [
        shard(tmp_path / f"{seed}.npz", count, seed=seed, labels=np.full(count, seed, np.int32))
        for seed, count in enumerate([3, 1, 2])
    ]
    out = tmp_path / "new/samples.npz"
    export_samples(shards, out)
    with np.load(out) as joined:
        assert set(joined) == {"arr_0", "arr_1"}
        assert np.array_equal(
            joined["arr_0"], np.concatenate([np.load(p)["arr_0"] for p in shards])
        )
        assert joined["arr_1"].tolist() == [0, 0, 0, 1, 2, 2]
        assert joined["arr_1"].dtype == np.int64
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
    assert [path.name for path in out.parent.iterdir()] == ["samples.npz"]


def streamed(path, name: str) -> np.ndarray:
    """One array as ADM's reader takes it from the archive: header first, then as many bytes."""
    with zipfile.ZipFile(path) as archive:
        assert f"{name}.npy" in archive.namelist()
        with archive.open(f"{name}.npy") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            assert not fortran and not dtype.hasobject
            return np.frombuffer(stream.read(), dtype).reshape(shape)


@pytest.mark.parametrize(
    "told", [{}, {"captions": np.array(["a red three", "a blue seven"])}, {"labels": [7, 3]}]
)
def test_both_arrays_are_there_whatever_the_samples_were_told(told, tmp_path):
    path = shard(tmp_path / "0.npz", 2, **told)
    export_samples([path], tmp_path / "out.npz")
    assert np.array_equal(streamed(tmp_path / "out.npz", "arr_0"), np.load(path)["arr_0"])
    labels = streamed(tmp_path / "out.npz", "arr_1")
    assert labels.dtype == np.int64
    assert labels.tolist() == told.get("labels", [0, 0])
    with np.load(tmp_path / "out.npz") as joined:
        assert set(joined) == {"arr_0", "arr_1"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"side": 8}, "images of (8, 8), those of"),
        ({}, "labels in some files only"),
        ({"labels": np.zeros(3, int)}, "labels: int64 [3]; accepted: one integer for each image"),
        ({"labels": np.zeros(2)}, "labels: float64 [2]"),
        ({"lost": np.array(1)}, "images that diverged in sampling: 1; accepted: none"),
        ({"arr_0": np.zeros((2, 4, 4, 3))}, "arr_0: float64 [2, 4, 4, 3]; accepted: uint8"),
        ({"arr_0": np.zeros((2, 3, 4, 4), np.uint8)}, "arr_0: uint8 [2, 3, 4, 4]"),
        ({"arr_0": np.array([None])}, "not readable as npz"),
    ],
)
def test_shards_that_do_not_fit(arrays, message, tmp_path):
    first = shard(tmp_path / "0.npz", 2, labels=np.zeros(2, int))
    arrays = {"labels": np.zeros(2, int)} | arrays if arrays else {}
    second = shard(tmp_path / "1.npz", 2, **arrays)
    found = refused([first, second], tmp_path / "out.npz")
    assert message in found
    assert "1.npz" in found


@pytest.mark.parametrize("damage", ["cut", "byte", "text", "npy", "other", "absent"])
def test_damaged_shards(damage, tmp_path):
    path = shard(tmp_path / "0.npz", 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1  # inside the images
    if damage == "npy":
        np.save(tmp_path / "array.npy", np.zeros(2))
        (tmp_path / "array.npy").rename(path)
    elif damage == "other":
        np.savez(path, images=np.zeros(2))
    elif damage == "absent":
        path.unlink()
    else:
        parts = {"cut": bytes(content[:-30]), "byte": bytes(content), "text": b"hello"}
        path.write_bytes(parts[damage])
    assert "0.npz" in refused([path], tmp_path / "out.npz")


def test_none_or_one_twice_or_onto_itself(tmp_path):
    path = shard(tmp_path / "0.npz", 2)
    before = path.read_bytes()
    assert "none given" in refused([], tmp_path / "out.npz")
    assert "given twice" in refused([path, tmp_path / "." / "0.npz"], tmp_path / "out.npz")
    with pytest.raises(Refusal, match="also what is written"):
        export_samples([path], path)
    assert path.read_bytes() == before


def test_the_verb(tmp_path, capsys):
    paths = [str(shard(tmp_path / f"{seed}.npz", 2, seed=seed)) for seed in range(2)]
    out = tmp_path / "out.npz"
    assert main(["export-samples", "--samples", *paths, "--out", str(out)]) == 0
    with np.load(out) as joined:
        assert joined["arr_0"].shape == (4, 4, 4, 3)
    assert main(["export-samples", "--out", str(tmp_path / "none.npz")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtr export-samples: sample files: none given")
