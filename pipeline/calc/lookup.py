"""The last row before a time: what was known just then.

A row stands until the next one, a row that is lost ends the one before it, and no row stands for
longer than it may. Times are whole milliseconds, and only rows strictly below a time count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NONE = -1
"""Stands for the row where there is none."""


def rows_before(stamps: Ints, is_lost: Flags, times: Ints, max_age: int) -> Ints:
    """The row that stands just before each time, `NONE` where none does.

    Args:
        stamps: times of rows, never falling; of equal ones the last counts.
        is_lost: rows that only end the one before them.
        times: the times to look from.
        max_age: for how long a row stands.
    """
    rows = np.searchsorted(stamps, times, side="left") - 1
    if not len(stamps):
        return rows
    at = rows.clip(0)
    stands = (rows >= 0) & ~is_lost[at] & (times - stamps[at] <= max_age)
    return np.where(stands, rows, NONE)


def taken(values: Floats, rows: Ints) -> Floats:
    """Values of rows, NaN where there is no row."""
    if not len(values):
        return np.full(len(rows), np.nan)
    return np.where(rows >= 0, values[rows.clip(0)], np.nan)


def last_change(stamps: Ints, has_changed: Flags, before: int) -> Ints:
    """For every row the time of the last row up to it that has changed.

    Args:
        stamps: times of the rows.
        has_changed: which rows have.
        before: the time of the last one in front of the rows.
    """
    changed = np.where(has_changed, stamps, before)
    return np.maximum.accumulate(changed) if len(changed) else changed


def whole_seconds(stamps: Ints, first: int, last: int, max_age: int) -> Ints:
    """The seconds in [first, last] just before which some row may stand.

    Args:
        stamps: times of rows in milliseconds, never falling.
        first: in seconds.
        last: in seconds.
        max_age: for how long a row stands, milliseconds.
    """
    cells = stamps // 1000
    if not len(cells) or first > last:
        return np.zeros(0, np.int64)
    cells = cells[np.flatnonzero(np.diff(cells, append=cells[-1] + 1))]
    longest = -(-max_age // 1000) + 1
    until = np.minimum(np.append(cells[1:], last), cells + longest)
    lengths = (until - cells).clip(0)
    starts = np.repeat(cells + 1 - np.cumsum(lengths) + lengths, lengths)
    found = starts + np.arange(len(starts))
    return found[(found >= first) & (found <= last)]
