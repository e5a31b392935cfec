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

from dtr.assets.fitting import fit
from dtr.config.stages import AutoencoderSettings, LatentsSettings
from dtr.planning.places import ASSET
from dtr.records.provenance import provenance
from dtr.records.schema import AutoencoderRecord
from dtr.records.weights import read_weights, write_weights
from dtr.registry import build, settings_model
from dtr.seeding import generator
from dtr.support.settings import parse

CHUNK_PIXELS = 500 * 32**2  # encoded or decoded at once: 500 digits, or 7 photographs of 256


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

    @property
    def downsampling(self) -> int:
        """Image pixels per latent pixel, on one side."""
        return self.patch_size * 2 ** (len(self.autoencoder.config.block_out_channels) - 1)

    def posterior(self, pixels: Tensor):
        """float32 [n, 3, H, W] in [-1, 1] -> Gaussian over latents [n, C, H/f, W/f]."""
        return self.autoencoder.encode(F.pixel_unshuffle(pixels, self.patch_size)).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents [n, C, h, w] -> float32 [n, 3, H, W], about [-1, 1]."""
        return F.pixel_shuffle(self.autoencoder.decode(latents).sample, self.patch_size)


def small_kl(settings: AutoencoderSettings) -> PatchedAutoencoder:
    """An untrained AutoencoderKL of the given size."""
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


def train_autoencoder(
    settings: LatentsSettings,
    train: np.ndarray,
    test: np.ndarray,
    folder: Path,
    *,
    dataset_hash: str,
) -> None:
    """Fit the autoencoder to images uint8 [n, H, W, 3]; write weights and, last, record.json.

    Loss: mean squared error of pixels in [-1, 1] plus kl_weight times the KL divergence (nats per
    image) of the posterior to N(0, I).
    """
    started = time.perf_counter()
    pixels = to_network(train)

    def loss_of(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
        batch = pixels[torch.as_tensor(rows)]
        posterior = model.posterior(batch)
        noise = generator(settings.seed, "autoencoder", step).standard_normal(
            posterior.mean.shape, dtype=np.float32
        )
        latents = posterior.mean + posterior.std * torch.from_numpy(noise)
        error = F.mse_loss(model.decode(latents), batch)
        return error + settings.kl_weight * posterior.kl().mean()

    title = f"autoencoder {folder.name}"

    def untrained() -> nn.Module:
        return build("autoencoder", settings.type, settings)

    model = fit(settings, untrained, loss_of, count=len(pixels), title=title)
    seconds = time.perf_counter() - started
    factor = settings.scale_factor or measured_scale(*encode(model, train))
    restored = decode(model, encode(model, test)[0] * factor, factor)
    error = np.mean((restored.astype(np.float64) - test) ** 2)
    write_weights(
        folder,
        ASSET,
        model.state_dict(),
        AutoencoderRecord,
        settings=settings.plain(),
        scale_factor=factor,
        test_psnr_db=float(10 * np.log10(255**2 / error)),
        dataset_hash=dataset_hash,
        provenance=provenance(),
        wall_seconds=seconds,
    )


def measured_scale(mean: Tensor, logvar: Tensor) -> float:
    """1 / std of sampled latents: their variance is that of the means plus the mean posterior's."""
    return float((mean.double().var() + logvar.double().exp().mean()) ** -0.5)


def load_autoencoder(folder: Path, device: str = "cpu") -> tuple[nn.Module, float]:
    """(model in evaluation mode, scale factor); weights that differ from the record are refused."""
    record, tensors = read_weights(folder, ASSET, AutoencoderRecord)
    kind = record.settings["type"]
    settings = parse(settings_model("autoencoder", kind), record.settings, source=str(folder))
    model = build("autoencoder", kind, settings)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False).to(device), record.scale_factor


@torch.inference_mode()
def encode(model, images: np.ndarray, *, batch_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Posterior mean and log-variance of uint8 [n, H, W, 3]: two float32 [n, C, h, w], unscaled.

    On the model's device, `batch_size` images at once, by default as many as CHUNK_PIXELS says.
    """
    device = next(model.parameters()).device
    size = batch_size or _chunk(images.shape[1] * images.shape[2])
    posteriors = [
        model.posterior(to_network(images[start : start + size]).to(device))
        for start in range(0, len(images), size)
    ]
    moments = [torch.cat([getattr(p, name) for p in posteriors]) for name in ("mean", "logvar")]
    return moments[0].cpu(), moments[1].cpu()


@torch.inference_mode()
def decode(
    model, latents: Tensor, scale_factor: float, *, batch_size: int | None = None
) -> np.ndarray:
    """Scaled latents float32 [n, C, h, w] -> uint8 images [n, H, W, 3].

    `batch_size` images at once, by default as many as CHUNK_PIXELS says.
    """
    factor = getattr(model, "downsampling", 1)
    size = batch_size or _chunk(latents.shape[-1] * latents.shape[-2] * factor**2)
    parts = [to_images(model.decode(part / scale_factor)) for part in latents.split(size)]
    return np.concatenate(parts)


def _chunk(pixels: int) -> int:
    """Images of so many pixels that are computed at once."""
    return max(1, CHUNK_PIXELS // pixels)
