"""How this process asks the system for memory."""

from __future__ import annotations

import ctypes
import sys

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def share_one_heap() -> None:
    """Let all threads take memory from one heap, where the C library lets us say so (glibc).

    It gives every thread a heap of its own otherwise. Blocks decoded in one thread and dropped in
    another then stay as holes in each: a tenth more memory, growing as a backfill goes on.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_ARENA_MAX, 1)
