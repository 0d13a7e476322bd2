"""Rows of events by minute, and means of values weighted by how long each stands.

A value stands from its own time until the next row, but at most 60 s. A row without a value ends
the one before it. All sums are taken over one minute's rows alone, in their order, so they do not
depend on what else was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pipeline.stage import MINUTE_US

STANDS_US = 60_000_000
"""A silence longer than this says nothing about what stood during it."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Minutes:
    """The minutes of a window that have rows.

    Attributes:
        ts: times of all rows, minute by minute; rows before the window may stand in front.
        start: beginnings of the minutes.
        first: each minute's first row; the last one's are all that follow.
    """

    ts: Ints
    start: Ints
    first: Ints

    @classmethod
    def of(cls, ts: Ints, start_us: int) -> Self:
        """Cut rows into minutes; those before `start_us` belong to none."""
        before = int(np.count_nonzero(ts < start_us))
        cells = ts[before:] // MINUTE_US
        first = np.flatnonzero(np.concatenate(([True], cells[1:] != cells[:-1]))[: len(cells)])
        return cls(ts, cells[first] * MINUTE_US, first + before)

    def sums(self, values: Floats) -> Floats:
        """Sum of each minute's values; NaN adds nothing."""
        return _add(np.where(np.isnan(values), 0.0, values), self.first)

    def counts(self, flags: Flags) -> Ints:
        """How many of each minute's rows are flagged."""
        return (
            np.add.reduceat(flags.astype(np.int64), self.first) if len(self.first) else self.first
        )

    def last(self, flags: Flags) -> Ints:
        """The last flagged row of each minute, -1 where there is none."""
        if not len(self.first):
            return self.first
        return np.maximum.reduceat(np.where(flags, np.arange(len(self.ts)), -1), self.first)

    def means(self, values: Floats) -> Floats:
        """Mean of what stood in each minute, weighted by time; NaN where nothing stood.

        A value that stands when the minute begins counts as well. Needs rows in order of time.
        """
        if not len(self.first):
            return np.empty(0)
        until = self._until()
        minute = self.ts // MINUTE_US * MINUTE_US
        own = np.where(np.isnan(values), 0, np.minimum(until, minute + MINUTE_US) - self.ts)
        # the row before a minute's first; in front of the very first row there is none
        earlier = np.maximum(self.first - 1, 0)
        carried = np.where(self.first > 0, np.maximum(until[earlier] - self.start, 0), 0)
        carried = np.where(np.isnan(values[earlier]), 0, carried)
        # as distances from one of the values, so that the mean of equal ones is that value
        base = _filled(values[self.first])
        lengths = np.diff(self.first, append=len(self.ts))
        apart = _filled(values) - np.concatenate(
            (np.zeros(self.first[0]), np.repeat(base, lengths))
        )
        total = _add(own * apart, self.first) + carried * (_filled(values[earlier]) - base)
        weight = np.add.reduceat(own, self.first) + carried
        return base + divided(total, weight.astype(np.float64))

    def left_standing(self, values: Floats) -> dict[int, float]:
        """Minutes without rows in which a value still stands when they begin, and that value."""
        rows = np.unique(np.append(self.first - 1, len(self.ts) - 1))
        rows = rows[rows >= 0]
        following = (self.ts[rows] // MINUTE_US + 1) * MINUTE_US
        stands = (self._until()[rows] > following) & ~np.isin(following, self.start)
        stands &= ~np.isnan(values[rows])
        return dict(zip(following[stands].tolist(), values[rows[stands]].tolist(), strict=True))

    def _until(self) -> Ints:
        """When each row's value ends."""
        longest = self.ts + STANDS_US
        return np.minimum(np.append(self.ts[1:], longest[-1:]), longest)


def _add(values: Floats, first: Ints) -> Floats:
    return np.add.reduceat(values, first) if len(first) else np.empty(0)


def _filled(values: Floats) -> Floats:
    return np.where(np.isnan(values), 0.0, values)


def divided(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where bottom is 0."""
    found: Floats = np.divide(top, bottom, out=np.full(len(top), np.nan), where=bottom != 0)
    return found


def plain(values: Floats) -> list[float | None]:
    """Values for rows: None for NaN, and no negative zero."""
    return [None if value != value else value for value in (values + 0.0).tolist()]  # noqa: PLR0124
