"""What does not belong together: a model, a protocol, and the networks beside the model."""

from pathlib import Path

from dtr.config.stages import Protocol, RunSettings, TextEncoderSettings
from dtr.planning.places import ASSET, MODEL
from dtr.records.schema import AutoencoderRecord, ModelRecord, read_record
from dtr.support.errors import Refusal
from dtr.support.files import read_json

PIXEL_CHANNELS = 3


def check_decoder(
    protocol: Protocol, settings: RunSettings, model: Path, decoder: Path | None
) -> None:
    """Refuse a decoder other than the protocol's, one too many, and one that is missing.

    settings: of the model in the folder `model`, whose record knows the weights of the
    autoencoder if the model was trained here on cached latents.
    """
    named, channels = protocol.autoencoder, settings.inputs.in_channels
    pixels = settings.backbone.space == "pixel" or (decoder is None and channels == PIXEL_CHANNELS)
    if decoder is not None and (pixels or named is None):
        why = f"{model} makes pixels" if pixels else "the protocol names no autoencoder"
        raise Refusal(f"--decoder {decoder}: {why}; accepted: no decoder")
    if decoder is None and not (pixels and named is None):
        wanted = "an autoencoder" if named is None else f"the autoencoder {named!r}"
        why = f"the protocol names {wanted}" if named else f"{model} makes {channels} channels"
        raise Refusal(f"--decoder: missing; {why}; accepted: the folder of {wanted}")
    if decoder is None:
        return
    if decoder.resolve().name != named:
        raise Refusal(
            f"--decoder {decoder}: the protocol names {named!r}; accepted: a folder called so"
        )
    record = read_record(AutoencoderRecord, decoder / ASSET[1])
    found = record.settings["latent_channels"]
    if found != channels:
        raise Refusal(f"--decoder {decoder}: takes {found} channels, {model} makes {channels}")
    known = read_record(ModelRecord, model / MODEL[1]).autoencoder_sha256
    if known not in (None, record.weights_sha256):
        raise Refusal(f"--decoder {decoder}: {model} was trained on latents of other weights")


def check_prompts(
    protocol: Protocol,
    settings: RunSettings,
    model: Path,
    text_encoder: TextEncoderSettings | None,
    prompts: Path | None,
) -> None:
    """Refuse captions for a model that is told none, and a model of captions without them."""
    told = settings.inputs.text_tokens is not None
    given = {"--text-encoder": text_encoder, "--prompts": prompts}
    for option, value in given.items():
        if (value is not None) != told:
            what = "is told captions" if told else "is told no captions"
            raise Refusal(f"{option}: {'missing' if told else 'given'}, but {model} {what}")
    if (protocol.text_encoder is not None) != told:
        what = "captions" if told else "no captions"
        raise Refusal(f"--protocol: text_encoder = {protocol.text_encoder!r}; {model} is of {what}")
    if prompts is not None:
        dataset = read_json(prompts).get("dataset")
        if dataset != protocol.dataset:
            raise Refusal(
                f"--prompts {prompts}: of the dataset {dataset!r}; the protocol's is "
                f"{protocol.dataset!r}"
            )
