"""From trained weights to a file of images."""

from pathlib import Path

import numpy as np
from torch import nn

from dtr.backbones import build_backbone
from dtr.config import Protocol, TrainSettings, parse
from dtr.data.autoencoder import decode, load_autoencoder
from dtr.diffusion import Diffusion
from dtr.errors import Refusal
from dtr.files import hash_file, read_json, replacing
from dtr.sampling import sample_shard


def load_model(folder: Path, device: str = "cpu") -> tuple[nn.Module, TrainSettings]:
    """The EMA network of a run in evaluation mode, and its settings.

    Weights that differ from the run's record are refused.
    """
    from safetensors.torch import load_file

    record = read_json(folder / "train.json")
    settings = parse(TrainSettings, record["settings"], source=f"{folder / 'train.json'}: settings")
    weights = folder / "ema.safetensors"
    if not weights.is_file() or hash_file(weights) != record["weights_sha256"]:
        raise Refusal(f"{weights}: missing or not the recorded weights; delete {folder}")
    model = build_backbone(settings.backbone, settings.routing)
    model.load_state_dict(load_file(weights))
    return model.eval().requires_grad_(False).to(device), settings


def write_samples(
    model_folder: Path,
    autoencoder_folder: Path,
    protocol: Protocol,
    out: Path,
    *,
    shard: int,
    shard_size: int,
    batch_size: int,
    device: str,
) -> None:
    """Write images [shard * shard_size, ...) of the protocol's n_samples as `arr_0` and `labels`.

    `arr_0` is uint8 [n, H, W, 3], the layout of ADM's evaluator; `labels` int64 [n].
    """
    first = shard * shard_size
    count = min(shard_size, protocol.n_samples - first)
    if count < 1:
        raise Refusal(f"--shard {shard}: n_samples = {protocol.n_samples} ends before it")
    model, settings = load_model(model_folder, device)
    backbone = settings.backbone
    latents, labels = sample_shard(
        model,
        Diffusion.from_settings(settings.diffusion),
        protocol,
        first=first,
        count=count,
        batch_size=batch_size,
        shape=(backbone.in_channels, backbone.input_size, backbone.input_size),
        device=device,
        title=f"sample {model_folder} shard {shard}",
    )
    autoencoder, scale_factor = load_autoencoder(autoencoder_folder, device)
    images = decode(autoencoder, latents, scale_factor)
    with replacing(out) as temporary:
        np.savez(temporary, arr_0=images, labels=labels)
