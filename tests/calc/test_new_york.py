"""Sessions in New York: daylight saving time, midnights, days without end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from pipeline.calc.new_york import close_of, days_of, overlaps_session, session_of

EPOCH = date(1970, 1, 1)


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000


def number(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        ("2013-10-07", "13:30", "20:00"),
        ("2024-03-08", "14:30", "21:00"),  # the Friday before the clocks go forward
        ("2024-03-10", "13:30", "20:00"),
        ("2024-03-11", "13:30", "20:00"),
        ("2024-11-01", "13:30", "20:00"),
        ("2024-11-03", "14:30", "21:00"),
        ("2024-11-04", "14:30", "21:00"),
        ("2006-03-31", "14:30", "21:00"),  # until 2006 it began in April
    ],
)
def test_sessions_follow_the_clock_in_new_york(day: str, opens: str, closes: str) -> None:
    session = session_of(number(day))
    assert session.date.isoformat() == day
    assert session.open_us == us(f"{day}T{opens}:00+00:00")
    assert session.close_us == us(f"{day}T{closes}:00+00:00") == close_of(day)


def test_a_name_that_is_no_day_has_no_close() -> None:
    assert close_of("2024-02-30") is None
    assert close_of("0000-01-01") is None


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        ("2024-03-08T04:59:59+00:00", "2024-03-07"),
        ("2024-03-08T05:00:00+00:00", "2024-03-08"),
        ("2024-03-11T03:59:59+00:00", "2024-03-10"),
        ("2024-03-11T04:00:00+00:00", "2024-03-11"),
        ("2024-03-10T04:59:59+00:00", "2024-03-09"),
        ("2024-03-10T07:30:00+00:00", "2024-03-10"),
        ("1970-01-01T00:00:01+00:00", "1969-12-31"),
    ],
)
def test_days_begin_at_midnight_in_new_york(moment: str, day: str) -> None:
    assert days_of(np.array([us(moment)])).tolist() == [number(day)]


def test_days_of_many_times_and_of_the_last_there_is() -> None:
    hours = [us("2024-03-05T00:00:00+00:00") + hour * 3_600_000_000 for hour in range(400)]
    found = days_of(np.array(hours)).tolist()
    for moment, day in zip(hours, found, strict=True):
        local = datetime.fromtimestamp(moment // 1_000_000, UTC)
        is_summer = local >= datetime(2024, 3, 10, 7, tzinfo=UTC)
        assert day == (local - timedelta(hours=4 if is_summer else 5)).date().toordinal() - 719_163
    assert days_of(np.array([253_402_300_799_999_999])).tolist() == [2_932_896]
    assert session_of(2_932_896).date == date(9999, 12, 31)
    assert days_of(np.zeros(0, np.int64)).tolist() == []


def test_what_lies_between_two_sessions_overlaps_none() -> None:
    close, opens = us("2024-03-07T21:00:00+00:00"), us("2024-03-08T14:30:00+00:00")
    assert not overlaps_session(close, opens)
    assert overlaps_session(close - 1, opens)
    assert overlaps_session(close, opens + 1)
