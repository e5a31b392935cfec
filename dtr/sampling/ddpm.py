"""Ancestral DDPM sampling over respaced steps, one random stream per image.

Image i is a function of (weights, protocol, seed of the training, i): its label, its first noise
and the noise of every step come from its own stream, the same for all models of a seed. Batch size,
shard and device count change it by rounding only: the order of float32 sums depends on the shape of
a batch. Of 768,000 values of pixels drawn one by one, 21 differed by 1 from those drawn together.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from dtr.config.stages import Protocol
from dtr.diffusion import Diffusion
from dtr.seeding import generator, stream_words
from dtr.support.philox import normal
from dtr.support.progress import Progress


class ImageStreams:
    """The random streams of a batch of images; noise is drawn step by step, on the host."""

    rng = "host"

    def __init__(self, seed: int, indices: np.ndarray, device: str = "cpu") -> None:
        self.indices, self.device = indices, device
        self._streams = [generator(seed, "image", int(index)) for index in indices]

    def labels(self, num_classes: int, *, balanced: bool) -> Tensor:
        """Classes to draw: [B] int64, uniform with replacement, or index modulo classes."""
        drawn = [stream.integers(num_classes) for stream in self._streams]
        labels = self.indices % num_classes if balanced else np.array(drawn)
        return torch.as_tensor(labels, device=self.device)

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise: [B, *shape] float32."""
        drawn = [stream.standard_normal(shape, dtype=np.float32) for stream in self._streams]
        return torch.from_numpy(np.stack(drawn)).to(self.device)


class DeviceImageStreams(ImageStreams):
    """The same labels, and noise that the device draws itself, from a key of each image."""

    rng = "device"

    def __init__(self, seed: int, indices: np.ndarray, device: str = "cpu") -> None:
        super().__init__(seed, indices, device)
        keys = [stream_words(seed, "device image", int(index)) for index in indices]
        self._keys, self._drawn = torch.tensor(keys, device=device), 0

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        self._drawn += 1
        number = torch.full((1,), self._drawn, device=self.device)
        return normal(self._keys, number, shape)


STREAMS = {"host": ImageStreams, "device": DeviceImageStreams}


def rng_of(rng: str, device: str) -> str:
    """Where noise is drawn: "host" or "device"; "auto" is the device unless that is the CPU."""
    if rng == "auto":
        return "host" if device == "cpu" else "device"
    return rng


def guided_output(
    model: nn.Module, x: Tensor, t: Tensor, y: Tensor, *, guidance: float, channels: str
) -> Tensor:
    """Classifier-free guidance: eps = eps_u + s (eps_c - eps_u); the variance is conditional.

    x: [B, C, H, W]; t: [B] or [1] int64; y: labels or captions.  channels: "all" guides every
    channel (the authors' code), "first3" only three of them (stock DiT).  Returns [B, 2C, H, W]
    float32: what the halves differ by is small beside them.
    """
    both = torch.cat([y, model.null_condition(y)])
    output = model(torch.cat([x, x]), t if len(t) < len(x) else torch.cat([t, t]), both)
    conditional, unconditional = output.float().chunk(2)
    guided = x.shape[1] if channels == "all" else 3
    base = unconditional[:, :guided]
    eps = base + guidance * (conditional[:, :guided] - base)
    return torch.cat([eps, conditional[:, guided:]], dim=1)


def _timestep_rows(model: nn.Module, device: str, images: int) -> int:
    """How often the network is told the timestep: once for all images, where it takes that.

    On a CPU products of one row round otherwise than those of many, and samples stay as they are.
    """
    return 1 if device != "cpu" and getattr(model, "shares_timestep", False) else images


@torch.inference_mode()
def sample_latents(
    model: nn.Module,
    diffusion: Diffusion,
    protocol: Protocol,
    indices: np.ndarray,
    *,
    shape: tuple[int, int, int],
    training_seed: int = 0,
    device: str = "cpu",
    rng: str = "auto",
    prompts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw the images of `indices` as scaled latents: ([B, *shape] float32, labels [B] int64).

    diffusion: the training process; it is respaced to protocol.sampling_steps here.  prompts:
    encoded captions [B, T, W], which then take the place of labels.  training_seed:
    added to the protocol's, so that an interval over trainings knows the noise of sampling, too.
    rng: where noise is drawn, see `rng_of`.
    """
    guided = protocol.guidance not in (None, 1.0)
    chain = diffusion.respaced(protocol.sampling_steps).to(device)
    streams = STREAMS[rng_of(rng, device)](protocol.seed + training_seed, indices, device)
    labels = streams.labels(model.num_classes, balanced=protocol.labels == "balanced")
    y = labels if prompts is None else prompts.to(device)
    x = streams.noise(shape)
    rows = _timestep_rows(model, device, len(labels))
    reduced = torch.autocast(
        torch.device(device).type, torch.bfloat16, enabled=protocol.dtype == "bfloat16"
    )
    for step in reversed(range(chain.num_steps)):
        # The model, and so its masks, sees the original timestep, not the index in the chain.
        t = torch.full((rows,), int(chain.timesteps[step]), device=device)
        with reduced:
            if guided:
                output = guided_output(
                    model, x, t, y, guidance=protocol.guidance, channels=protocol.guidance_channels
                )
            else:
                output = model(x, t, y)
        index = torch.full((1,), step, device=device)
        reverse = chain.reverse_step(output, x, index, clamp=protocol.x0_clamp)
        x = reverse.mean
        if step > 0:
            x = x + torch.exp(0.5 * reverse.log_variance) * streams.noise(shape)
    return x, labels


def batches(first: int, count: int, size: int) -> Iterator[np.ndarray]:
    """Image indices first..first+count-1 in portions of at most `size`."""
    for start in range(first, first + count, size):
        yield np.arange(start, min(start + size, first + count))


def sample_shard(
    model: nn.Module,
    diffusion: Diffusion,
    protocol: Protocol,
    *,
    first: int,
    count: int,
    batch_size: int,
    shape: tuple[int, int, int],
    training_seed: int = 0,
    device: str,
    rng: str = "auto",
    title: str,
    prompts: Tensor | None = None,
) -> tuple[Tensor, np.ndarray]:
    """Images first..first+count-1 as latents [count, *shape] float32 and labels [count] int64.

    prompts: encoded captions of these images, [count, T, W].
    """
    latents, labels = [], []
    with Progress(title, count, unit="image") as progress:
        for indices in batches(first, count, batch_size):
            x, y = sample_latents(
                model,
                diffusion,
                protocol,
                indices,
                shape=shape,
                training_seed=training_seed,
                device=device,
                rng=rng,
                prompts=None if prompts is None else prompts[indices - first],
            )
            latents.append(x)
            labels.append(y.cpu().numpy())
            progress.advance(len(indices))
    return torch.cat(latents), np.concatenate(labels)
