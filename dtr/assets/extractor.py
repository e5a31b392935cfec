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

from dtr.assets.fitting import fit
from dtr.config.stages import ExtractorSettings
from dtr.planning.places import ASSET
from dtr.records.provenance import provenance
from dtr.records.schema import ExtractorRecord
from dtr.records.weights import read_weights, write_weights
from dtr.registry import build, settings_model
from dtr.seeding import generator
from dtr.support.errors import Refusal
from dtr.support.progress import Progress
from dtr.support.settings import parse

RESOLUTION, CLASSES = 32, 10
SIDES = (RESOLUTION, RESOLUTION // 2, RESOLUTION // 4)  # of square images that it accepts
MAX_SHIFT = 2  # pixels; random shifts in training, never flips: a mirrored digit is no digit
# Part of every feature's definition: float32 sums depend on the shape they are computed in.
EXTRACTION_BATCH = 250


class DigitsCNN(nn.Module):
    """Classifier of digits: uint8 [n, 3, 32, 32] -> features [n, features], logits [n, 10].

    The features are the activations before the last linear layer. Normalising each image's vector
    bounds its length: otherwise a few long ones dominate KID's cubic kernel. GELU instead of ReLU
    leaves no feature constant, so covariances keep full rank.
    """

    def __init__(self, settings: ExtractorSettings) -> None:
        super().__init__()
        width, features = settings.width, settings.features
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


def train_extractor(
    settings: ExtractorSettings,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    folder: Path,
    *,
    dataset_hash: str,
) -> None:
    """Fit the classifier; write weights and, last, record.json.

    train, test: images uint8 [n, H, W, 3] and their labels [n] int64.
    """
    images, labels = train
    _check_images(settings.type, images, max(labels.max(), test[1].max()) + 1)
    started = time.perf_counter()
    classes = torch.from_numpy(labels)

    def loss_of(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
        batch = _shifted(images[rows], seed=settings.seed, step=step)
        return F.cross_entropy(model(_to_network(batch))[1], classes[torch.from_numpy(rows)])

    title = f"extractor {folder.name}"

    def untrained() -> nn.Module:
        return build("extractor", settings.type, settings)

    model = fit(settings, untrained, loss_of, count=len(images), title=title)
    seconds = time.perf_counter() - started
    write_weights(
        folder,
        ASSET,
        model.state_dict(),
        ExtractorRecord,
        settings=settings.plain(),
        test_accuracy=_accuracy(model, *test),
        train_accuracy=_accuracy(model, *train),
        dataset_hash=dataset_hash,
        provenance=provenance(),
        wall_seconds=seconds,
    )


def load_extractor(folder: Path, device: str = "cpu") -> nn.Module:
    """The trained extractor in evaluation mode; weights unlike the recorded ones are refused."""
    record, tensors = read_weights(folder, ASSET, ExtractorRecord)
    kind, source = record.settings.get("type"), f"{folder / ASSET[1]}: settings"
    settings = parse(settings_model("extractor", kind), record.settings, source=source)
    model = build("extractor", kind, settings)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False).to(device)


@torch.inference_mode()
def extract(
    extractor: nn.Module,
    images: np.ndarray,
    *,
    source: str | Path = "images",
    shown: bool = False,
) -> dict[str, np.ndarray]:
    """Features and logits of uint8 images [n, H, W, 3]: float32 [n, d] and [n, classes].

    An extractor may give `spatial` features, too, and name its `outputs`. It may say which `sides`
    of square images it accepts (None: all), and its `batch`; others are like ours. Images of other
    sizes are refused; `source` names them in the message, and in the progress if it is `shown`.

    The last batch is filled up, so all images pass through the network in the same shape and an
    image's features do not depend on how the images are cut into files.
    """
    sides = getattr(extractor, "sides", SIDES)
    size = getattr(extractor, "batch", EXTRACTION_BATCH)
    outputs = getattr(extractor, "outputs", ("features", "logits", "spatial"))
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise Refusal(f"{source}: {images.dtype} {list(images.shape)}, expected uint8 [n, H, W, 3]")
    if sides is not None and images.shape[1:3] not in [(side, side) for side in sides]:
        height, width = images.shape[1:3]
        accepted = " or ".join(f"{side} x {side}" for side in sides)
        raise Refusal(
            f"{source}: images of {height} x {width} pixels; the extractor accepts {accepted}"
        )
    device = next(extractor.parameters()).device
    parts: dict[str, list[np.ndarray]] = {}
    title = f"features of {source}"
    with Progress(title, len(images), unit="image", shown=shown, short=True) as progress:
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            missing = size - len(batch)
            filled = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0)))
            found = extractor(_to_network(filled).to(device))
            for name, values in zip(outputs, found, strict=False):
                parts.setdefault(name, []).append(values[: len(batch)].float().cpu().numpy())
            progress.advance(len(batch))
    return {name: np.concatenate(part) for name, part in parts.items()}


def _check_images(kind: str, images: np.ndarray, classes: int) -> None:
    resolution = images.shape[1]
    if kind == "digits_cnn" and (resolution not in SIDES or classes != CLASSES):
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


def _accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    return float((extract(model, images)["logits"].argmax(axis=1) == labels).mean())
