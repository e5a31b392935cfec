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
