"""Stable Diffusion's autoencoder, read by diffusers."""

from pathlib import Path

from dtr.assets.autoencoder import PatchedAutoencoder
from dtr.assets.pretrained import Taken, read_as
from dtr.config.pretrained import SdVaeSettings
from dtr.support.errors import Refusal


def read(name: str, settings: SdVaeSettings, files: dict[str, Path]) -> Taken:
    """Its tensors, and its configuration in the settings; another shape of latents is refused."""
    folder = files["config.json"].parent

    def opened() -> Taken:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        model = AutoencoderKL.from_pretrained(
            str(folder),
            local_files_only=True,
            low_cpu_mem_usage=False,  # the other way needs accelerate, and says so at length
        )
        config = {key: value for key, value in dict(model.config).items() if key[0] != "_"}
        own = settings.model_copy(update={"network": config})
        return Taken(own, PatchedAutoencoder(model, 1).state_dict())

    taken = read_as(name, "an AutoencoderKL of diffusers", folder, opened)
    config = taken.settings.network
    found = (config["latent_channels"], 2 ** (len(config["block_out_channels"]) - 1))
    told = (settings.latent_channels, settings.downsampling)
    if found != told:
        raise Refusal(
            f"{name}: {folder}: {found[0]} latent channels, downsampling {found[1]}; the scale "
            f"says latent_channels = {told[0]}, downsampling = {told[1]}"
        )
    return taken


def sd_vae(settings: SdVaeSettings) -> PatchedAutoencoder:
    """The network of fetched settings, without its weights."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    if settings.network is None:
        raise Refusal("autoencoder 'sd_vae': not fetched yet; python -m dtr fetch does that")
    return PatchedAutoencoder(AutoencoderKL.from_config(settings.network), 1)
