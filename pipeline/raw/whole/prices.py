"""Daily bars of a symbol, and the shares that IEX matched in a day."""

from __future__ import annotations

from datetime import date
from functools import cache

import msgspec
import polars as pl

from pipeline.layers import Column, Layer
from pipeline.raw.whole.lines import Lines, named
from pipeline.table import Feed

_SOURCE = Column("source", "string", "", "the raw file, below raw/")


class _Bar(msgspec.Struct):
    symbol: str | None = None
    day: date | None = msgspec.field(default=None, name="date")
    open: float | None = None
    high: float | None = None
    low: float | None = None
    close: float | None = None
    adj_close: float | None = None
    volume: float | None = None


_PRICES = ("open", "high", "low", "close", "adj_close")


@cache
def _bars() -> Lines:
    symbol = pl.col("file_symbol")
    return Lines(
        kind=_Bar,
        required=("day", *_PRICES, "volume"),
        rules=(
            ("symbol is not the file's", pl.col("symbol") != symbol),
            *((name, pl.col(name) <= 0) for name in _PRICES),
            ("volume", pl.col("volume") < 0),
            ("high below low", pl.col("high") < pl.col("low")),
        ),
        rows=(
            symbol.alias("symbol"),
            pl.col("day").alias("date"),
            *map(pl.col, _PRICES),
            pl.col("volume"),
        ),
        unique=("date",),
        finish=lambda rows: rows.sort("source", "date"),
    )


PRICES = Feed(
    name="prices_daily",
    folder="prices/daily",
    names=r"(?P<symbol>.+)",
    spelled="{SYMBOL}",
    lines=_bars,
    part=lambda facts: facts["symbol"][0].upper() if facts["symbol"][0].isalnum() else "_",
    known_on=("date", 0),
    layer=Layer(
        "prices_daily",
        "prices_daily",
        "parquet",
        (
            Column("symbol", "string", "", "the file's name"),
            Column("date", "date", "", "trading day"),
            Column("open", "float", "USD", "first price"),
            Column("high", "float", "USD", "highest price"),
            Column("low", "float", "USD", "lowest price"),
            Column("close", "float", "USD", "last price"),
            Column("adj_close", "float", "USD", "last price, adjusted for splits and dividends"),
            Column("volume", "float", "shares", "traded everywhere"),
            _SOURCE,
        ),
        "Daily bars, one row a symbol and day.",
    ),
)


class _Matched(msgspec.Struct):
    symbol: str | None = None
    day: date | None = msgspec.field(default=None, name="trade_date")
    shares: float | None = msgspec.field(default=None, name="matched_shares")


@cache
def _matched() -> Lines:
    symbol, day = named("symbol"), pl.col("file_day").str.to_date()
    return Lines(
        kind=_Matched,
        required=("symbol", "day", "shares"),
        rules=(
            ("symbol", symbol.is_null()),
            ("trade_date is not the file's", pl.col("day") != day),
            ("matched_shares", pl.col("shares") < 0),
        ),
        rows=(
            pl.col("day").alias("date"),
            symbol.alias("symbol"),
            pl.col("shares").round().cast(pl.Int64).alias("matched_shares"),
        ),
        unique=("symbol",),
    )


IEX = Feed(
    name="iex_volume",
    folder="iex/volume_daily",
    names=r"(?P<day>\d{4}-\d\d-\d\d)",
    spelled="{DATE}",
    dated="day",
    lines=_matched,
    part=lambda facts: facts["day"][:7],
    known_on=("date", 0),
    layer=Layer(
        "iex_volume",
        "iex_volume",
        "parquet",
        (
            Column("date", "date", "", "trading day"),
            Column("symbol", "string", "", "issue"),
            Column("matched_shares", "int", "shares", "matched on IEX"),
            _SOURCE,
        ),
        "Shares matched on IEX, one row a day and symbol.",
    ),
)
