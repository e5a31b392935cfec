"""clean-fid's own Inception, a TorchScript file of NVIDIA's, run beside torch-fidelity's.

FID of its features is what clean-fid's users report: other weights than torch-fidelity's by
rounding only, but its own resizing, antialiased in float.
"""

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from dtr.assets.inception import FEATURES, SIDE, Inception, as_clean_fid
from dtr.assets.inception import read as read_inception
from dtr.assets.pretrained import Taken, read_as
from dtr.config.pretrained import InceptionCleanSettings

SCRIPT = "clean"  # name of the tensor that is the file's bytes: code and weights belong together


def read(name: str, settings: InceptionCleanSettings, files: dict[str, Path]) -> Taken:
    """The tensors of torch-fidelity's file, and clean-fid's as it is, once both have worked."""
    taken, path = read_inception(name, settings, files), files[settings.origin.files[1]]

    def opened() -> Taken:
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
        with torch.inference_mode():
            found = _features(_opened(content), torch.zeros(1, 3, SIDE, SIDE)).shape[1]
        if found != FEATURES and not settings.rehearsal:
            raise ValueError(f"it gives {found} features, not {FEATURES}")
        return Taken(settings, taken.tensors | {SCRIPT: torch.from_numpy(content)})

    return read_as(name, "clean-fid's TorchScript of Inception", path, opened)


class InceptionClean(Inception):
    """`Inception`, and as fourth output the features of clean-fid's network: [n, 2048]."""

    outputs: ClassVar = ("features", "logits", "spatial", "clean")

    def __init__(self, settings: InceptionCleanSettings) -> None:
        super().__init__(settings)
        self.clean: Any = None

    def load_state_dict(self, tensors: Mapping[str, Tensor], *_: Any, **__: Any) -> None:
        """Build both networks around their weights."""
        others = dict(tensors)
        self.clean = _opened(others.pop(SCRIPT).numpy())
        super().load_state_dict(others)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return *super().forward(images), _features(self.clean, as_clean_fid(images))


def _opened(content: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of TorchScript, which the file is
        return torch.jit.load(io.BytesIO(content.tobytes()), map_location="cpu").eval()


def _features(script: Any, pixels: Tensor) -> Tensor:
    """Of pixels in [-1, 1], 299 x 299: as clean-fid calls it, without the network's resizing."""
    return script.layers.forward(pixels).flatten(1)
