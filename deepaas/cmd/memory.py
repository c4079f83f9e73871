"""How the C library gets memory from the system."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3

LARGEST_BLOCK = 1024 * 1024
"""Bytes; larger blocks are mapped and unmapped one by one. A piece of a body is 256 KiB."""

KEPT = 32 * 1024 * 1024
"""Bytes of free memory that the process keeps."""


def keep_free_memory() -> None:
    """Use the memory of a piece of a body again for the next one.

    By default, glibc returns the memory of such a large block to the system when it is free. The
    system then has to clear new pages for the next one, which takes a tenth of the time of an
    upload. A C library without these settings is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
        mallopt(M_TRIM_THRESHOLD, KEPT)
