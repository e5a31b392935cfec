"""The network of a run, by the registered name of its kind."""

from torch import nn

from dtr.config.backbones import BackboneSize, Inputs
from dtr.registry import build, named
from dtr.support.errors import Refusal
from dtr.support.settings import PartSettings


def build_backbone(
    settings: BackboneSize, inputs: Inputs, routing: PartSettings, *, num_timesteps: int = 1000
) -> nn.Module:
    """The network of a run with its routing masks, initialised from torch's current seed."""
    if (reason := settings.misfit(inputs)) is not None:
        raise Refusal(f"{named('backbone', settings.type)}: {reason}")
    own = {"num_timesteps": num_timesteps}
    return build("backbone", settings.type, settings, inputs, routing, **own)
