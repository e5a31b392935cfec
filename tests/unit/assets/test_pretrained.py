"""Networks of others: tiny files in the real formats, taken over and read by the real code."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dtr.assets.autoencoder import decode, encode, load_autoencoder, to_network
from dtr.assets.extractor import extract, load_extractor
from dtr.assets.pretrained import SUMS, fetch, found_files
from dtr.assets.text_encoder import build_text_encoder
from dtr.cli import run_verb
from dtr.config.pretrained import (
    CLEAN_FID,
    ClipSettings,
    InceptionCleanSettings,
    InceptionSettings,
    SdVaeSettings,
)
from dtr.records.schema import (
    AutoencoderRecord,
    ExtractorRecord,
    TextEncoderRecord,
    read_record,
)
from dtr.support.errors import Refusal
from dtr.support.files import hash_file

WEIGHTS = InceptionSettings.origin.files[0]


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> SdVaeSettings:
    """An AutoencoderKL of Stable Diffusion's format and class, with 8 channels."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4,
              "up_block_types": ("UpDecoderBlock2D",) * 4}  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=4, layers_per_block=1, **blocks
    ).save_pretrained(folder)
    return SdVaeSettings(type="sd_vae", path=str(folder))


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> InceptionSettings:
    """torch-fidelity's file with random weights: the real architecture has no smaller one."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):
            pass

    folder = tmp_path_factory.mktemp("inception")
    torch.manual_seed(0)
    empty = folder / "empty.pth"
    torch.save({}, empty)
    torch.save(Untrained("x", ["2048"], str(empty)).state_dict(), folder / WEIGHTS)
    sums = {WEIGHTS: hash_file(folder / WEIGHTS)}
    return InceptionSettings(type="inception", path=str(folder), sha256=sums)


@pytest.fixture(autouse=True)
def own_weights(monkeypatch):
    """Random weights cannot have the hash that Inception's name promises."""
    for kind in (InceptionSettings, InceptionCleanSettings):
        monkeypatch.setitem(kind.origin.prefixes, WEIGHTS, "")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> ClipSettings:
    """A whole CLIP model, as on Hugging Face, whose vocabulary is the bytes of text."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [256 + n for n in range(256 - len(plain))]
    letters = [chr(c) for c in (*plain, *others)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: n for n, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    ends = {"bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    text = size | ends | {"vocab_size": 514, "max_position_embeddings": 12, "num_hidden_layers": 2}
    image = size | {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=16)
    transformers.CLIPModel(config).save_pretrained(folder)
    return ClipSettings(type="clip", path=str(folder), tokens=12, width=16)


def images(side: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(256, size=(count, side, side, 3), dtype=np.uint8)


def test_the_autoencoder_is_that_of_diffusers(vae, tmp_path):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    fetch("sd-vae", vae, tmp_path / "sd-vae")
    model, factor = load_autoencoder(tmp_path / "sd-vae")
    assert (factor, model.downsampling) == (0.18215, 8)
    theirs = AutoencoderKL.from_pretrained(vae.path).eval()
    with torch.inference_mode():
        posterior = theirs.encode(to_network(images(32))).latent_dist
        mean, logvar = encode(model, images(32))
        assert mean.shape == (3, 4, 4, 4)
        torch.testing.assert_close(mean, posterior.mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(logvar, posterior.logvar, rtol=0, atol=1e-6)
    assert decode(model, mean * factor, factor).shape == (3, 32, 32, 3)
    record = read_record(AutoencoderRecord, tmp_path / "sd-vae/record.json")
    assert set(record.fetched.files) == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert "stabilityai/sd-vae-ft-ema" in record.fetched.source


def test_another_shape_of_latents_is_refused(vae, tmp_path):
    wrong = vae.model_copy(update={"downsampling": 4})
    with pytest.raises(Refusal, match=r"downsampling 8; the scale says .* downsampling = 4"):
        fetch("sd-vae", wrong, tmp_path / "sd-vae")


def test_a_missing_file_says_what_to_put_where(vae, tmp_path, capsys):
    nowhere = vae.model_copy(update={"path": str(tmp_path / "empty")})
    arguments = [
        "fetch",
        "--kind",
        "autoencoder",
        "--asset",
        "sd-vae",
        "--out",
        str(tmp_path / "o"),
    ]
    assert run_verb([*arguments, "--settings", json.dumps(nowhere.plain())]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for word in ("config.json", "diffusion_pytorch_model.safetensors", "stabilityai/sd-vae-ft-ema",
                 "MIT", str(tmp_path / "empty"), "download: true"):  # fmt: skip
        assert word in line


def test_a_failed_download_is_one_line(vae, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fails)
    wanted = vae.model_copy(update={"path": str(tmp_path / "empty"), "download": True})
    with pytest.raises(Refusal, match=r"download failed \(OSError: no route to host\)$"):
        found_files("sd-vae", wanted)


def test_a_download_lands_where_the_file_is_looked_for(vae, tmp_path, monkeypatch):
    def hub(repository, file, *, local_dir):
        assert repository == "stabilityai/sd-vae-ft-ema"
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / file).write_bytes((from_path / file).read_bytes())
        assert local_dir == str(tmp_path / "new")

    from_path = tmp_path.__class__(vae.path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", hub)
    wanted = vae.model_copy(update={"path": str(tmp_path / "new"), "download": True})
    fetch("sd-vae", wanted, tmp_path / "sd-vae")
    assert load_autoencoder(tmp_path / "sd-vae")[1] == 0.18215


def test_a_truncated_file_is_one_line(vae, tmp_path):
    for file in vae.origin.files:
        content = (tmp_path.__class__(vae.path) / file).read_bytes()
        (tmp_path / file).write_bytes(content[: len(content) // 2] if "safe" in file else content)
    cut = vae.model_copy(update={"path": str(tmp_path)})
    with pytest.raises(Refusal, match="not readable as an AutoencoderKL of diffusers"):
        fetch("sd-vae", cut, tmp_path / "sd-vae")
    assert not (tmp_path / "sd-vae/record.json").exists()


def test_the_hash_that_was_seen_first_is_expected_afterwards(vae, tmp_path):
    for file in vae.origin.files:
        (tmp_path / file).write_bytes((tmp_path.__class__(vae.path) / file).read_bytes())
    own = vae.model_copy(update={"path": str(tmp_path)})
    fetch("sd-vae", own, tmp_path / "out")
    assert hash_file(tmp_path / "config.json") in (tmp_path / SUMS).read_text()
    with (tmp_path / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(Refusal, match=rf"config.json: sha256 .* by .*{SUMS}"):
        fetch("sd-vae", own, tmp_path / "out")


def test_the_hash_of_the_scale_and_of_the_files_name_are_expected(inception, tmp_path, monkeypatch):
    wrong = inception.model_copy(update={"sha256": {WEIGHTS: "0" * 64}})
    with pytest.raises(Refusal, match="expected 0000000000000000 by the scale's sha256"):
        fetch("inception", wrong, tmp_path / "inception")
    monkeypatch.setitem(InceptionSettings.origin.prefixes, WEIGHTS, "6726825d")
    with pytest.raises(Refusal, match="expected 6726825d by what is known of"):
        fetch("inception", inception, tmp_path / "inception")


def test_inception_gives_what_torch_fidelity_gives(inception, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    fetch("inception", inception, tmp_path / "inception")
    assert read_record(ExtractorRecord, tmp_path / "inception/record.json").fetched.licence
    network = load_extractor(tmp_path / "inception")
    pixels = images(24)
    found = extract(network, pixels)
    path = str(tmp_path.__class__(inception.path) / WEIGHTS)
    theirs = FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], path)
    with torch.inference_mode():
        features, logits = theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found["features"], features.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["logits"], logits.numpy(), atol=1e-3)
    assert found["spatial"].shape == (3, 17 * 17 * 7)


@pytest.mark.parametrize("resize", ["pytorch", "clean"])
def test_images_of_299_pixels_are_not_changed_by_any_resizing(inception, tmp_path, resize):
    fetch("inception", inception, tmp_path / "tf")
    fetch("inception", inception.model_copy(update={"resize": resize}), tmp_path / "other")
    pixels = torch.from_numpy(images(299, 1)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        first, second = (load_extractor(tmp_path / name)(pixels) for name in ("tf", "other"))
    # pytorch-fid's range is 255 / 256 of the other two.
    close = 0.02 if resize == "pytorch" else 1e-4
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=close, atol=close * float(one.abs().max()))


class Script(nn.Module):
    """What NVIDIA's file offers, of few layers."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 9, stride=9), nn.AdaptiveAvgPool2d(1))
        self.output = nn.Linear(width, 1008)

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        features = self.layers(img.float()).flatten(1)
        return features if return_features else self.output(features)


@pytest.fixture
def with_clean(inception, tmp_path):
    """Both files in a folder; the second as clean-fid's, with so many features."""

    def made(width: int = 2048, **changes) -> InceptionCleanSettings:
        folder = tmp_path / "files"
        folder.mkdir(exist_ok=True)
        (folder / WEIGHTS).unlink(missing_ok=True)
        (folder / WEIGHTS).hardlink_to(Path(inception.path) / WEIGHTS)
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            torch.jit.save(torch.jit.script(Script(width)), str(folder / CLEAN_FID))
        return InceptionCleanSettings(type="inception_clean", path=str(folder), **changes)

    return made


def test_clean_fids_own_network_gives_what_clean_fid_computes(with_clean, tmp_path):
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    settings = with_clean(rehearsal=True)
    fetch("inception", settings, tmp_path / "out")
    found = extract(load_extractor(tmp_path / "out"), images(40))
    assert {name: values.shape[1] for name, values in found.items()} == {
        "features": 2048, "logits": 1008, "spatial": 17 * 17 * 7, "clean": 2048,
    }  # fmt: skip
    resized = np.stack([build_resizer("clean")(image) for image in images(40)])
    theirs = InceptionV3W(settings.path, download=False)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(resized).permute(0, 3, 1, 2))
    np.testing.assert_allclose(found["clean"], expected.numpy(), atol=1e-5)
    record = read_record(ExtractorRecord, tmp_path / "out/record.json")
    assert set(record.fetched.files) == {WEIGHTS, CLEAN_FID}
    assert "nvlabs-fi-cdn.nvidia.com" in record.fetched.source


def test_another_file_than_clean_fids_is_refused(with_clean, tmp_path, monkeypatch):
    settings = with_clean(width=64)
    with pytest.raises(Refusal, match=r"sha256 .*, expected f58cb9b6ec323ed6 by what is known"):
        fetch("inception", settings, tmp_path / "out")
    monkeypatch.setitem(settings.origin.prefixes, CLEAN_FID, "")
    with pytest.raises(Refusal, match=r"clean-fid's TorchScript .* gives 64 features, not 2048"):
        fetch("inception", settings, tmp_path / "out")
    (tmp_path / "files" / CLEAN_FID).write_bytes(b"no script")
    (tmp_path / "files" / SUMS).unlink(missing_ok=True)
    own = settings.model_copy(update={"rehearsal": True})
    with pytest.raises(Refusal, match="not readable as clean-fid's TorchScript of Inception"):
        fetch("inception", own, tmp_path / "out")
    (tmp_path / "files" / CLEAN_FID).unlink()
    with pytest.raises(Refusal) as refused:
        fetch("inception", own, tmp_path / "out")
    said = str(refused.value)
    assert f"{CLEAN_FID}: no such file; put {CLEAN_FID} of the Inception network" in said
    assert "as clean-fid have it" in said and "nvlabs-fi-cdn.nvidia.com" in said
    assert "\n" not in said


def test_clip_gives_the_last_hidden_state_of_all_tokens(clip, tmp_path):
    from transformers import CLIPTextModel, CLIPTokenizer

    fetch("clip", clip, tmp_path / "clip")
    assert read_record(TextEncoderRecord, tmp_path / "clip/record.json").fetched
    encoder = build_text_encoder(clip.model_copy(update={"folder": str(tmp_path / "clip")}))
    captions = ["A red bus", "", "a very long caption that does not fit"]
    tokens = encoder.encode(captions)
    assert tokens.shape == (3, 12, 16) and tokens.dtype == np.float32
    told = CLIPTokenizer.from_pretrained(clip.path)(
        captions, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    model = CLIPTextModel.from_pretrained(clip.path).eval()
    with torch.inference_mode():
        theirs = model(told["input_ids"]).last_hidden_state.numpy()
    np.testing.assert_allclose(tokens, theirs, atol=1e-5)
    np.testing.assert_allclose(encoder.encode([""])[0], tokens[1], atol=1e-5)
    assert encoder.encode([]).shape == (0, 12, 16)


def test_clip_of_another_shape_is_refused(clip, tmp_path):
    with pytest.raises(Refusal, match="12 tokens of width 16; the scale says tokens = 77"):
        fetch("clip", clip.model_copy(update={"tokens": 77}), tmp_path / "clip")


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    for file in ClipSettings.origin.files:
        (tmp_path / file).write_text("{}")
    settings = ClipSettings(type="clip", path=str(tmp_path))
    with pytest.raises(Refusal, match=r"not installed, which reads .*; install the extra `paper`"):
        fetch("clip", settings, tmp_path / "clip")


def test_what_is_made_here_is_not_fetched(capsys):
    words = json.dumps({"type": "words", "tokens": 8, "width": 8, "seed": 0})
    arguments = ["fetch", "--kind", "text_encoder", "--asset", "words", "--out", "nowhere"]
    assert run_verb([*arguments, "--settings", words]) == 2
    assert "type = 'words' is made here" in capsys.readouterr().err
