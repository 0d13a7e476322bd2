"""Which raw lines carry records of given times: the bytes that a row can be made from again.

Day files that lie within the times as a whole are named and not read; the others are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from pipeline.engine.rawrecords import Flags, Line, RawFiles, Records, day_us
from pipeline.engine.spans import Ints, Spans, common, merged, within
from pipeline.engine.state import FileMark
from pipeline.stage import DAY_US


@dataclass(frozen=True, slots=True)
class RawLines:
    """Lines of one day file: where they stand, in decompressed bytes.

    Attributes:
        lines: how many; None where they were not read.
        crc32: of the file as far as it was read, if all of that is meant.
    """

    path: str
    lines: int | None
    ranges: Spans
    crc32: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """A feed in one piece: from a byte of a day's file on, up to a time.

    Attributes:
        end: where it ends in that day's file, and how many `lines` there are.
        is_first: it would begin earlier if there were a file.
    """

    day: str
    start: int
    until_us: int
    end: int
    lines: int
    is_first: bool = False


class Names:
    """Ids that are looked for, each so often as it was given; known by hashes of 64 bits."""

    def __init__(self, ids: pl.Series) -> None:
        self._hashes, self._left = np.unique(ids.hash().to_numpy(), return_counts=True)

    @property
    def are_found(self) -> bool:
        """Whether none of them is missing any more."""
        return not self._left.any()

    def take(self, ids: pl.Series) -> Flags:
        """Which of some ids are looked for; those are found."""
        hashes = ids.hash().to_numpy()
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        known = np.flatnonzero(self._hashes[place] == hashes)
        known = known[np.argsort(place[known], kind="stable")]
        # the how-manieth of those with the same id each is
        is_first = np.diff(place[known], prepend=-1) > 0
        first = np.maximum.accumulate(np.where(is_first, np.arange(len(known)), 0))
        chosen = known[np.arange(len(known)) - first < self._left[place[known]]]
        np.subtract.at(self._left, place[chosen], 1)
        found = np.zeros(len(ids), np.bool_)
        found[chosen] = True
        return found


@dataclass(slots=True)
class Wanted:
    """Which records are looked for.

    Attributes:
        times: event times, microseconds.
        ids: only trades with these ids count; None: all, each id once.
        updates: update ids of records that carry no time.
        near: times whose files may hold such records.
        is_led: the good record in front of each run of them is wanted too.
    """

    times: Spans
    ids: Names | None = None
    updates: frozenset[int] = frozenset()
    near: Spans = field(default_factory=list)
    is_led: bool = False
    replay: Replay | None = None


def find_lines(files: RawFiles, wanted: Wanted) -> tuple[list[RawLines], list[str]]:
    """The lines that carry wanted records, by file, and the day files that are gone.

    A day file may hold records stamped with the day before or after. Lines in the quarantine and
    lines that have not been read yet are left out, but for a replay, which is in one piece. Where
    a record counted at its clock's time, the line that told that time is named with it.
    """
    return _Search(files, wanted).run()


def looked_into(files: RawFiles, times: Spans) -> Spans:
    """The times of records that stand in files which `find_lines` reads for these times."""
    search = _Search(files, Wanted(times))
    days = [day_us(mark.day) for mark in files.marks if search.reads(mark)]
    return common(times, merged((day - DAY_US, day + 2 * DAY_US) for day in days))


@dataclass
class _Found:
    """Lines of one file that are wanted: where they start and end; `replay` is one more range."""

    starts: list[Ints] = field(default_factory=list)
    ends: list[Ints] = field(default_factory=list)
    replay: tuple[int, int] | None = None
    replayed: int = 0

    def add(self, starts: Ints, ends: Ints) -> None:
        self.starts.append(starts)
        self.ends.append(ends)

    def lines(self) -> tuple[int, Spans]:
        """How many lines, and their ranges."""
        none = np.zeros(0, np.int64)
        starts, places = np.unique(np.concatenate([none, *self.starts]), return_index=True)
        ends = np.concatenate([none, *self.ends])[places]
        # lines are apart: a range goes on as long as one begins where the one before has ended
        first = np.flatnonzero(np.concatenate(([True], starts[1:] != ends[:-1]))[: len(starts)])
        last = np.append(first[1:], len(starts)) - 1 if len(first) else first
        spans = list(zip(starts[first].tolist(), ends[last].tolist(), strict=True))
        count = len(starts)
        if self.replay is not None:
            low, high = self.replay
            count += self.replayed - int(np.count_nonzero((starts >= low) & (starts < high)))
            spans.append(self.replay)
        return count, merged(spans)


class _Search:
    """One search through the files in the order of their days.

    Trades are counted by their ids and may be looked for in their own days first; what comes late
    on another feed counts at its clock's time, for which the file before must be read.
    """

    def __init__(self, files: RawFiles, wanted: Wanted) -> None:
        self._files = files
        self._wanted = wanted
        self._there = files.there()
        self._clock = files.clock()
        self._found: dict[str, _Found] = {}
        self._seen: set[str | None] = set()
        self._before: Line | None = None

    def run(self) -> tuple[list[RawLines], list[str]]:
        """See `find_lines`."""
        ids, marks = self._wanted.ids, [m for m in self._files.marks if self._concerns(m)]
        if ids is not None:
            times = self._wanted.times
            marks.sort(key=lambda mark: (not self._is_beside(mark, 0, times), mark.day))
        found: dict[str, RawLines] = {}
        gone: list[str] = []
        for mark in marks:
            path = self._files.path(mark, self._there.get(mark.day))
            if ids is not None and ids.are_found:
                break
            if mark.day not in self._there:
                gone.append(path)
            elif self._is_inside(mark):
                crc = f"{mark.crc:08x}"
                found[mark.day] = RawLines(path, None, [(0, mark.offset)], crc)
            elif (whole := self._replayed_whole(mark)) is not None:
                found[mark.day] = RawLines(path, *whole)
            else:
                self._read(mark)
        by_day = {mark.day: mark for mark in marks}
        for day, each in self._found.items():
            count, spans = each.lines()
            if count:
                path = self._files.path(by_day[day], self._there[day])
                found[day] = RawLines(path, count, spans)
        return [found[day] for day in sorted(found)], sorted(gone)

    # -- which files ---------------------------------------------------------------------

    def reads(self, mark: FileMark) -> bool:
        """Whether a file must be looked into for the times alone."""
        return self._is_beside(mark, DAY_US, self._wanted.times) and not self._is_inside(mark)

    def _concerns(self, mark: FileMark) -> bool:
        """Whether a file may hold a wanted record."""
        times = [*self._wanted.times, *self._wanted.near]
        replay = self._wanted.replay
        is_missed = replay is not None and replay.is_first and mark.day < replay.day
        is_replayed = is_missed or self._replayed_from(mark) is not None
        return is_replayed or self._is_beside(mark, DAY_US, times)

    @staticmethod
    def _is_beside(mark: FileMark, apart_us: int, times: Spans) -> bool:
        """Whether a file's day is one of some times, or not so far away from one."""
        start, end = day_us(mark.day) - apart_us, day_us(mark.day) + DAY_US + apart_us
        return any(low < end and high > start for low, high in times)

    def _replayed_from(self, mark: FileMark) -> int | None:
        """From which byte of a file on it is replayed."""
        replay = self._wanted.replay
        if replay is None or mark.day < replay.day:
            return None
        if day_us(mark.day) - DAY_US >= replay.until_us:
            return None
        return replay.start if mark.day == replay.day else 0

    def _is_inside(self, mark: FileMark) -> bool:
        """Whether all that a file may hold is wanted."""
        low, high = day_us(mark.day) - DAY_US, day_us(mark.day) + 2 * DAY_US
        return any(first <= low and high <= last for first, last in self._wanted.times)

    def _replayed_whole(self, mark: FileMark) -> tuple[int | None, Spans, str | None] | None:
        """A file's lines, ranges and checksum if it is replayed and need not be looked into."""
        replay, start = self._wanted.replay, self._replayed_from(mark)
        if replay is None or start is None or self._is_beside(mark, DAY_US, self._wanted.times):
            return None
        if mark.day == replay.day:
            return replay.lines, [(start, replay.end)], None
        if day_us(mark.day) + 2 * DAY_US > replay.until_us:
            return None
        return None, [(0, mark.offset)], f"{mark.crc:08x}"

    # -- what is in them -----------------------------------------------------------------

    def _read(self, mark: FileMark) -> None:
        """Look through a file."""
        found = self._found.setdefault(mark.day, _Found())
        start = self._replayed_from(mark)
        lines = 0
        for records in self._files.records(self._there[mark.day], mark.offset, self._clock):
            if len(records.line):
                self._take(mark.day, records)
            if start is not None:
                lines = self._replay(found, records, start, lines)
            if self._is_done(records):
                break

    def _is_done(self, records: Records) -> bool:
        """Whether nothing behind these records can be wanted any more."""
        if self._wanted.ids is not None:
            return self._wanted.ids.are_found
        if records.is_once or not len(records.us):
            return False
        ends = [high for _, high in self._wanted.times]
        replay = self._wanted.replay
        last = max([*ends, replay.until_us if replay else 0], default=0)
        # times at which records count never fall, but for bars whose cell is still open
        last += self._files.cell_us
        return not self._wanted.updates and int(records.us.max()) >= last

    def _take(self, day: str, records: Records) -> None:
        hit = records.is_good & within(records.us, self._wanted.times)
        if self._wanted.updates and records.ids is not None:
            updates = np.array(sorted(self._wanted.updates))
            hit |= records.is_good & np.isin(records.ids(), updates)
        if records.is_once and records.ids is not None:
            hit = self._counted_once(hit, records.was_judged, records.ids())
        lines = [records.line[hit], records.line[self._setters(hit, records)]]
        if self._wanted.is_led:
            lines.append(records.line[self._leaders(hit, records)])
        chosen = np.unique(np.concatenate(lines))
        self._found[day].add(records.edges[chosen], records.edges[chosen + 1])
        good = np.flatnonzero(records.is_good)
        if len(good):
            at = int(records.line[good[-1]])
            self._before = (day, int(records.edges[at]), int(records.edges[at + 1]))

    def _counted_once(self, hit: Flags, was_judged: Flags, ids: pl.Series) -> Flags:
        """Leave out what only repeats an id; a late trade that was refused has used its own up."""
        kept = np.zeros(len(hit), np.bool_)
        if self._wanted.ids is not None:
            kept[hit] = self._wanted.ids.take(ids.filter(hit))
            return kept
        places = np.flatnonzero(was_judged)
        for place, name in zip(places.tolist(), ids.gather(places).to_list(), strict=True):
            if name is None or name not in self._seen:
                kept[place] = hit[place]
                self._seen.add(name)
        return kept

    def _setters(self, hit: Flags, records: Records) -> Ints:
        """The records that told the time at which late ones count."""
        late = hit & (records.own_us < records.us)
        setters = np.unique(records.set_by[late])
        if len(setters) and setters[0] < 0:
            self._add(records.setter)
        return setters[setters >= 0]

    def _leaders(self, hit: Flags, records: Records) -> Ints:
        """The good records in front of runs of hits."""
        good = np.flatnonzero(records.is_good)
        first = np.flatnonzero(np.diff(hit[good].astype(np.int8), prepend=0) == 1)
        if len(first) and first[0] == 0:
            self._add(self._before)
        return good[first[first > 0] - 1]

    def _add(self, line: Line | None) -> None:
        """One more line, of this file or one before."""
        if line is not None:
            day, start, end = line
            self._found[day].add(np.array([start]), np.array([end]))

    def _replay(self, found: _Found, records: Records, start: int, before: int) -> int:
        """Lengthen a replay by what counts before its end; returns the lines passed so far."""
        replay = self._wanted.replay
        first = int(np.searchsorted(records.edges[:-1], start))
        is_in = records.is_good & (records.us < (replay.until_us if replay else 0))
        line = records.line[is_in & (records.line >= first)]
        if len(line):
            last = int(line[-1])
            found.replay = (start, int(records.edges[last + 1]))
            found.replayed = before + last - first + 1
        return before + max(0, len(records.edges) - 1 - first)
