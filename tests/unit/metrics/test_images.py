"""Images from elsewhere: what is read, what is refused by name, and the verb that measures them."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from dtr.assets.extractor import extract, load_extractor
from dtr.cli import main
from dtr.config.stages import Protocol
from dtr.metrics.features import Features
from dtr.metrics.images import read_images
from dtr.metrics.measure import MetricSettings, measure
from dtr.support.errors import Refusal
from dtr.support.files import hash_file
from tests.unit.metrics.conftest import write_extractor

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
REAL = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)


def write_folder(folder, images, suffix: str = ".png"):
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03d}{suffix}")
    return folder


@pytest.fixture
def extractor(tmp_path):
    """An untrained extractor."""
    write_extractor(tmp_path / "digits-cnn", seed=0)
    return tmp_path / "digits-cnn"


@pytest.fixture
def verb(tmp_path, extractor, capsys, monkeypatch):
    """Runs `measure-images`; gives status, what it printed, what it refused and the file."""
    monkeypatch.setattr("dtr.metrics.kid.SUBSETS", 5)
    real, out = tmp_path / "real.npz", tmp_path / "new" / "out.json"
    weights = hash_file(extractor / "weights.safetensors")
    np.savez(real, **extract(load_extractor(extractor), REAL), extractor=np.array(weights))

    def run(images, *options, real=real, extractor=extractor):
        arguments = ["measure-images", "--images", images, "--extractor", extractor]
        arguments += ["--real", real, "--out", out, "--bootstrap", 3, *options]
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err.splitlines(), out

    return run


def test_an_npz_and_a_folder_hold_the_same_images(tmp_path):
    np.savez(tmp_path / "theirs.npz", arr_0=PIXELS, arr_1=np.zeros(40))
    folder = write_folder(tmp_path / "folder", PIXELS)
    (folder / ".hidden").write_text("no image")
    for path in (tmp_path / "theirs.npz", folder):
        assert np.array_equal(read_images(path), PIXELS)
        assert np.array_equal(read_images(path, 7), PIXELS[:7])


def test_grey_images_have_three_equal_channels(tmp_path):
    folder = write_folder(tmp_path / "grey", PIXELS[:2, :, :, 0])
    assert np.array_equal(read_images(folder), np.repeat(PIXELS[:2, :, :, :1], 3, axis=-1))


def test_files_that_are_refused_by_name(tmp_path):
    folder = write_folder(tmp_path / "folder", PIXELS[:3])
    cases = {
        "text.png": (lambda path: path.write_text("hello"), "not readable as an image"),
        "folder.png": (lambda path: path.mkdir(), "not readable as an image"),
        "cut.png": (
            lambda path: path.write_bytes((folder / "000.png").read_bytes()[:-900]),
            "not readable as an image",
        ),
        "alpha.png": (lambda path: Image.new("RGBA", (32, 32)).save(path), "mode RGBA; accepted"),
        "wide.png": (
            lambda path: Image.new("RGB", (40, 32)).save(path),
            "32 x 40 pixels, 000.png has 32 x 32; accepted: one size",
        ),
    }
    for name, (write, message) in cases.items():
        path = folder / name
        write(path)
        with pytest.raises(Refusal, match=f"{re.escape(str(path))}: {message}") as refusal:
            read_images(folder)
        assert "\n" not in str(refusal.value)
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": PIXELS}, r"no array 'arr_0' \(found: images\)"),
        ({"arr_0": PIXELS / 255}, r"arr_0: float64 \[40, 32, 32, 3\]; accepted: uint8"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, r"arr_0: uint8 \[40, 3, 32, 32\]"),
        ({"arr_0": PIXELS[:0]}, "0 images; at least one is needed"),
    ],
)
def test_archives_of_something_else(arrays, message, tmp_path):
    np.savez(tmp_path / "theirs.npz", **arrays)
    with pytest.raises(Refusal, match=f"theirs.npz: {message}"):
        read_images(tmp_path / "theirs.npz")


def test_more_than_there_are_or_none_or_nowhere(tmp_path):
    folder = write_folder(tmp_path / "folder", PIXELS[:3])
    with pytest.raises(Refusal, match="folder: 3 images; --n 4 are asked for"):
        read_images(folder, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match="empty: 0 images; at least one is needed"):
        read_images(tmp_path / "empty")
    with pytest.raises(Refusal, match="nowhere: no such file"):
        read_images(tmp_path / "nowhere")


@pytest.mark.parametrize("n", [40, 7])
def test_the_verb_measures_any_number_of_images(n, verb, extractor, tmp_path):
    folder = write_folder(tmp_path / "folder", PIXELS)
    status, printed, _, out = verb(folder, "--n", n)
    assert status == 0
    record = json.loads(out.read_text())
    assert (record["n"], record["real_n"], record["size"]) == (n, 60, [32, 32])
    network = load_extractor(extractor)
    weights = hash_file(extractor / "weights.safetensors")
    generated, real = (
        Features(**extract(network, images), labels=None, extractor=weights)
        for images in (PIXELS[:n], REAL)
    )
    settings = MetricSettings(extractor="digits-cnn", n_samples=n, kid_subset=n)
    assert record["settings"] == settings.plain()
    assert record["metrics"] == measure(generated, real, settings, bootstrap=3)
    header, *rows = printed.splitlines()
    assert header.split() == ["metric", "n", "value", "low", "high", "better"]
    assert [row.split()[:2] for row in rows[: len(record["metrics"])]] == [
        [metric["name"], str(n)] for metric in record["metrics"]
    ]
    assert f"KID draws {n} at once" in printed


def test_the_verb_counts_as_a_protocol_does(verb, tmp_path):
    np.savez(tmp_path / "theirs.npz", arr_0=PIXELS)
    protocol = Protocol(
        dataset="digits", autoencoder=None, extractor="digits-cnn", n_samples=2000, guidance=None,
        guidance_channels="all", sampling_steps=10, x0_clamp=None, labels="random", seed=4,
        neighbours=5, kid_subset=20, inception_split=10,
    )  # fmt: skip
    text = json.dumps(protocol.plain())
    status, printed, _, out = verb(tmp_path / "theirs.npz", "--protocol", text)
    assert status == 0
    settings = json.loads(out.read_text())["settings"]
    assert settings == {
        "extractor": "digits-cnn", "n_samples": 40, "neighbours": 5, "kid_subset": 20,
        "inception_split": 10, "seed": 4,
    }  # fmt: skip
    assert "the protocol's n_samples is 2000" in printed
    other = json.dumps(protocol.plain() | {"extractor": "inception"})
    status, _, said, _ = verb(tmp_path / "theirs.npz", "--protocol", other)
    assert status == 2
    assert "the protocol names 'inception'; accepted: a folder called so" in said[-1]


def test_what_the_verb_refuses(verb, extractor, tmp_path):
    few, big = write_folder(tmp_path / "few", PIXELS[:3]), tmp_path / "big.npz"
    np.savez(big, arr_0=np.zeros((5, 64, 64, 3), np.uint8))
    other = {key: value for key, value in np.load(tmp_path / "real.npz").items()}
    np.savez(tmp_path / "other.npz", **other | {"extractor": np.array("ab" * 32)})
    good = tmp_path / "good.npz"
    np.savez(good, arr_0=PIXELS)
    cases = [
        ((few,), {}, "generated images: 3; "),
        ((big,), {}, "big.npz: images of 64 x 64 pixels; the extractor accepts 32 x 32 or 16 x 16"),
        ((good,), {"real": tmp_path / "other.npz"}, "other.npz: features of extractor weights"),
        ((good,), {"real": good}, "good.npz: no array 'features'; it is not a feature file"),
        ((good,), {"extractor": tmp_path / "no"}, "no/record.json: no such file"),
        ((good, "--n", 41), {}, "good.npz: 40 images; --n 41 are asked for"),
    ]
    for arguments, places, message in cases:
        status, printed, said, out = verb(*arguments, **places)
        assert (status, printed, out.exists()) == (2, "", False)
        (line,) = said
        assert message in line
