"""Trained models on disk: a folder with ema.safetensors and train.json, the record of the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dtr.backbones import build_backbone
from dtr.backbones.experts import Experts
from dtr.config.stages import TrainSettings
from dtr.support.errors import Refusal
from dtr.support.files import hash_file, read_json, replacing, write_json
from dtr.support.settings import parse


def write_model(out: Path, tensors: Mapping[str, Tensor], record: dict[str, Any]) -> None:
    """Write the weights and, last, the record with their hash, which makes the model exist."""
    path = out / "ema.safetensors"
    with replacing(path) as temporary:
        save_file({name: t.cpu().contiguous() for name, t in tensors.items()}, temporary)
    write_json(out / "train.json", record | {"weights_sha256": hash_file(path)})


def load_model(folder: Path, device: str = "cpu") -> tuple[nn.Module, TrainSettings]:
    """The EMA network of a run in evaluation mode, and its settings.

    Weights that differ from the run's record are refused.
    """
    record = read_json(folder / "train.json")
    settings = parse(TrainSettings, record["settings"], source=f"{folder / 'train.json'}: settings")
    weights = folder / "ema.safetensors"
    if not weights.is_file() or hash_file(weights) != record["weights_sha256"]:
        raise Refusal(f"{weights}: missing or not the recorded weights; delete {folder}")
    model = build_backbone(settings.backbone, settings.routing)
    model.load_state_dict(load_file(weights))
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


def load_models(folders: Sequence[Path], device: str = "cpu") -> tuple[nn.Module, TrainSettings]:
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
