"""A planted defect in a large file is found: weights, data, latents, samples, checkpoints."""

import os
import pickle

import numpy as np
import pytest

from dtr.support.files import hash_file, hash_json, write_text
from tests.unit.sharing.planting import STEP, assert_found, edited


def change_weights(root):
    write_text(root / STEP / "ema.safetensors", "other weights")
    return "altered", f"{STEP}/ema.safetensors"


def lose_weights(root):
    (root / STEP / "ema.safetensors").unlink()
    return "missing", f"{STEP}/ema.safetensors"


def encode_other_data(root):
    """Latents of other images, or by another rule, after the models were trained."""
    folder = root / "latents/digits--digits-vae"
    write_text(folder / "shard-00000.npy", "other latents")
    files = {"shard-00000.npy": hash_file(folder / "shard-00000.npy")}
    content = hash_json([files, 1.0])
    edited(folder / "manifest.json", lambda one: one.update(files=files, content_hash=content))
    return "stale", f"{STEP}/train.json"


def cut_data(root):
    write_text(root / "data/digits/images.npy", "imag")
    return "altered", "data/digits/images.npy"


def change_data(root):
    write_text(root / "data/digits/images.npy", "others")
    return "altered", "data/digits/images.npy"


def change_a_manifest(root):
    name = "latents/digits--digits-vae/manifest.json"
    edited(root / name, lambda manifest: manifest.update(scale_factor=2.0))
    return "altered", name


def lead_out_of_the_folder(root):
    name = "data/digits/manifest.json"
    edited(root / name, lambda manifest: manifest["files"].update({"../../../secret": "0" * 64}))
    return "unsafe", name


def encode_anew(root):
    folder = root / "autoencoders/digits-vae"
    write_text(folder / "weights.safetensors", "another autoencoder")
    sha256 = hash_file(folder / "weights.safetensors")
    edited(folder / "record.json", lambda record: record.update(weights_sha256=sha256))
    return "stale", "latents/digits--digits-vae/manifest.json"


def sample_anew(root):
    shard = next((root / STEP / "samples").glob("*/shard-0.npz"))
    np.savez(shard, arr_0=np.zeros((500, 4, 4, 3), dtype=np.uint8))
    return "stale", f"{STEP}/features/{shard.parent.name}/shard-0.npz"


def lose_samples(root):
    shard = next((root / STEP / "samples").glob("*/shard-1.npz"))
    shard.unlink()
    return "missing", shard.parent.relative_to(root).as_posix()


def lose_features_of_images_that_were_not_kept(root):
    shard = next((root / STEP / "samples").glob("*/shard-1.npz"))
    np.savez(shard, arr_0=np.zeros((10, 4, 4, 3), dtype=np.uint8), drawn=np.array(500))
    features = root / STEP / "features" / shard.parent.name / shard.name
    features.unlink()
    return "missing", features.relative_to(root).as_posix()


class Harmful:
    """What a pickle can do: leave a file behind when it is loaded."""

    def __reduce__(self):
        return os.mkdir, ("was-run",)


def hide_a_pickle(root):
    shard = next((root / STEP / "samples").glob("*/shard-0.npz"))
    np.savez(shard, arr_0=np.array([Harmful()], dtype=object))
    return "broken", shard.relative_to(root).as_posix()


def hide_a_bomb(root):
    shard = next((root / STEP / "samples").glob("*/shard-0.npz"))
    np.savez_compressed(shard, arr_0=np.zeros((500, 64, 64, 3), dtype=np.uint8))
    return "unsafe", shard.relative_to(root).as_posix()


def change_a_checkpoint(root):
    (path,) = (root / "work").rglob("step-*.pt")
    path.write_bytes(pickle.dumps(Harmful()))
    return "altered", path.relative_to(root).as_posix()


DEFECTS = [
    change_weights,
    lose_weights,
    encode_other_data,
    cut_data,
    change_data,
    change_a_manifest,
    lead_out_of_the_folder,
    encode_anew,
    sample_anew,
    lose_samples,
    lose_features_of_images_that_were_not_kept,
    hide_a_pickle,
    hide_a_bomb,
    change_a_checkpoint,
]


@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(sound, tmp_path, monkeypatch, capsys, plant):
    monkeypatch.chdir(tmp_path)
    assert_found(sound, plant, capsys)
    assert not (tmp_path / "was-run").exists()
