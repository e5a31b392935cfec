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


def load_models(folders: Sequence[Path], device: str = "cpu") -> tuple[nn.Module, RunSettings]:
    """One network, or several experts as one; settings of the first."""
    loaded = [load_model(folder, device) for folder in folders]
    models, settings = zip(*loaded, strict=True)
    if len(models) == 1:
        return models[0], settings[0]
    return Experts(list(models), [own.timesteps for own in settings]), settings[0]
