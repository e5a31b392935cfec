"""The image <-> latent autoencoder: diffusers' AutoencoderKL, the class of Stable Diffusion's VAE.

Pixels are uint8 outside and [-1, 1] inside; `scale_factor` brings latents to unit variance
(0.18215 for Stable Diffusion's weights, measured for ours).
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.config.stages import AutoencoderSettings
from dtr.data.datasets import ImageDataset
from dtr.records.provenance import provenance
from dtr.seeding import batch_indices, generator
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json, replacing, write_json
from dtr.support.progress import Progress

CHUNK = 500  # images encoded at once


def to_network(images: np.ndarray | Tensor) -> Tensor:
    """uint8 [n, H, W, 3] -> float32 [n, 3, H, W] in [-1, 1] (mean = std = 0.5)."""
    pixels = torch.as_tensor(np.ascontiguousarray(images))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: Tensor) -> np.ndarray:
    """float [n, 3, H, W] in [-1, 1] -> uint8 [n, H, W, 3], truncated as the authors do."""
    return (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


class PatchedAutoencoder(nn.Module):
    """An AutoencoderKL that sees `patch_size` x `patch_size` pixels as channels of one pixel.

    At the full resolution of small images most time goes into convolutions of few channels;
    patches of 2 make a training step about four times faster. `patch_size=1` changes nothing.
    """

    def __init__(self, autoencoder: nn.Module, patch_size: int) -> None:
        super().__init__()
        self.autoencoder, self.patch_size = autoencoder, patch_size

    def posterior(self, pixels: Tensor):
        """float32 [n, 3, H, W] in [-1, 1] -> Gaussian over latents [n, C, H/f, W/f]."""
        return self.autoencoder.encode(F.pixel_unshuffle(pixels, self.patch_size)).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents [n, C, h, w] -> float32 [n, 3, H, W], about [-1, 1]."""
        return F.pixel_shuffle(self.autoencoder.decode(latents).sample, self.patch_size)


def build_autoencoder(settings: AutoencoderSettings) -> PatchedAutoencoder:
    """An untrained autoencoder of the given size."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    levels = len(settings.channels)
    channels = 3 * settings.patch_size**2
    autoencoder = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(settings.channels),
        layers_per_block=settings.layers_per_block,
        latent_channels=settings.latent_channels,
        norm_num_groups=settings.norm_groups,
        mid_block_add_attention=False,
    )
    return PatchedAutoencoder(autoencoder, settings.patch_size)


def train_autoencoder(settings: AutoencoderSettings, dataset: ImageDataset, folder: Path) -> None:
    """Fit the autoencoder to the training split; write weights and, last, record.json.

    Loss: mean squared error of pixels in [-1, 1] plus kl_weight times the KL divergence (nats per
    image) of the posterior to N(0, I); one-cycle learning rate with `learning_rate` as its peak.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = build_autoencoder(settings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    pixels = to_network(dataset.images[dataset.positions("train")])
    with Progress(f"autoencoder {folder.name}", settings.steps) as progress:
        for step in range(settings.steps):
            rows = batch_indices(
                settings.seed, step, size=len(pixels), batch_size=settings.batch_size
            )
            batch = pixels[torch.as_tensor(rows)]
            posterior = model.posterior(batch)
            noise = generator(settings.seed, "autoencoder", step).standard_normal(
                posterior.mean.shape, dtype=np.float32
            )
            latents = posterior.mean + posterior.std * torch.from_numpy(noise)
            error = F.mse_loss(model.decode(latents), batch)
            loss = error + settings.kl_weight * posterior.kl().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.show(loss=float(loss.detach()))
            progress.advance()
    _write(model.eval(), settings, dataset, folder, time.perf_counter() - started)


def _write(model, settings, dataset, folder, seconds: float) -> None:
    from safetensors.torch import save_file

    with replacing(folder / "weights.safetensors") as temporary:
        save_file({name: t.contiguous() for name, t in model.state_dict().items()}, temporary)
    factor = settings.scale_factor
    if factor is None:
        mean, logvar = encode(model, dataset.images[dataset.positions("train")])
        # Variance of a sampled latent = variance of the means + mean of the posterior variances.
        factor = float((mean.double().var() + logvar.double().exp().mean()) ** -0.5)
    test = dataset.images[dataset.positions("test")]
    restored = decode(model, encode(model, test)[0] * factor, factor)
    error = np.mean((restored.astype(np.float64) - test) ** 2)
    write_json(
        folder / "record.json",
        {
            "settings": settings.plain(),
            "scale_factor": factor,
            "test_psnr_db": float(10 * np.log10(255**2 / error)),
            "dataset_hash": dataset.manifest["content_hash"],
            "weights_sha256": hash_file(folder / "weights.safetensors"),
            "provenance": provenance(),
            "wall_seconds": seconds,
        },
    )


def load_autoencoder(folder: Path, device: str = "cpu"):
    """(model in evaluation mode, scale factor); weights that differ from the record are refused."""
    from safetensors.torch import load_file

    record = read_json(folder / "record.json")
    weights = folder / "weights.safetensors"
    if not weights.is_file() or hash_file(weights) != record["weights_sha256"]:
        raise Refusal(f"{weights}: missing or not the recorded weights; delete {folder}")
    model = build_autoencoder(AutoencoderSettings.model_validate(record["settings"]))
    model.load_state_dict(load_file(weights))
    return model.eval().requires_grad_(False).to(device), record["scale_factor"]


@torch.inference_mode()
def encode(model, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """Posterior mean and log-variance of uint8 [n, H, W, 3]: two float32 [n, C, h, w], unscaled."""
    posteriors = [
        model.posterior(to_network(images[start : start + CHUNK]))
        for start in range(0, len(images), CHUNK)
    ]
    return torch.cat([p.mean for p in posteriors]), torch.cat([p.logvar for p in posteriors])


@torch.inference_mode()
def decode(model, latents: Tensor, scale_factor: float) -> np.ndarray:
    """Scaled latents float32 [n, C, h, w] -> uint8 images [n, H, W, 3]."""
    parts = [to_images(model.decode(part / scale_factor)) for part in latents.split(CHUNK)]
    return np.concatenate(parts)
