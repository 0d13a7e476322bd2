"""Times as Python users write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from numbers import Integral
from typing import Any

from pipeline.errors import UsageError

Time = datetime | date | str | int
"""A datetime (without a zone: UTC), a day, ISO text, or microseconds since 1970."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_US, LAST_US = 10**14, 253_402_300_799_999_999
"""Of integers: before the first there was no market, behind the last no year of four digits."""


def time_us(value: Any, name: str) -> int | None:
    """A time in microseconds since 1970; None stays None.

    Raises:
        UsageError: it is none; names the argument.
    """
    moment: Any = value
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError as error:
            raise _no_time(value, name) from error
    if moment is None:
        return None
    if isinstance(moment, Integral) and not isinstance(moment, bool):
        return _microseconds(int(moment), name)
    if type(moment) is date:
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise _no_time(value, name)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    us: int = (moment - _EPOCH) // timedelta(microseconds=1)
    return us


def _microseconds(us: int, name: str) -> int:
    """Refuse other units: as microseconds they are times before or long after any market."""
    if us and not FIRST_US <= us <= LAST_US:
        raise UsageError(f"{name}: {us} is not a time in microseconds since 1970")
    return us


def _no_time(value: Any, name: str) -> UsageError:
    message = f"{name}: {value!r} is not a datetime, ISO text or microseconds since 1970"
    return UsageError(message, f'{name}="2025-12-14T21:34:00Z"')
