"""Where the rows of a time stand, found without reading what lies before them.

Rows of a layer are in the order of their times but for stragglers, so a search by halves finds
the place, with a margin that no straggler reaches.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEAR_BYTES = 1 << 16
_STAMP = re.compile(rb'\{"timestamp_utc":"([^"]{19,40})"')


@dataclass(frozen=True, slots=True)
class Span:
    """Times [since, until) in microseconds; None: without that end."""

    since_us: int | None = None
    until_us: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether it leaves nothing out."""
        return self.since_us is None and self.until_us is None

    def holds(self, times: pl.Expr) -> pl.Expr:
        """The condition on times; a row without one is in no span."""
        found = pl.lit(value=True)
        if self.since_us is not None:
            found &= times >= moment(self.since_us)
        if self.until_us is not None:
            found &= times < moment(self.until_us)
        return found


def moment(us: int) -> datetime:
    """Microseconds since 1970 as a time."""
    return _EPOCH + timedelta(microseconds=us)


def line_range(path: Path, length: int, span: Span, margin_us: int) -> tuple[int, int]:
    """The bytes of a JSONL layer in which all rows of a span stand, from line start to line end.

    Args:
        path: its file.
        length: how much of it is committed.
        span: the times wanted.
        margin_us: how far a row may lie behind one before it.
    """
    start, end = 0, length
    if span.since_us is not None:
        start, _ = _around(path, length, span.since_us - margin_us)
    if span.until_us is not None:
        _, end = _around(path, length, span.until_us + margin_us)
    return start, max(start, end)


def _around(path: Path, length: int, us: int) -> tuple[int, int]:
    """A line start with only earlier times before it, and one with no earlier time behind it."""
    low, high = 0, length
    with path.open("rb") as stream:
        while high - low > _NEAR_BYTES:
            middle = (low + high) // 2
            stream.seek(middle)
            start = middle + len(stream.readline())
            found = _STAMP.match(stream.readline()) if start < high else None
            if found is None:
                break
            if microseconds(found[1].decode()) < us:
                low = start
            else:
                high = start
    return low, high


def part_range(
    count: int, span: Span, margin_us: int, times: Callable[[int], pl.Series]
) -> tuple[int, int]:
    """The files of a Parquet layer, by number, in which all rows of a span stand.

    Args:
        count: how many files there are.
        span: the times wanted.
        margin_us: how far a row may lie behind one before it.
        times: the times in a file.
    """
    start, end = 0, count
    if span.since_us is not None:
        low = span.since_us - margin_us
        start = bisect_left(range(count), True, key=lambda i: _reaches(times(i), low))
    if span.until_us is not None:
        high = span.until_us + margin_us
        end = bisect_left(range(count), True, key=lambda i: _is_behind(times(i), high))
    return start, max(start, end)


def _reaches(times: pl.Series, us: int) -> bool:
    latest: Any = times.max()
    return latest is None or bool(latest >= moment(us))


def _is_behind(times: pl.Series, us: int) -> bool:
    first: Any = times.min()
    return first is not None and bool(first >= moment(us))


def microseconds(text: str) -> int:
    """Microseconds since 1970 of a time as rows write it."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
