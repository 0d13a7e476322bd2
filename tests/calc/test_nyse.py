"""Trading days of the New York Stock Exchange against its published calendars."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline.calc.nyse import holidays, trading_days

PUBLISHED = {
    2001: "01-01 01-15 02-19 04-13 05-28 07-04 09-03 09-11 09-12 09-13 09-14 11-22 12-25",
    2004: "01-01 01-19 02-16 04-09 05-31 06-11 07-05 09-06 11-25 12-24",
    2010: "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24",
    2012: "01-02 01-16 02-20 04-06 05-28 07-04 09-03 10-29 10-30 11-22 12-25",
    2013: "01-01 01-21 02-18 03-29 05-27 07-04 09-02 11-28 12-25",
    2018: "01-01 01-15 02-19 03-30 05-28 07-04 09-03 11-22 12-05 12-25",
    2021: "01-01 01-18 02-15 04-02 05-31 07-05 09-06 11-25 12-24",
    2022: "01-17 02-21 04-15 05-30 06-20 07-04 09-05 11-24 12-26",
    2023: "01-02 01-16 02-20 04-07 05-29 06-19 07-04 09-04 11-23 12-25",
    2024: "01-01 01-15 02-19 03-29 05-27 06-19 07-04 09-02 11-28 12-25",
    2025: "01-01 01-09 01-20 02-17 04-18 05-26 06-19 07-04 09-01 11-27 12-25",
    2026: "01-01 01-19 02-16 04-03 05-25 06-19 07-03 09-07 11-26 12-25",
}


@pytest.mark.parametrize("year", PUBLISHED)
def test_holidays(year: int) -> None:
    """The weekdays on which it was closed."""
    closed = {date.fromisoformat(f"{year}-{day}") for day in PUBLISHED[year].split()}
    assert {day for day in holidays(year) if day.weekday() < 5} == closed


def test_years_have_the_known_number_of_days() -> None:
    """As many as there were sessions."""
    known = {1999: 252, 2000: 252, 2005: 252, 2011: 252, 2016: 252, 2019: 252, 2020: 253}
    for year, count in known.items():
        assert len(trading_days(date(year, 1, 1), date(year, 12, 31))) == count, year


def test_both_ends_belong() -> None:
    """A week around a holiday; a day alone; nothing where the end comes first."""
    days = trading_days(date(2024, 7, 3), date(2024, 7, 8))
    assert days == [date(2024, 7, 3), date(2024, 7, 5), date(2024, 7, 8)]
    assert trading_days(date(2024, 7, 5), date(2024, 7, 5)) == [date(2024, 7, 5)]
    assert trading_days(date(2024, 7, 5), date(2024, 7, 5) - timedelta(1)) == []
