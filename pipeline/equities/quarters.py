"""Calendar quarters as numbers: year * 4 + (quarter - 1), so that neighbours differ by one."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl


def number(day: pl.Expr) -> pl.Expr:
    """Int32: the quarter that each date lies in."""
    return day.dt.year() * 4 + day.dt.quarter().cast(pl.Int32) - 1


def number_of(day: date) -> int:
    """The quarter of one date."""
    return day.year * 4 + (day.month - 1) // 3


def first_day(quarter: int) -> date:
    """The first day of a quarter."""
    return date(quarter // 4, quarter % 4 * 3 + 1, 1)


def last_day(quarter: int) -> date:
    """The last day of a quarter, which is the `period` of its 13F filings."""
    return first_day(quarter + 1) - timedelta(days=1)


def label(quarter: int) -> str:
    """For a reader: 2023Q4."""
    return f"{quarter // 4}Q{quarter % 4 + 1}"
