"""Inception score: exp of the mean KL divergence of p(class | image) from p(class).

The class probabilities are those of the extractor's own classes, so its maximum is their number.
"""

from itertools import pairwise

import numpy as np

from dtr.metrics.intervals import Interval, multinomial_weights, recentred


def inception_score(logits: np.ndarray, *, split: int) -> float:
    """Inception score by torch-fidelity of logits [n, classes], mean over consecutive chunks.

    split: samples per chunk (5000 in ADM's evaluator); fewer samples form one chunk. Nothing is
    shuffled, so samples must come in random order of class.
    """
    import torch
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    values = torch.from_numpy(np.asarray(logits, dtype=np.float64))
    scores = isc_features_to_metric(values, splits=_chunks(len(logits), split), shuffle=False)
    return scores[KEY_METRIC_ISC_MEAN]


def inception_score_interval(
    value: float, *, logits: np.ndarray, split: int, resamples: int, seed: int
) -> Interval:
    """95 % recentred bootstrap interval of `value`; samples are redrawn within their chunk."""
    logits = np.asarray(logits, dtype=np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    chunks = _chunks(len(logits), split)
    edges = [index * len(logits) // chunks for index in range(chunks + 1)]
    replicates = np.zeros(resamples)
    for chunk, (start, stop) in enumerate(pairwise(edges)):
        log_part = log_p[start:stop]
        part = np.exp(log_part)
        negative_entropy = (part * log_part).sum(axis=1)
        draws = multinomial_weights(stop - start, resamples, seed=seed, stratum=chunk)
        for index, weights in enumerate(draws):
            weights /= stop - start
            marginal = weights @ part
            # A class no sample uses contributes nothing: q log q -> 0.
            entropy = (marginal * np.log(marginal.clip(min=np.finfo(float).tiny))).sum()
            replicates[index] += np.exp(weights @ negative_entropy - entropy) / chunks
    low, high = recentred(value, replicates)
    return max(low, 1.0), high


def _chunks(count: int, split: int) -> int:
    return -(-count // split)
