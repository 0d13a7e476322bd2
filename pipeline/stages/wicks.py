"""Long wicks of five-minute bars, and whether price has come back to them.

A wick is the part of a bar beyond its body: high - max(open, close) above, min(open, close) - low
below. One of at least 0.3 of the bar's range leaves a level at its tip, which stays untouched until
a later bar trades there, or for seven days. The levels are those of the rejection candles of
candlestick charting (S. Nison, 1991). All of it is decided on exact decimals.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

import msgspec

from pipeline.calc.cells import Cell, cells_of, merge, split_closed
from pipeline.calc.ticks import Ticks
from pipeline.exact import EXACT, ZERO, subtract
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import DAY_US, MINUTE_US, Closed, Context, Row, Stage

LISTED = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[wicks]`.

    `tf_minutes` is the length of a bar; the layer keeps its name. `wick_share` is the least part of
    the range that counts as a wick; a level is dropped `expiry_days` after its bar opened.
    """

    tf_minutes: Literal[1, 5, 15, 30] = 5
    wick_share: Decimal = Decimal("0.3")
    expiry_days: int = 7

    def __post_init__(self) -> None:
        if not (self.wick_share.is_finite() and 0 <= self.wick_share <= 1):
            raise ValueError("wick_share must be between 0 and 1")
        if self.expiry_days < 1:
            raise ValueError("expiry_days must be at least 1")


class Level(msgspec.Struct, array_like=True):
    """An untouched wick's tip, and when its bar opened (microseconds)."""

    created: int
    price: str


class Carry(msgspec.Struct):
    """Open bars and the untouched levels of each side, oldest first.

    What a bar reaches it touches, so a newer high is lower than every older untouched one (lows
    mirror that): the newest is the nearest.
    """

    bars: list[Cell] = []
    highs: list[Level] = []
    lows: list[Level] = []


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open bars, and compare those that closed with the levels there are."""
    params = context.params
    span = params.tf_minutes * MINUTE_US
    # cells also know whales, which are of no interest here: any limit will do
    bars = merge(carry.bars, cells_of(ticks, span, ZERO))
    closed, still_open = split_closed(bars, span, context.watermark_us)
    highs, lows = list(carry.highs), list(carry.lows)
    rows = [_row(bar, highs, lows, params) for bar in closed]
    return Closed(Carry(still_open, highs, lows), {"wicks_5m": rows})


def _row(bar: Cell, highs: list[Level], lows: list[Level], params: Params) -> Row:
    """The row of a bar; brings the levels up to date."""
    top, bottom = Decimal(bar.high), Decimal(bar.low)
    first, last = Decimal(bar.open), Decimal(bar.close)
    for levels in (highs, lows):
        _expire(levels, bar.start - params.expiry_days * DAY_US)
    above, below = len(highs), len(lows)
    while above and Decimal(highs[above - 1].price) <= top:
        above -= 1
    while below and Decimal(lows[below - 1].price) >= bottom:
        below -= 1
    touched = [_listed(level, "high") for level in reversed(highs[above:])]
    touched += [_listed(level, "low") for level in lows[below:]]
    del highs[above:], lows[below:]
    least = EXACT.multiply(params.wick_share, subtract(top, bottom))
    upper, lower = subtract(top, max(first, last)), subtract(min(first, last), bottom)
    if has_upper := upper > 0 and upper >= least:
        highs.append(Level(bar.start, bar.high))
    if has_lower := lower > 0 and lower >= least:
        lows.append(Level(bar.start, bar.low))
    return bar.start, (
        float(bar.high) if has_upper else None,
        float(bar.low) if has_lower else None,
        touched,
        [_listed(level) for level in highs[: -LISTED - 1 : -1]],
        [_listed(level) for level in lows[: -LISTED - 1 : -1]],
        float(highs[-1].price) if highs else None,
        float(lows[-1].price) if lows else None,
    )


def _expire(levels: list[Level], newest: int) -> None:
    """Drop levels of bars that opened at `newest` or before."""
    count = 0
    while count < len(levels) and levels[count].created <= newest:
        count += 1
    del levels[:count]


def _listed(level: Level, side: str | None = None) -> dict[str, float | str]:
    moment = _EPOCH + timedelta(microseconds=level.created)
    found: dict[str, float | str] = {} if side is None else {"side": side}
    return {
        **found,
        "price": float(level.price),
        "created_utc": moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0"),
    }


WICKS = Layer(
    "wicks_5m",
    "wicks",
    "jsonl",
    (
        Column(
            "wick_high",
            "float",
            "quote",
            "the bar's high if high - max(open, close) is > 0 and >= 0.3 x (high - low), else null",
        ),
        Column(
            "wick_low",
            "float",
            "quote",
            "the bar's low if min(open, close) - low is > 0 and >= 0.3 x (high - low), else null",
        ),
        Column(
            "touched",
            "list",
            "",
            'levels that this bar reached [{side, price, created_utc}], side "high" (this high >= '
            'price) or "low" (this low <= price); highs before lows, lower price first',
        ),
        Column(
            "untouched_highs",
            "list",
            "",
            "the ten wick highs nearest the close that no later bar has reached, nearest first, "
            "the bar's own included [{price, created_utc}]; a level lasts until the first bar "
            "that opens 7 days or more after its own",
        ),
        Column("untouched_lows", "list", "", "the same for wick lows"),
        Column(
            "nearest_untouched_high",
            "float",
            "quote",
            "price of the first of untouched_highs; null if there is none",
        ),
        Column(
            "nearest_untouched_low",
            "float",
            "quote",
            "price of the first of untouched_lows; null if there is none",
        ),
    ),
    "One row per bar of 5 minutes (or `tf_minutes`) with trades: its wicks and the levels left.",
    span_us=5 * MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; a level expires with the bar that opens so many days later."""
    del tick
    length = params.tf_minutes * MINUTE_US
    behind = params.expiry_days * DAY_US - length
    return (Reach("trades", behind_us=behind, ahead_us=length - WICKS.span_us),)


STAGE = Stage(
    name="wicks",
    source="trades",
    layers=(WICKS,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
