"""The best bid and offer in time, from the best source an instrument has (Parquet).

That is the raw quotes where each of their records follows a change (Binance `bookTicker`, OKX
`bbo-tbt`, the plain format), else the first level of the book, else tickers. Which one it is, is
settled when the first row is made and does not change afterwards. Quotes that carry no time
(Binance spot) take that of the first book update whose id is not below theirs.
"""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import Closed, Context, Input, Joined, Stage

_VALUES = ("bid", "bid_size", "ask", "ask_size")
_QUOTES = Input("bbo", ("kind", *_VALUES), required=False)
_UNTIMED = Input("bbo", ("reached", "kind", *_VALUES), required=False, timed_by="book_clock")
_BOOK = Input("book_events", _VALUES, required=False)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[quote]`: none."""


class Carry(msgspec.Struct):
    """What outlives a run: whether the last row of the book had a quote."""

    has_quote: bool = False


def select(params: Params, carries: dict[str, dict[str, Any]]) -> tuple[Input, ...] | None:
    """The source: quotes, else the book, else tickers; the first good quote tells."""
    del params
    bbo, has_book = carries.get("bbo"), "book_events" in carries
    if bbo is not None and bbo.get("is_ticker") is False:
        if bbo.get("is_timed"):
            return (_QUOTES,)
        return (_UNTIMED,) if "book_clock" in carries else ()
    if bbo is not None and bbo.get("is_ticker") is None:
        return None
    if has_book:
        return (_BOOK,)
    return (_QUOTES,) if bbo is not None else ()


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Pass the rows on; where the book is lost, one row says so."""
    if "bbo" in context.inputs:
        ticker = pl.col("kind") == "ticker"
        source = pl.when(ticker).then(pl.lit("tickers")).otherwise(pl.lit("quotes"))
        return _closed(joined.frames["bbo"].with_columns(source.alias("source")), carry)
    frame = joined.frames["book_events"]
    has_quote = frame["bid"].is_not_null() & frame["ask"].is_not_null()
    if not frame.height:
        return _closed(frame, carry)
    # a row without a quote is worth one only where there was a quote before it
    kept = has_quote | has_quote.shift(1, fill_value=carry.has_quote)
    there = pl.lit(has_quote)
    rows = frame.with_columns(
        *(pl.when(there).then(pl.col(name)).alias(name) for name in _VALUES),
        pl.lit("book").alias("source"),
    )
    return _closed(rows.filter(kept), Carry(bool(has_quote[-1])))


def _closed(rows: pl.DataFrame, carry: Carry) -> Closed[Carry]:
    if not rows.height:
        return Closed(carry, {"quote": None})
    stamped = rows.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    return Closed(carry, {"quote": stamped.select("ts", *_VALUES, "source")})


LAYER = Layer(
    "quote",
    "quote",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time, never falling"),
        Column(
            "bid", "float64", "quote", "best bid; null: no quote from here on, the book is lost"
        ),
        Column("bid_size", "float64", "base", "its size; null if the source tells none"),
        Column("ask", "float64", "quote", "best ask"),
        Column("ask_size", "float64", "base", "its size; null if the source tells none"),
        Column("source", "string", "", "quotes, book or tickers: where the row comes from"),
    ),
    "The best bid and offer after every event of the best source there is.",
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; every row of `bbo` is a quote, and not every event of a book."""
    del params, tick
    return (
        Reach("bbo", which="same"),
        Reach("book_clock"),
        Reach("book_events", before=1),
    )


STAGE = Stage(
    name="quote",
    inputs=(_QUOTES, _BOOK, _UNTIMED),
    select=select,
    grid_us=0,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
