"""The Inception network of 2015 behind FID, in torch-fidelity's form, with anybody's resizing.

It gives the 2048 features before the classifier, its logits without the bias, as ADM's evaluator
takes them, and the spatial features of sFID.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dtr.assets.pretrained import Taken, read_as
from dtr.config.pretrained import InceptionSettings

SIDE = 299
FEATURES = 2048  # those of FID
SPATIAL = 7  # channels of the first branch of mixed_6, 17 x 17 each, that sFID compares


def read(name: str, settings: InceptionSettings, files: dict[str, Path]) -> Taken:
    """The tensors of torch-fidelity's file, once its network has taken them."""
    path = files[settings.origin.files[0]]

    def opened() -> Taken:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        Inception(settings).load_state_dict(tensors)
        return Taken(settings, tensors)

    return read_as(name, "torch-fidelity's Inception weights", path, opened)


class Inception(nn.Module):
    """torch-fidelity's network: uint8 [n, 3, H, W] -> features, logits, spatial features.

    [n, 2048], [n, 1008] without bias, and [n, 17 * 17 * 7] in the order height, width, channel.
    Features of another layer come without spatial ones.
    """

    sides: ClassVar = None  # images of every size are resized to SIDE
    knows_labels: ClassVar[bool] = False  # its 1008 classes are not those of a dataset

    def __init__(self, settings: InceptionSettings) -> None:
        super().__init__()
        self.resize, self.batch, self.dims = settings.resize, settings.batch, settings.dims
        self.network: Any = None

    def load_state_dict(self, tensors: Mapping[str, Tensor], *_: Any, **__: Any) -> None:
        """Build the network around its weights; torch-fidelity's builder wants both at once."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        stream = io.BytesIO()
        torch.save(dict(tensors), stream)
        stream.seek(0)
        layers = [str(self.dims), "logits_unbiased"]
        self.network = FeatureExtractorInceptionV3("inception", layers, stream)
        # TensorFlow counts mixed, mixed_1, ...; the sixth after the first is 6d here.
        self.network.Mixed_6d.branch1x1.register_forward_hook(self._keep)

    def _keep(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self._spatial = output[:, :SPATIAL].permute(0, 2, 3, 1).flatten(1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.resize == "tensorflow":
            features, logits = self.network(images)
        else:
            resized = _as_pytorch_fid if self.resize == "pytorch" else as_clean_fid
            with _given(self.network, resized(images)) as placeholder:
                features, logits = self.network(placeholder)
        spatial = (self._spatial,) if self.dims == FEATURES else ()
        return features, logits, *spatial


def _as_pytorch_fid(images: Tensor) -> Tensor:
    """Bilinear between pixel centres, then [0, 255] to [-1, 1]."""
    size = (SIDE, SIDE)
    pixels = F.interpolate(images.float() / 255, size, mode="bilinear", align_corners=False)
    return 2 * pixels - 1


def as_clean_fid(images: Tensor) -> Tensor:
    """Pillow's antialiased bicubic in float, then (x - 128) / 128."""
    from cleanfid.resize import build_resizer

    resize = build_resizer("clean")
    pixels = np.stack([resize(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()])
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).to(images.device) - 128) / 128


@contextmanager
def _given(network: nn.Module, pixels: Tensor) -> Iterator[Tensor]:
    """Prepared pixels for the first layer, in place of what the network makes of its own input."""
    hook = network.Conv2d_1a_3x3.register_forward_pre_hook(lambda *_: (pixels,))
    try:
        yield torch.zeros(len(pixels), 3, 4, 4, dtype=torch.uint8, device=pixels.device)
    finally:
        hook.remove()
