"""Where the committed rows of a layer stand, and of which time they are.

A place is a byte of a JSONL file, the number of a row of a Parquet layer, the number of a document.
Rows are found by time without reading all of them: rows of events may stand somewhat out of order,
by less than `slack_us`, and nothing else is relied on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.engine.seek import microseconds
from pipeline.engine.spans import Ints, Spans
from pipeline.engine.state import State
from pipeline.layers import Layer
from pipeline.stage import DAY_US, MINUTE_US

SPANS = {"ladder_1m": MINUTE_US}
"""Layers of events, at the beginning of the time they tell of."""
_STAMP_US = {"s": 1_000_000, "ms": 1000}
_FURTHER = 16


@dataclass(frozen=True, slots=True)
class File:
    """Where rows stand.

    Attributes:
        path: a file below the vault; a pattern where a range goes through many.
        unit: "bytes" of a JSONL file or document, "rows" of a Parquet layer, counted from its
            first file on.
        files: how many files there are.
    """

    path: str
    unit: str
    ranges: Spans
    files: int = 1
    sha256: str | None = None


class Places(ABC):
    """The rows of one layer of one instrument."""

    def __init__(self, layer: Layer, size: int, slack_us: int) -> None:
        self.layer = layer
        self.size = size
        self.slack_us = 0 if layer.span_us and layer.format == "jsonl" else slack_us

    @property
    def width_us(self) -> int:
        """How long a row's time is; for events, as exactly as its time is written."""
        layer = self.layer
        if layer.format == "json":
            return DAY_US
        stamp = 1 if layer.format == "parquet" else _STAMP_US[layer.stamp]
        return layer.span_us or SPANS.get(layer.name, 0) or stamp

    @property
    def shift_us(self) -> int:
        """How long after its `ts` a row becomes known: a bar with its last microsecond."""
        return max(0, self.layer.span_us - 1) if self.layer.format == "jsonl" else 0

    @abstractmethod
    def between(self, low_us: int, high_us: int) -> Spans:
        """The rows whose `ts` lies in [low, high)."""

    @abstractmethod
    def stamps(self, span: tuple[int, int]) -> Ints:
        """The `ts` of some rows, microseconds."""

    @abstractmethod
    def stretch(self, span: tuple[int, int]) -> tuple[int, int]:
        """From when until when some rows tell, microseconds."""

    @abstractmethod
    def back(self, place: int, count: int, counted: tuple[str, ...] = ()) -> int:
        """The place so many rows before, at least the first; only rows with values are counted."""

    @abstractmethod
    def rows(self, spans: Spans) -> list[dict[str, Any]]:
        """Rows as JSON has them."""

    @abstractmethod
    def count(self, spans: Spans) -> int | None:
        """How many rows there are; None if one would have to read too much to know."""

    @abstractmethod
    def files(self, spans: Spans) -> list[File]:
        """Where they stand."""

    @abstractmethod
    def row_at(self, place: int) -> tuple[int, int]:
        """The one row that holds a place."""

    def known(self, low_us: int, high_us: int) -> Spans:
        """The rows that become known in [low, high)."""
        return self.between(low_us - self.shift_us, high_us - self.shift_us)

    def last(self, before_us: int, since_us: int) -> Spans:
        """The last row that becomes known in [since, before), if there is one."""
        reach = MINUTE_US
        while True:
            low = max(before_us - reach, since_us)
            found = self.known(low, before_us)
            if found:
                break
            if low == since_us:
                return []
            reach *= _FURTHER
        newest = int(self.stamps(self.row_at(found[-1][1] - 1))[0])
        spans = self.between(newest, before_us - self.shift_us)
        best = max(spans, key=lambda span: (int(self.stamps(span).max()), span))
        times = self.stamps(best)
        place = best[0]
        for _ in range(int(np.flatnonzero(times == times.max())[-1])):
            place = self.row_at(place)[1]
        return [self.row_at(place)]

    def covering(self, at_us: int) -> Spans:
        """The rows whose time covers this one; of events those of the last moment until then."""
        layer = self.layer
        if layer.span_us or layer.name in SPANS or layer.format == "json":
            return self.between(at_us - self.width_us + 1, at_us + 1)
        newest = self.last(at_us + 1, 0)
        if not newest:
            return []
        moment = int(self.stamps(newest[0])[0])
        return self.between(moment, moment + 1)


class _Made(msgspec.Struct):
    trained_on: str | None = None


class DocumentPlaces(Places):
    """The documents of a JSON layer, one a day at most."""

    def __init__(self, root: Path, folder: str, layer: Layer, state: State) -> None:
        begin = f"{folder}/"
        self._root = root
        self._names = sorted(
            name
            for name in state.outputs
            if name.startswith(begin) and fnmatch(name.removeprefix(begin), layer.file)
        )
        self._sizes = [state.outputs[name] for name in self._names]
        days = [name[-len("2024-03-05.json") :][:10] for name in self._names]
        self._ts = np.array([microseconds(f"{day}T00:00:00Z") for day in days], np.int64)
        super().__init__(layer, len(self._names), 0)

    def between(self, low_us: int, high_us: int) -> Spans:
        """See `Places`."""
        low, high = np.searchsorted(self._ts, [low_us, high_us]).tolist()
        return [(low, high)] if low < high else []

    def stamps(self, span: tuple[int, int]) -> Ints:
        """See `Places`."""
        return self._ts[span[0] : span[1]]

    def stretch(self, span: tuple[int, int]) -> tuple[int, int]:
        """See `Places`; a document is made of days before the one it is for."""
        first, last = span[0], span[1] - 1
        made = msgspec.json.decode(self._read(first), type=_Made).trained_on
        start = int(self._ts[first]) if made is None else microseconds(f"{made}T00:00:00Z")
        return start, int(self._ts[last])

    def back(self, place: int, count: int, counted: tuple[str, ...] = ()) -> int:
        """See `Places`."""
        del counted
        return max(0, place - count)

    def rows(self, spans: Spans) -> list[dict[str, Any]]:
        """See `Places`."""
        return [msgspec.json.decode(self._read(i)) for a, b in spans for i in range(a, b)]

    def count(self, spans: Spans) -> int | None:
        """See `Places`."""
        return sum(high - low for low, high in spans)

    def files(self, spans: Spans) -> list[File]:
        """See `Places`."""
        chosen = [i for low, high in spans for i in range(low, high)]
        return [File(self._names[i], "bytes", [(0, self._sizes[i])]) for i in chosen]

    def row_at(self, place: int) -> tuple[int, int]:
        """See `Places`."""
        return place, place + 1

    def _read(self, index: int) -> bytes:
        return (self._root / self._names[index]).read_bytes()
