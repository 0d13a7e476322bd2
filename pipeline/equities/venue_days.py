"""What each venue traded of each symbol on each day, from what FINRA publishes by the week.

A published week is spread over its trading days by what else is known of them; where a week is not
public yet, the last one that is says how much of a day's off-exchange volume a venue has.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from pipeline.equities.allocation import largest_remainder
from pipeline.equities.mapping import MILLIONTHS

WEIGHTS = ("regsho", "consolidated", "iex", "equal")
"""What the days of a week are weighted by, the best first."""

PUBLISHED, NOWCAST = "PUBLISHED", "NOWCAST"
_WEEK = timedelta(days=7)

FLOOR_SLACK = 1e-9
"""A quotient so close below a whole number is that number; floats may fall short of it."""


class Volumes(NamedTuple):
    """Volume by symbol and day, in millionths of a share: `symbol`, `date`, `volume`."""

    regsho: pl.DataFrame
    consolidated: pl.DataFrame
    iex: pl.DataFrame


class VenueDays(NamedTuple):
    """What was spread over days.

    Attributes:
        rows: `symbol`, `date`, `mpid`, `shares` (whole, above 0), `week_shares` and
            `week_trades` (of the published week behind it), `weights` (a place in `WEIGHTS`),
            `available_date`, `is_nowcast`; sorted by the first three.
        undated: venue-weeks without a single trading day in the calendar, left out.
    """

    rows: pl.DataFrame
    undated: int


def daily(frame: pl.DataFrame, day: str, volume: pl.Expr) -> pl.DataFrame:
    """Volume by symbol and day, summed exactly."""
    return frame.group_by("symbol", pl.col(day).alias("date")).agg(
        volume=(volume * MILLIONTHS).round().cast(pl.Int64).sum()
    )


def weekly(ats: pl.DataFrame, as_of: date | None) -> pl.DataFrame:
    """A row per symbol, venue and week that was published: `shares` rounded to whole ones."""
    known = ats if as_of is None else ats.filter(pl.col("published") <= as_of)
    total = (pl.col("shares") * MILLIONTHS).round().cast(pl.Int64).sum()
    return (
        known.group_by("symbol", "mpid", "week_start")
        .agg(shares=total, trades=pl.col("trades").sum(), published=pl.col("published").max())
        .with_columns((pl.col("shares") / MILLIONTHS).round().cast(pl.Int64))
        .filter(pl.col("shares") > 0)
        .sort("symbol", "mpid", "week_start")
    )


def spread(weeks: pl.DataFrame, volumes: Volumes, days: pl.Series) -> VenueDays:
    """Spread published weeks over their trading days."""
    dated = pl.DataFrame({"date": days}).with_columns(week_start=_monday("date"))
    weights = _weights(weeks.select("symbol", "week_start").unique(), volumes, dated)
    rows = (
        weeks.with_row_index("week").join(weights, on=["symbol", "week_start"]).sort("week", "date")
    )
    shares = largest_remainder(
        rows["shares"].to_numpy(),
        rows["week"].cast(pl.Int64).to_numpy(),
        rows["weight"].to_numpy(),
    )
    found = rows.select(
        "symbol",
        "date",
        "mpid",
        shares=pl.Series(shares),
        week_shares="shares",
        week_trades="trades",
        weights="weights",
        available_date="published",
        is_nowcast=pl.lit(value=False),
    ).filter(pl.col("shares") > 0)
    return VenueDays(found.sort("symbol", "date", "mpid"), len(weeks) - rows["week"].n_unique())


def _monday(name: str) -> pl.Expr:
    return pl.col(name) - pl.duration(days=pl.col(name).dt.weekday() - 1)


def _weights(keys: pl.DataFrame, volumes: Volumes, dated: pl.DataFrame) -> pl.DataFrame:
    """The weight of each day of each symbol's weeks, by the best source that has all of them."""
    rows = keys.join(dated, on="week_start")
    for name, frame in volumes._asdict().items():
        rows = rows.join(frame.rename({"volume": name}), on=["symbol", "date"], how="left")
    group = ["symbol", "week_start"]
    place = pl.lit(len(WEIGHTS) - 1)
    for number, name in reversed(list(enumerate(WEIGHTS[:-1]))):
        column = pl.col(name)
        is_whole = column.is_not_null().all() & (column >= 0).all() & (column.sum() > 0)
        place = pl.when(is_whole.over(group)).then(number).otherwise(place)
    weight = pl.lit(1, pl.Int64)
    for number, name in enumerate(WEIGHTS[:-1]):
        weight = pl.when(pl.col("weights") == number).then(name).otherwise(weight)
    return rows.with_columns(weights=place).select(
        "symbol", "week_start", "date", "weights", weight=weight
    )


def nowcast(
    weeks: pl.DataFrame,
    off_exchange: pl.DataFrame,
    days: pl.Series,
    *,
    lag_days: int,
    most_days: int,
) -> pl.DataFrame:
    """Rows as of `spread`, for days whose week is not published yet.

    A venue is given the part of a day's off-exchange volume that it had in the symbol's last
    published week, if all days of that week are known and it began less than `most_days` before.

    Args:
        weeks: as `weekly` gives them.
        off_exchange: as `Volumes.regsho`, of the days that are known.
        days: the market's trading days.
        lag_days: a day's off-exchange volume is known so many days after it.
        most_days: how old the last published week may be.
    """
    lag = timedelta(days=lag_days)
    last = weeks.filter(pl.col("week_start") == pl.col("week_start").max().over("symbol"))
    dated = pl.DataFrame({"date": days}).with_columns(week_start=_monday("date"))
    base = (
        last.select("symbol", "week_start")
        .unique()
        .join(dated, on="week_start")
        .join(off_exchange, on=["symbol", "date"], how="left")
        .group_by("symbol")
        .agg(base=pl.col("volume").sum(), is_whole=pl.col("volume").is_not_null().all())
        .filter(pl.col("is_whole"), pl.col("base") > 0)
    )
    share = pl.col("volume") / pl.col("base") * pl.col("shares")
    return (
        last.join(base, on="symbol")
        .join(off_exchange, on="symbol")
        .filter(
            pl.col("date") >= pl.col("week_start") + _WEEK,
            pl.col("date") < pl.col("week_start") + timedelta(days=most_days),
        )
        .select(
            "symbol",
            "date",
            "mpid",
            shares=(share + FLOOR_SLACK).floor().cast(pl.Int64),
            week_shares="shares",
            week_trades="trades",
            weights=pl.lit(0, pl.Int32),
            available_date=pl.max_horizontal("published", pl.col("date") + lag),
            is_nowcast=pl.lit(value=True),
        )
        .filter(pl.col("shares") > 0)
        .sort("symbol", "date", "mpid")
    )
