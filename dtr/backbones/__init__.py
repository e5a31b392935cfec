"""Networks with one contract: `backbone(x, t, y)` -> predicted noise and variance, [B, 2C, H, W].

t: [B] int64 original timesteps 0..999; y: [B] int64 labels, `null_label` where there is none.
"""

from torch import nn

from dtr.backbones.dit import DiT
from dtr.config import BackboneSettings, RoutingSettings

FAMILIES = {"dit": DiT}


def build_backbone(
    settings: BackboneSettings, routing: RoutingSettings, *, num_timesteps: int = 1000
) -> nn.Module:
    """The network of a run with its routing masks, initialised from torch's current seed."""
    return FAMILIES[settings.family](settings, routing, num_timesteps=num_timesteps)
