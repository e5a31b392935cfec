"""Cached latents and captions: in pieces, by several processes, in half precision."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from dtr.cli import main
from dtr.commands import data as commands
from dtr.config.stages import WordsSettings
from dtr.data import caching
from dtr.data.caching import Caching, cache_latents
from dtr.data.datasets import ImageDataset
from dtr.data.latents import LatentDataset, _check_networks
from dtr.records.workdir import exclusive
from dtr.seeding import generator
from dtr.support.errors import Busy, Refusal
from dtr.support.files import read_json
from dtr.support.gpus import LAUNCHER

COUNT, SIDE, FACTOR = 50, 8, 0.5
WORDS = WordsSettings(type="words", tokens=8, width=8, seed=0)


class Posterior(nn.Module):
    """Means over 2 x 2 pixels, and what they cost: `seen` counts the images of all calls."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.seen, self.stop_at = 0, None

    def posterior(self, pixels):
        self.seen += len(pixels)
        if self.stop_at is not None and self.seen > self.stop_at:
            raise KeyboardInterrupt
        self.mean = nn.functional.avg_pool2d(pixels, 2)
        self.logvar = self.mean - 3
        return self


def dataset(mirror: bool = True, **columns) -> ImageDataset:
    """Noise of which each fifth image is a test image, in memory."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    split = np.where(np.arange(COUNT) % 5, "train", "test")
    index = pd.DataFrame({"label": np.arange(COUNT) % 3, "split": split} | columns)
    return ImageDataset(images, index, {"dataset": "noise", "mirror": mirror, "content_hash": "n"})


def captions() -> list[list[str]]:
    return [["a red three"] * (1 + number % 3) for number in range(COUNT)]


class Weights:
    weights_sha256 = "ab" * 32


@pytest.fixture
def model(monkeypatch) -> Posterior:
    """Takes the place of every autoencoder; shards have 7 images."""
    model = Posterior()
    monkeypatch.setattr(caching, "load_autoencoder", lambda folder, device: (model, FACTOR))
    monkeypatch.setattr(caching, "read_record", lambda *_: Weights)
    monkeypatch.setattr(caching, "SHARD_SIZE", 7)
    return model


def cached(folder: Path, **how) -> LatentDataset:
    cache_latents(dataset(), Path("vae"), folder, how=Caching(**how))
    return LatentDataset.open(folder / "manifest.json")


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_both_mirrors_have_mean_and_log_variance(model, tmp_path):
    data = cached(tmp_path)
    assert len(data.moments) == len(data) == 40
    train = dataset().images[np.arange(COUNT) % 5 > 0].astype(np.float64) / 127.5 - 1
    means = train.reshape(40, 4, 2, 4, 2, 3).mean((2, 4)).transpose(0, 3, 1, 2)
    moments = data.moments[:]
    np.testing.assert_allclose(moments[:, 0, 0], means, atol=1e-6)
    np.testing.assert_allclose(moments[:, 1, 0], means[..., ::-1], atol=1e-6)
    np.testing.assert_allclose(moments[:, :, 1], moments[:, :, 0] - 3, atol=1e-6)
    told = data.manifest
    assert (told["shape"], told["dtype"], told["mirrors"]) == ([3, 4, 4], "float32", 2)
    assert (told["scale_factor"], told["autoencoder_sha256"]) == (FACTOR, Weights.weights_sha256)
    assert set(told["sizes"]) == set(told["files"]) == set(files_of(tmp_path)) - {"manifest.json"}


def test_half_precision_is_read_as_single(model, tmp_path):
    single, half = cached(tmp_path / "single"), cached(tmp_path / "half", dtype="float16")
    assert half.moments.dtype == np.float16 and half.manifest["dtype"] == "float16"
    rows = np.arange(0, 40, 3)
    draws = [data.sample(rows, generator(1)) for data in (single, half)]
    assert draws[1].dtype == np.float32
    np.testing.assert_allclose(*draws, atol=2e-3)
    assert half.manifest["content_hash"] != single.manifest["content_hash"]


def test_a_number_that_does_not_fit_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "posterior", lambda pixels: Huge(pixels))
    with pytest.raises(Refusal, match="vae: encodes one of images 1 to 8 of noise to what is no"):
        cached(tmp_path, dtype="float16")


class Huge:
    def __init__(self, pixels) -> None:
        self.mean = self.logvar = torch.full((len(pixels), 1, 2, 2), 1e5)


def test_a_new_start_goes_on_with_the_missing_shard(model, tmp_path, capsys):
    whole = cached(tmp_path / "whole").manifest
    model.seen, model.stop_at = 0, 1 + 2 * 2 * 7 + 3
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "killed")
    assert not (tmp_path / "killed/manifest.json").exists()
    model.seen, model.stop_at = 0, None
    assert cached(tmp_path / "killed").manifest == whole
    assert model.seen == 1 + 2 * (40 - 14)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    assert "noise: latents: 40/40" in capsys.readouterr().err


def test_shards_of_another_autoencoder_are_made_again(model, tmp_path, monkeypatch):
    model.stop_at = 1 + 2 * 2 * 7
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path)
    model.seen, model.stop_at = 0, None
    monkeypatch.setattr(Weights, "weights_sha256", "cd" * 32)
    cached(tmp_path)
    assert model.seen == 1 + 2 * 40


def test_processes_share_the_shards(model, tmp_path):
    whole = cached(tmp_path / "whole").manifest
    model.seen, shared = 0, tmp_path / "shared"
    for number in (2, 3, 1):
        cache_latents(dataset(), Path("vae"), shared, how=Caching(share=(number, 3)))
        assert not (shared / "manifest.json").exists()
    assert model.seen == 3 + 2 * 40
    assert cached(shared).manifest == whole
    assert model.seen == 4 + 2 * 40
    assert files_of(shared) == files_of(tmp_path / "whole")


def test_the_first_of_several_waits_for_the_others(model, tmp_path, monkeypatch):
    whole = cached(tmp_path / "whole").manifest
    looks = []

    def look(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            cache_latents(dataset(), Path("vae"), tmp_path / "both", how=Caching(share=(2, 2)))

    monkeypatch.setattr(caching.time, "sleep", look)
    cached(tmp_path / "both", share=(1, 2), finish=True)
    assert looks == [caching.LOOK_SECONDS] * 2
    assert files_of(tmp_path / "both") == files_of(tmp_path / "whole")
    assert read_json(tmp_path / "both/manifest.json") == whole


@pytest.mark.parametrize(("rank", "first"), [(0, True), (2, False)])
def test_a_process_of_torchrun_makes_its_share(monkeypatch, rank, first):
    made = []
    monkeypatch.setattr(caching, "cache_latents", lambda *arguments: made.append(arguments[-1]))
    monkeypatch.setattr(ImageDataset, "open", lambda path: None)
    monkeypatch.setattr(commands, "end_with", lambda process: None)
    monkeypatch.setattr(commands, "use_threads", lambda count: made.append(count))
    for name, value in ((LAUNCHER, 1), ("RANK", rank), ("WORLD_SIZE", 3), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))
    options = ["--data", "x", "--autoencoder", "x", "--out", "x", "--dtype", "float16"]
    assert main(["cache-latents", *options, "--threads", "6"]) == 0
    assert made == [2, Caching(dtype="float16", share=(rank + 1, 3), finish=first)]


def test_all_and_a_share_are_not_made_at_once(model, tmp_path):
    with exclusive(tmp_path / "encoding/share-1-of-2"), pytest.raises(Busy, match="share-1-of-2"):
        cached(tmp_path)
    with exclusive(tmp_path / "encoding"), pytest.raises(Busy, match="makes all that is missing"):
        cached(tmp_path, share=(1, 2))


def test_captions_are_encoded_in_pieces_too(model, tmp_path, monkeypatch):
    noise = dataset(captions=captions())
    cache_latents(noise, Path("vae"), tmp_path / "one", WORDS)
    monkeypatch.setattr(caching, "SHARD_BYTES", 30 * 8 * 8 * 2)
    how = Caching(tokens_dtype="float16")
    cache_latents(noise, Path("vae"), tmp_path / "more", WORDS, how)
    one, more = (LatentDataset.open(tmp_path / f"{name}/manifest.json") for name in ("one", "more"))
    assert (tmp_path / "one/tokens.npy").exists()
    assert sorted(path.name for path in (tmp_path / "more").glob("tokens*")) == [
        "tokens-00000.npy", "tokens-00001.npy", "tokens-00002.npy",
    ]  # fmt: skip
    assert len(one.tokens) == len(more.tokens) == one.first[-1] + 1
    np.testing.assert_allclose(more.tokens[:], one.tokens[:], atol=2e-3)
    assert more.null_tokens.dtype == np.float32
    assert more.manifest["text_encoder"]["settings"] == WORDS.plain()
    assert more.manifest["tokens_dtype"] == "float16"


def test_a_part_of_a_batch_is_what_the_whole_one_has_there(model, tmp_path):
    cache_latents(dataset(captions=captions()), Path("vae"), tmp_path, WORDS)
    data, rows = LatentDataset.open(tmp_path / "manifest.json"), np.array([39, 0, 7, 6, 21, 13])
    inputs = type("Inputs", (), {"label_dropout": 0.3, "num_classes": 3})
    whole = generator(0)
    expected = data.sample(rows, whole), data.conditions(rows, whole, inputs)
    for part in (slice(0, 2), slice(2, 5), slice(5, 6)):
        draws = generator(0)
        own = data.sample(rows, draws, part), data.conditions(rows, draws, inputs, part)
        for values, all_values in zip(own, expected, strict=True):
            assert np.array_equal(values, all_values[part])
        assert draws.bit_generator.state["state"]["counter"].tolist() == (
            whole.bit_generator.state["state"]["counter"].tolist()
        )


def test_images_without_captions_have_no_tokens(model, tmp_path):
    with pytest.raises(Refusal, match="--text-encoder: given, but the images of noise have no"):
        cache_latents(dataset(), Path("vae"), tmp_path, WORDS)


def test_too_little_disk_is_refused_before_anything_is_encoded(model, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(Refusal, match=r"GiB are needed, 0\.0 GiB are free"):
        cached(tmp_path)
    assert model.seen == 1


def test_latents_of_another_autoencoder_are_refused(model, tmp_path):
    latents = tmp_path / "latents/noise--vae"
    cached(latents)
    record = {"settings": {}, "scale_factor": 1.0, "test_psnr_db": 0.0, "dataset_hash": ""}
    record |= {"schema_version": 2, "provenance": {}, "weights_sha256": Weights.weights_sha256}
    place = tmp_path / "autoencoders/vae/record.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(record))
    assert len(LatentDataset.open(latents / "manifest.json")) == 40
    place.write_text(json.dumps(record | {"weights_sha256": "ef" * 32}))
    with pytest.raises(Refusal, match=r"latents of autoencoder weights abababababab, .* efefefef"):
        LatentDataset.open(latents / "manifest.json")


def test_captions_of_another_text_encoder_are_refused(tmp_path):
    """Of one of others, whose weights lie in a folder."""
    folder = tmp_path / "clip"
    folder.mkdir()
    told = {"source": "x", "licence": "x", "files": {}}
    record = {"settings": {}, "fetched": told, "weights_sha256": "01" * 32}
    record |= {"schema_version": 2, "provenance": {}}
    (folder / "record.json").write_text(json.dumps(record))
    manifest = {"text_encoder": {"settings": {"folder": str(folder)}, "weights_sha256": "01" * 32}}
    _check_networks(tmp_path / "latents/manifest.json", manifest)
    manifest["text_encoder"]["weights_sha256"] = "23" * 32
    with pytest.raises(Refusal, match="captions of text encoder weights 232323232323, "):
        _check_networks(tmp_path / "latents/manifest.json", manifest)


def test_shards_that_do_not_belong_together_are_refused(model, tmp_path):
    cached(tmp_path)
    manifest = read_json(tmp_path / "manifest.json")
    del manifest["sizes"]
    for array, message in (
        (np.zeros((7, 2, 2, 3, 2, 2), np.float32), "shard-00003.npy: float32 .* accepted: one"),
        (None, "shard-00003.npy: not readable as an array"),
    ):
        path = tmp_path / "shard-00003.npy"
        path.write_bytes(b"no array") if array is None else np.save(path, array)
        manifest["files"]["shard-00003.npy"] = caching.hash_file(path)
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(Refusal, match=message):
            LatentDataset.open(tmp_path / "manifest.json")


@pytest.mark.parametrize("share", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_share_is_one_of_several(share, capsys):
    with pytest.raises(SystemExit):
        main(["cache-latents", "--data", "x", "--autoencoder", "x", "--out", "x", "--share", share])
    assert "--share" in capsys.readouterr().err
