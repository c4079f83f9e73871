"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

LARGEST_BLOCK = 1024 * 1024
"""Bytes. Larger blocks are mapped and unmapped singly; a piece of a body has 256 KiB."""

KEPT = 32 * 1024 * 1024
"""Bytes of free memory that the process does not return to the system."""


def keep_free_memory() -> None:
    """Make the allocator reuse the memory of one piece of a body for the next one.

    By default, glibc returns the memory of such a large block to the system when it is freed. The
    system then has to clear new pages for the next one, which takes a tenth of the time of an
    upload. Do nothing if the C library lacks these settings.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        mallopt(M_TRIM_THRESHOLD, KEPT)
