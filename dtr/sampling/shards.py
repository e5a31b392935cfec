"""From trained weights to a file of images."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dtr.assets.autoencoder import decode, load_autoencoder, to_images
from dtr.assets.text_encoder import TextEncoder, build_text_encoder
from dtr.backbones.saved import load_models
from dtr.config.stages import Protocol, TextEncoderSettings
from dtr.data.captions import evaluation_prompts
from dtr.data.datasets import ImageDataset
from dtr.diffusion import Diffusion
from dtr.sampling.checks import check_decoder, check_prompts
from dtr.sampling.ddpm import rng_of, sample_shard
from dtr.support.errors import Refusal
from dtr.support.files import replacing


def write_samples(
    model_folders: Sequence[Path],
    protocol: Protocol,
    out: Path,
    *,
    shard: int,
    shard_size: int,
    batch_size: int,
    device: str,
    rng: str = "auto",
    autoencoder_folder: Path | None = None,
    decode_batch: int | None = None,
    data: Path | None = None,
    text_encoder: TextEncoderSettings | None = None,
) -> int:
    """Write images [shard * shard_size, ...) of the protocol's n_samples as `arr_0` and `labels`.

    `arr_0` is uint8 [n, H, W, 3], the layout of ADM's evaluator; `labels` int64 [n], or, with a
    text encoder, `captions` [n] str from the test images of the dataset `data`. `lost` counts the
    images that sampling left without numbers; such a file is kept, but not measured. `seconds` is
    how long all of this took, the loading of the model included; `rng` is there and "device" where
    noise was not drawn on the host. `decode_batch` latents are decoded at once, None: by their
    size. Returns `lost`. What does not belong together is refused before anything is drawn.
    """
    started = time.perf_counter()
    first, count = _images_of(shard, shard_size, protocol.n_samples)
    if batch_size < 1:
        raise Refusal(f"--batch-size {batch_size}: accepted: 1 or more")
    model, settings = load_models(model_folders, device)
    check_decoder(protocol, settings, model_folders[0], autoencoder_folder)
    check_prompts(protocol, settings, model_folders[0], text_encoder, data)
    decoder = None if autoencoder_folder is None else load_autoencoder(autoencoder_folder, device)
    told, prompts = {}, None
    if text_encoder is not None:
        encoder = build_text_encoder(text_encoder, device)
        _check_encoder(model, encoder, model_folders[0])
        captions = prompt_texts(data, first + count, seed=protocol.seed)[first:]
        told["captions"] = np.array(captions)
        prompts = torch.from_numpy(encoder.encode(captions)).float()
    latents, labels = sample_shard(
        model,
        Diffusion.from_settings(settings.diffusion),
        protocol,
        first=first,
        count=count,
        batch_size=batch_size,
        shape=settings.inputs.shape,
        training_seed=settings.seed,
        device=device,
        rng=rng,
        title=f"sample {model_folders[0]} shard {shard}",
        prompts=prompts,
    )
    images, lost = _visible(latents, decoder, decode_batch)
    told = told or {"labels": labels}
    if (drawn := rng_of(rng, device)) != "host":
        told["rng"] = np.array(drawn)
    with replacing(out) as temporary:
        seconds = np.array(time.perf_counter() - started)
        np.savez(temporary, arr_0=images, lost=np.array(lost), seconds=seconds, **told)
    return lost


def _visible(
    latents: torch.Tensor, decoder: tuple[nn.Module, float] | None, decode_batch: int | None
) -> tuple[np.ndarray, int]:
    """Images uint8 [n, H, W, 3] of what was sampled, and how many of it had no numbers."""
    finite = latents.isfinite().flatten(1).all(dim=1)
    latents[~finite] = 0
    lost = int((~finite).sum())
    if decoder is None:
        return to_images(latents), lost
    return decode(decoder[0], latents, decoder[1], batch_size=decode_batch), lost


def _images_of(shard: int, shard_size: int, n_samples: int) -> tuple[int, int]:
    """(first image, number of images) of a shard; the last one may be smaller."""
    if shard_size < 1:
        raise Refusal(f"--shard-size {shard_size}: accepted: 1 or more")
    shards = -(-n_samples // shard_size)
    if not 0 <= shard < shards:
        raise Refusal(f"--shard {shard}: n_samples = {n_samples} makes shards 0 to {shards - 1}")
    first = shard * shard_size
    return first, min(shard_size, n_samples - first)


def prompt_texts(data: Path, count: int, *, seed: int) -> list[str]:
    """The captions that prompt images 0..count-1, from the test split of a prepared dataset."""
    dataset = ImageDataset.open(data)
    if "captions" not in dataset.index:
        raise Refusal(f"{data}: the images of this dataset have no captions")
    captions = dataset.index["captions"].iloc[dataset.positions("test")].tolist()
    return [captions[i][number] for i, number in evaluation_prompts(captions, count, seed=seed)]


def _check_encoder(model: nn.Module, encoder: TextEncoder, folder: Path) -> None:
    """Refuse an encoder other than the one whose empty caption travels with the weights."""
    empty = torch.from_numpy(encoder.encode([""])[0])
    trained = model.null_tokens.cpu()
    # Cached tokens may have been rounded to float16, whose numbers are 2^-11 of a value apart.
    if empty.shape != trained.shape or not torch.allclose(empty, trained, rtol=1e-3, atol=1e-3):
        raise Refusal(f"--text-encoder: not the one that {folder} was trained with")
