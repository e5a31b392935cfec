"""From a scale and a run to the settings of its training. Free of torch."""

from typing import Any

from dtr.config.backbones import Inputs
from dtr.config.scale import Scale
from dtr.config.stages import RunSettings
from dtr.experiments import SLOTS, Run
from dtr.registry import Family, settings_model
from dtr.support.errors import Refusal
from dtr.support.settings import PartSettings, parse


def training_steps(scale: Scale, run: Run) -> int:
    """Steps that stand for the run's iterations, in the proportion of its slot."""
    return round(scale.slots[run.slot].steps * run.iterations / SLOTS[run.slot].iterations)


def routing_settings(scale: Scale, run: Run, seed: int) -> PartSettings:
    """The run's routing: its own constants, and those of the scale that it has and is silent of.

    seed: of the training; random masks are drawn anew for each, the same for all methods.
    """
    fields = settings_model("routing", run.routing.type).model_fields
    defaults = {"seed": seed} | scale.routing.model_dump(exclude_none=True)
    values = {name: value for name, value in defaults.items() if name in fields}
    values |= run.routing.constants
    if "period" in fields and "period" not in values:
        # One channel at a time, so that roaming lasts the whole run.
        channels = scale.backbones[run.backbone].channels
        updates = channels - int(channels * values["beta"])
        values["period"] = max(1, training_steps(scale, run) // max(1, updates))
    return _part("routing", run.routing.type, values)


def weighting_settings(scale: Scale, run: Run) -> PartSettings:
    """The run's loss weighting: its own constants before those of the scale."""
    name = run.weighting.type
    return _part("weighting", name, scale.weighting.get(name, {}) | run.weighting.constants)


def _part(family: Family, name: str, constants: dict[str, Any]) -> PartSettings:
    model = settings_model(family, name)
    try:
        return parse(model, {"type": name} | constants, source="")
    except Refusal as refusal:
        raise Refusal(f"{family}.{str(refusal).removeprefix(': ')}") from None


def inputs(scale: Scale, run: Run) -> Inputs:
    """What the run's network is given: the slot's images and what it is told of them."""
    slot, told = scale.slots[run.slot], SLOTS[run.slot].told
    size, channels = scale.datasets[slot.dataset].resolution, 3
    if slot.autoencoder is not None:
        autoencoder = scale.autoencoders[slot.autoencoder]
        size, channels = size // autoencoder.downsampling, autoencoder.latent_channels
    text = {}
    if told == "text":
        encoder = scale.text_encoders[slot.text_encoder]
        text = {"text_tokens": encoder.tokens, "text_width": encoder.width}
    return Inputs(
        input_size=size,
        in_channels=channels,
        num_classes=slot.num_classes,
        label_dropout=0.0 if told == "none" else scale.training.label_dropout,
        **text,
    )


def run_settings(scale: Scale, run: Run, seed: int) -> RunSettings:
    """Everything the training of `run` with `seed` depends on, except the data's content."""
    batch_size = scale.slots[run.slot].batch_size or scale.training.batch_size
    backbone, given = scale.backbones[run.backbone], inputs(scale, run)
    if (reason := backbone.misfit(given)) is not None:
        raise Refusal(f"backbones.{run.backbone}.{reason} of slot {run.slot!r}")
    return RunSettings(
        seed=seed,
        backbone=backbone,
        inputs=given,
        routing=routing_settings(scale, run, seed),
        weighting=weighting_settings(scale, run),
        timesteps=run.timesteps,
        diffusion=scale.diffusion,
        training=scale.training.model_copy(update={"batch_size": batch_size}),
    )
