"""The objective of a training, and the learning rate of a step."""

import numpy as np
import torch
from torch import Tensor, nn

from dtr.backbones.build import build_backbone
from dtr.config.stages import OptimisationSettings, RunSettings
from dtr.diffusion import Diffusion
from dtr.weighting import Weighting, build_weighting

# Weights, losses and EMA are float32 whatever the precision of the network's products.
REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainedWeighting(nn.Module):
    """A loss weighting on the device: its tables as buffers, its numbers as parameters."""

    def __init__(self, rule: Weighting) -> None:
        super().__init__()
        self.rule = rule
        for name, array in self.rule.tables.items():
            table = torch.from_numpy(array)
            table = table.float() if table.is_floating_point() else table
            self.register_buffer(name, table, persistent=False)  # follows from the schedule
        for name, array in self.rule.parameters.items():
            start = torch.from_numpy(array.astype(np.float32))
            self.register_parameter(name, nn.Parameter(start))

    def forward(self, mse: Tensor, vb: Tensor, t: Tensor) -> Tensor:
        """Scalar loss from per-sample terms; mse, vb: [B] (vb in bits), t: [B] int64."""
        own = dict(self.named_buffers()) | dict(self.named_parameters())
        return self.rule.loss(mse, vb, t, own)


class Objective(nn.Module):
    """Model, process and weighting as one module: from a noised batch to the loss."""

    def __init__(self, settings: RunSettings) -> None:
        super().__init__()
        self.model = build_backbone(settings.backbone, settings.inputs, settings.routing)
        self.diffusion = Diffusion.from_settings(settings.diffusion)
        rule = build_weighting(settings.weighting, self.diffusion.snr())
        self.weighting = TrainedWeighting(rule)
        self.reduced = REDUCED.get(settings.training.precision)

    def forward(self, x0: Tensor, t: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """[loss, mean mse, mean vb] of a batch; x0, noise: [B, C, H, W]; t, y: [B] int64."""
        x_t = self.diffusion.add_noise(x0, t, noise)
        with torch.autocast(x0.device.type, self.reduced, enabled=self.reduced is not None):
            output = self.model(x_t, t, y)
        mse, vb = self.diffusion.loss_terms(output, x0, x_t, t, noise)
        return torch.stack([self.weighting(mse, vb, t), mse.mean(), vb.mean()])


def learning_rate(training: OptimisationSettings, step: int) -> float:
    """Linear warm-up over `warmup_steps`, then constant."""
    return training.learning_rate * min(1.0, (step + 1) / max(1, training.warmup_steps))
