"""Committed rows of a layer within a span of time, found without reading what lies before it.

Rows of JSONL layers stand in the order of their times and begin with them, so the first one of a
span is found by halving; layers of events may be out of order by as much as their feed was, for
which there is a margin. Of Parquet layers the first file of a span is found the same way.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from pipeline import stages
from pipeline.engine.codecs import FrameCodec
from pipeline.engine.parts import names, read_listed
from pipeline.engine.paths import VaultPaths
from pipeline.engine.reader import length_in, lines_between
from pipeline.engine.rows import stamp
from pipeline.engine.state import State, read_state
from pipeline.errors import StateError
from pipeline.instrument import Instrument
from pipeline.layers import Layer

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEAD = len('{"timestamp_utc":"')
_SECONDS = len("2025-12-14T21:34:00")
_LINE_BYTES = 1 << 12
_MARGIN_US = 3_600_000_000
"""How far events may stand out of order, at least."""


class Committed:
    """What is committed of one instrument: the states as they were when this was made.

    Runs may go on meanwhile; rows that they commit later are not seen.
    """

    def __init__(self, vault: Path, instrument: Instrument) -> None:
        self.paths = VaultPaths(vault)
        self.instrument = instrument
        self.states: dict[str, State | None] = {
            stage.name: read_state(self.paths.state(stage.name, instrument))
            for stage in stages.all_stages()
        }

    @property
    def epochs(self) -> dict[str, int]:
        """How often each stage was rebuilt: other numbers mean that other files were swapped in."""
        return {name: state.epoch for name, state in self.states.items() if state is not None}

    def state_of(self, layer: str) -> State | None:
        """The state of the stage that writes a layer."""
        return self.states[stages.owner(layer).name]

    def last_us(self, layer: str) -> int | None:
        """Time of the last row of a layer, None if it has none."""
        state = self.state_of(layer)
        mark = state.layers.get(layer) if state is not None else None
        return mark.last_us if mark is not None else None

    def first_us(self, layer: str) -> int | None:
        """Time of the first row of a JSONL layer, None if it has none."""
        state = self.state_of(layer)
        end = length_in(state, self.paths.root, layer_of(layer), self.instrument) if state else 0
        if not end:
            return None
        try:
            with self._path(layer).open("rb") as stream:
                text = msgspec.json.decode(stream.readline(end), type=_Stamped).timestamp_utc
        except (OSError, msgspec.DecodeError) as error:
            raise self._damaged(layer, self._path(layer), str(error)) from error
        return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)

    def rows(self, name: str, low_us: int, high_us: int, only: bytes = b"") -> list[dict[str, Any]]:
        """Rows of a JSONL layer with a time in [low_us, high_us), both of whole seconds.

        Args:
            name: the layer.
            low_us: from this time on, microseconds.
            high_us: to before this one.
            only: lines without these bytes are left out before they are decoded.

        Raises:
            StateError: what is committed cannot be read.
        """
        low, high = _key(low_us), _key(high_us)
        path = self._path(name)
        try:
            lines = self._lines(name, low_us, high_us).splitlines()
            kept = (line for line in lines if low <= _key_of(line) < high and only in line)
            return [msgspec.json.decode(line) for line in kept]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._damaged(name, path, str(error)) from error

    def _path(self, name: str) -> Path:
        layer, _ = stages.layers()[name]
        return self.paths.derived(layer.folder, self.instrument) / layer.file

    def _lines(self, name: str, low_us: int, high_us: int) -> bytes:
        """Lines of a JSONL layer that hold all rows of a span, with some around it."""
        layer, _ = stages.layers()[name]
        state, path = self.state_of(name), self._path(name)
        if state is None:
            return b""
        end = length_in(state, self.paths.root, layer, self.instrument)
        if not end:
            return b""
        if not path.is_file() or path.stat().st_size < end:
            raise self._damaged(name, path, f"it has not the {end:,} bytes that are committed")
        margin = 0 if layer.span_us else max(_MARGIN_US, state.lateness_us)
        low, high = _key(low_us - margin), _key(high_us + margin)
        start = _first_line(path, end, low)
        return lines_between(path, start, _first_line(path, end, high, start))

    def frame(self, name: str, columns: Sequence[str], low_us: int, high_us: int) -> pl.DataFrame:
        """Rows of a Parquet layer that stands in order, with `ts` in [low_us, high_us)."""
        layer, _ = stages.layers()[name]
        state = self.state_of(name)
        parts = state.parts.get(name) if state is not None else None
        wanted = ["ts", *columns]
        if parts is None or not parts.rows:
            return pl.DataFrame(schema=dict.fromkeys(wanted, pl.Float64))
        folder = self.paths.derived(layer.folder, self.instrument)
        files = list(names(parts))

        def read(index: int, columns: list[str]) -> pl.DataFrame:
            file, start, end = files[index]
            try:
                return read_listed(folder, start, end, FrameCodec(), columns)
            except FileNotFoundError as error:
                raise self._damaged(name, folder / file, "committed rows are gone") from error

        @cache
        def first_us(index: int) -> int:
            return int(read(index, ["ts"])["ts"].dt.timestamp("us")[0])

        first = max(0, bisect_left(range(len(files)), low_us, key=first_us) - 1)
        past = bisect_left(range(len(files)), high_us, lo=first, key=first_us)
        found = [read(index, wanted) for index in range(first, past)]
        if not found:
            return pl.DataFrame(schema=dict.fromkeys(wanted, pl.Float64))
        at = pl.col("ts").dt.timestamp("us")
        return pl.concat(found).filter((at >= low_us) & (at < high_us))

    def quarantined(self, kind: str, day: str) -> dict[str, int]:
        """How many lines of a raw day file were refused, by reason."""
        stage = next(each for each in stages.all_stages() if each.raw_kind == kind)
        state = self.states[stage.name]
        path = self.paths.quarantine(self.instrument, kind) / f"{day}.jsonl"
        end = state.outputs.get(self.paths.relative(path), 0) if state is not None else 0
        counts: dict[str, int] = {}
        for line in lines_between(path, 0, end).splitlines() if end else ():
            reason = msgspec.json.decode(line, type=_Reject).reason
            counts[reason] = counts.get(reason, 0) + 1
        return counts

    def _damaged(self, name: str, path: Path, what: str) -> StateError:
        hint = f"flowvault rebuild {stages.owner(name).name} {self.instrument.options}"
        return StateError(f"{path} is damaged: {what}", hint)


class _Reject(msgspec.Struct):
    reason: str


class _Stamped(msgspec.Struct):
    timestamp_utc: str


def layer_of(name: str) -> Layer:
    """The layer of that name."""
    return stages.layers()[name][0]


def _key(us: int) -> bytes:
    """A time as it is compared with the beginning of a row."""
    return stamp(us)[:_SECONDS].encode()


def _key_of(line: bytes) -> bytes:
    return line[_HEAD : _HEAD + _SECONDS]


def _first_line(path: Path, end: int, key: bytes, start: int = 0) -> int:
    """Where the first line from `start` on stands whose time is not before `key`."""
    low, high = start, end
    with path.open("rb") as stream:
        while low < high:
            middle = (low + high) // 2
            at = _line_start(stream, middle, low)
            stream.seek(at)
            if _key_of(stream.read(_HEAD + _SECONDS)) < key:
                low = _next_line(stream, middle, end)
            else:
                high = at
    return low


def _line_start(stream: Any, at: int, lowest: int) -> int:
    """Where the line begins that holds the byte `at`; `lowest` is where some line begins."""
    while at > lowest:
        first = max(lowest, at - _LINE_BYTES)
        stream.seek(first)
        cut = stream.read(at - first).rfind(b"\n")
        if cut >= 0:
            return int(first + cut + 1)
        at = first
    return lowest


def _next_line(stream: Any, at: int, end: int) -> int:
    """Where the line behind the one that holds the byte `at` begins."""
    while at < end:
        stream.seek(at)
        data = stream.read(min(_LINE_BYTES, end - at))
        cut = data.find(b"\n")
        if cut >= 0:
            return int(at + cut + 1)
        at += len(data)
    return end
