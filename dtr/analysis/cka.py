"""Linear CKA between a model's representations at different timesteps (Fig. 6).

The paper names neither estimator nor sample size. Biased CKA of unrelated features is far above
zero unless there are many more images than channels (0.74 for 256 images and 768 channels), so
the estimator here is the unbiased one; the biased one is kept beside it.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtr.backbones.saved import load_model
from dtr.config.backbones import Inputs
from dtr.config.stages import RunSettings
from dtr.data.batches import open_training_data
from dtr.data.rows import TrainingData
from dtr.diffusion import Diffusion
from dtr.planning.places import MODEL
from dtr.records.provenance import provenance
from dtr.records.schema import CkaRecord, ModelRecord, read_record, write_record
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.progress import Progress

ESTIMATOR = (
    "linear CKA of token means; unbiased: HSIC_1, biased: HSIC_0, both summed over batches before"
    " the ratio"
)
STRIDE = 52  # 20 timesteps from 0 to 988
SMALLEST_BATCH = 4  # HSIC_1 divides by n - 3
# A relative spread below this over images is the rounding of float32, not a representation.
CONSTANT = 1e-6


def cka_timesteps(num_timesteps: int = 1000) -> list[int]:
    """The compared timesteps: 0, 52, ..., 988 and the last one."""
    return [*range(0, num_timesteps - 1, STRIDE), num_timesteps - 1]


def gram(features: Tensor) -> Tensor:
    """Gram matrices of centred features: [..., n, C] -> [..., n, n] float64; constant ones are 0.

    Neither HSIC depends on the mean, but it would cost digits.
    """
    features = features.double()
    # Relative to one image first: what is constant becomes zero exactly.
    centred = features - features[..., :1, :]
    centred = centred - centred.mean(dim=-2, keepdim=True)
    spread, size = (values.abs().amax(dim=(-2, -1), keepdim=True) for values in (centred, features))
    centred = centred.masked_fill(spread <= CONSTANT * size, 0.0)
    return centred @ centred.mT


def hsic0(grams: Tensor) -> Tensor:
    """Biased HSIC tr(K H L H) / (n-1)^2 of all pairs: [r, n, n] Gram matrices -> [r, r]."""
    rows = grams.mean(dim=-1, keepdim=True)
    centred = grams - rows - rows.mT + rows.mean(dim=-2, keepdim=True)
    return _inner_products(centred) / (grams.shape[-1] - 1) ** 2


def hsic1(grams: Tensor) -> Tensor:
    """Unbiased HSIC_1 of all pairs (Song et al. 2012): [r, n, n] Gram matrices -> [r, r] float64.

    HSIC_1(K, L) = [tr(K~L~) + 1'K~1 1'L~1 / ((n-1)(n-2)) - 2/(n-2) 1'K~L~1] / (n(n-3)), K~ = K
    without its diagonal; computed as the equal inner product of U-centred matrices (Székely &
    Rizzo 2014), which does not subtract large sums. Refuses n < 4.
    """
    n = grams.shape[-1]
    if n < SMALLEST_BATCH:
        raise Refusal(f"{n} images: HSIC_1 needs at least {SMALLEST_BATCH}")
    off_diagonal = ~torch.eye(n, dtype=torch.bool, device=grams.device)
    hollow = grams.double() * off_diagonal
    rows = hollow.sum(dim=-1, keepdim=True)
    total = rows.sum(dim=-2, keepdim=True)
    centred = hollow - (rows + rows.mT) / (n - 2) + total / ((n - 1) * (n - 2))
    return _inner_products(centred * off_diagonal) / (n * (n - 3))


def _inner_products(matrices: Tensor) -> Tensor:
    flat = matrices.flatten(1)
    return flat @ flat.T


def normalised(hsic: Tensor) -> Tensor:
    """CKA = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)): [r, r] -> [r, r]; NaN where one is 0."""
    own = hsic.diagonal().sqrt()
    return hsic / torch.outer(own, own)


def linear_cka(x: Tensor, y: Tensor, *, unbiased: bool = True) -> float:
    """Linear CKA of two representations of the same n images: [n, C1], [n, C2].

    Biased: ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) of centred X, Y (Kornblith et al. 2019).
    """
    hsic = hsic1 if unbiased else hsic0
    return normalised(hsic(torch.stack([gram(x), gram(y)])))[0, 1].item()


class MinibatchCKA:
    """CKA of all pairs of representations: HSIC summed over batches, then the ratio.

    The biased one keeps the bias of a single batch, however many there are.
    """

    def __init__(self) -> None:
        self._hsic0: Tensor | int = 0
        self._hsic1: Tensor | int = 0

    def add(self, features: Tensor) -> None:
        """Count one batch in; features: [r, n, C], row k of each about the same image."""
        grams = gram(features)
        self._hsic0 = self._hsic0 + hsic0(grams)
        self._hsic1 = self._hsic1 + hsic1(grams)

    def biased(self) -> Tensor:
        """[r, r] float64 in [0, 1]; NaN for constant features."""
        return normalised(self._hsic0)

    def unbiased(self) -> Tensor:
        """[r, r] float64 in [-1, 1]; NaN for constant features."""
        return normalised(self._hsic1)


@torch.no_grad()
def block_representations(
    model: nn.Module,
    diffusion: Diffusion,
    x0: Tensor,
    noise: Tensor,
    y: Tensor,
    timesteps: Sequence[int],
) -> Tensor:
    """Token means of every block's output at every timestep, for the same images and noise.

    x0, noise: [n, C, H, W]; y: [n] int64.  Returns [blocks, timesteps, n, width] float32; a
    block's output includes the complement that routing adds back (Eq. 8).
    """
    kept: list[list[Tensor]] = [[] for _ in model.blocks]
    hooks = [
        block.register_forward_hook(partial(_keep_token_mean, own))
        for block, own in zip(model.blocks, kept, strict=True)
    ]
    try:
        for timestep in timesteps:
            t = torch.full((len(x0),), timestep, device=x0.device)
            model(diffusion.add_noise(x0, t, noise), t, y)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([torch.stack(own) for own in kept])


def _keep_token_mean(kept: list[Tensor], _block: nn.Module, _inputs: Any, output: Tensor) -> None:
    kept.append(output.float().mean(dim=1))


def measure_cka(
    model_folder: Path,
    data_manifest: Path,
    out: Path,
    *,
    n: int = 2048,
    batch_size: int = 256,
    seed: int = 0,
    device: str = "cpu",
) -> str | None:
    """Write the timestep-by-timestep CKA of every block of a trained DiT as one JSON record.

    n images (a multiple of batch_size) and their noise are functions of `seed` and the dataset,
    so runs are compared on the same inputs. A diverged run gets a record without blocks.
    Returns why there are none, or None.
    """
    started = time.perf_counter()
    train = read_record(ModelRecord, model_folder / MODEL[1])
    model, settings = load_model(model_folder, device)
    data = open_training_data(data_manifest)
    _check(settings, data, n, batch_size)
    diffusion = Diffusion.from_settings(settings.diffusion).to(device)
    timesteps = cka_timesteps(diffusion.num_steps)
    cka = [MinibatchCKA() for _ in model.blocks] if train.status == "ok" else []
    if cka:
        inputs = _inputs(data, settings.inputs, n, seed)
        with Progress(f"cka {train.run} seed {train.seed}", n, unit="image") as progress:
            for batch in zip(*(values.split(batch_size) for values in inputs), strict=True):
                x0, noise, y = (values.to(device) for values in batch)
                blocks = block_representations(model, diffusion, x0, noise, y, timesteps)
                for block, features in zip(cka, blocks, strict=True):
                    block.add(features)
                progress.advance(len(x0))
    blocks = [{"unbiased": _rounded(c.unbiased()), "biased": _rounded(c.biased())} for c in cka]
    record = CkaRecord(
        **train.model_dump(include={"run", "seed", "step", "status", "reason"}),
        estimator=ESTIMATOR,
        n=n,
        batch_size=batch_size,
        data_seed=seed,
        dataset_hash=data.manifest["content_hash"],
        weights_sha256=train.weights_sha256,
        timesteps=timesteps,
        blocks=blocks,
        provenance=provenance(device),
        wall_seconds=time.perf_counter() - started,
    )
    write_record(out, record)
    return None if cka else f"{train.status}: {train.reason}"


def _check(settings: RunSettings, data: TrainingData, n: int, batch_size: int) -> None:
    kind, inputs = settings.backbone.type, settings.inputs
    if kind != "dit":
        raise Refusal(f"backbone {kind!r}: CKA is measured of 'dit' only")
    if batch_size < SMALLEST_BATCH:
        raise Refusal(f"batch_size = {batch_size}: HSIC_1 needs at least {SMALLEST_BATCH} images")
    if n < 1 or n % batch_size:
        raise Refusal(f"images = {n}: not a positive multiple of batch_size = {batch_size}")
    if n > len(data):
        raise Refusal(f"images = {n}: the data has {len(data)}")
    if data.shape != inputs.shape or data.tokens is not None:
        told = "" if data.tokens is None else " with captions"
        raise Refusal(
            f"data of shape {data.shape}{told}: the model takes {inputs.shape} and no text"
        )
    highest = int(data.labels.max())
    if inputs.num_classes > 1 and highest >= inputs.num_classes:
        raise Refusal(f"data with label {highest}: the model knows {inputs.num_classes} classes")


def _inputs(data: TrainingData, inputs: Inputs, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """x0, noise and labels of n images, drawn together so that batches do not change them."""
    draws = generator(seed, "cka")
    rows = draws.permutation(len(data))[:n]
    x0 = data.sample(rows, draws)
    noise = draws.standard_normal(x0.shape, dtype=x0.dtype)
    every_label = inputs.model_copy(update={"label_dropout": 0.0})
    y = data.conditions(rows, draws, every_label)
    return torch.from_numpy(x0), torch.from_numpy(noise), torch.from_numpy(y)


def _rounded(matrix: Tensor) -> list[list[float | None]]:
    """Six significant digits; NaN, which JSON does not have, as null."""
    return [
        [float(f"{value:.6g}") if math.isfinite(value) else None for value in row]
        for row in matrix.tolist()
    ]
