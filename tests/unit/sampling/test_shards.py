"""From model folders to a file of images: what is written, and what does not belong together."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dtr.assets.autoencoder import small_kl
from dtr.assets.text_encoder import build_text_encoder
from dtr.backbones.build import build_backbone
from dtr.cli import main
from dtr.config.stages import AutoencoderSettings, Protocol, RunSettings
from dtr.planning.places import ASSET, MODEL
from dtr.records.schema import AutoencoderRecord, ModelRecord
from dtr.records.weights import write_weights
from dtr.registry import settings_of
from dtr.sampling import shards
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, hash_file, hash_json, write_json
from dtr.support.settings import parse

INPUTS = {"input_size": 4, "in_channels": 4, "num_classes": 10, "label_dropout": 0.1}
LATENT = {
    "backbone": {"type": "dit", "patch_size": 2, "width": 16, "depth": 1, "heads": 2},
    "inputs": INPUTS,
}
PIXEL = {
    "backbone": {
        "type": "adm", "model_channels": 16, "channel_mult": [1, 2], "num_res_blocks": 1,
        "attention_downsampling": [2], "num_head_channels": 8, "dropout": 0.0, "norm_groups": 8,
    },
    "inputs": INPUTS | {"input_size": 8, "in_channels": 3},
}  # fmt: skip
TEXT = {
    "backbone": LATENT["backbone"] | {"type": "dit_text", "adaln_chunks": 9},
    "inputs": INPUTS | {"num_classes": 1, "text_tokens": 8, "text_width": 16},
}
ENCODER = {"type": "words", "tokens": 8, "width": 16, "seed": 0}


def write_run(folder, network: dict, **changes):
    value = {
        "seed": 0,
        **network,
        "routing": {"type": "none"},
        "weighting": {"type": "vanilla"},
        "timesteps": changes.pop("timesteps", [0, 1000]),
        "diffusion": {"schedule": "cosine", "num_timesteps": 1000},
        "training": {
            "batch_size": 8, "learning_rate": 1e-4, "warmup_steps": 0, "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999], "ema_decay": 0.9999, "label_dropout": 0.1,
        },
    }  # fmt: skip
    settings = RunSettings.model_validate_json(canonical_json(value))
    torch.manual_seed(0)
    model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    written = {
        "run": folder.name, "seed": 0, "step": 1, "reached_step": 1, "status": "ok",
        "fingerprint": None, "dataset_hash": None, "settings": settings.plain(), "parameters": 1,
        "provenance": {},
    }  # fmt: skip
    write_weights(folder, MODEL, model.state_dict(), ModelRecord, **written | changes)
    return folder


def write_autoencoder(folder, latent_channels: int = 4):
    settings = AutoencoderSettings(
        type="train", dataset="digits", patch_size=2, channels=[8], layers_per_block=1,
        latent_channels=latent_channels, norm_groups=8, steps=1, batch_size=1, learning_rate=1e-3,
        kl_weight=1e-4, seed=0,
    )  # fmt: skip
    write_weights(
        folder, ASSET, small_kl(settings).state_dict(), AutoencoderRecord,
        settings=settings.plain(), scale_factor=1.0, test_psnr_db=0.0, dataset_hash="",
        provenance={},
    )  # fmt: skip
    return folder


def write_dataset(folder, name: str, **columns):
    folder.mkdir()
    np.save(folder / "images.npy", np.zeros((2, 8, 8, 3), np.uint8))
    index = pd.DataFrame({"label": [0, 1], "split": ["test", "test"]} | columns)
    index.to_parquet(folder / "index.parquet")
    files = {file: hash_file(folder / file) for file in ("images.npy", "index.parquet")}
    manifest = {"dataset": name, "files": files, "content_hash": hash_json(files)}
    write_json(folder / "manifest.json", manifest)
    return folder / "manifest.json"


@pytest.fixture
def draw(tmp_path, capsys):
    """Runs `sample` with small settings; gives the exit status, the line it says and the file."""
    out = tmp_path / "out.npz"

    def run(model, *options, shard: int = 0, shard_size: int = 4, batch_size: int = 2, **protocol):
        values = {
            "dataset": "digits", "autoencoder": None, "extractor": "digits-cnn", "n_samples": 6,
            "guidance": 1.5, "guidance_channels": "all", "sampling_steps": 2, "x0_clamp": 1.0,
            "labels": "random", "seed": 0, "neighbours": 3, "kid_subset": 5, "inception_split": 10,
        }  # fmt: skip
        text = canonical_json(Protocol(**values | protocol).plain())
        models = [str(folder) for folder in (model if isinstance(model, list) else [model])]
        arguments = ["sample", "--model", *models, "--protocol", text, "--shard", str(shard)]
        arguments += ["--shard-size", str(shard_size), "--batch-size", str(batch_size)]
        try:
            status = main([*arguments, "--out", str(out), *map(str, options)])
        except SystemExit as ended:
            status = ended.code
        return status, capsys.readouterr().err, out

    return run


def refused(answer) -> str:
    status, error, out = answer
    assert status == 2
    assert not out.exists()
    (line,) = error.splitlines()
    return line


def test_pixels_and_decoded_latents(draw, tmp_path):
    pixels = write_run(tmp_path / "pixels", PIXEL)
    status, _, out = draw(pixels, shard=1)
    assert status == 0
    assert np.load(out)["arr_0"].shape == (2, 8, 8, 3)
    assert np.load(out)["seconds"].shape == () and 0 < np.load(out)["seconds"] < 600
    assert "rng" not in np.load(out)
    latents = write_run(tmp_path / "latents", LATENT)
    decoder = write_autoencoder(tmp_path / "toy-vae")
    options = ("--decoder", decoder, "--rng", "device")
    status, _, out = draw(latents, *options, autoencoder="toy-vae")
    assert status == 0
    assert str(np.load(out)["rng"]) == "device"
    assert np.load(out)["arr_0"].shape == (4, 8, 8, 3)


@pytest.mark.parametrize(
    ("portions", "message"),
    [
        ({"shard": -1}, "shard"),
        ({"shard": 2}, "--shard 2: n_samples = 6 makes shards 0 to 1"),
        ({"shard_size": 0}, "shard-size"),
        ({"batch_size": 0}, "batch-size"),
        ({"batch_size": -2}, "batch-size"),
    ],
)
def test_portions_of_the_work_that_are_none(portions, message, draw, tmp_path):
    assert message in refused(draw(write_run(tmp_path / "model", PIXEL), **portions))


def test_portions_are_refused_without_the_command_line_too(tmp_path):
    model = write_run(tmp_path / "model", PIXEL)
    values = {"shard": 0, "shard_size": 4, "batch_size": 2}
    for name, value in (("shard", -1), ("shard_size", 0), ("batch_size", 0)):
        option = f"--{name.replace('_', '-')} {value}"
        protocol = Protocol(
            dataset="digits", autoencoder=None, extractor="digits-cnn", n_samples=6, guidance=None,
            guidance_channels="all", sampling_steps=2, x0_clamp=1.0, labels="random", seed=0,
            neighbours=3, kid_subset=5, inception_split=10,
        )  # fmt: skip
        with pytest.raises(shards.Refusal, match=option):
            shards.write_samples(
                [model], protocol, tmp_path / "o.npz", device="cpu", **values | {name: value}
            )


def test_a_decoder_that_is_not_the_protocols(draw, tmp_path):
    model = write_run(tmp_path / "latents", LATENT, autoencoder_sha256="ab" * 32)
    decoder = write_autoencoder(tmp_path / "toy-vae")
    own = {"autoencoder": "toy-vae"}
    assert "--decoder: missing; the protocol names the autoencoder 'toy-vae'" in refused(
        draw(model, **own)
    )
    assert "makes 4 channels; accepted: the folder of an autoencoder" in refused(draw(model))
    assert "the protocol names no autoencoder; accepted: no decoder" in refused(
        draw(model, "--decoder", decoder)
    )
    other = write_autoencoder(tmp_path / "other-vae")
    assert "other-vae: the protocol names 'toy-vae'; accepted: a folder" in refused(
        draw(model, "--decoder", other, **own)
    )
    assert "was trained on latents of other weights" in refused(
        draw(model, "--decoder", decoder, **own)
    )
    wide = write_autoencoder(tmp_path / "wide" / "toy-vae", latent_channels=8)
    assert "takes 8 channels" in refused(draw(model, "--decoder", wide, **own))
    assert "no such file" in refused(draw(model, "--decoder", tmp_path / "no/toy-vae", **own))
    pixels = write_run(tmp_path / "pixels", PIXEL)
    assert "makes pixels; accepted: no decoder" in refused(
        draw(pixels, "--decoder", decoder, **own)
    )


def test_the_decoder_of_the_latents_is_accepted(draw, tmp_path):
    decoder = write_autoencoder(tmp_path / "toy-vae")
    weights = hash_file(decoder / "weights.safetensors")
    model = write_run(tmp_path / "latents", LATENT, autoencoder_sha256=weights)
    assert draw(model, "--decoder", decoder, autoencoder="toy-vae")[0] == 0


def test_captions_for_models_that_are_told_some_and_for_no_others(draw, tmp_path):
    decoder = write_autoencoder(tmp_path / "toy-vae")
    own = {"autoencoder": "toy-vae"}
    told = write_run(tmp_path / "told", TEXT)
    label = write_run(tmp_path / "label", LATENT)
    scenes = write_dataset(tmp_path / "scenes", "scenes")
    encoder = ("--text-encoder", canonical_json(ENCODER))
    prompts = ("--prompts", scenes)

    def line(model, *options, **protocol):
        return refused(draw(model, "--decoder", decoder, *options, **own | protocol))

    assert "--text-encoder: missing" in line(told, *prompts)
    assert "--prompts: missing" in line(told, *encoder)
    assert "--text-encoder: given, but" in line(label, *encoder)
    assert "--prompts: given, but" in line(label, *prompts)
    assert "text_encoder = None" in line(told, *encoder, *prompts)
    assert "text_encoder = 'words'" in line(label, text_encoder="words")
    named = {"text_encoder": "words"}
    assert "of the dataset 'scenes'; the protocol's is 'digits'" in line(
        told, *encoder, *prompts, **named
    )


@pytest.mark.parametrize(("seed", "rounded"), [(0, False), (0, True), (1, True)])
def test_the_text_encoder_is_that_of_the_training_up_to_half_precision(seed, rounded, tmp_path):
    encoder, trained = (
        build_text_encoder(parse(settings_of("text_encoder"), own, source="test"))
        for own in (ENCODER | {"seed": seed}, ENCODER)
    )
    tokens = torch.from_numpy(trained.encode([""])[0])
    model = SimpleNamespace(null_tokens=tokens.half().float() if rounded else tokens)
    if seed == 0:
        shards._check_encoder(model, encoder, tmp_path)
        return
    with pytest.raises(Refusal, match=f"not the one that {tmp_path} was trained with"):
        shards._check_encoder(model, encoder, tmp_path)


def test_experts_that_are_no_whole(draw, tmp_path):
    ranges = {"early": [0, 500], "late": [500, 1000], "gap": [600, 1000]}
    early, late, gap = (
        write_run(tmp_path / name, PIXEL, timesteps=own) for name, own in ranges.items()
    )
    assert draw([late, early])[0] == 0
    (tmp_path / "out.npz").unlink()
    for models, found in (([early], "[0, 500)"), ([early, gap], "[0, 500), [600, 1000)")):
        line = refused(draw(models))
        assert f"trained for timesteps {found}; accepted: models that cover each of" in line
    assert "trained for timesteps" in refused(draw([early, early, late]))
    wider = PIXEL | {"backbone": PIXEL["backbone"] | {"model_channels": 32}}
    other = write_run(tmp_path / "other", wider, timesteps=[500, 1000])
    assert "other: of another network or schedule" in refused(draw([early, other]))


def test_lost_images_are_said(draw, tmp_path, monkeypatch):
    def lose(*_args, count, shape, **_options):
        latents = torch.zeros(count, *shape)
        latents[1] = torch.nan
        return latents, np.zeros(count, np.int64)

    monkeypatch.setattr(shards, "sample_shard", lose)
    status, error, out = draw(write_run(tmp_path / "model", PIXEL))
    assert status == 0
    assert "out.npz: images that diverged: 1; the file cannot be measured" in error
    assert np.load(out)["lost"] == 1
