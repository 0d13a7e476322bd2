"""Regular sessions of the US stock market: 09:30 to 16:00 New York time.

Every day of the New York calendar has one; whether there was any trading is what the tape shows.
It ends at 16:00 also on days on which the exchanges close early.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from pipeline.stage import DAY_US

Ints = npt.NDArray[np.int64]

BAR_US = 300_000_000
BARS = 78
"""Five-minute bars of a session."""

_OPEN, _CLOSE, _MIDNIGHT = time(9, 30), time(16), time()
_EPOCH, _FIRST = datetime(1970, 1, 1, tzinfo=UTC), date(1970, 1, 1)
_REMEMBERED = 4096


class Session(NamedTuple):
    """One day's session, in microseconds since 1970 UTC; `day` counts days since 1970-01-01."""

    day: int
    open_us: int
    close_us: int

    @property
    def date(self) -> date:
        """The day as a date."""
        return _FIRST + timedelta(days=self.day)


@lru_cache(_REMEMBERED)
def session_of(day: int) -> Session:
    """The session of a New York day."""
    return Session(day, _utc_us(day, _OPEN), _utc_us(day, _CLOSE))


def days_of(us: Ints) -> Ints:
    """The New York day of each time, in days since 1970-01-01."""
    days: Ints = us // DAY_US
    found, which = np.unique(days, return_inverse=True)
    midnights = np.array([_utc_us(day, _MIDNIGHT) for day in found.tolist()], np.int64)
    return days - (us < midnights[which]) if len(us) else days


def is_in_session(us: Ints, days: Ints) -> npt.NDArray[np.bool_]:
    """Whether each time lies in the session of its day.

    Args:
        us: the times.
        days: see `days_of`.
    """
    found, which = np.unique(days, return_inverse=True)
    sessions = [session_of(day) for day in found.tolist()]
    opens = np.array([each.open_us for each in sessions], np.int64)[which]
    closes = np.array([each.close_us for each in sessions], np.int64)[which]
    return (us >= opens) & (us < closes)


def close_of(name: str) -> int | None:
    """When the session of a day named as `2013-10-07` ends; None if there is no such day."""
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return session_of((day - _FIRST).days).close_us


def overlaps_session(low_us: int, high_us: int) -> bool:
    """Whether a part of a session lies in [low, high)."""
    first = int(days_of(np.array([low_us], np.int64))[0])
    return any(
        low_us < session.close_us and session.open_us < high_us
        for session in map(session_of, (first, first + 1))
    )


@lru_cache(_REMEMBERED)
def _utc_us(day: int, at: time) -> int:
    moment = datetime.combine(_FIRST + timedelta(days=day), at, ZoneInfo("America/New_York"))
    return (moment - _EPOCH) // timedelta(microseconds=1)
