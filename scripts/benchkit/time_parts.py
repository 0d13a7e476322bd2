"""Compare and time the parts inside this one process, from a vault with the layer `trades`.

Usage: time_parts.py VAULT RUNS

Both sides run once, their values are compared, then they run in turn. Prints a list of
{"name", "peer", "ours", "theirs"}, the last two in seconds of each run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchkit.parts import parts
from scripts.benchkit.tape import read_tape


def main() -> None:
    """Measure every part."""
    root, runs = Path(sys.argv[1]), int(sys.argv[2])
    found = []
    for part in parts(read_tape(root)):
        part.check(part.ours(), part.theirs())
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(_timed(part.ours))
            theirs.append(_timed(part.theirs))
        found.append({"name": part.name, "peer": part.peer, "ours": ours, "theirs": theirs})
    print(json.dumps(found))


def _timed(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
