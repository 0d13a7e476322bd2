"""How this process asks the system for memory."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_… of malloc.h
_LARGEST_MMAP_THRESHOLD, _NEVER = 32 << 20, 1 << 30


def share_one_heap() -> None:
    """Let all threads take memory from one heap, where the C library lets us say so (glibc).

    It gives every thread a heap of its own otherwise. Blocks decoded in one thread and dropped in
    another then stay as holes in each: a tenth more memory, growing as a backfill goes on.
    """
    _set(_ARENA_MAX, 1)


def use_blocks_again() -> None:
    """Keep memory of large blocks for the next ones, where the C library lets us say so (glibc).

    It gives them back to the system otherwise, and a page that comes from there anew has to be
    cleared: for a stream of blocks that takes longer than filling them.
    """
    _set(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    _set(_TRIM_THRESHOLD, _NEVER)


def _set(what: int, value: int) -> None:
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(what, value)
