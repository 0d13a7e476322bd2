"""Trading days of the market, however they were handed over."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import polars as pl

Days = pl.DataFrame | pl.Series | Iterable[date]
"""A series or any iterable of dates, or a frame whose first column holds them."""


def trading_days(days: Days) -> pl.Series:
    """Each trading day once, in order."""
    if isinstance(days, pl.DataFrame):
        days = days.to_series(0)
    series = days if isinstance(days, pl.Series) else pl.Series(list(days), dtype=pl.Date)
    return series.cast(pl.Date).drop_nulls().unique().sort().alias("date")


def sessions_left(dates: pl.Series, calendar: pl.Series) -> pl.Series:
    """The sessions from each date, itself included, to the end of its quarter.

    Behind the end of the calendar every weekday counts as one.
    """
    day, after = pl.col("day"), pl.col("end") + pl.duration(days=1)
    months = pl.concat_str((2 - (day.dt.month() - 1) % 3).cast(pl.String), pl.lit("mo"))
    frame = pl.DataFrame({"day": dates.cast(pl.Date)}).with_columns(
        end=day.dt.month_start().dt.offset_by(months).dt.month_end()
    )
    last = calendar.max()
    unknown = day if last is None else pl.max_horizontal(day, pl.lit(last) + pl.duration(days=1))
    beyond = pl.when(unknown < after).then(pl.business_day_count(unknown, after)).otherwise(0)
    low = calendar.search_sorted(frame["day"], side="left").cast(pl.Int64)
    high = calendar.search_sorted(frame["end"], side="right").cast(pl.Int64)
    return frame.select(beyond.cast(pl.Int64)).to_series() + high - low
