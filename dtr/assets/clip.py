"""CLIP's text encoder, read by transformers: the hidden states of all tokens after the final norm.

The empty caption is encoded like any other; padding is not masked, as in Stable Diffusion.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dtr.assets.pretrained import Taken, read_as
from dtr.config.pretrained import ClipSettings
from dtr.planning.places import ASSET
from dtr.records.schema import TextEncoderRecord
from dtr.records.weights import read_weights
from dtr.support.errors import Refusal
from dtr.support.settings import parse

VOCABULARY = ("vocab.json", "merges.txt")
BATCH = 64  # captions in the network at once


def read(name: str, settings: ClipSettings, files: dict[str, Path]) -> Taken:
    """Its tensors and configuration; another number of tokens or another width is refused."""
    folder = files["config.json"].parent

    def opened() -> Taken:
        from transformers import CLIPTextModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # the image tower, which nobody needs, is no surprise
        logging.disable_progress_bar()
        model = CLIPTextModel.from_pretrained(str(folder), local_files_only=True)
        # What json cannot say, such as a dtype, is no part of the shape.
        config = json.loads(model.config.to_json_string(use_diff=True))
        own = settings.model_copy(update={"network": config})
        return Taken(own, model.state_dict(), VOCABULARY)

    taken = read_as(name, "a CLIP text model of transformers", folder, opened)
    network = _config(taken.settings.network)
    found, told = (network.max_position_embeddings, network.hidden_size), _shape(settings)
    if found != told:
        raise Refusal(
            f"{name}: {folder}: {found[0]} tokens of width {found[1]}; the scale says tokens = "
            f"{told[0]}, width = {told[1]}"
        )
    return taken


def _shape(settings: ClipSettings) -> tuple[int, int]:
    return settings.tokens, settings.width


def _config(network: dict):
    from transformers import CLIPTextConfig

    return CLIPTextConfig.from_dict(dict(network))


class ClipEncoder:
    """The frozen encoder of a fetched network."""

    def __init__(self, settings: ClipSettings) -> None:
        if settings.folder is None:
            raise Refusal("text encoder 'clip': `folder` is missing: that of the fetched network")
        folder = Path(settings.folder)
        self.tokens, self.width = _shape(settings)
        record, tensors = read_weights(folder, ASSET, TextEncoderRecord)
        own = parse(ClipSettings, record.settings, source=str(folder / ASSET[1]))
        if _shape(own) != _shape(settings):
            raise Refusal(f"{folder}: {_shape(own)} tokens and width, expected {_shape(settings)}")
        read_as("text encoder 'clip'", "captions", folder, lambda: self._open(own, folder, tensors))

    def _open(self, settings: ClipSettings, folder: Path, tensors: dict) -> None:
        from transformers import CLIPTextModel, CLIPTokenizer

        self._tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = CLIPTextModel(_config(settings.network))
        model.load_state_dict(tensors)
        self._model, self._device = model.eval().requires_grad_(False), "cpu"

    def to(self, device: str) -> None:
        """Compute on a device from now on."""
        self._model.to(device)
        self._device = device

    @torch.inference_mode()
    def encode(self, captions: Sequence[str]) -> np.ndarray:
        """Encoded captions: [n, tokens, width] float32; longer ones lose their last words."""
        parts = [np.empty((0, self.tokens, self.width), np.float32)]
        for start in range(0, len(captions), BATCH):
            told = self._tokenizer(
                list(captions[start : start + BATCH]),
                padding="max_length",
                max_length=self.tokens,
                truncation=True,
                return_tensors="pt",
            )
            hidden = self._model(told["input_ids"].to(self._device)).last_hidden_state
            parts.append(hidden.float().cpu().numpy())
        return np.concatenate(parts)
