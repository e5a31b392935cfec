"""Trained models on disk as networks again."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from dtr.backbones.build import build_backbone
from dtr.backbones.experts import Experts
from dtr.config.stages import RunSettings
from dtr.planning.places import MODEL
from dtr.records.schema import ModelRecord
from dtr.records.weights import read_weights
from dtr.support.errors import Refusal
from dtr.support.settings import parse


def load_model(folder: Path, device: str = "cpu") -> tuple[nn.Module, RunSettings]:
    """The EMA network of a run in evaluation mode, and its settings.

    Weights that differ from the run's record are refused.
    """
    record, tensors = read_weights(folder, MODEL, ModelRecord)
    settings = parse(RunSettings, record.settings, source=f"{folder / MODEL[1]}: settings")
    model = build_backbone(settings.backbone, settings.inputs, settings.routing)
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False).to(device), settings


def _check_ranges(ranges: Sequence[tuple[int, int]], num_timesteps: int) -> None:
    """Refuse [first, last) ranges that do not cover each timestep once."""
    edges = [edge for own in sorted(ranges) for edge in own]
    if [edges[0], edges[-1]] != [0, num_timesteps] or edges[1:-1:2] != edges[2:-1:2]:
        found = ", ".join(f"[{first}, {last})" for first, last in ranges)
        raise Refusal(
            f"--model: trained for timesteps {found}; accepted: models that cover each of "
            f"[0, {num_timesteps}) once"
        )


def load_models(folders: Sequence[Path], device: str = "cpu") -> tuple[nn.Module, RunSettings]:
    """One network, or several experts as one; settings of the first.

    Refused are experts of different networks, and ranges of timesteps that leave some out.
    """
    loaded = [load_model(folder, device) for folder in folders]
    models, settings = zip(*loaded, strict=True)
    for folder, own in zip(folders, settings, strict=True):
        if (own.backbone, own.diffusion) != (settings[0].backbone, settings[0].diffusion):
            raise Refusal(f"--model {folder}: of another network or schedule than {folders[0]}")
    _check_ranges([own.timesteps for own in settings], settings[0].diffusion.num_timesteps)
    if len(models) == 1:
        return models[0], settings[0]
    return Experts(list(models), [own.timesteps for own in settings]), settings[0]
