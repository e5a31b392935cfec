"""Plumbing that knows nothing of diffusion: errors, files, progress, threads, strict settings."""
