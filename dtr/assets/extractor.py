"""The network whose features the metrics compare: training, loading, extracting.

At the `digits` scale it is a small classifier trained by the workflow. Metrics are named after the
extractor (`fid@digits-cnn`), because numbers of different extractors cannot be compared.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.config.stages import ExtractorSettings
from dtr.data.datasets import ImageDataset
from dtr.records.provenance import provenance
from dtr.seeding import batch_indices, generator
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json, replacing, write_json
from dtr.support.progress import Progress
from dtr.support.settings import parse

RESOLUTION, CLASSES = 32, 10
SIDES = (RESOLUTION, RESOLUTION // 2)  # of square images that it accepts
MAX_SHIFT = 2  # pixels; random shifts in training, never flips: a mirrored digit is no digit
# Part of every feature's definition: float32 sums depend on the shape they are computed in.
EXTRACTION_BATCH = 250


class DigitsCNN(nn.Module):
    """Classifier of digits: uint8 [n, 3, 32, 32] -> features [n, features], logits [n, 10].

    The features are the activations before the last linear layer. Normalising each image's vector
    bounds its length: otherwise a few long ones dominate KID's cubic kernel. GELU instead of ReLU
    leaves no feature constant, so covariances keep full rank.
    """

    def __init__(self, *, width: int, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(4 * width, 4 * width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(4 * width * (RESOLUTION // 8) ** 2, features),
            nn.LayerNorm(features, elementwise_affine=False),
            nn.GELU(),
        )
        self.head = nn.Linear(features, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[-1] < RESOLUTION:  # smaller pixels are shown as blocks of equal ones
            images = F.interpolate(images.float(), size=RESOLUTION, mode="nearest")
        features = self.body(images.float() / 127.5 - 1)
        return features, self.head(features)


def train_extractor(settings: ExtractorSettings, dataset: ImageDataset, folder: Path) -> None:
    """Fit the classifier to the training split; write weights and, last, record.json."""
    _check_dataset(dataset)
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = DigitsCNN(width=settings.width, features=settings.features)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    train = dataset.positions("train")
    images = np.asarray(dataset.images[train])
    labels = torch.from_numpy(dataset.labels()[train])
    with Progress(f"extractor {folder.name}", settings.steps) as progress:
        for step in range(settings.steps):
            rows = batch_indices(
                settings.seed, step, size=len(train), batch_size=settings.batch_size
            )
            batch = _shifted(images[rows], seed=settings.seed, step=step)
            loss = F.cross_entropy(model(_to_network(batch))[1], labels[torch.from_numpy(rows)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.show(loss=float(loss.detach()))
            progress.advance()
    _write(model.eval(), settings, dataset, folder, time.perf_counter() - started)


def load_extractor(folder: Path, device: str = "cpu") -> DigitsCNN:
    """The trained extractor in evaluation mode; weights unlike the recorded ones are refused."""
    from safetensors.torch import load_file

    record, weights = read_json(folder / "record.json"), folder / "weights.safetensors"
    settings = parse(
        ExtractorSettings, record.get("settings"), source=f"{folder / 'record.json'}: settings"
    )
    if not weights.is_file():
        raise Refusal(f"{weights}: missing; delete {folder} to train the extractor again")
    if hash_file(weights) != record.get("weights_sha256"):
        raise Refusal(
            f"{weights}: content differs from weights_sha256 in record.json (corrupted?); "
            f"delete {folder} to train the extractor again"
        )
    model = DigitsCNN(width=settings.width, features=settings.features)
    model.load_state_dict(load_file(weights))
    return model.eval().requires_grad_(False).to(device)


@torch.inference_mode()
def extract(
    extractor: nn.Module, images: np.ndarray, *, source: str | Path = "images"
) -> dict[str, np.ndarray]:
    """Features and logits of uint8 images [n, H, W, 3]: float32 [n, d] and [n, classes].

    Images of other sizes than the extractor's are refused; `source` names them in the message.

    The last batch is filled up, so all images pass through the network in the same shape and an
    image's features do not depend on how the images are cut into files.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise Refusal(f"{source}: {images.dtype} {list(images.shape)}, expected uint8 [n, H, W, 3]")
    if images.shape[1:3] not in [(side, side) for side in SIDES]:
        height, width = images.shape[1:3]
        accepted = " or ".join(f"{side} x {side}" for side in SIDES)
        raise Refusal(
            f"{source}: images of {height} x {width} pixels; the extractor accepts {accepted}"
        )
    device = next(extractor.parameters()).device
    parts: dict[str, list[np.ndarray]] = {"features": [], "logits": []}
    for start in range(0, len(images), EXTRACTION_BATCH):
        batch = images[start : start + EXTRACTION_BATCH]
        missing = EXTRACTION_BATCH - len(batch)
        filled = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
        for part, values in zip(
            parts.values(), extractor(_to_network(filled).to(device)), strict=True
        ):
            part.append(values[: len(batch)].float().cpu().numpy())
    return {name: np.concatenate(part) for name, part in parts.items()}


def _check_dataset(dataset: ImageDataset) -> None:
    resolution, classes = dataset.images.shape[1], int(dataset.labels().max()) + 1
    if resolution not in SIDES or classes != CLASSES:
        raise Refusal(
            f"extractor kind 'digits_cnn': dataset has {classes} classes at {resolution} pixels, "
            f"it accepts {CLASSES} classes at {' or '.join(map(str, SIDES))}"
        )


def _to_network(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)


def _shifted(images: np.ndarray, *, seed: int, step: int) -> np.ndarray:
    """Each image moved by up to MAX_SHIFT pixels each way, its edge repeated: [n, H, W, 3]."""
    count, height, width, _ = images.shape
    offsets = generator(seed, "extractor", step).integers(0, 2 * MAX_SHIFT + 1, size=(2, count, 1))
    margin = (MAX_SHIFT, MAX_SHIFT)
    padded = np.pad(images, ((0, 0), margin, margin, (0, 0)), mode="edge")
    rows, columns = offsets[0] + np.arange(height), offsets[1] + np.arange(width)
    return padded[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _accuracy(model: nn.Module, dataset: ImageDataset, split: str) -> float:
    rows = dataset.positions(split)
    guesses = extract(model, np.asarray(dataset.images[rows]))["logits"].argmax(axis=1)
    return float((guesses == dataset.labels()[rows]).mean())


def _write(model, settings, dataset, folder: Path, seconds: float) -> None:
    from safetensors.torch import save_file

    weights = folder / "weights.safetensors"
    with replacing(weights) as temporary:
        save_file(model.state_dict(), temporary)
    write_json(
        folder / "record.json",
        {
            "settings": settings.plain(),
            "test_accuracy": _accuracy(model, dataset, "test"),
            "train_accuracy": _accuracy(model, dataset, "train"),
            "dataset_hash": dataset.manifest["content_hash"],
            "weights_sha256": hash_file(weights),
            "provenance": provenance(),
            "wall_seconds": seconds,
        },
    )
