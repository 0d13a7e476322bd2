"""How far a stage is behind what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.calc.new_york import overlaps_session
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rawfiles import day_files
from pipeline.engine.state import State
from pipeline.instrument import EQUITIES, Instrument

STALLED_US = 120_000_000
"""An input this far behind the most advanced one is named as what a stage waits for."""


def unread_bytes(paths: VaultPaths, state: State, kind: str, instrument: Instrument) -> int:
    """Bytes on disk that no run has looked at (compressed bytes of compressed files)."""
    marks = {mark.day: mark for mark in state.raw.get(kind, [])}
    unread = 0
    for file in day_files(paths.raw(instrument, kind)):
        mark = marks.get(file.day)
        if mark is None:
            unread += file.size
        elif file.encoding:
            unread += max(0, file.size - mark.size)
        else:
            unread += max(0, file.size - mark.offset)
    return unread


def waiting(
    state: State, above: Mapping[str, State | None], instrument: Instrument
) -> dict[str, Any]:
    """How far a joined stage is behind its most advanced input, and for which one it waits."""
    marks = {
        name: each.watermark_us
        for name, each in above.items()
        if name in state.upstream and each is not None
    }
    furthest = max((at for at in marks.values() if at is not None), default=None)
    if furthest is None:
        return {"behind_s": None}
    own = state.watermark_us
    found: dict[str, Any] = {"behind_s": None if own is None else (furthest - own) / 1e6}
    slowest = min(marks, key=lambda name: marks[name] or 0)
    slow = marks[slowest]
    if slow is None or (furthest - slow > STALLED_US and _matters(slow, furthest, instrument)):
        found["waits_for"] = slowest
    given_up = {name: spans for name, spans in state.given_up.items() if spans}
    if given_up:
        found["given_up"] = {name: len(spans) for name, spans in given_up.items()}
    return found


def _matters(slow_us: int, fast_us: int, instrument: Instrument) -> bool:
    """Whether anything can be waited for in a time: on a tape, a part of a session."""
    return instrument.market != EQUITIES or overlaps_session(slow_us, fast_us)
