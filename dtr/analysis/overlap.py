"""How many channels two denoising tasks share (Appendix B)."""

import numpy as np

from dtr.routing import active_channels
from dtr.support.errors import Refusal


def expected_overlap(num_channels: int, beta: float) -> float:
    """Channels that two random masks share on average: C_beta^2 / C (Appendix B, Eq. 9).

    beta: share of channels a task uses, in (0, 1].  490.88 for 768 channels and beta = 0.8.
    """
    return active_channels(num_channels, beta) ** 2 / num_channels


def measured_overlap(masks: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the channels shared by two distinct tasks of a layer.

    masks: [L, T, C] bool; at least two tasks.  Over all pairs of tasks of every layer, which is
    what random pairs estimate.
    """
    tasks = masks.shape[1]
    if tasks < 2:
        raise Refusal(f"masks of {tasks} task: an overlap needs two")
    first, second = np.triu_indices(tasks, k=1)
    shared = np.stack([(m @ m.T)[first, second] for m in masks.astype(np.float64)])
    return float(shared.mean()), float(shared.std())


def overlap_by_distance(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Channels shared by two tasks of a layer over the distance of their timesteps.

    masks: [T, C] bool.  Mean, least and most over all pairs at distance 1 to T - 1: [T - 1] each.
    """
    shared = masks.astype(np.float32) @ masks.T.astype(np.float32)
    pairs = [np.diagonal(shared, distance) for distance in range(1, len(masks))]
    return tuple(np.array([of(own) for own in pairs]) for of in (np.mean, np.min, np.max))
