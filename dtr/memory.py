"""Freed memory kept for the next step, instead of handed to the system and asked for again."""

import ctypes

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
