"""Our extractor under its name in torch-fidelity, so that its own interface can be used with it.

register_extractor("digits-cnn")
torch_fidelity.calculate_metrics(
    input1=..., input2=..., fid=True, cuda=False, feature_extractor="digits-cnn",
    feature_extractor_weights_path="<folder of the extractor>/weights.safetensors",
)
"""

from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from dtr.assets.extractor import RESOLUTION, load_extractor
from dtr.support.errors import Refusal

LAYERS = {"isc": "logits", "fid": "features", "kid": "features", "prc": "features"}


class DigitsFeatures(FeatureExtractorBase):
    """torch-fidelity's view of a trained DigitsCNN: uint8 [n, 3, 32, 32] -> requested layers."""

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str | None = None,
        **_: object,
    ) -> None:
        super().__init__(name, features_list)
        if feature_extractor_weights_path is None:
            raise Refusal(
                f"feature extractor {name!r}: feature_extractor_weights_path is missing, "
                "it must name the trained weights.safetensors"
            )
        self.network = load_extractor(Path(feature_extractor_weights_path).parent)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.network(images)
        layers = {"features": features, "logits": logits}
        return tuple(layers[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return LAYERS[metric]

    @staticmethod
    def can_be_compiled() -> bool:
        return True

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, RESOLUTION, RESOLUTION, dtype=torch.uint8)


def register_extractor(name: str) -> None:
    """Make `name` known to torch-fidelity; calling it again changes nothing."""
    known = FEATURE_EXTRACTORS_REGISTRY.get(name)
    if known is DigitsFeatures:
        return
    if known is not None:
        raise Refusal(
            f"extractor {name!r}: torch-fidelity has another extractor of this name; rename it"
        )
    register_feature_extractor(name, DigitsFeatures)
