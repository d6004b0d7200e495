"""Memory of a long run."""

from __future__ import annotations

import ctypes
import sys

# parameters of glibc's mallopt (malloc.h)
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory() -> None:
    """Keep freed memory in the process instead of returning it to the system (glibc; elsewhere nothing happens).

    A training step allocates and frees the same large arrays every time; fetched anew from the system they cost a page
    fault per 4 kB. Source: mallopt(3) of the Linux manual pages.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, 1 << 30), (_M_TOP_PAD, 1 << 26)):
            mallopt(name, value)
