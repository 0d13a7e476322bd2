"""How many processors there are to share work among."""

from __future__ import annotations

import os
import sys


def cores() -> int:
    """How many processors this process may use; a process may be bound to some of them."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
