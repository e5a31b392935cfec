"""Cases of images: sampling with guidance, encoding, decoding, cutting, features."""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import nn

from dtr.analysis.counting import count_network
from dtr.backbones.build import build_backbone
from dtr.bench.timing import Bench, Case, Variant
from dtr.bench.training_cases import DIGITS, of_paper, with_network
from dtr.config.backbones import DiTSize, Inputs
from dtr.config.stages import AutoencoderSettings, ExtractorSettings, Protocol, RunSettings
from dtr.data.crops import decode as decode_file
from dtr.diffusion import Diffusion
from dtr.sampling.ddpm import sample_latents

STEPS = 4  # of sampling; a unit is an image, and its cost goes with the steps


class Unbatched(nn.Module):
    """A network that is told its conditions one half at a time: guidance as two passes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.num_classes = model, model.num_classes
        self.null_condition = model.null_condition

    def forward(self, x, t, y):
        halves = (part.chunk(2) for part in (x, t, y))
        return torch.cat([self.model(*own) for own in zip(*halves, strict=True)])


def protocol(**changes) -> Protocol:
    """A protocol of few steps; nothing is measured under it."""
    values = {
        "dataset": "noise", "extractor": "none", "n_samples": 1, "guidance": 1.5,
        "guidance_channels": "all", "sampling_steps": STEPS, "x0_clamp": 4.0, "labels": "random",
        "seed": 0, "neighbours": 1, "kid_subset": 1, "inception_split": 1,
    }  # fmt: skip
    return Protocol(**values | changes)


def _sampling(settings: RunSettings, images: int, bench: Bench) -> dict[str, Variant]:
    model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    model = model.eval().requires_grad_(False).to(bench.device)
    network = count_network(settings.backbone, settings.inputs)
    process = Diffusion.from_settings(settings.diffusion)

    def drawing(network: nn.Module, rng: str, dtype: str = "float32") -> Callable[[], object]:
        return lambda: sample_latents(
            network,
            process,
            protocol(dtype=dtype),
            np.arange(images),
            shape=settings.inputs.shape,
            device=bench.device,
            rng=rng,
        )

    ways = {
        "guidance in two passes": drawing(Unbatched(model), "host"),
        "as one batch": drawing(model, "host"),
        "noise on the device": drawing(model, "device"),
        "bfloat16": drawing(model, "device", "bfloat16"),
    }
    flops = 2 * network.macs * STEPS * 2 * images
    return {name: Variant(run, images, flops) for name, run in ways.items()}


def _sampling_digits(bench: Bench) -> dict[str, Variant]:
    size = DiTSize(type="dit", patch_size=2, width=96, depth=2, heads=4)
    settings = with_network(size, Inputs(**DIGITS, num_classes=10), 32)
    return _sampling(settings, 8 if bench.small else 250, bench)


def _sampling_paper(bench: Bench) -> dict[str, Variant]:
    images = 2 if bench.small else 4 if bench.device == "cpu" else 256
    name = "DiT-S/2" if bench.device == "cpu" else "DiT-B/2"
    return _sampling(of_paper(name, bench), images, bench)


def _pixels(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def _latents(bench: Bench) -> dict[str, Variant]:
    from dtr.assets.autoencoder import decode, encode, small_kl

    settings = AutoencoderSettings(
        type="train", dataset="noise", patch_size=2, channels=[16, 32, 64], layers_per_block=1,
        latent_channels=4, norm_groups=8, steps=1, batch_size=1, learning_rate=1e-3,
        kl_weight=1e-4, seed=0,
    )  # fmt: skip
    model = small_kl(settings).eval().requires_grad_(False).to(bench.device)
    count = 8 if bench.small else 500
    images, latents = _pixels(count, 32), torch.randn(count, 4, 4, 4, device=bench.device)
    return {
        "encode": Variant(lambda: encode(model, images), count),
        "decode": Variant(lambda: decode(model, latents, 1.0), count),
    }


def _files(bench: Bench) -> dict[str, Variant]:
    count, contents = 4 if bench.small else 16, {}
    for kind in ("JPEG", "PNG"):
        made = io.BytesIO()
        # As large as the median photograph of ImageNet; noise would be no photograph.
        smooth = Image.fromarray(_pixels(1, 25)[0]).resize((500, 375), Image.Resampling.BICUBIC)
        smooth.save(made, kind)
        contents[kind] = made.getvalue()
    return {
        kind: Variant(lambda c=content: [decode_file(c, 256) for _ in range(count)], count)
        for kind, content in contents.items()
    }


def _features(bench: Bench) -> dict[str, Variant]:
    from dtr.assets.extractor import DigitsCNN, extract

    settings = ExtractorSettings(
        type="digits_cnn", dataset="noise", width=16, features=64, steps=1, batch_size=1,
        learning_rate=1e-3, seed=0,
    )  # fmt: skip
    model = DigitsCNN(settings).eval().requires_grad_(False).to(bench.device)
    count = 250 if bench.small else 1000
    images = _pixels(count, 32)
    return {"digits_cnn": Variant(lambda: extract(model, images), count)}


CASES = (
    Case("sampling-digits", "image", f"{STEPS} guided steps at `digits`", _sampling_digits),
    Case("sampling-dit", "image", f"{STEPS} guided steps of S/2 (GPU: B/2)", _sampling_paper),
    Case("latents", "image", "the autoencoder of `digits`, 32 pixels", _latents, alike=False),
    Case(
        "files", "image", "decoding photographs of 500x375, ADM's crop to 256", _files, alike=False
    ),
    Case("features", "image", "the extractor of `digits`", _features),
)
