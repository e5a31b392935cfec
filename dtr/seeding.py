"""Stateless randomness: every draw is a function of a seed and of what it is drawn for.

Philox is keyed with 128 bits of a hash, so streams do not collide the way 32-bit seeds do
over 50,000 images, and there is no generator state to save in a checkpoint.
"""

import hashlib
from functools import lru_cache

import numpy as np


def generator(*key: int | str) -> np.random.Generator:
    """A generator whose stream depends on `key` alone, e.g. `generator(seed, "noise", step)`."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def stream_words(*key: int | str) -> list[int]:
    """The same key for a generator on a device (`dtr.support.philox`): four words below 2^32."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return [int.from_bytes(digest[start : start + 4], "big") for start in range(0, 16, 4)]


# All steps of an epoch ask for it, and a million items take a tenth of a second; the next epoch's
# is made ahead of time where batches are.
@lru_cache(maxsize=2)
def epoch_permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which epoch `epoch` visits `size` items: [size] int64."""
    order = generator(seed, "order", epoch).permutation(size)
    order.setflags(write=False)
    return order


def batch_indices(seed: int, step: int, *, size: int, batch_size: int) -> np.ndarray:
    """Items of training step `step` (0-based): [batch_size] int64.

    Epochs are shuffled anew and their incomplete last batch is dropped, as in the authors' loader.
    """
    per_epoch = size // batch_size
    epoch, position = divmod(step, per_epoch)
    order = epoch_permutation(seed, epoch, size)
    return order[position * batch_size : (position + 1) * batch_size].copy()
