"""Checkpoints of the released code as trained models of ours, and what is refused of them."""

import argparse
import ast
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from dtr.assets.autoencoder import small_kl
from dtr.backbones.build import build_backbone
from dtr.backbones.saved import load_model
from dtr.cli import main
from dtr.config.resolve import run_settings
from dtr.config.stages import Protocol, RunSettings
from dtr.interop.checkpoints import import_checkpoint
from dtr.planning.evaluations import protocol
from dtr.planning.places import ASSET
from dtr.planning.runs import find_run
from dtr.records.schema import AutoencoderRecord, ModelRecord, read_record
from dtr.records.weights import write_weights
from dtr.routing import dtr_masks, hash_masks
from dtr.sampling.shards import write_samples
from dtr.support.errors import Refusal
from dtr.support.files import canonical_json, hash_file

FIXTURES = Path(__file__).parents[2] / "parity/fixtures"
ROUTINGS = {
    "none": {"type": "none"},
    "dtr": {"type": "dtr", "beta": 0.8, "alpha": 4.0},
    "random": {"type": "random", "beta": 0.8, "seed": 0},
}
WIDTH = 48  # of the DiT fixtures, which have two blocks


def settings_of(network: dict, routing: dict) -> RunSettings:
    """network: backbone and inputs."""
    value = {
        "seed": 3,
        **network,
        "routing": routing,
        "weighting": {"type": "vanilla"},
        "timesteps": [0, 1000],
        "diffusion": {"schedule": "cosine", "num_timesteps": 1000},
        "training": {
            "batch_size": 8, "learning_rate": 1e-4, "warmup_steps": 0, "weight_decay": 0.0,
            "adam_betas": [0.9, 0.999], "ema_decay": 0.9999, "label_dropout": 0.1,
        },
    }  # fmt: skip
    return RunSettings.model_validate_json(json.dumps(value))


def released(name: str) -> tuple[dict, RunSettings, dict]:
    """Parameters and masks as the released code stores them, settings, inputs and output."""
    with safe_open(FIXTURES / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    state = {key[6:]: value for key, value in tensors.items() if key.startswith("state.")}
    classes = int(metadata["num_classes"])
    if name.startswith("adm"):
        numbers = ("model_channels", "num_res_blocks", "num_head_channels")
        backbone = {key: int(metadata[key]) for key in numbers} | {
            "type": "adm",
            "channel_mult": list(ast.literal_eval(metadata["channel_mult"])),
            "attention_downsampling": list(ast.literal_eval(metadata["attention_downsampling"])),
            "dropout": 0.1,
        }
        inputs = {"input_size": int(metadata["image_size"]), "in_channels": 3}
        dropout = 0.0
    else:
        backbone = {key: int(metadata[key]) for key in ("patch_size", "depth")} | {
            "type": "dit",
            "width": int(metadata["hidden"]),
            "heads": int(metadata["heads"]),
        }
        inputs = {"input_size": int(metadata["input_size"]), "in_channels": 4}
        dropout = 0.1 if classes > 1 else 0.0
    inputs |= {"num_classes": classes, "label_dropout": dropout}
    network = {"backbone": backbone, "inputs": inputs}
    if metadata["routing"] == "dtr":
        masks = torch.from_numpy(dtr_masks(1000, WIDTH, beta=0.8, alpha=4.0))
        tensors["masks"] = masks.expand(2, -1, -1)
    if "masks" in tensors:
        state |= with_masks(tensors["masks"])
    return state, settings_of(network, ROUTINGS[metadata["routing"]]), tensors


def network_of(settings: RunSettings) -> dict:
    """Backbone and inputs of settings, to make others of them."""
    return {"backbone": settings.backbone.plain(), "inputs": settings.inputs.plain()}


def with_masks(masks: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"blocks.{i}.routing._unit_mapping": mask.float() for i, mask in enumerate(masks)}


def imported(content, settings: RunSettings, folder: Path, **options):
    source = folder / "0400000.pt"
    torch.save(content, source)
    import_checkpoint(source, settings, folder / "out", run="a-run", **options)
    return load_model(folder / "out")[0]


def refused(content, settings: RunSettings, folder: Path, **options) -> str:
    with pytest.raises(Refusal) as refusal:
        imported(content, settings, folder, **options)
    assert not (folder / "out").exists()
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        "dit_class_none",
        "dit_class_dtr",
        "dit_class_random",
        "dit_uncond_dtr",
        "adm_class_none",
    ],
)
@torch.inference_mode()
def test_an_imported_model_gives_the_output_of_the_released_one(name, tmp_path):
    state, settings, tensors = released(name)
    order = {"attention_order": "new"} if name.startswith("adm") else {}
    model = imported(state, settings, tmp_path, **order)
    out = model(tensors["x"], tensors["t"], tensors["y"])
    assert (out - tensors["out"]).abs().max() <= 1e-4 * tensors["out"].abs().max()


def test_weights_and_masks_are_taken_over_bit_by_bit(tmp_path):
    state, settings, tensors = released("dit_class_random")
    model = imported(state, settings, tmp_path)
    stored = model.state_dict()
    assert torch.equal(stored.pop("routing.table"), tensors["masks"].bool())
    assert stored.keys() == {name for name in state if "_unit_mapping" not in name}
    assert all(torch.equal(stored[name], state[name]) for name in stored)
    own = build_backbone(settings.backbone, settings.inputs, settings.routing).routing
    assert not torch.equal(model.routing.table, own.table)


def test_dtr_masks_become_one_shared_table(tmp_path):
    state, settings, _ = released("dit_class_dtr")
    assert imported(state, settings, tmp_path).routing.table.shape == (1, 1000, WIDTH)


def test_the_record_says_where_the_weights_are_from(tmp_path):
    state, settings, _ = released("dit_class_random")
    model = imported({"ema": state}, settings, tmp_path)
    record = json.loads((tmp_path / "out/train.json").read_text())
    assert read_record(ModelRecord, tmp_path / "out/train.json").status == "ok"
    assert (record["run"], record["seed"], record["step"]) == ("a-run", 3, 400_000)
    assert record["settings"] == settings.plain()
    assert record["history"] == []
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert record["parts"] == {"routing": hash_masks(model.routing.table.numpy())}
    source = tmp_path / "0400000.pt"
    expected = {"file": "0400000.pt", "sha256": hash_file(source), "part": "ema"}
    assert record["imported_from"] == expected


def test_no_code_of_a_training_configuration_is_run(tmp_path, monkeypatch):
    """The release stores an OmegaConf configuration, which need not be installed here."""

    class Content:
        def __init__(self, **content):
            self.__dict__.update(content)

        def __setstate__(self, _state):
            raise AssertionError("built")

    for module, name in [("dictconfig", "DictConfig"), ("base", "ContainerMetadata")]:
        kind = type(name, (Content,), {"__module__": f"omegaconf.{module}"})
        monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        stored = types.ModuleType(f"omegaconf.{module}")
        setattr(stored, name, kind)
        monkeypatch.setitem(sys.modules, f"omegaconf.{module}", stored)
    from omegaconf.base import ContainerMetadata
    from omegaconf.dictconfig import DictConfig

    state, settings, _ = released("dit_class_none")
    told = DictConfig(_content={"lr": 1e-4}, _metadata=ContainerMetadata(element_type=dict))
    options = argparse.Namespace(model="DiT-XL/2", data_path=None)
    content = {"ema": state, "opt": {"state": {}}, "config": told, "args": options}
    allowed = set(torch.serialization.get_safe_globals())
    imported(content, settings, tmp_path)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_ema_is_preferred_to_model(tmp_path):
    state, settings, _ = released("dit_class_none")
    other = {name: value + 1 for name, value in state.items()}
    model = imported({"model": other, "ema": state, "opt": {}}, settings, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_model_is_read_where_there_is_no_ema(tmp_path):
    state, settings, _ = released("dit_class_none")
    model = imported({"model": state}, settings, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])
    assert json.loads((tmp_path / "out/train.json").read_text())["imported_from"]["part"] == "model"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_stripped(prefix, tmp_path):
    state, settings, _ = released("dit_class_dtr")
    model = imported({prefix + name: v for name, v in state.items()}, settings, tmp_path)
    assert torch.equal(model.pos_embed, state["pos_embed"])


def test_half_precision_becomes_float32(tmp_path):
    state, settings, _ = released("adm_class_none")
    half = {name: value.half() for name, value in state.items()}
    model = imported(half, settings, tmp_path, attention_order="new")
    weight = model.time_embed[0].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["time_embed.0.weight"].half().float())


def test_the_older_file_format_and_shared_storage_are_read(tmp_path):
    state, settings, _ = released("dit_uncond_dtr")
    state["blocks.1.mlp.fc2.bias"] = state["blocks.0.mlp.fc2.bias"]
    source = tmp_path / "0000050.pt"
    torch.save(state, source, _use_new_zipfile_serialization=False)
    import_checkpoint(source, settings, tmp_path / "out", run="a-run")
    blocks = load_model(tmp_path / "out")[0].blocks
    assert torch.equal(blocks[1].mlp.fc2.bias, state["blocks.0.mlp.fc2.bias"])


def test_masks_of_ones_are_no_routing(tmp_path):
    state, settings, _ = released("dit_class_none")
    model = imported(state | with_masks(torch.ones(2, 1000, WIDTH)), settings, tmp_path)
    assert model.routing is None


def test_ones_are_random_masks_of_all_channels(tmp_path):
    state, settings, _ = released("dit_class_none")
    settings = settings_of(network_of(settings), {"type": "random", "beta": 1.0, "seed": 0})
    model = imported(state | with_masks(torch.ones(2, 1000, WIDTH)), settings, tmp_path)
    assert model.routing.table.all()


def routed(settings: RunSettings, **routing) -> RunSettings:
    return settings_of(network_of(settings), routing)


def test_masks_that_do_not_fit_the_routing(tmp_path):
    state, settings, _ = released("dit_class_dtr")
    other = routed(settings, type="dtr", beta=0.8, alpha=2.0)
    ours = dtr_masks(1000, WIDTH, beta=0.8, alpha=2.0)
    differing = 2 * int((ours != dtr_masks(1000, WIDTH, beta=0.8, alpha=4.0)).sum())
    message = refused(state, other, tmp_path)
    assert f"{differing} of 96000 entries" in message
    assert "'dtr' with beta 0.8, alpha 2.0" in message
    assert "79.2% of the channels active" in refused(state, routed(settings, type="none"), tmp_path)
    random = ROUTINGS["random"]
    assert "all blocks have the same" in refused(state, routed(settings, **random), tmp_path)
    assert "19 of 48 channels" in refused(
        state, routed(settings, **random | {"beta": 0.4}), tmp_path
    )
    roaming = routed(settings, type="max_roaming", beta=0.8, period=5, seed=0)
    assert "cannot be imported" in refused(state, roaming, tmp_path)


def test_one_layer_with_other_masks_is_seen(tmp_path):
    state, settings, _ = released("dit_class_dtr")
    masks = state["blocks.1.routing._unit_mapping"].clone()
    masks[500] = 1.0
    state["blocks.1.routing._unit_mapping"] = masks
    assert "10 of 96000 entries" in refused(state, settings, tmp_path)  # 48 - int(0.8 * 48)


@pytest.mark.parametrize("routing", ["dtr", "random"])
def test_a_plain_dit_is_no_routed_one(routing, tmp_path):
    state, settings, _ = released("dit_class_none")
    message = refused(state, routed(settings, **ROUTINGS[routing]), tmp_path)
    assert f"holds no routing masks; they are needed for routing '{routing}'" in message


def test_masks_are_zeros_and_ones(tmp_path):
    state, settings, _ = released("dit_class_random")
    state["blocks.0.routing._unit_mapping"] = state["blocks.0.routing._unit_mapping"] * 0.5
    assert "other than 0 and 1" in refused(state, settings, tmp_path)


def test_everything_that_does_not_fit_is_in_one_line(tmp_path):
    state, settings, _ = released("dit_class_random")
    for name in [name for name in state if name.startswith("blocks.1.")]:
        del state[name]
    state["extra\nname"] = torch.zeros(1)
    state["pos_embed"] = torch.zeros(1, 4, WIDTH)
    message = refused(state, settings, tmp_path)
    assert (
        "11 missing (blocks.1.attn.qkv.weight, blocks.1.attn.qkv.bias, blocks.1.attn.proj.weight,"
        " 8 more); 1 unexpected (extra name); 1 of another shape"
        " (pos_embed [1, 4, 48] instead of [1, 16, 48])"
    ) in message


def test_official_adm_has_no_null_class(tmp_path):
    state, settings, _ = released("adm_class_none")
    inputs = settings.inputs.plain() | {"label_dropout": 0.1}
    network = network_of(settings) | {"inputs": inputs}
    new = {"attention_order": "new"}
    message = refused(state, settings_of(network, ROUTINGS["none"]), tmp_path, **new)
    assert "label_emb.weight [10, 128] instead of [11, 128]: it has no row for 'no label'" in (
        message
    )
    assert "label_dropout 0" in message
    assert "no routing masks" in refused(
        state, settings_of(network_of(settings), ROUTINGS["dtr"]), tmp_path, **new
    )


def legacy_rows(state: dict, settings: RunSettings) -> dict:
    """The same network as made with use_new_attention_order=False: rows of qkv heads first."""
    changed = dict(state)
    for name, value in state.items():
        if ".qkv." in name:
            heads = len(value) // 3 // settings.backbone.num_head_channels
            changed[name] = value.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
    return changed


@torch.inference_mode()
def test_adm_of_the_legacy_order_gives_its_own_output(tmp_path):
    state, settings, tensors = released("adm_class_none")
    legacy, out = legacy_rows(state, settings), tensors["out"]
    inputs = (tensors["x"], tensors["t"], tensors["y"])
    error = {}
    for order in ("new", "legacy"):
        (tmp_path / order).mkdir()
        model = imported(legacy, settings, tmp_path / order, attention_order=order)
        error[order] = (model(*inputs) - out).abs().max() / out.abs().max()
    assert error["legacy"] <= 1e-4 < 1e-3 < error["new"]
    record = json.loads((tmp_path / "legacy/out/train.json").read_text())
    assert record["settings"]["backbone"]["attention_order"] == "heads_first"


def test_the_order_of_adms_attention_is_asked_for(tmp_path):
    state, settings, _ = released("adm_class_none")
    message = refused(state, settings, tmp_path)
    assert "--attention-order: needed" in message
    assert "accepted: new (made with use_new_attention_order=True" in message
    told = settings.backbone.plain() | {"attention_order": "heads_first"}
    told = settings_of(network_of(settings) | {"backbone": told}, ROUTINGS["none"])
    message = refused(state, told, tmp_path, attention_order="new")
    assert "--attention-order says 'qkv_first', --settings says 'heads_first'" in message
    stored = {"model": state, "args": {"use_new_attention_order": True}}
    assert "--settings says 'heads_first'" in refused(stored, told, tmp_path)
    imported(state, told, tmp_path)
    state, settings, _ = released("dit_class_none")
    (tmp_path / "dit").mkdir()
    message = refused(state, settings, tmp_path / "dit", attention_order="new")
    assert "of ADM only, not of 'dit'" in message


@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_the_order_is_taken_from_a_stored_configuration(kind, tmp_path):
    state, settings, _ = released("adm_class_none")
    stored = {"ema": state, "args": kind(use_new_attention_order=False, lr=1e-4)}
    imported(stored, settings, tmp_path)
    record = json.loads((tmp_path / "out/train.json").read_text())
    assert record["settings"]["backbone"]["attention_order"] == "heads_first"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"pos_embed": state["pos_embed"].double()}, "is of torch.float64"),
        (lambda state: {"pos_embed": state["pos_embed"] / 0}, "not finite"),
        (lambda state: {"pos_embed": state["pos_embed"].to_sparse()}, "'pos_embed' is no tensor"),
        (lambda state: {"pos_embed": 5}, "'pos_embed' is no tensor; the network has one"),
        (lambda state: {"module.pos_embed": state["pos_embed"]}, "'pos_embed' twice"),
        (lambda state: {5: state["pos_embed"]}, "5 is no name"),
        (lambda state: {"extra": state["pos_embed"]}, "1 unexpected (extra)"),
    ],
)
def test_values_that_are_no_weights(change, message, tmp_path):
    state, settings, _ = released("dit_class_none")
    assert message in refused(state | change(state), settings, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({}, "holds no tensors"),
        ({"ema": {}}, "ema: holds no tensors"),
        ({"state_dict": {}}, "holds no tensors (found: state_dict)"),
        ({"ema": {}, "args": Path("x")}, "holds a pickled object of pathlib"),
        ({"ema": {}, "do": print}, "holds a pickled object of print"),
    ],
)
def test_files_that_hold_something_else(content, message, tmp_path):
    _, settings, _ = released("dit_class_none")
    assert message in refused(content, settings, tmp_path)


def test_an_object_that_would_run_a_command(tmp_path):
    class Evil:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    _, settings, _ = released("dit_class_none")
    assert "not a checkpoint" in refused({"ema": {}, "x": Evil()}, settings, tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "folder", "absent"])
def test_files_that_are_no_checkpoints(damage, tmp_path):
    state, settings, _ = released("dit_class_none")
    source = tmp_path / "0400000.pt"
    torch.save(state, source)
    whole = source.read_bytes()
    source.unlink()
    if damage == "folder":
        source.mkdir()
    elif damage != "absent":
        source.write_bytes({"text": b"hello\n", "empty": b"", "cut": whole[:-500]}[damage])
    with pytest.raises(Refusal) as refusal:
        import_checkpoint(source, settings, tmp_path / "out", run="a-run")
    assert len(str(refusal.value).splitlines()) == 1
    assert str(source) in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_the_step_is_in_the_file_name_or_has_to_be_told(tmp_path):
    state, settings, _ = released("dit_class_none")
    names = {"0400000.pt": 400_000, "ema_0.9999_540000.pt": 540_000}
    for number, (name, step) in enumerate(names.items()):
        torch.save(state, tmp_path / name)
        out = tmp_path / str(number)
        import_checkpoint(tmp_path / name, settings, out, run="a-run")
        assert json.loads((out / "train.json").read_text())["step"] == step
    source = tmp_path / "DiT-XL-2-256x256.pt"
    torch.save(state, source)
    with pytest.raises(Refusal, match="--step: needed"):
        import_checkpoint(source, settings, tmp_path / "out", run="a-run")
    import_checkpoint(source, settings, tmp_path / "out", run="a-run", step=7_000_000)
    for taken in (tmp_path / "out", source):
        with pytest.raises(Refusal, match="is a file or holds a model already"):
            import_checkpoint(source, settings, taken, run="a-run", step=7_000_000)
    with pytest.raises(Refusal, match="--step -1: accepted: 0 or more"):
        import_checkpoint(source, settings, tmp_path / "new", run="a-run", step=-1)


def test_what_is_no_weight_is_left_out_and_named(tmp_path, capsys):
    state, settings, _ = released("dit_class_dtr")
    content = {"ema": state | {"step": 3, "decay": 0.9}, "opt": {}, "epoch": 7}
    torch.save(content, tmp_path / "0400000.pt")
    arguments = ["--source", str(tmp_path / "0400000.pt"), "--run", "theirs"]
    arguments += ["--settings", canonical_json(settings.plain()), "--out", str(tmp_path / "out")]
    assert main(["import-checkpoint", *arguments]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("0400000.pt: not read: opt, epoch, step, decay")
    model = load_model(tmp_path / "out")[0]
    assert torch.equal(model.pos_embed, state["pos_embed"])
    torch.save(state, tmp_path / "0400001.pt")
    assert import_checkpoint(tmp_path / "0400001.pt", settings, tmp_path / "new", run="a") == []


@pytest.fixture
def digits_checkpoint(scale, tmp_path) -> Path:
    """A routed model of the digits scale as the released training script would save it."""
    settings = run_settings(scale, find_run(scale, "in256-l2-dtr-a4"), 0)
    model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    state = dict(model.named_parameters())
    state |= with_masks(model.routing.table.expand(len(model.blocks), -1, -1))
    source = tmp_path / "0001200.pt"
    torch.save({"model": state, "ema": state, "opt": {}, "args": argparse.Namespace(a=1)}, source)
    return source


def test_the_verb_imports_a_run_of_a_scale(digits_checkpoint, scale, root, tmp_path):
    out = tmp_path / "out"
    arguments = ["--source", str(digits_checkpoint), "--run", "in256-l2-dtr-a4", "--out", str(out)]
    file = str(root / "workflow/config/digits.yaml")
    assert main(["import-checkpoint", *arguments, "--scale", file, "--seed", "2"]) == 0
    record = json.loads((out / "train.json").read_text())
    assert (record["run"], record["seed"], record["step"]) == ("in256-l2-dtr-a4", 2, 1200)
    content = protocol(scale, "class_conditional").plain()
    content |= {"n_samples": 2, "sampling_steps": 2}
    decoder = tmp_path / content["autoencoder"]
    settings = scale.autoencoders[decoder.name]
    write_weights(
        decoder, ASSET, small_kl(settings).state_dict(), AutoencoderRecord,
        settings=settings.plain(), scale_factor=1.0, test_psnr_db=20.0, dataset_hash="data",
        provenance={},
    )  # fmt: skip
    samples = tmp_path / "shard.npz"
    write_samples(
        [out],
        Protocol.model_validate(content),
        samples,
        shard=0,
        shard_size=2,
        batch_size=2,
        device="cpu",
        autoencoder_folder=decoder,
    )
    assert np.load(samples)["arr_0"].shape == (2, 32, 32, 3)


def test_the_verb_imports_with_settings(digits_checkpoint, scale, tmp_path, capsys):
    settings = run_settings(scale, find_run(scale, "in256-l2-dtr-a4"), 4)
    out = tmp_path / "out"
    arguments = ["import-checkpoint", "--source", str(digits_checkpoint), "--run", "theirs"]
    arguments += ["--out", str(out), "--settings", canonical_json(settings.plain())]
    assert main([*arguments, "--seed", "5"]) == 2
    assert "--settings have seed 4" in capsys.readouterr().err
    assert main([*arguments, "--step", "9"]) == 0
    record = json.loads((out / "train.json").read_text())
    assert (record["run"], record["seed"], record["step"]) == ("theirs", 4, 9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--scale, --settings: one of them"),
        (["--settings", "{}", "--scale", "x.yaml"], "--scale, --settings: one of them"),
        (["--scale", "DIGITS", "--run", "in256-l2-none"], "of the channels active"),
        (["--scale", "DIGITS", "--run", "ffhq256-b2-none"], "does not fit the network"),
        (["--scale", "DIGITS", "--run", "nobody"], "run 'nobody': unknown"),
        (["--scale", "SOURCE"], "0001200.pt: line 1: not UTF-8 text"),
        (["--scale", "BROKEN"], "not readable as YAML"),
    ],
)
def test_what_the_verb_refuses(options, message, digits_checkpoint, root, tmp_path, capsys):
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2\n")
    places = {
        "DIGITS": str(root / "workflow/config/digits.yaml"),
        "SOURCE": str(digits_checkpoint),
        "BROKEN": str(broken),
    }
    options = [places.get(option, option) for option in options]
    arguments = ["import-checkpoint", "--source", str(digits_checkpoint)]
    arguments += ["--run", "in256-l2-dtr-a4", "--out", str(tmp_path / "out"), *options]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert message in error
    assert not (tmp_path / "out").exists()
