"""Where a replay of a book must begin to end in the book that was there at some time.

The last snapshot before that time will do if it was applied whatever stood there before: if it is
newer than the record in front of it, or carries no id. Else the book began behind a hole in the
sequence, with the first snapshot that fits the updates kept since, or with the feed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from pipeline.calc.sequence import NO_ID
from pipeline.engine.rawfiles import DayFile
from pipeline.engine.rawlines import Replay
from pipeline.engine.rawrecords import Clock, Flags, RawFiles, day_us
from pipeline.engine.spans import Ints
from pipeline.engine.state import FileMark
from pipeline.stage import DAY_US

_REPEATED = 64
"""So many records that only repeat older ids may stand in front of a snapshot."""


@dataclass(frozen=True, slots=True)
class _Feed:
    """The good records of one file: where their lines stand, when they count, their ids."""

    offset: Ints
    end: Ints
    number: Ints
    us: Ints
    set_by: Ints
    is_snapshot: Flags
    last_id: Ints
    prev_id: Ints


def replay_of(files: RawFiles, from_us: int, until_us: int) -> Replay | None:
    """The lines that make the book as it was from one time until another.

    None if the feed has no file any more.
    """
    there = files.there()
    marks = [mark for mark in files.marks if mark.day in there]
    early = [mark for mark in marks if day_us(mark.day) - DAY_US <= from_us]
    for place in range(len(early) - 1, 0, -1):
        mark, before = early[place], early[place - 1]
        feed = _read(files, there[mark.day], mark, until_us)
        start = _start(feed, from_us, partial(_last_id, files, there, before))
        if start is not None:
            return _piece(mark, feed, start, until_us)
    if not marks:
        return None
    feed = _read(files, there[marks[0].day], marks[0], until_us)
    start = _start(feed, from_us, lambda: None)
    found = _piece(marks[0], feed, start or 0, until_us)
    return replace(found, is_first=start is None)


def _piece(mark: FileMark, feed: _Feed, start: int, until_us: int) -> Replay:
    """A replay that begins in this file."""
    wanted = np.flatnonzero(feed.us < until_us)
    if not len(wanted):
        return Replay(mark.day, start, until_us, start, 0)
    last = int(wanted[-1])
    first = int(feed.number[np.searchsorted(feed.offset, start)]) if start else 0
    return Replay(
        mark.day, start, until_us, int(feed.end[last]), int(feed.number[last]) + 1 - first
    )


def _start(feed: _Feed, from_us: int, id_before: Callable[[], int | None]) -> int | None:
    """Where in a file a replay can begin; None if it must be in an earlier one."""
    early = np.flatnonzero(feed.us < from_us)
    count = int(early[-1]) + 1 if len(early) else 0
    is_hole = _holes(feed)[:count]
    for place in np.flatnonzero(is_hole | feed.is_snapshot[:count])[::-1].tolist():
        is_early = feed.is_snapshot[place] and feed.us[place] < from_us
        if is_early and _is_newest(feed, place, id_before):
            return int(feed.offset[_told(feed, place)])
        if is_hole[place]:
            began = _after_hole(feed, place, count)
            if began is not None:
                return int(feed.offset[_told(feed, began)])
    return None


def _is_newest(feed: _Feed, place: int, id_before: Callable[[], int | None]) -> bool:
    """Whether a snapshot was applied whatever the book before."""
    own = int(feed.last_id[place])
    if own == NO_ID:
        return True
    ids = feed.last_id[max(0, place - _REPEATED) : place]
    known = int(ids.max()) if len(ids) else id_before()
    return known is not None and NO_ID < known < own


def _holes(feed: _Feed) -> Flags:
    """Which updates do not follow on from the record in front of them."""
    own, prev = feed.last_id, feed.prev_id
    before = np.concatenate(([NO_ID], own[:-1]))[: len(own)]
    has_ids = (own != NO_ID) & (prev != NO_ID) & (before != NO_ID)
    follows = (prev == before) | (own <= before)
    is_behind_snapshot = np.concatenate(([False], feed.is_snapshot[:-1]))[: len(own)]
    found: Flags = ~feed.is_snapshot & has_ids & ~follows & ~(is_behind_snapshot & (prev < before))
    return found


def _after_hole(feed: _Feed, place: int, count: int) -> int | None:
    """Where the book begins behind a hole: with a snapshot, or the first update kept for it."""
    kept: list[int] = []
    for at in range(place, count):
        if not feed.is_snapshot[at]:
            kept.append(at)
            continue
        own = int(feed.last_id[at])
        rest = [each for each in kept if NO_ID < own < feed.last_id[each]]
        if not rest:
            return at
        if feed.prev_id[rest[0]] <= own:
            return rest[0]
    return None


def _told(feed: _Feed, place: int) -> int:
    """The record, or the one in front of it that told the time at which it counts."""
    setter = int(feed.set_by[place])
    return min(place, setter) if setter >= 0 else place


def _read(files: RawFiles, file: DayFile, mark: FileMark, until_us: int) -> _Feed:
    """The records of a file up to a time."""
    columns: dict[str, list[Ints]] = {name: [] for name in _Feed.__slots__}
    passed = lines = 0
    files.keep(file, mark.offset)
    for records in files.records(file, mark.offset, Clock()):
        good = records.is_good
        # numbers of records among the good ones
        place = np.cumsum(good) - 1 + passed
        set_by = np.where(records.set_by >= 0, place[records.set_by], -1)
        edges, line = records.edges, records.line
        own = (edges[line], edges[line + 1], line + lines, records.us, set_by)
        for name, column in zip(columns, (*own, *(records.sequence or ())), strict=True):
            columns[name].append(column[good])
        passed += int(good.sum())
        lines += len(edges) - 1
        if len(records.us) and int(records.us[-1]) >= until_us:
            break
    none = np.zeros(0, np.int64)
    whole: dict[str, Any] = {name: np.concatenate(e or [none]) for name, e in columns.items()}
    whole["is_snapshot"] = whole["is_snapshot"].astype(np.bool_)
    return _Feed(**whole)


def _last_id(files: RawFiles, there: dict[str, DayFile], mark: FileMark | None) -> int | None:
    """The newest id at the end of a file; None if there is no file."""
    if mark is None:
        return None
    records = files.last_records(there[mark.day], mark.offset)
    if records is None or records.sequence is None:
        return None
    return max(records.sequence.last_id[-_REPEATED:].tolist(), default=None)
