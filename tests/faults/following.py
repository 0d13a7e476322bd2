"""The command `follow` in a forked worker, and the collector it follows."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .forks import PATIENCE_S, Forks, Worker
from .workload import STAGES, Raw, grow

ONLY = tuple(word for name in STAGES for word in ("--stage", name))


def until(is_so: Callable[[], bool], what: str, alive: Worker | None = None) -> None:
    """Wait for something."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        words = "" if alive is None else alive.read()
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_S:g} s; {words}"
        time.sleep(0.005)


def start(forks: Forks, vault: Path, *options: str, **more: Any) -> Worker:
    """Follow every instrument of a vault."""
    argv = ["--vault", str(vault), "follow", "--all", "--json", *(options or ONLY)]
    return forks.start("cli", argv=argv, **more)


def events(worker: Worker, kind: str | None = None) -> list[dict[str, Any]]:
    """What it has told so far."""
    lines = [line for line in worker.read().splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [each for each in found if kind in (None, each["event"])]


def errors(worker: Worker) -> list[dict[str, Any]]:
    """What it has complained of, but for too many bad lines, of which this market has some."""
    return [each for each in events(worker, "error") if "were bad" not in each["message"]]


def is_open(worker: Worker, inst_id: str = "BTC-USDT-SWAP") -> bool:
    """Whether an instrument has been opened at least once."""
    return any(each["instId"] == inst_id for each in events(worker, "open"))


class Collector(threading.Thread):
    """Appends raw bytes in pieces, with pauses."""

    def __init__(self, vault: Path, raw: Raw, cuts: Sequence[int], pause_s: float) -> None:
        super().__init__(daemon=True)
        self._vault, self._raw, self._cuts, self._pause_s = vault, raw, cuts, pause_s

    def run(self) -> None:
        """Append until there is no more."""
        for position in self._cuts:
            grow(self._vault, self._raw, position)
            time.sleep(self._pause_s)
