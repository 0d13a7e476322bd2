"""The rows of a JSONL layer by byte and time: found by halving the file, not by reading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.engine.places import File, Places
from pipeline.engine.reader import lines_between
from pipeline.engine.seek import microseconds
from pipeline.engine.spans import Ints, Spans, merged
from pipeline.errors import StateError
from pipeline.layers import Layer

_CHUNK, _MOST = 1 << 13, 1 << 15
"""A file is read by so many bytes at least whatever is asked for."""
_COUNTED = 1 << 16
"""A range from the first row on is only counted up to so many bytes: it grows with history."""


class _Head(msgspec.Struct):
    timestamp_utc: str
    start_utc: str | None = None


class LinePlaces(Places):
    """The lines of one file up to its committed length."""

    def __init__(self, path: Path, relative: str, layer: Layer, size: int, slack_us: int) -> None:
        super().__init__(layer, size, slack_us)
        self._path = path
        self._relative = relative
        self._pages: dict[int, bytes] = {}

    def between(self, low_us: int, high_us: int) -> Spans:
        """See `Places`."""
        first = self._search(low_us - self.slack_us)
        if not self.slack_us:
            last = self._search(high_us)
            return [(first, last)] if first < last else []
        found: Spans = []
        for start, line in self._lines(first, self.size):
            us = _time(line)
            if us >= high_us + self.slack_us:
                break
            if low_us <= us < high_us:
                found.append((start, start + len(line)))
        return merged(found)

    def last(self, before_us: int, since_us: int) -> Spans:
        """See `Places`; the line in front of the first later one, where they stand in order."""
        if self.slack_us:
            return super().last(before_us, since_us)
        end = self._search(before_us - self.shift_us)
        if not end:
            return []
        start, line = self._line(end - 1)
        return [(start, end)] if _time(line) + self.shift_us >= since_us else []

    def stamps(self, span: tuple[int, int]) -> Ints:
        """See `Places`."""
        return np.array([_time(line) for _, line in self._lines(*span)], np.int64)

    def stretch(self, span: tuple[int, int]) -> tuple[int, int]:
        """See `Places`."""
        first = self._decoded(self._line(span[0])[1])
        _, last = self._line(span[1] - 1)
        start = microseconds(first.start_utc or first.timestamp_utc)
        return start, _time(last) + self.width_us

    def back(self, place: int, count: int, counted: tuple[str, ...] = ()) -> int:
        """See `Places`."""
        del counted
        low, around = place, _CHUNK
        while low and count > 0:
            low = max(0, place - around)
            data = lines_between(self._path, low, place)
            # one line end more than lines, as the first of them begins behind it
            ends = data.count(b"\n")
            if ends > count:
                return place - len(b"".join(data.splitlines(keepends=True)[-count:]))
            around *= 4
        return low

    def rows(self, spans: Spans) -> list[dict[str, Any]]:
        """See `Places`."""
        return [msgspec.json.decode(line) for span in spans for _, line in self._lines(*span)]

    def count(self, spans: Spans) -> int | None:
        """See `Places`."""
        if any(low == 0 and high > _COUNTED for low, high in spans):
            return None
        return sum(lines_between(self._path, *span).count(b"\n") for span in spans)

    def files(self, spans: Spans) -> list[File]:
        """See `Places`."""
        return [File(self._relative, "bytes", spans)]

    def row_at(self, place: int) -> tuple[int, int]:
        """See `Places`."""
        start, line = self._line(place)
        return start, start + len(line)

    def _search(self, us: int) -> int:
        """Where the first row of this time or later stands."""
        low, high = 0, self.size
        while low < high:
            start, line = self._line((low + high) // 2)
            if _time(line) < us:
                low = start + len(line)
            else:
                high = start
        return low

    def _line(self, place: int) -> tuple[int, bytes]:
        """The line that holds a byte, and where it starts."""
        first, last, more = place // _CHUNK, place // _CHUNK, 1
        while True:
            low = first * _CHUNK
            data = b"".join(self._page(number) for number in range(first, last + 1))
            start, end = data.rfind(b"\n", 0, place - low) + 1, data.find(b"\n", place - low) + 1
            if (start or not low) and end:
                return low + start, data[start:end]
            if not low and low + len(data) == self.size:
                raise StateError(f"{self._path}: no whole line at byte {place}")
            first, last = first if start else max(0, first - more), last if end else last + more
            more *= 2

    def _page(self, number: int) -> bytes:
        """A piece of the file; searches meet the same ones again and again."""
        if number not in self._pages:
            low = number * _CHUNK
            high = min(self.size, low + _CHUNK)
            self._pages[number] = lines_between(self._path, low, high) if low < high else b""
        return self._pages[number]

    def _lines(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """The lines of a range, a piece at a time."""
        around = _CHUNK
        while start < end:
            data = lines_between(self._path, start, min(end, start + around))
            whole = data[: data.rfind(b"\n") + 1]
            if not whole and start + around >= end:
                raise StateError(f"{self._path}: no whole line at byte {start}")
            for line in whole.splitlines(keepends=True):
                yield start, line
                start += len(line)
            around = around * 4 if not whole else min(around * 4, _MOST)

    @staticmethod
    def _decoded(line: bytes) -> _Head:
        return msgspec.json.decode(line, type=_Head)


def _time(line: bytes) -> int:
    return microseconds(msgspec.json.decode(line, type=_Head).timestamp_utc)
