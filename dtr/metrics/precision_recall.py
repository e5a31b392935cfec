"""Improved precision and recall with k-nearest-neighbour manifolds.

Precision: share of generated samples inside the manifold of the real ones (fidelity). Recall: share
of real samples inside the manifold of the generated ones (coverage). Swapping the two sets swaps
the two numbers, hence keywords only.
"""

import numpy as np

BATCH = 1000  # rows and columns of the distance matrix held at once; does not change the result
DISTANCES = 20_000_000  # held at once, of which torch-fidelity and torch make four copies


def precision_recall(
    *, generated: np.ndarray, real: np.ndarray, neighbours: int
) -> tuple[float, float]:
    """(precision, recall) by torch-fidelity of features [n, d] and [m, d].

    A sample's ball reaches to its `neighbours`-th nearest neighbour, itself not counted. Distances
    are float64: in float32 repeated samples are not at distance 0 of each other. ADM's evaluator
    takes distances in float16, which blurs the edges of balls: on the same features its precision
    was up to 0.0060 and its recall up to 0.0053 higher, never lower; with float32 it agreed.
    """
    import torch
    from torch_fidelity.metric_prc import (
        KEY_METRIC_PRECISION,
        KEY_METRIC_RECALL,
        prc_features_to_metric,
    )

    # torch-fidelity 0.4: features_1 is generated, features_2 is real (older users had it reversed).
    features_1, features_2 = (
        torch.from_numpy(np.asarray(features, dtype=np.float64)) for features in (generated, real)
    )
    rows = max(1, DISTANCES // max(len(generated), len(real)))
    values = prc_features_to_metric(
        features_1,
        features_2,
        prc_neighborhood=neighbours,
        prc_batch_size=min(BATCH, rows),
        save_cpu_ram=True,
        verbose=False,
    )
    return values[KEY_METRIC_PRECISION], values[KEY_METRIC_RECALL]
