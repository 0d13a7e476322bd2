"""Columns of texts as integers, decimals and times: the compiled loops of the fast path.

A text that is not written in the usual way gives UNSURE; only `book_lines` may judge it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.jit import Loops
from pipeline.raw.digits import MAX_DIGITS

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Small = npt.NDArray[np.int8]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

UNSURE = -2
"""The value of what only the careful path may judge."""

_loops = Loops(globals())
_MAX_WHOLE = 15
_ZERO, _MINUS, _POINT, _COLON, _T, _Z = (ord(sign) for sign in "0-.:TZ")
_ISO_SHORTEST, _ISO_LONGEST = 20, 27
_MS_LENGTH = 13
_FEBRUARY, _SHORT_MONTHS = 2, (4, 6, 9, 11)
_DAYS_TO_1970 = 719_468
"""From 0000-03-01."""


@_loops.add
def _digits(text: Bytes, at: int, end: int) -> int:
    """The number of 1 to 18 digits between two positions."""
    if end <= at or end - at > MAX_DIGITS:
        return UNSURE
    value = 0
    for place in range(at, end):
        digit = int(text[place]) - _ZERO
        if not 0 <= digit <= 9:  # noqa: PLR2004
            return UNSURE
        value = value * 10 + digit
    return value


@_loops.add
def _same(text: Bytes, start: Places, end: Places, value: Bytes) -> Flags:
    same = np.empty(len(start), np.bool_)
    for row in range(len(start)):
        same[row] = end[row] - start[row] == len(value)
        for place in range(len(value) if same[row] else 0):
            if text[start[row] + place] != value[place]:
                same[row] = False
                break
    return same


@_loops.add
def _integers(text: Bytes, start: Places, end: Places) -> Ints:
    found = np.empty(len(start), np.int64)
    for row in range(len(start)):
        at = start[row]
        if end[row] - at == 2 and text[at] == _MINUS and text[at + 1] == _ZERO + 1:  # noqa: PLR2004
            found[row] = -1
        else:
            found[row] = _digits(text, at, end[row])
    return found


@_loops.add
def _decimals(text: Bytes, start: Places, end: Places) -> tuple[Ints, Small]:
    found, places = np.full(len(start), UNSURE, np.int64), np.zeros(len(start), np.int8)
    for row in range(len(start)):
        at = point = start[row]
        last = end[row]
        while point < last and text[point] != _POINT:
            point += 1
        whole = _digits(text, at, point)
        if whole == UNSURE or point - at > _MAX_WHOLE:
            continue
        if point == last:
            found[row] = whole
            continue
        if _digits(text, point + 1, last) == UNSURE or last - at - 1 > MAX_DIGITS:
            continue
        while text[last - 1] == _ZERO:
            last -= 1
        for place in range(point + 1, last):
            whole = whole * 10 + (int(text[place]) - _ZERO)
        found[row], places[row] = whole, last - point - 1
    return found, places


@_loops.add
def _part(text: Bytes, at: int, length: int, least: int, most: int) -> int:
    """A part of a time of a fixed length and within bounds."""
    value = _digits(text, at, at + length)
    return value if least <= value <= most else UNSURE


@_loops.add
def _days(text: Bytes, at: int) -> int:
    """Days since 1970 of "2024-03-06"."""
    year, month = _part(text, at, 4, 1970, 9999), _part(text, at + 5, 2, 1, 12)
    if min(year, month) == UNSURE or text[at + 4] != _MINUS or text[at + 7] != _MINUS:
        return UNSURE
    longest = 30 if month in _SHORT_MONTHS else 31
    if month == _FEBRUARY:
        longest = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    day = _part(text, at + 8, 2, 1, longest)
    if day == UNSURE:
        return UNSURE
    # in years that begin in March the months' lengths follow a rule
    year, month = (year, month - 3) if month > _FEBRUARY else (year - 1, month + 9)
    past = 365 * year + year // 4 - year // 100 + year // 400
    return past + (153 * month + 2) // 5 + day - 1 - _DAYS_TO_1970


@_loops.add
def _iso(text: Bytes, at: int, end: int) -> int:
    """Microseconds since 1970 of "2024-03-06T12:00:00[.123456]Z"."""
    if not _ISO_SHORTEST <= end - at <= _ISO_LONGEST or text[end - 1] != _Z:
        return UNSURE
    if text[at + 10] != _T or text[at + 13] != _COLON or text[at + 16] != _COLON:
        return UNSURE
    days, hour = _days(text, at), _part(text, at + 11, 2, 0, 23)
    minute, second = _part(text, at + 14, 2, 0, 59), _part(text, at + 17, 2, 0, 59)
    fraction = 0
    if end - at > _ISO_SHORTEST:
        fraction = _digits(text, at + 20, end - 1)
        if text[at + 19] != _POINT:
            return UNSURE
    if min(days, hour, minute, second, fraction) == UNSURE:
        return UNSURE
    if end - at > _ISO_SHORTEST:
        for _ in range(_ISO_LONGEST - (end - at)):
            fraction *= 10
    return ((days * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction


@_loops.add
def _times(text: Bytes, start: Places, end: Places, is_ms: bool, is_iso: bool) -> Ints:
    found = np.full(len(start), UNSURE, np.int64)
    for row in range(len(start)):
        at = start[row]
        if is_ms and end[row] - at == _MS_LENGTH and text[at] != _ZERO:
            milliseconds = _digits(text, at, end[row])
            if milliseconds != UNSURE:
                found[row] = milliseconds * 1000
        elif is_iso:
            found[row] = _iso(text, at, end[row])
    return found


def same(text: Bytes, start: Places, end: Places, value: bytes) -> Flags:
    """Where a value's text is exactly `value`."""
    _loops.compile()
    return _same(text, start, end, np.array(bytearray(value), np.uint8))


def integers(text: Bytes, start: Places, end: Places) -> Ints:
    """Integers of up to 18 digits; -1 as such."""
    _loops.compile()
    return _integers(text, start, end)


def decimals(text: Bytes, start: Places, end: Places) -> tuple[Ints, Small]:
    """Digits and decimals of plain decimals of up to 18 digits, zeros at the end dropped."""
    _loops.compile()
    return _decimals(text, start, end)


def times(text: Bytes, start: Places, end: Places, kind: str) -> Ints:
    """Event times in microseconds of the given kind ("ms", "iso", "any")."""
    _loops.compile()
    return _times(text, start, end, kind != "iso", kind != "ms")
