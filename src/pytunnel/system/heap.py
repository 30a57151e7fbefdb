"""Tell the C library to keep a turn's buffers instead of giving them back to the kernel after each turn.

A relay takes and frees some hundred KiB thousands of times a second. By default glibc returns such memory at once, and
every turn pays for new pages: a third of the processor time of a transfer.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1  # mallopt(3)
_M_MMAP_THRESHOLD = -3
_KEPT = 16 * 1024 * 1024  # bytes that may stay free at the top of the heap
_OWN_MAPPING = 4 * 1024 * 1024  # bytes from which on a block gets a mapping of its own


def keep_freed_memory() -> None:
    """Set glibc's thresholds for this process; other C libraries have no mallopt, and need none."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING)
