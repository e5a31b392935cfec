"""Images, their index, the autoencoder and the cached latents."""
