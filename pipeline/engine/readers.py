"""Committed rows of one layer by time, for stages that join several layers.

A reader holds the rows it has loaded but not yet passed, and knows up to which time these are
complete. What it remembers between runs is the number of the first row (Parquet) or byte (JSONL)
that may still be needed, so that work grows with what is new. A reader that is kept goes on with
the next state of the layer; what the stage above holds in memory it takes from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.pieces import in_one_piece
from pipeline.engine.codecs import FrameCodec, polars_type
from pipeline.engine.documents import day_of_document, documents_in
from pipeline.engine.outputs import Outputs
from pipeline.engine.parts import names, read_listed
from pipeline.engine.seek import microseconds
from pipeline.engine.state import State
from pipeline.errors import StateError
from pipeline.layers import Layer
from pipeline.stage import BEGINNING_US

_JSONL_BYTES = 4 << 20
_MOST_PIECES = 16
_FEW_ROWS = 1 << 12
"""So many are copied sooner than looked up in pieces; that is a short piece."""
_NO_TIME = -(2**63)


class Reader(Protocol):
    """One input of a join."""

    @property
    def position(self) -> int:
        """The first row or byte that is still needed."""

    @property
    def exhausted(self) -> bool:
        """Whether everything committed has been loaded."""

    @property
    def complete_us(self) -> int:
        """No row that is not loaded belongs to a time before this."""

    def extend(self, above: State, length: int) -> None:
        """Go on with a newer state of the layer, of so many committed bytes if it is JSONL."""

    def load(self) -> None:
        """Load some more rows."""

    def window(self, low: int, high: int) -> pl.DataFrame:
        """The loaded rows that belong to the times [low, high)."""

    def drop(self, before_us: int) -> None:
        """Let go of rows at the beginning that belong to times before."""


class _Times:
    """Times that are added at the end and taken away from the beginning."""

    def __init__(self) -> None:
        self.now = np.zeros(0, np.int64)
        self._room = np.zeros(0, np.int64)
        self._end = 0

    def add(self, times: npt.NDArray[np.int64]) -> None:
        """Put times behind those there are."""
        count = len(self.now)
        if self._end + len(times) > len(self._room):
            self._room = np.zeros(2 * (count + len(times)), np.int64)
            self._room[:count] = self.now
            self._end = count
        self._room[self._end : self._end + len(times)] = times
        self._end += len(times)
        self.now = self._room[self._end - count - len(times) : self._end]

    def skip(self, count: int) -> None:
        """Let go of the first ones."""
        self.now = self.now[count:]


class PartsReader:
    """A Parquet layer, file by file. Rows may be somewhat out of order, as trades are."""

    def __init__(
        self,
        folder: Path,
        layer: Layer,
        above: State,
        columns: tuple[str, ...],
        position: int,
        held: Outputs | None = None,
    ) -> None:
        self.position: int = position
        self._folder = folder
        self._name = layer.name
        self._held = held
        self.extend(above)
        self._columns = ["ts", *columns]
        self._next = position
        self._newest = BEGINNING_US
        types = {column.name: column.dtype for column in layer.columns}
        schema = {name: polars_type(types[name]) for name in columns}
        self.frame: pl.DataFrame = pl.DataFrame(schema={"ts": pl.Int64} | schema)
        self._times = _Times()
        self._is_sorted = True

    def extend(self, above: State, length: int = 0) -> None:
        """See `Reader`."""
        del length
        self._listing = above.parts[self._name]
        self._watermark = above.watermark_us
        self._lateness = above.lateness_us

    @property
    def exhausted(self) -> bool:
        """See `Reader`."""
        return self._next >= self._listing.rows

    @property
    def complete_us(self) -> int:
        """See `Reader`."""
        return self.watermark_us if self.exhausted else self._newest - self._lateness

    @property
    def watermark_us(self) -> int:
        """Up to which time the committed rows are complete."""
        return BEGINNING_US if self._watermark is None else self._watermark

    def load(self) -> None:
        """Load the rest of one file."""
        _, start, end = next(names(self._listing, self._next))
        new = None if self._held is None else self._held.public(self._name, self._next, end)
        if new is None:
            rows = read_listed(self._folder, start, end, FrameCodec(), self._columns)
            new = rows.slice(self._next - start)
        stamps = _microseconds(new["ts"])
        new = pl.DataFrame([stamps, *(new[name] for name in self._columns[1:])])
        times = (stamps.fill_null(_NO_TIME) if stamps.null_count() else stamps).to_numpy()
        self._newest = max(self._newest, int(times.max(initial=BEGINNING_US)))
        self._times.add(times)
        rise = self._times.now[-len(times) - 1 :]
        self._is_sorted &= bool((rise[1:] >= rise[:-1]).all())
        self.frame = _behind(self.frame, new)
        self._next = end

    def window(self, low: int, high: int) -> pl.DataFrame:
        """See `Reader`."""
        if self._is_sorted:
            first, end = self._times.now.searchsorted((low, high)).tolist()
            return self.frame.slice(first, max(0, end - first))
        return self.frame.filter((pl.col("ts") >= low) & (pl.col("ts") < high))

    def drop(self, before_us: int) -> None:
        """See `Reader`."""
        times = self._times.now
        if self._is_sorted:
            self.skip(int(times.searchsorted(before_us)))
        else:
            late = np.flatnonzero(times >= before_us)
            self.skip(int(late[0]) if len(late) else len(times))

    def skip(self, count: int) -> None:
        """Let go of the first rows."""
        self.position += count
        self.frame = self.frame.slice(count)
        self._times.skip(count)


_IN_ROWS = {"float": float, "int": int, "bool": bool, "string": str, "list": list[Any]}


@cache
def _decoder(columns: tuple[tuple[str, str], ...]) -> msgspec.json.Decoder[list[dict[str, Any]]]:
    """Decodes rows that have these columns, each null or of its type; others are left out."""
    fields = {name: _IN_ROWS.get(dtype, Any) for name, dtype in columns}
    row = TypedDict("row", {"timestamp_utc": str} | {n: t | None for n, t in fields.items()})  # type: ignore[misc]
    return msgspec.json.Decoder(list[row])


class JsonlReader:
    """A JSONL layer. A bar belongs to its last microsecond."""

    def __init__(
        self,
        path: Path,
        layer: Layer,
        above: State,
        length: int,
        columns: tuple[str, ...],
        position: int,
        held: Outputs | None = None,
    ) -> None:
        self.position = position
        self._path = path
        self._held = held
        self.extend(above, length)
        self._shift = max(0, layer.span_us - 1)
        types = {column.name: column.dtype for column in layer.columns}
        self._nested = {name for name in columns if types[name] == "list"}
        self._schema = {"ts": pl.Int64} | {name: polars_type(types[name]) for name in columns}
        self._decoder = _decoder(tuple((name, types[name]) for name in columns))
        self._next = position
        self._starts = np.zeros(0, np.int64)
        self._times = np.zeros(0, np.int64)
        self.frame = pl.DataFrame(schema=self._schema)

    def extend(self, above: State, length: int) -> None:
        """See `Reader`."""
        self._length = length
        self._watermark = above.watermark_us

    @property
    def exhausted(self) -> bool:
        """See `Reader`."""
        return self._next >= self._length

    @property
    def complete_us(self) -> int:
        """See `Reader`."""
        if self.exhausted:
            return BEGINNING_US if self._watermark is None else self._watermark
        return int(self._times[-1]) + self._shift if len(self._times) else BEGINNING_US

    def load(self) -> None:
        """Load a few megabytes of lines."""
        data = self._read(min(self._length, self._next + _JSONL_BYTES))
        data = data[: data.rfind(b"\n") + 1]
        if not data:
            raise StateError(f"{self._path}: no whole line behind byte {self._next}")
        lines = data.splitlines(keepends=True)
        sizes = np.fromiter(map(len, lines), np.int64, len(lines))
        try:
            rows = self._decoder.decode(b"[" + b",".join(lines) + b"]")
        except msgspec.DecodeError as error:
            where = f"{self._path}: bytes {self._next} to {self._next + len(data)}"
            raise StateError(f"{where} are damaged: {error}") from error
        for row in rows:
            row["ts"] = microseconds(row["timestamp_utc"])
            for name in self._nested:
                row[name] = _json(row[name])
        new = pl.from_dicts(rows, self._schema)
        self.frame = _behind(self.frame, new)
        self._times = np.concatenate((self._times, new["ts"].to_numpy()))
        self._starts = np.concatenate((self._starts, self._next + np.cumsum(sizes) - sizes))
        self._next += len(data)

    def _read(self, end: int) -> bytes:
        if self._held is not None:
            return self._held.read(self._path, self._next, end)
        with self._path.open("rb") as stream:
            stream.seek(self._next)
            return stream.read(end - self._next)

    def window(self, low: int, high: int) -> pl.DataFrame:
        """See `Reader`."""
        edges = (low - self._shift, high - self._shift)
        first, end = self._times.searchsorted(edges).tolist()
        return self.frame.slice(first, max(0, end - first))

    def drop(self, before_us: int) -> None:
        """See `Reader`."""
        count = int(self._times.searchsorted(before_us - self._shift))
        self.frame, self._starts = self.frame.slice(count), self._starts[count:]
        self._times = self._times[count:]
        self.position = int(self._starts[0]) if len(self._starts) else self._next


class RowReader:
    """A Parquet layer row by row, each row as soon as it is there."""

    def __init__(self, rows: PartsReader) -> None:
        self._rows = rows

    @property
    def positions(self) -> list[int]:
        """What to remember behind the rows taken."""
        return [self._rows.position]

    def chunks(self) -> Iterator[tuple[pl.DataFrame, int]]:
        """Rows not taken before, and the time up to which they are then complete."""
        rows = self._rows
        while not rows.exhausted:
            rows.load()
            frame = rows.frame
            rows.skip(frame.height)
            yield frame, rows.complete_us
        yield rows.frame, rows.watermark_us


class TimedReader:
    """Rows that carry an id but no time, timed by another layer's `last_id` and `ts`.

    A row takes the time of the first row of that layer whose `last_id` is not below the largest
    id `reached`; it waits until there is one.
    """

    def __init__(self, rows: PartsReader, clock: PartsReader) -> None:
        self._rows = rows
        self._clock = clock

    @property
    def positions(self) -> list[int]:
        """What to remember behind the rows taken: of the rows, and of the clock."""
        return [self._rows.position, self._clock.position]

    def chunks(self) -> Iterator[tuple[pl.DataFrame, int]]:
        """Rows not taken before, and the time up to which they are then complete."""
        rows, clock = self._rows, self._clock
        while True:
            ids, known = rows.frame["reached"].to_numpy(), clock.frame["last_id"].to_numpy()
            known = np.maximum.accumulate(known) if len(known) else known  # a repeated id may fall
            count = int(np.searchsorted(ids, known[-1], "right")) if len(known) else 0
            if count:
                times = clock.frame["ts"].to_numpy()[np.searchsorted(known, ids[:count])]
                timed = rows.frame.head(count).with_columns(pl.Series("ts", times))
                rows.skip(count)
                clock.skip(int(np.searchsorted(known, ids[count - 1])))
                yield timed, int(times[-1])
            elif not rows.exhausted and not rows.frame.height:
                rows.load()
            elif not clock.exhausted:
                clock.load()
            else:
                break
        if rows.frame.height:
            # the next row has an id above all that the clock knows, and so a later time
            yield rows.frame.head(0), clock.watermark_us


class DocumentReader:
    """The documents of a JSON layer, each as one text `document`; there are few, all are shown."""

    def __init__(
        self, folder: Path, layer: Layer, above: State, held: Outputs | None = None
    ) -> None:
        self.position = 0
        self.exhausted = True
        self.complete_us = BEGINNING_US
        self.frame = pl.DataFrame(schema={"ts": pl.Int64, "document": pl.String})
        self._folder = folder
        self._layer = layer
        self._held = held
        self._lengths: dict[str, int] = {}
        self.extend(above)

    def extend(self, above: State, length: int = 0) -> None:
        """See `Reader`."""
        del length
        if above.watermark_us is not None:
            self.complete_us = above.watermark_us
        lengths = documents_in(above.outputs, self._layer)
        if lengths == self._lengths:
            return
        self._lengths = lengths
        days = pl.Series([day_of_document(name) for name in lengths], dtype=pl.String)
        self.frame = pl.DataFrame(
            {
                "ts": days.str.to_datetime("%Y-%m-%d", time_unit="us").dt.timestamp("us"),
                "document": [self._read(name, end).decode() for name, end in lengths.items()],
            },
            schema=self.frame.schema,
        )

    def _read(self, name: str, end: int) -> bytes:
        path = self._folder / name
        return path.read_bytes() if self._held is None else self._held.read(path, 0, end)

    def load(self) -> None:
        """All of them are loaded."""

    def window(self, low: int, high: int) -> pl.DataFrame:
        """See `Reader`; older documents still hold and are shown again."""
        del low
        return self.frame.filter(pl.col("ts") < high)

    def drop(self, before_us: int) -> None:
        """None is let go of."""
        del before_us


def _behind(first: pl.DataFrame, second: pl.DataFrame) -> pl.DataFrame:
    """Rows behind others, in not too many pieces of memory."""
    if not first.height:
        return second
    if first.height + second.height <= _FEW_ROWS:
        return first.clone().extend(second)
    both = first.vstack(second)
    if both.n_chunks() <= _MOST_PIECES:
        return both
    # long pieces are left as they are: now and then a few rows would have to wait for all of them
    lengths = both.to_series(0).chunk_lengths()
    short = list(takewhile(lambda length: length <= _FEW_ROWS, reversed(lengths)))
    if len(short) <= _MOST_PIECES:
        return both
    start = both.height - sum(short)
    return both.head(start).vstack(in_one_piece(both.slice(start)))


def _microseconds(stamps: pl.Series) -> pl.Series:
    """Times as numbers; those of most layers are that already, but for their type."""
    if stamps.dtype == pl.Datetime("us", "UTC"):
        return stamps.cast(pl.Int64)
    return stamps.dt.timestamp("us")


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
