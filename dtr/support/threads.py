"""What a job may use of its machine: CPU threads, and freed memory kept for the next step."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of glibc's mallopt
LARGEST_CACHED = 1 << 30  # bytes


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks; other C libraries are left as they are.

    Otherwise every activation of a step is mapped and cleared anew: a sixth of the time of a small
    U-Net's step, and half of that of a small decoder.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_CACHED)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_CACHED - 1)


def use_threads(count: int) -> None:
    """Hold torch and linear algebra to `count` CPU threads; call it before anything is computed."""
    import torch
    from threadpoolctl import threadpool_limits

    keep_freed_memory()
    torch.set_num_threads(count)
    # Linear algebra too: its threads would wait for cores that other jobs have. The first line is
    # for libraries that are loaded already (NumPy's), the second for later ones (SciPy's).
    threadpool_limits(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
