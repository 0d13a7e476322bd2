"""How far a stage is behind what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pipeline import stages
from pipeline.calc.new_york import overlaps_session
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rawfiles import day_files
from pipeline.engine.state import State
from pipeline.instrument import EQUITIES, Instrument
from pipeline.stage import Stage

STALLED_US = 120_000_000
"""An input this far behind the most advanced one is named as what a stage waits for, besides the
time that its own grid, or the reader's, lets it stand still."""


@cache
def pause_us(layer: str) -> int:
    """How long a layer's clock may stand still while everything comes in.

    As long as the coarsest grid of what it is made from, and what of the future it must see. A
    feed that comes bar by bar stands still for a bar.
    """
    stage = stages.owner(layer)
    if stage.raw_kind:
        return min(each.span_us for each in stage.layers)
    if stage.source:
        return pause_us(stage.source)
    awaited = [each for each in stage.inputs if each.is_awaited]
    above = max(pause_us(each.layer) for each in awaited)
    return max(stage.grid_us, above) + max(each.ahead_us for each in awaited)


def patience_us(stage: Stage[Any, Any], layer: str) -> int:
    """How far an input of a joined stage may be behind before the stage is said to wait for it."""
    return STALLED_US + max(stage.grid_us, pause_us(layer))


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
    stage: Stage[Any, Any],
    state: State,
    above: Mapping[str, State | None],
    instrument: Instrument,
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
    # a stage that is followed may be ahead of what it reads for a moment
    found: dict[str, Any] = {"behind_s": None if own is None else max(0, furthest - own) / 1e6}
    unawaited = {each.layer for each in stage.inputs if not each.is_awaited}
    late = {
        name: at or 0
        for name, at in marks.items()
        if name not in unawaited
        if at is None
        or (furthest - at > patience_us(stage, name) and _matters(at, furthest, instrument))
    }
    if late:
        found["waits_for"] = min(late, key=lambda name: late[name])
    given_up = {name: spans for name, spans in state.given_up.items() if spans}
    if given_up:
        found["given_up"] = {name: len(spans) for name, spans in given_up.items()}
    return found


def _matters(slow_us: int, fast_us: int, instrument: Instrument) -> bool:
    """Whether anything can be waited for in a time: on a tape, a part of a session."""
    return instrument.market != EQUITIES or overlaps_session(slow_us, fast_us)
