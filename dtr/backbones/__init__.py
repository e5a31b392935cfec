"""Networks with one contract: `backbone(x, t, y)` -> predicted noise and variance, [B, 2C, H, W].

t: [B] int64 original timesteps 0..999; y: what the model is told, [B] int64 labels or [B, T, W]
float32 encoded captions. `null_condition(y)` gives what stands for "told nothing" in its place.
"""

from torch import nn

from dtr.backbones.adm import ADM
from dtr.backbones.dit import DiT
from dtr.backbones.dit_text import DiTText
from dtr.config.backbones import BackboneSettings
from dtr.config.stages import RoutingSettings

FAMILIES = {"dit": DiT, "dit_text": DiTText, "adm": ADM}


def build_backbone(
    settings: BackboneSettings, routing: RoutingSettings, *, num_timesteps: int = 1000
) -> nn.Module:
    """The network of a run with its routing masks, initialised from torch's current seed."""
    return FAMILIES[settings.family](settings, routing, num_timesteps=num_timesteps)
