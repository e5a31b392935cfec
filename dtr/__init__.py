"""Reproducibility benchmark of Denoising Task Routing for diffusion models (ICLR 2024)."""

__version__ = "0.2.0"
