import numpy as np

from dtr.support.settings import Count, PartSettings


class Checker(PartSettings):
    width: Count  # channels of one square
    seed: int = 0  # filled from the scale's `routing.seed` where the run says nothing


def table(settings: Checker, layers: int, timesteps: int, channels: int) -> np.ndarray:
    """Squares of timesteps and channels: bool [layers or 1, timesteps, channels]."""
    rows = np.arange(timesteps)[:, None] * channels // timesteps // settings.width
    columns = np.arange(channels) // settings.width
    return ((rows + columns) % 2 == 0)[None]
