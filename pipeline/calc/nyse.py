"""The days on which US stocks trade: weekdays without the holidays of the New York Stock Exchange.

The rules are those of NYSE Rule 7.2 with the days that were closed by decision; from 1998 on.
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import cache

_CLOSED = frozenset(
    map(
        date.fromisoformat,
        (
            *("2001-09-11", "2001-09-12", "2001-09-13", "2001-09-14"),
            *("2004-06-11", "2007-01-02", "2012-10-29", "2012-10-30"),
            *("2018-12-05", "2025-01-09"),
        ),
    )
)
"""Attacks, storms, days of mourning."""

_JUNETEENTH_SINCE = 2022
_MONDAY, _THURSDAY, _SATURDAY, _SUNDAY = 0, 3, 5, 6
_DAY = timedelta(days=1)


def trading_days(first: date, last: date) -> list[date]:
    """The trading days from `first` to `last`, both included."""
    several = (first + number * _DAY for number in range((last - first).days + 1))
    return [day for day in several if day.weekday() < _SATURDAY and day not in holidays(day.year)]


@cache
def holidays(year: int) -> frozenset[date]:
    """The weekdays of a year on which the exchange is closed."""
    new_year = date(year, 1, 1)
    found = {
        # a Saturday's is not made up for: the last day of December is kept
        new_year + _DAY if new_year.weekday() == _SUNDAY else new_year,
        _nth(year, 1, _MONDAY, 3),
        _nth(year, 2, _MONDAY, 3),
        _easter(year) - 2 * _DAY,
        _nth(year, 6, _MONDAY, 1) - 7 * _DAY,
        _observed(date(year, 7, 4)),
        _nth(year, 9, _MONDAY, 1),
        _nth(year, 11, _THURSDAY, 4),
        _observed(date(year, 12, 25)),
    }
    if year >= _JUNETEENTH_SINCE:
        found.add(_observed(date(year, 6, 19)))
    return frozenset(found) | {day for day in _CLOSED if day.year == year}


def _observed(day: date) -> date:
    shift = {_SATURDAY: -_DAY, _SUNDAY: _DAY}
    return day + shift.get(day.weekday(), timedelta(0))


def _nth(year: int, month: int, weekday: int, number: int) -> date:
    """The n-th Monday, Thursday … of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (number - 1))


def _easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (Meeus, Astronomical Algorithms, chapter 8)."""
    golden, century = year % 19, year // 100
    moon = (century - century // 4 - (8 * century + 13) // 25 + 19 * golden + 15) % 30
    moon -= moon // 28 * (1 - 29 // (moon + 1) * ((21 - golden) // 11))
    week = (year + year // 4 + moon + 2 - century + century // 4) % 7
    offset = moon - week
    month = 3 + (offset + 40) // 44
    return date(year, month, offset + 28 - 31 * (month // 4))
