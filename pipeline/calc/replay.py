"""The way of a feed's records through a book: what is applied, what is left out, what is noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.calc.clock import UNTIMED, Ints
from pipeline.calc.ladder import Ladder, Side
from pipeline.calc.ladder_loops import SNAPSHOT, UPDATE, Changes, Steps
from pipeline.calc.sequence import NO_ID, Sequence, Update, Verdict
from pipeline.stage import MINUTE_US


class Records(NamedTuple):
    """Good records in order, with their levels as integers."""

    time: list[int]
    is_snapshot: list[bool]
    last_id: list[int]
    prev_id: list[int]
    low: list[int]
    high: list[int]
    changes: Changes


class Hole(NamedTuple):
    """Something missing in the sequence: what came last, what the next record followed on."""

    time: int
    last_id: int
    prev_id: int


class FullBook(NamedTuple):
    """The book at the end of a minute."""

    minute_us: int
    at_us: int
    sides: tuple[Side, Side]
    worst: tuple[int | None, int | None]


@dataclass
class Replay:
    """One fold's way through its records, which moves `sequence` and `book`.

    Attributes:
        event_us: time of the last event, if the book of its minute is still to be written down.
        tops, cells, cell_times: see `Ladder.replay`, piece by piece.
        noted: rows of time, id behind it and whether there is a book: the records that have a row
            among the events.
        updates: rows of time and id of every update that has both, whatever became of it.
    """

    sequence: Sequence
    book: Ladder
    event_us: int | None
    records: Records
    cell_us: int
    keep_updates: int
    noted: list[Ints] = field(default_factory=list)
    tops: list[Ints] = field(default_factory=list)
    cells: list[Ints] = field(default_factory=list)
    cell_times: list[Ints] = field(default_factory=list)
    ladders: list[FullBook] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    updates: list[Ints] = field(default_factory=list)
    repeated: int = 0
    _steps: list[Ints] = field(default_factory=list)
    _kept: list[Update] = field(default_factory=list)
    _kept_levels: int = 0

    def run(self, clock: int | None) -> None:
        """Take every record in order; the clock may have come further than they have.

        Updates of a minute that follow on from each other are taken together.
        """
        records, sequence = self.records, self.sequence
        time, last = np.array(records.time, np.int64), np.array(records.last_id, np.int64)
        prev = np.array(records.prev_id, np.int64)
        low, high = np.array(records.low, np.int64), np.array(records.high, np.int64)
        plain = ~np.array(records.is_snapshot, np.bool_) & (high > low) & (time != UNTIMED)
        plain &= (last != NO_ID) & (prev != NO_ID)
        minute = time // MINUTE_US
        goes_on = plain[1:] & (prev[1:] == last[:-1]) & (minute[1:] == minute[:-1])
        ends = np.append(np.flatnonzero(~goes_on) + 1, len(time))
        one = np.ones(len(time), np.int64)
        steps = np.stack((time, one * UPDATE, one, one * 0, low, high), axis=1)
        noted = np.stack((time, last, one), axis=1)
        i = 0
        while i < len(time):
            self._end_minute(int(time[i]))
            if plain[i] and sequence.is_valid and prev[i] == sequence.last_id:
                end = int(ends[np.searchsorted(ends, i, side="right")])
                self._steps.append(steps[i:end])
                self.noted.append(noted[i:end])
                self.updates.append(noted[i:end, :2])
                sequence.apply_update(int(last[end - 1]))
                self.event_us = int(time[end - 1])
                i = end
                continue
            take: Callable[[int, int], None] = (
                self._snapshot if records.is_snapshot[i] else self._update
            )
            take(i, int(time[i]))
            i += 1
        if clock is not None:
            self._end_minute(clock)
        self._flush()

    def _snapshot(self, i: int, time: int) -> None:
        sequence, records = self.sequence, self.records
        last_id, span = records.last_id[i], (records.low[i], records.high[i])
        if sequence.of_snapshot(last_id) is Verdict.REPEAT:
            self.repeated += 1
            return
        if sequence.is_valid:
            sequence.apply_snapshot(last_id)
            self._step(time, SNAPSHOT, span, is_opening=False)
            self._note(time)
            return
        begun = sequence.begin(last_id)
        if begun is None or begun[1] is not None:
            if begun is not None and begun[1] is not None:
                self.holes.append(Hole(time, sequence.last_id, begun[1].prev_id))
                sequence.last_id = NO_ID
            self.noted.append(np.array([[time, last_id, 0]]))
            return
        self._step(time, SNAPSHOT, span, is_opening=True, is_event=not begun[0])
        for update in begun[0]:
            is_last = update is begun[0][-1]
            self._step(time, UPDATE, self._again(update), is_opening=True, is_event=is_last)
        self._note(time)

    def _update(self, i: int, time: int) -> None:
        sequence, records = self.sequence, self.records
        last_id, prev_id = records.last_id[i], records.prev_id[i]
        span = records.low[i], records.high[i]
        is_heartbeat = span[0] == span[1]
        if last_id != NO_ID and time != UNTIMED:
            self.updates.append(np.array([[time, last_id]]))
        if not sequence.is_valid:
            sequence.kept = [*sequence.kept, self._as_kept(i)][-self.keep_updates :]
            if not is_heartbeat and time != UNTIMED:
                self.noted.append(np.array([[time, last_id, 0]]))
            return
        verdict = sequence.of_update(last_id, prev_id)
        if verdict is Verdict.REPEAT:
            self.repeated += 1
        elif verdict is Verdict.BREAK:
            self.holes.append(Hole(time, sequence.last_id, prev_id))
            self._flush()
            self.book.clear()
            self.event_us = None
            sequence.lose([self._as_kept(i)])
            self.noted.append(np.array([[time, last_id, 0]]))
        else:
            sequence.apply_update(last_id)
            if not is_heartbeat:
                self._step(time, UPDATE, span, is_opening=False)
                self._note(time)

    def _as_kept(self, i: int) -> Update:
        records = self.records
        span = slice(records.low[i], records.high[i])
        columns = (column[span].tolist() for column in records.changes)
        return Update(records.last_id[i], records.prev_id[i], *columns)

    def _again(self, update: Update) -> tuple[int, int]:
        """Bring the levels of a kept update behind those of the records."""
        low = len(self.records.changes.side) + self._kept_levels
        self._kept.append(update)
        self._kept_levels += len(update.side)
        return low, low + len(update.side)

    def _step(
        self,
        time: int,
        kind: int,
        span: tuple[int, int],
        *,
        is_opening: bool,
        is_event: bool = True,
    ) -> None:
        is_event = is_event and time != UNTIMED
        self._steps.append(np.array([[time, kind, int(is_event), int(is_opening), *span]]))

    def _note(self, time: int) -> None:
        """An event, unless nobody can tell when."""
        if time != UNTIMED:
            self.event_us = time
            self.noted.append(np.array([[time, self.sequence.last_id, 1]]))

    def _end_minute(self, now: int) -> None:
        """Write down the full book if the minute of the last event is over."""
        if self.event_us is None or now // MINUTE_US <= self.event_us // MINUTE_US:
            return
        self._flush()
        self.ladders.append(
            FullBook(
                self.event_us // MINUTE_US * MINUTE_US,
                self.event_us,
                (self.book.side(0), self.book.side(1)),
                (self.book.worst(0), self.book.worst(1)),
            )
        )
        self.event_us = None

    def _flush(self) -> None:
        """Apply the steps collected so far."""
        if not self._steps:
            return
        steps = Steps(*np.concatenate(self._steps).T.copy())
        tops, cells, times = self.book.replay(steps, self._changes(), self.cell_us)
        self.tops.append(tops)
        self.cells.append(cells)
        self.cell_times.append(times)
        self._steps.clear()

    def _changes(self) -> Changes:
        own = self.records.changes
        if not self._kept:
            return own

        def column(name: str) -> npt.NDArray[Any]:
            kept = [np.array(getattr(update, name), np.int64) for update in self._kept]
            return np.concatenate((getattr(own, name), *kept))

        return Changes(column("side"), column("price"), column("size"))
