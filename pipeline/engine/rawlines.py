"""Which raw lines carry records of given times: the bytes that a row can be made from again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.engine.paths import VaultPaths
from pipeline.engine.rawfiles import DayFile, chunks, day_files
from pipeline.engine.state import FileMark
from pipeline.instrument import Contract, Instrument
from pipeline.raw.block import Block
from pipeline.stage import Stage

_BLOCK_BYTES = 6 << 20
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_895

Ints = npt.NDArray[np.int64]
Spans = list[tuple[int, int]]
"""Half-open ranges, in order."""


@dataclass(frozen=True, slots=True)
class RawLines:
    """Lines of one day file: where they stand, in decompressed bytes."""

    path: str
    lines: int
    ranges: Spans


@dataclass(slots=True)
class Wanted:
    """Which records are looked for.

    Attributes:
        times: event times, microseconds.
        ids: where not empty, only records with these ids count, each once.
        updates: update ids of records that carry no time.
    """

    times: Spans
    ids: Counter[str] = field(default_factory=Counter)
    updates: frozenset[int] = frozenset()


def find_lines(
    paths: VaultPaths,
    stage: Stage[Any, Any],
    instrument: Instrument,
    contract: Contract,
    marks: list[FileMark],
    wanted: Wanted,
) -> tuple[list[RawLines], list[str]]:
    """The lines that carry wanted records, by file, and the day files that are gone.

    A day file may hold records stamped with the day before or after. Lines in the quarantine and
    lines that have not been read yet are left out.
    """
    kind = stage.raw_kind or ""
    folder = paths.raw(instrument, kind)
    there = {file.day: file for file in day_files(folder)}
    days = _days(wanted.times) if wanted.times else {mark.day for mark in marks}
    found, gone = [], []
    clock = _Clock()
    for mark in marks:
        if mark.day not in days:
            continue
        if mark.day not in there:
            gone.append(paths.relative(folder / mark.name))
            continue
        bad = _quarantined(paths, instrument, kind, mark.day)
        lines = _Lines(wanted, bad, clock)
        for block in _blocks(there[mark.day], mark.offset, paths):
            if stage.decode is not None:
                lines.take(block, stage.decode(block, instrument, contract))
        if lines.count:
            path = paths.relative(there[mark.day].path)
            found.append(RawLines(path, lines.count, lines.ranges))
    return found, gone


def _days(times: Spans) -> set[str]:
    """The days of these times, and those beside them."""
    found = set()
    for low, high in times:
        first, last = (_EPOCH + timedelta(microseconds=max(0, us)) for us in (low, high))
        for number in range((first - _EPOCH).days - 1, (last - _EPOCH).days + 2):
            if _FIRST_DAY < number < _LAST_DAY:
                found.add((_EPOCH + number * _DAY).strftime("%Y-%m-%d"))
    return found


def _quarantined(paths: VaultPaths, instrument: Instrument, kind: str, day: str) -> set[int]:
    """Where the lines of a day file stand that reached no layer."""
    path = paths.quarantine(instrument, kind) / f"{day}.jsonl"
    if not path.is_file():
        return set()
    return {msgspec.json.decode(line)["offset"] for line in path.read_bytes().splitlines()}


def _blocks(file: DayFile, end: int, paths: VaultPaths) -> Iterator[Block]:
    """Whole lines of a file's first `end` bytes."""
    source, at, rest = paths.relative(file.path), 0, b""
    for piece in chunks(file, 0, _BLOCK_BYTES):
        data = rest + piece[: end - at - len(rest)]
        cut = data.rfind(b"\n") + 1
        rest = data[cut:]
        if cut:
            yield Block(data[:cut], source, file.day, at)
            at += cut
        if at + len(rest) >= end:
            return


class _Clock:
    """The largest time of a feed so far."""

    def __init__(self) -> None:
        self._now = 0

    def behind(self, times: Ints, is_good: npt.NDArray[np.bool_]) -> Ints:
        """When records count that take the clock's time if they are late or carry none."""
        if not len(times):
            return times
        good = np.where(is_good, times, 0)
        running = np.maximum(np.maximum.accumulate(good), self._now)
        self._now = int(running[-1])
        return np.where(running > 0, running, -1)


@dataclass(slots=True)
class _Lines:
    """Lines of one file, found block by block."""

    wanted: Wanted
    bad: set[int]
    clock: _Clock
    count: int = 0
    ranges: Spans = field(default_factory=list)

    def take(self, block: Block, batch: Any) -> None:
        """Look through a decoded block."""
        line, times, ids, is_late_moved = _columns(batch)
        offsets = np.array([block.line_offset(int(each)) for each in line], np.int64)
        is_good = ~np.isin(offsets, np.array(sorted(self.bad), np.int64))
        moved = self.clock.behind(times, is_good & is_late_moved)
        counted = np.where(is_late_moved, moved, times)
        hit = is_good & _within(counted, self.wanted.times)
        if self.wanted.updates and ids is not None:
            hit |= is_good & np.isin(ids(), np.array(sorted(self.wanted.updates)))
        chosen = np.flatnonzero(hit).tolist()
        if self.wanted.ids and ids is not None:
            names = ids()
            chosen = [each for each in chosen if self._is_first(str(names[each]))]
        for each in sorted({int(line[index]) for index in chosen}):
            start, end = (block.offset + edge for edge in block.span(each))
            self.count += 1
            if self.ranges and self.ranges[-1][1] == start:
                self.ranges[-1] = (self.ranges[-1][0], end)
            else:
                self.ranges.append((start, end))

    def _is_first(self, name: str) -> bool:
        """Whether a trade with this id is still looked for."""
        self.wanted.ids[name] -= 1
        return self.wanted.ids[name] >= 0


def _columns(
    batch: Any,
) -> tuple[Ints, Ints, Callable[[], Any] | None, npt.NDArray[np.bool_]]:
    """Of each record: its line, its time, its id; and whether it counts at the clock if late."""
    if hasattr(batch, "ticks"):
        frame = batch.ticks.frame
        line, times = frame["line"].to_numpy(), frame["ts"].to_numpy()
        return line, times, frame["trade_id"].to_list, np.zeros(len(line), np.bool_)
    if hasattr(batch, "found"):
        line = np.array([each for each, _ in batch.found], np.int64)
        times = np.array([seen.time_us for _, seen in batch.found], np.int64)
        is_moved = np.array([not seen.is_bar for _, seen in batch.found], np.bool_)
        return line, times, None, is_moved
    ids = (lambda: batch.update_id) if hasattr(batch, "update_id") else None
    moves = not getattr(batch, "keeps_times", False)
    return batch.line, batch.ts_us, ids, np.full(len(batch.line), moves)


def _within(times: Ints, spans: Spans) -> npt.NDArray[np.bool_]:
    """Which times lie in one of the spans, which stand in order and apart."""
    if not spans:
        return np.zeros(len(times), np.bool_)
    starts, ends = np.array(spans, np.int64).T
    place = np.searchsorted(starts, times, "right") - 1
    found: npt.NDArray[np.bool_] = (place >= 0) & (times < ends[place])
    return found
