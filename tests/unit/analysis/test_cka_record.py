"""CKA of a trained network: what is compared, its record, and models that cannot be measured."""

import json

import numpy as np
import pytest
import torch

from dtr.analysis import cka
from dtr.analysis.cka import (
    block_representations,
    cka_timesteps,
    linear_cka,
    measure_cka,
)
from dtr.backbones.build import build_backbone
from dtr.backbones.saved import load_model
from dtr.cli import main
from dtr.config.stages import DiffusionSettings, RunSettings
from dtr.data.latents import LatentDataset
from dtr.diffusion import Diffusion
from dtr.planning.places import MODEL
from dtr.records.schema import ModelRecord
from dtr.records.weights import write_weights
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, hash_json, read_json, write_json
from tests.unit.analysis.conftest import COUNT, gaussian


def settings(routing: dict, *, kind: str = "dit", **inputs) -> RunSettings:
    told = {"input_size": 4, "in_channels": 4, "num_classes": 10, "label_dropout": 0.1}
    value = {
        "seed": 3,
        "backbone": {"type": kind, "patch_size": 2, "width": 16, "depth": 2, "heads": 2},
        "inputs": told | inputs,
        "routing": routing,
        "weighting": {"type": "vanilla"},
        "timesteps": [0, 1000],
        "diffusion": {"schedule": "cosine"},
        "training": {
            "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 0, "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999], "ema_decay": 0.9, "label_dropout": 0.1,
        },
    }  # fmt: skip
    return RunSettings.model_validate_json(json.dumps(value))


DTR = {"type": "dtr", "beta": 0.8, "alpha": 4.0}
NONE = {"type": "none"}


def network(chosen: RunSettings, *, scale: float):
    """A network with random gates; `scale` 0 leaves it untrained."""
    torch.manual_seed(0)
    model = build_backbone(chosen.backbone, chosen.inputs, chosen.routing).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn_like(parameter)
    return model


def write_model(folder, chosen=None, *, scale=0.1, change=lambda model: None, **record):
    chosen = chosen or settings(DTR)
    model = network(chosen, scale=scale)
    change(model)
    known = {
        "run": "toy",
        "seed": chosen.seed,
        "step": 7,
        "reached_step": 7,
        "status": "ok",
        "fingerprint": None,
        "dataset_hash": None,
        "settings": chosen.plain(),
        "parameters": 1,
        "provenance": {},
    }
    write_weights(folder, MODEL, model.state_dict(), ModelRecord, **(known | record))
    return folder


@pytest.fixture
def latents(tmp_path):
    """A few random "latents" in the format of the cache."""
    folder = tmp_path / "latents"
    folder.mkdir()
    np.save(folder / "labels.npy", np.arange(COUNT) % 10)
    draws = np.random.default_rng(0)
    moments = draws.standard_normal((COUNT, 1, 2, 4, 4, 4), dtype=np.float32)
    moments[:, :, 1] = -20  # log-variance: what is sampled is the mean
    np.save(folder / "shard-00000.npy", moments)
    files = {name: hash_file(folder / name) for name in ("labels.npy", "shard-00000.npy")}
    manifest = {"dataset": "toy", "count": COUNT, "mirrors": 1, "shape": [4, 4, 4]}
    write_json(
        folder / "manifest.json",
        manifest | {"scale_factor": 1.0, "files": files, "content_hash": hash_json(files)},
    )
    return folder / "manifest.json"


@pytest.mark.parametrize("routing", [NONE, DTR], ids=["none", "dtr"])
def test_representations_are_the_blocks_own_outputs(routing):
    """Block by block by hand, with the complement of Eq. 8, on the same images and noise."""
    model = network(settings(routing), scale=0.1)
    diffusion = Diffusion.from_settings(DiffusionSettings())
    x0, noise = gaussian(2, 5, 4, 4, 4).float()
    y = torch.arange(5)
    timesteps = [0, 520, 999]
    ours = block_representations(model, diffusion, x0, noise, y, timesteps)
    assert ours.shape == (2, 3, 5, 16)
    assert not any(block._forward_hooks for block in model.blocks)
    for column, timestep in enumerate(timesteps):
        t = torch.full((5,), timestep)
        x_t = diffusion.add_noise(x0, t, noise)
        z, c = model.x_embedder(x_t) + model.pos_embed, model.t_embedder(t) + model.y_embedder(y)
        mask = None if routing is NONE else model.routing.table[0, timestep].float()
        for block, own in zip(model.blocks, ours, strict=True):
            visible = z if mask is None else z * mask
            z = block(visible, c, None) + (z - visible)
            torch.testing.assert_close(own[column], z.mean(1), rtol=1e-4, atol=1e-5)


def test_record(latents, tmp_path):
    model = write_model(tmp_path / "model")
    command = ["cka", "--model", str(model), "--data", str(latents), "--images", "32"]
    out = tmp_path / "cka.json"
    assert main([*command, "--batch-size", "16", "--seed", "5", "--out", str(out)]) == 0
    record = read_json(out)
    told = ("run", "seed", "step", "n", "batch_size", "data_seed", "status")
    assert [record[key] for key in told] == ["toy", 3, 7, 32, 16, 5, "ok"]
    assert record["timesteps"] == cka_timesteps()
    assert "unbiased: HSIC_1" in record["estimator"]
    assert record["provenance"]["threads"] == 1
    assert len(record["blocks"]) == 2
    for block in record["blocks"]:
        for name in ("unbiased", "biased"):
            matrix = np.array(block[name])
            assert matrix.shape == (21, 21)
            np.testing.assert_allclose(matrix, matrix.T)
            np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-6)
        assert matrix.min() < 0.95
        neighbours = np.diag(np.array(block["unbiased"]), 1)
        assert neighbours.mean() > block["unbiased"][0][-1]


def test_record_is_the_definition_on_the_drawn_images(latents, tmp_path, monkeypatch):
    """Different images, each with its own label (none dropped), one noise for all timesteps."""
    drawn = []

    def spy(model, diffusion, x0, noise, y, timesteps):
        drawn.append((x0, noise, y))
        return block_representations(model, diffusion, x0, noise, y, timesteps)

    monkeypatch.setattr(cka, "block_representations", spy)
    folder = write_model(tmp_path / "model", settings(DTR, label_dropout=0.5))
    measure_cka(folder, latents, tmp_path / "cka.json", n=32, batch_size=32)
    ((x0, noise, y),) = drawn
    means = torch.from_numpy(np.load(latents.parent / "shard-00000.npy")[:, 0, 0])
    rows = torch.cdist(x0.flatten(1), means.flatten(1)).argmin(1)
    torch.testing.assert_close(x0, means[rows], rtol=0, atol=1e-3)
    assert len(set(rows.tolist())) == 32
    assert torch.equal(y, rows % 10)
    diffusion = Diffusion.from_settings(DiffusionSettings())
    model = load_model(folder)[0]
    blocks = block_representations(model, diffusion, x0, noise, y, [0, 52, 999])
    record = read_json(tmp_path / "cka.json")
    for features, block in zip(blocks, record["blocks"], strict=True):
        expected = linear_cka(features[1], features[2])
        assert block["unbiased"][1][20] == pytest.approx(expected, rel=1e-4)
        assert block["biased"][0][1] == pytest.approx(
            linear_cka(features[0], features[1], unbiased=False), rel=1e-4
        )


def test_batches_of_any_size_compare_the_same_images(latents, tmp_path, monkeypatch):
    chosen = []
    sample = LatentDataset.sample
    monkeypatch.setattr(
        LatentDataset, "sample", lambda *args: chosen.append(sample(*args)) or chosen[-1]
    )
    model = write_model(tmp_path / "model")
    for batch_size, seed in ((8, 0), (32, 0), (32, 1)):
        measure_cka(model, latents, tmp_path / "o.json", n=32, batch_size=batch_size, seed=seed)
    assert np.array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])


def test_an_untrained_model_passes_its_input_through(latents, tmp_path):
    """Zero gates: every block has the same representation, so the same matrix."""
    model = write_model(tmp_path / "model", scale=0.0)
    measure_cka(model, latents, tmp_path / "cka.json", n=32, batch_size=16)
    first, second = read_json(tmp_path / "cka.json")["blocks"]
    np.testing.assert_allclose(first["unbiased"], second["unbiased"], atol=1e-4)


def test_constant_activations_are_null(latents, tmp_path):
    def blind(model):
        model.x_embedder.proj.weight.data.zero_()

    unconditional = settings(DTR, num_classes=1, label_dropout=0.0)
    model = write_model(tmp_path / "model", unconditional, change=blind)
    measure_cka(model, latents, tmp_path / "cka.json", n=32, batch_size=16)
    record = read_json(tmp_path / "cka.json")
    assert record["status"] == "ok"
    for block in record["blocks"]:
        assert block["unbiased"] == block["biased"] == [[None] * 21] * 21


def test_a_diverged_run_has_a_record_without_blocks(latents, tmp_path):
    model = write_model(tmp_path / "model", status="diverged", reason="loss not finite")
    measure_cka(model, latents, tmp_path / "cka.json", n=32, batch_size=16)
    record = read_json(tmp_path / "cka.json")
    assert (record["status"], record["reason"]) == ("diverged", "loss not finite")
    assert record["blocks"] == []


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (COUNT + 8, 8, "images = 48: the data has 40"),
        (36, 8, "images = 36: not a positive multiple of batch_size = 8"),
        (0, 8, "images = 0: not a positive multiple"),
        (9, 3, "batch_size = 3: HSIC_1 needs at least 4"),
    ],
)
def test_numbers_that_cannot_be_used(images, batch_size, message, latents, tmp_path):
    model = write_model(tmp_path / "model")
    with pytest.raises(Refusal, match=message):
        measure_cka(model, latents, tmp_path / "o.json", n=images, batch_size=batch_size)
    assert not (tmp_path / "o.json").exists()


TEXT = {"kind": "dit_text", "num_classes": 1, "text_tokens": 3, "text_width": 8}


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (TEXT, "backbone 'dit_text': CKA is measured of 'dit' only"),
        ({"input_size": 8}, r"data of shape \(4, 4, 4\): the model takes \(4, 8, 8\)"),
        ({"num_classes": 5}, "data with label 9: the model knows 5 classes"),
    ],
)
def test_models_that_cannot_be_measured(backbone, message, latents, tmp_path):
    model = write_model(tmp_path / "model", settings(DTR, **backbone))
    with pytest.raises(Refusal, match=message):
        measure_cka(model, latents, tmp_path / "o.json", n=32, batch_size=8)
    assert not (tmp_path / "o.json").exists()


def test_one_model_is_measured(tmp_path, capsys):
    command = ["cka", "--data", "d", "--out", str(tmp_path / "o.json")]
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == main([*command, "--model", "a", "b"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "dtr cka: the following arguments are required: --model",
        "dtr cka: --model: 2 folders",
    ]
