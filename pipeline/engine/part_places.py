"""The rows of a Parquet layer by number and time: files tell their first and last time.

Only the files at the edges of a range are looked into, and of them only the columns asked for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.engine.codecs import FrameCodec
from pipeline.engine.parts import names, part_name, read_listed, span_of, use_listed
from pipeline.engine.places import File, Places
from pipeline.engine.spans import Ints, Spans, merged, runs, total
from pipeline.engine.state import Parts
from pipeline.errors import StateError
from pipeline.layers import Layer

_NAMED = 8
"""A range that goes through more files than this is told by a pattern."""
_NO_TIME = -1

T = TypeVar("T")


class _Times(NamedTuple):
    """First and last time in a file, and whether all of its rows have one."""

    first: int
    last: int
    are_all: bool


class PartPlaces(Places):
    """The rows of a layer, up to the committed number."""

    def __init__(
        self, folder: Path, relative: str, layer: Layer, listing: Parts, slack_us: int
    ) -> None:
        super().__init__(layer, listing.rows, slack_us)
        self._folder = folder
        self._relative = relative
        self._edges = [(start, end) for _, start, end in names(listing)]
        self._times: dict[int, _Times | None] = {}
        self._stamps: dict[int, Ints] = {}

    def between(self, low_us: int, high_us: int) -> Spans:
        """See `Places`."""
        slack, count = self.slack_us, len(self._edges)
        # a row may be `slack` older than one in front of it: behind file `low` there is nothing
        # before `low_us`, in front of file `high` nothing from `high_us` on
        low = self._first(lambda times: times.last >= low_us + slack)
        high = self._first(lambda times: times.first >= high_us - slack) - 1
        first, end = min(low, count), max(high, 0)
        while first > 0 and self._last_of(first - 1, low_us - slack) >= low_us - slack:
            first -= 1
        while end < count and self._first_of(end, high_us) < high_us + slack:
            end += 1
        edges = {*range(first, min(low + 1, count)), *range(max(high, 0), end)}
        found: Spans = []
        if low + 1 < high:
            found.append((self._edges[low + 1][0], self._edges[high - 1][1]))
        for part in sorted(edges):
            found += self._inside(part, low_us, high_us)
        return merged(found)

    def stamps(self, span: tuple[int, int]) -> Ints:
        """See `Places`; -1 where a row has no time."""
        pieces = [self._stamps_of(k)[a:b] for k, a, b in self._pieces(span)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)

    def stretch(self, span: tuple[int, int]) -> tuple[int, int]:
        """See `Places`; from -1 until 0 if none of them has a time."""
        pieces = list(self._pieces(span))
        first, last = self._outermost(pieces, 1), self._outermost(pieces[::-1], -1)
        if first is None or last is None:
            return _NO_TIME, _NO_TIME + 1
        return first, self.width_us - last

    def back(self, place: int, count: int, counted: tuple[str, ...] = ()) -> int:
        """See `Places`."""
        if not counted:
            return max(0, place - count)
        while place > 0 and count > 0:
            start, _ = self._edges[self._file_of(place - 1)]
            frame = self.frame((start, place), counted)
            has_all = frame.select(pl.all_horizontal(pl.col(counted).is_not_null())).to_series()
            found = np.flatnonzero(has_all.to_numpy())
            if len(found) >= count:
                return start + int(found[-count])
            place, count = start, count - len(found)
        return 0 if count > 0 else place

    def rows(self, spans: Spans) -> list[dict[str, Any]]:
        """See `Places`."""
        found: list[dict[str, Any]] = []
        for span in spans:
            for part, low, high in self._pieces(span):
                frame = read_listed(self._folder, *self._edges[part], FrameCodec())[low:high]
                found += [msgspec.json.decode(x) for x in frame.write_ndjson().splitlines()]
        return found

    def count(self, spans: Spans) -> int | None:
        """See `Places`."""
        return total(spans)

    def files(self, spans: Spans) -> list[File]:
        """See `Places`."""
        found: list[File] = []
        for low, high in spans:
            parts = [part for part, _, _ in self._pieces((low, high))]
            if len(parts) > _NAMED:
                pattern = f"{self._relative}/*.parquet"
                found.append(File(pattern, "rows", [(low, high)], len(parts)))
                continue
            for part in parts:
                edges = self._edges[part]
                path = f"{self._relative}/{part_name(*edges)}"
                own = (max(low, edges[0]), min(high, edges[1]))
                if found and found[-1].path == path:
                    found[-1].ranges.append(own)
                else:
                    found.append(File(path, "rows", [own]))
        return found

    def row_at(self, place: int) -> tuple[int, int]:
        """See `Places`."""
        return place, place + 1

    def frame(self, span: tuple[int, int], columns: tuple[str, ...]) -> pl.DataFrame:
        """Columns of some rows."""
        pieces = [self._columns(k, columns)[a:b] for k, a, b in self._pieces(span)]
        return pl.concat(pieces)

    # -- files

    def _first(self, holds: Callable[[_Times], bool]) -> int:
        """The first file of which something holds that holds of all behind it."""

        def is_so(part: int) -> bool:
            times = self._look(part)
            return times is not None and holds(times)

        return bisect_left(range(len(self._edges)), True, key=is_so)

    def _inside(self, part: int, low_us: int, high_us: int) -> Spans:
        """The rows of one file in a range of time."""
        times, edges = self._look(part), self._edges[part]
        if times is None or times.last < low_us or times.first >= high_us:
            return []
        if times.are_all and times.first >= low_us and times.last < high_us:
            return [edges]
        ts = self._stamps_of(part)
        return runs((ts >= low_us) & (ts < high_us), edges[0])

    def _outermost(self, pieces: list[tuple[int, int, int]], sign: int) -> int | None:
        """The smallest of times that rise (sign 1), or of negative ones that do (-1)."""
        best: int | None = None
        for part, low, high in pieces:
            times = self._look(part)
            if times is None:
                continue
            nearest = times.first if sign > 0 else -times.last
            if best is not None and nearest >= best + self.slack_us:
                break
            start, end = self._edges[part]
            if times.are_all and high - low == end - start:
                found = nearest
            else:
                ts = self._stamps_of(part)[low:high]
                ts = sign * ts[ts != _NO_TIME]
                if not len(ts):
                    continue
                found = int(ts.min())
            best = found if best is None else min(best, found)
        return best

    def _pieces(self, span: tuple[int, int]) -> Iterator[tuple[int, int, int]]:
        """The files of a range, each with the rows of it that count."""
        low, high = span
        for part in range(self._file_of(low), len(self._edges)):
            start, end = self._edges[part]
            if start >= high:
                return
            yield part, max(low, start) - start, min(high, end) - start

    def _file_of(self, row: int) -> int:
        return max(0, bisect_right(self._edges, row, key=itemgetter(0)) - 1)

    def _first_of(self, part: int, otherwise: int) -> int:
        times = self._look(part)
        return otherwise if times is None else times.first

    def _last_of(self, part: int, otherwise: int) -> int:
        times = self._look(part)
        return otherwise if times is None else times.last

    def _look(self, part: int) -> _Times | None:
        """What a file's footer says of its times; None if no row has one."""
        if part not in self._times:
            times, is_own = self._use(part, lambda file, at: (_times_in(file), at is None))
            self._times[part] = times if is_own else _times_of(self._stamps_of(part))
        return self._times[part]

    def _stamps_of(self, part: int) -> Ints:
        if part not in self._stamps:
            ts = self._columns(part, ("ts",))["ts"].dt.timestamp("us")
            self._stamps[part] = ts.fill_null(_NO_TIME).to_numpy()
        return self._stamps[part]

    def _columns(self, part: int, columns: tuple[str, ...]) -> pl.DataFrame:
        start, end = self._edges[part]
        table, at = self._use(part, lambda file, at: (file.read(columns=list(columns)), at))
        frame = pl.from_arrow(table)
        if not isinstance(frame, pl.DataFrame):
            raise TypeError(f"{self._folder}: no columns")
        return (frame if at is None else frame.slice(at, end - start)).select(columns)

    def _use(self, part: int, use: Callable[[pq.ParquetFile, int | None], T]) -> T:
        """Open a file for a moment; if it holds other rows too, tell where these begin in it."""
        start, end = self._edges[part]

        def opened(path: Path) -> T:
            low, high = span_of(path.name)
            at = None if (low, high) == (start, end) else start - low
            with path.open("rb") as stream:
                try:
                    return use(pq.ParquetFile(stream), at)
                except pa.ArrowException as error:
                    raise StateError(f"{path} is damaged: {error}") from error

        return use_listed(self._folder, start, end, opened)


def _times_of(stamps: Ints) -> _Times | None:
    told = stamps[stamps != _NO_TIME]
    if not len(told):
        return None
    return _Times(int(told.min()), int(told.max()), len(told) == len(stamps))


def _times_in(file: pq.ParquetFile) -> _Times | None:
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    place = file.schema.names.index("ts") if "ts" in file.schema.names else -1
    found = [group.column(place).statistics for group in groups]
    told = [each for each in found if each is not None and each.has_min_max]
    if not told:
        return None
    # as they stand in the file, microseconds: what else there is would come by way of pandas
    first, last = min(each.min_raw for each in told), max(each.max_raw for each in told)
    are_all = len(told) == len(found) and not any(each.null_count for each in told)
    return _Times(first, last, are_all)
