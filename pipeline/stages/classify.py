"""Buyers and sellers of a tape by Lee and Ready, also by day (US equities).

Trades that were corrected or whose conditions exclude them do not count, nor do those outside the
regular session, 09:30 to 16:00 New York time. A trade above the mid of the quote in force was
bought, one below it sold; the quote in force is the last one of that New York day strictly before
the trade's time less `lag_ms`. At the mid, and where that quote is locked, crossed or lacks a side
(an older one is not looked for), the last tick tells: the last change of price among the day's
counted trades. Prints of auctions are neutral, for no side took them, but they make ticks.

A day closes when trades and quotes have come to its 16:00, on days of an early close as well; a
day without a counted trade has no row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.conditions import AUCTION, COUNTED, UNREADABLE, kind_of
from pipeline.calc.frames import frame_of
from pipeline.calc.lee_ready import (
    Flags,
    Floats,
    Ints,
    Last,
    imbalance,
    in_force,
    is_lee_ready,
    sides,
    ticks,
)
from pipeline.calc.new_york import BAR_US, BARS, days_of, is_in_session, session_of
from pipeline.calc.shares import parts_of, shares_of
from pipeline.errors import DataError
from pipeline.instrument import TAPES
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Input, Joined, Stage

_READABLE = 100
"""One unreadable condition in so many trades of a day is too many: it must be the format."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[classify]`.

    `lag_ms`: how old a quote must be; `cond_format`: how sale conditions are written;
    `direction_oi`: the imbalance beyond which a day counts as bought or sold.
    """

    lag_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
    cond_format: Literal["flags", "letters"] = "flags"
    direction_oi: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.1


class Day(msgspec.Struct):
    """A day that has not closed: its last counted trade, and sums (volumes in parts of a share).

    Attributes:
        price, tick: see `pipeline.calc.lee_ready.Last`.
        volume, trades: of buyers, sellers and neither.
        quoted: volume that had a valid quote.
        regular: trades of the session, counted or not.
        unreadable: those whose conditions cannot be read.
    """

    day: int
    price: float | None = None
    tick: int = 0
    volume: tuple[int, int, int] = (0, 0, 0)
    trades: tuple[int, int, int] = (0, 0, 0)
    quoted: int = 0
    regular: int = 0
    unreadable: int = 0


class Carry(msgspec.Struct):
    """What outlives a run: the last quote (time, bid, ask) not shown again, and the open day."""

    quote: tuple[int, float | None, float | None] | None = None
    day: Day | None = None


class _Trades(NamedTuple):
    """Trades of the session in order of time: two columns of all, the others of counted ones."""

    all_days: Ints
    is_unreadable: Flags
    ts: Ints
    day: Ints
    is_auction: Flags
    price: Floats
    size: Floats


class _Found(NamedTuple):
    """What was found out about each counted trade; see `pipeline.calc.lee_ready`."""

    side: Ints
    tick: Ints
    mid: Floats


class _Quotes(NamedTuple):
    """Quotes in order of time, each with its mid, NaN where it is not valid."""

    ts: Ints
    mid: Floats


def select(params: Params, carries: dict[str, dict[str, Any]]) -> tuple[Input, ...]:
    """The inputs; quotes are shown again for as long as they may lag."""
    quotes = Input("bbo", ("bid", "ask"), required=False, behind_us=params.lag_ms * 1000)
    return tuple(each for each in (_TAPE, quotes) if each.layer in carries)


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Classify the new trades, and write down the days that have closed."""
    params = context.params
    trades = _regular(joined.frames["tape"], params)
    shown = joined.known.get("bbo")
    quotes = None if shown is None else _quotes(shown, carry.quote)
    mid = _mids(quotes, trades.ts, trades.day, params.lag_ms * 1000)
    tick = ticks(trades.day, trades.price, _last(carry.day))
    side, is_told = sides(trades.price, mid, tick)
    side = np.where(trades.is_auction, 0, side)
    rows = {
        "ts": pl.Series(trades.ts).cast(pl.Datetime("us", "UTC")),
        "price": trades.price,
        "size": trades.size,
        "side": side.astype(np.int8),
        "rule": _rules(side, is_told, trades.is_auction),
        "mid": pl.Series(mid).fill_nan(None),
    }
    days = list(_days(trades, _Found(side, tick, mid), carry.day))
    closed = [each for each in days if session_of(each.day).close_us <= joined.end_us]
    for each in closed:
        _check_readable(each, context)
    table = [_row(each, context) for each in closed if sum(each.trades)]
    still_open = [each for each in days if each not in closed]
    return Closed(
        Carry(
            None if shown is None else _before(shown, carry.quote, joined.end_us, params),
            still_open[-1] if still_open else None,
        ),
        {
            "classified": pl.DataFrame(rows) if len(side) else None,
            "micro_trade_classification": frame_of(DAILY, table),
        },
    )


def _regular(frame: pl.DataFrame, params: Params) -> _Trades:
    """The trades of regular sessions, in order of time."""
    frame = frame.sort("ts", maintain_order=True)
    day = days_of(frame["ts"].to_numpy())
    frame = frame.with_columns(pl.Series("day", day)).filter(
        pl.Series(is_in_session(frame["ts"].to_numpy(), day))
    )
    kinds = {cond: kind_of(cond, params.cond_format) for cond in ("", *frame["cond"].unique())}
    frame = frame.with_columns(kind=pl.col("cond").replace_strict(kinds, return_dtype=pl.Int8))
    counted = frame.filter((pl.col("corr") == 0) & pl.col("kind").is_in((COUNTED, AUCTION)))
    return _Trades(
        frame["day"].to_numpy(),
        frame["kind"].to_numpy() == UNREADABLE,
        counted["ts"].to_numpy(),
        counted["day"].to_numpy(),
        counted["kind"].to_numpy() == AUCTION,
        counted["price"].to_numpy(),
        counted["size"].to_numpy(),
    )


def _quotes(shown: pl.DataFrame, before: tuple[int, float | None, float | None] | None) -> _Quotes:
    if before is not None:
        first = pl.DataFrame([before], schema=shown.schema, orient="row")
        shown = pl.concat([first, shown])
    bid, ask = shown["bid"], shown["ask"]
    is_valid = ((bid > 0) & (ask > bid)).fill_null(value=False).to_numpy()
    mid = ((bid + ask) / 2).fill_null(np.nan).to_numpy()
    return _Quotes(shown["ts"].to_numpy(), np.where(is_valid, mid, np.nan))


def _mids(quotes: _Quotes | None, ts: Ints, day: Ints, lag_us: int) -> Floats:
    """The mid in force at each trade, of a quote of the same day; NaN where none is."""
    if quotes is None or not len(quotes.ts):
        return np.full(len(ts), np.nan)
    place = in_force(quotes.ts, ts - lag_us)
    is_there = (place >= 0) & (days_of(quotes.ts[np.maximum(place, 0)]) == day)
    return np.where(is_there, quotes.mid[np.maximum(place, 0)], np.nan)


def _before(
    shown: pl.DataFrame,
    before: tuple[int, float | None, float | None] | None,
    end_us: int,
    params: Params,
) -> tuple[int, float | None, float | None] | None:
    """The last quote that the next window is not shown."""
    count = int(shown["ts"].search_sorted(end_us - params.lag_ms * 1000, side="left"))
    return before if not count else shown.select("ts", "bid", "ask").row(count - 1)


def _last(day: Day | None) -> Last | None:
    if day is None or day.price is None:
        return None
    return Last(day.day, day.price, day.tick)


def _rules(side: Ints, is_told: Flags, is_auction: Flags) -> pl.Series:
    names = np.select([is_auction, is_told, side != 0], [2, 0, 1], 3)
    return pl.Series(["quote", "tick", "auction", None], dtype=pl.String)[names]


def _days(trades: _Trades, found: _Found, before: Day | None) -> Iterator[Day]:
    """Every day of the window with its sums so far, in order."""
    known = {} if before is None else {before.day: before}
    parts = parts_of(trades.size)
    for day in sorted({*known, *np.unique(trades.all_days).tolist()}):
        old = known.get(day, Day(day))
        low, high = np.searchsorted(trades.all_days, [day, day + 1])
        regular = old.regular + int(high - low)
        unreadable = old.unreadable + int(trades.is_unreadable[low:high].sum())
        low, high = np.searchsorted(trades.day, [day, day + 1])
        side, own = found.side[low:high], parts[low:high]
        masks = (side > 0, side < 0, side == 0)
        volume = [done + int(own[mask].sum()) for done, mask in zip(old.volume, masks, strict=True)]
        count = [done + int(mask.sum()) for done, mask in zip(old.trades, masks, strict=True)]
        is_any = low < high
        yield Day(
            day,
            float(trades.price[high - 1]) if is_any else old.price,
            int(found.tick[high - 1]) if is_any else old.tick,
            (volume[0], volume[1], volume[2]),
            (count[0], count[1], count[2]),
            old.quoted + int(own[~np.isnan(found.mid[low:high])].sum()),
            regular,
            unreadable,
        )


def _check_readable(day: Day, context: Context[Params]) -> None:
    """Refuse to go on with conditions that are written in another way than the settings say.

    Raises:
        DataError: more than one in a hundred of a day's trades cannot be read.
    """
    if day.unreadable * _READABLE > day.regular:
        written = context.params.cond_format
        raise DataError(
            f"{context.instrument.key}: {day.unreadable} of {day.regular} trades of "
            f"{session_of(day.day).date} have sale conditions that are no hexadecimal {written}",
            'set cond_format = "letters" under [classify] in flowvault.toml, then '
            f"flowvault rebuild classify {context.instrument.options}",
        )


def _row(day: Day, context: Context[Params]) -> tuple[Any, ...]:
    session = session_of(day.day)
    bought, sold, neutral = day.volume
    total, trades = sum(day.volume), sum(day.trades)
    oi = imbalance(bought, sold)
    direction = "neutral"
    if oi is not None and abs(oi) > context.params.direction_oi:
        direction = "buy" if oi > 0 else "sell"
    is_quoted = is_lee_ready(day.quoted, total)
    return (
        *(session.open_us, context.instrument.inst_id, session.date),
        direction,
        *map(shares_of, (bought, sold, neutral)),
        oi,
        *day.trades,
        shares_of(total) / trades,
        "LEE_READY" if is_quoted else "TICK_TEST",
        "HIGH" if is_quoted else "MEDIUM",
        session.date,
    )


CLASSIFIED = Layer(
    "classified",
    "classified",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time, never falling"),
        Column("price", "float64", "quote", "price"),
        Column("size", "float64", "shares", "shares"),
        Column("side", "int8", "", "+1 bought, -1 sold, 0 neither (auctions, or nothing tells)"),
        Column(
            "rule",
            "string",
            "",
            "quote: the mid told; tick: the last change of price; auction; null where nothing does",
        ),
        Column(
            "mid", "float64", "quote", "mid of the quote in force; null if that is not a valid one"
        ),
    ),
    "Every counted trade of the regular session, in order of time, with the side that took it.",
)
DAILY = Layer(
    "micro_trade_classification",
    "micro_trade_classification",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "the session's first moment, 09:30 in New York"),
        Column("symbol", "string", "", "the symbol"),
        Column("trade_date", "date", "", "the day in New York"),
        Column(
            "trade_direction",
            "string",
            "",
            "buy or sell where the imbalance is beyond `direction_oi`, else neutral",
        ),
        Column("total_buy_volume", "float64", "shares", "volume of buyers"),
        Column("total_sell_volume", "float64", "shares", "volume of sellers"),
        Column("total_neutral_volume", "float64", "shares", "volume of neither"),
        Column("order_imbalance", "float64", "", "(B - S) / (B + S); null if nothing had a side"),
        Column("buy_trades", "int64", "", "trades of buyers"),
        Column("sell_trades", "int64", "", "trades of sellers"),
        Column("neutral_trades", "int64", "", "trades of neither"),
        Column("avg_trade_size", "float64", "shares", "volume / trades"),
        Column(
            "classification_method",
            "string",
            "",
            "LEE_READY if 80 % of the volume or more met a valid quote, else TICK_TEST",
        ),
        Column("quality_flag", "string", "", "HIGH for LEE_READY, MEDIUM for TICK_TEST"),
        Column("available_date", "date", "", "from when on it could be known: the same day"),
    ),
    "One row per symbol and day with counted trades: who took them, by Lee and Ready.",
    span_us=BARS * BAR_US,
)
_TAPE = Input("tape", ("price", "size", "cond", "corr"))


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`.

    The last tick is one of the day's; sessions, and the quotes in force in them, lie within one
    UTC day.
    """
    del tick
    trades, daily = (CLASSIFIED.name,), (DAILY.name,)
    # strictly before the trade, which a row's end lies one microsecond behind
    lag = params.lag_ms * 1000 + 1
    return (
        Reach("tape", of=trades, since="day"),
        Reach("tape", of=daily),
        Reach("bbo", of=trades, since="day", which="last", ahead_us=-lag),
        Reach("bbo", of=daily, since="day", ahead_us=-params.lag_ms * 1000),
    )


STAGE = Stage(
    name="classify",
    inputs=(_TAPE, Input("bbo", ("bid", "ask"), required=False)),
    select=select,
    grid_us=MINUTE_US,
    layers=(CLASSIFIED, DAILY),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
    markets=TAPES,
)
