"""Minute volume against its median: tiers, absorption, divergence.

A row is one minute with trades. Its total notional r times the median of the 100 minutes before
says how unusual it is: T1 below 0.5, T2 below 1, T3 up to 2, T4 above. Heavy volume that leaves
the price where it was is absorption; price and delta that disagree are a divergence. All of it
is decided on exact numbers. Volumes are exact decimal text, as prices are the exchange's own.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import msgspec

from pipeline.calc.cells import Cell, cells_of
from pipeline.calc.minutes import settle
from pipeline.calc.ticks import Ticks
from pipeline.exact import check_positive, nearest, ratio, rounded_text, signed_text, subtract
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage

_DECIMALS = 8


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[volume]`: `window` and `min_window` in bars, `*_pct` in per cent."""

    window: int = 100
    min_window: int = 20
    whale_notional: Decimal = Decimal(100_000)
    tier_edges: tuple[Decimal, Decimal, Decimal] = (Decimal("0.5"), Decimal(1), Decimal(2))
    absorption_pct: Decimal = Decimal("0.1")
    absorption_ratio: Decimal = Decimal(2)
    divergence_pct: Decimal = Decimal("0.05")
    divergence_delta: Decimal = Decimal("0.1")

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        low, middle, high = self.tier_edges
        check_positive(
            window=self.window,
            min_window=self.min_window,
            whale_notional=self.whale_notional,
            tier_edges=low,
            absorption_pct=self.absorption_pct,
            absorption_ratio=self.absorption_ratio,
            divergence_pct=self.divergence_pct,
            divergence_delta=self.divergence_delta,
        )
        if not low < middle < high < Decimal("Infinity"):
            raise ValueError("tier_edges must rise")


class Carry(msgspec.Struct):
    """Open minutes, and the total notional of the last `window` closed ones, oldest first."""

    minutes: list[Cell] = []
    totals: list[Decimal] = []


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open minutes and grade those that closed."""
    params = context.params
    new = cells_of(ticks, MINUTE_US, params.whale_notional)
    closed, still_open = settle(carry.minutes, new, context.watermark_us)
    totals = list(carry.totals)
    rows: list[Row] = []
    for cell in closed:
        enough = len(totals) >= min(params.min_window, params.window)
        usual = median(totals) if enough else None
        rows.append(_row(cell, usual, params))
        totals = [*totals, cell.notional][-params.window :]
    return Closed(Carry(still_open, totals), {"volume_1m": rows})


def median(values: list[Decimal]) -> Fraction:
    """The exact median; of an even count the mean of the middle two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return Fraction(ordered[middle])
    return (Fraction(ordered[middle - 1]) + Fraction(ordered[middle])) / 2


def _row(cell: Cell, usual: Fraction | None, params: Params) -> Row:
    change = (ratio(Decimal(cell.close), Decimal(cell.open)) - 1) * 100
    sell = subtract(cell.notional, cell.buy_notional)
    delta = subtract(cell.buy_notional, sell)
    times_usual = None if usual is None else Fraction(cell.notional) / usual
    absorption = (
        times_usual is not None
        and abs(change) < params.absorption_pct
        and times_usual > params.absorption_ratio
    )
    opposed = change * Fraction(delta) < 0
    divergence = (
        opposed
        and abs(change) >= params.divergence_pct
        and abs(Fraction(delta)) >= Fraction(params.divergence_delta) * Fraction(cell.notional)
    )
    return cell.start, (
        cell.open,
        cell.high,
        cell.low,
        cell.close,
        percent_text(change),
        rounded_text(cell.notional, _DECIMALS),
        rounded_text(cell.buy_notional, _DECIMALS),
        rounded_text(sell, _DECIMALS),
        signed_text(delta, _DECIMALS),
        rounded_text(cell.whale_notional, _DECIMALS),
        cell.whale_trades,
        cell.trades,
        _tier(times_usual, params),
        absorption,
        divergence,
        None if times_usual is None else nearest(times_usual),
        (("bearish" if change > 0 else "bullish") if divergence else None),
        (_side(delta) if absorption else None),
    )


def percent_text(change: Fraction) -> str:
    """A change in per cent with sign and two decimals; zero is "+0.00"."""
    text = f"{nearest(change):+.2f}"
    return "+0.00" if text == "-0.00" else text


def _tier(times_usual: Fraction | None, params: Params) -> str | None:
    if times_usual is None:
        return None
    low, middle, high = params.tier_edges
    if times_usual < low:
        return "T1"
    if times_usual < middle:
        return "T2"
    return "T3" if times_usual <= high else "T4"


def _side(delta: Decimal) -> str | None:
    if delta == 0:
        return None
    return "sell" if delta > 0 else "buy"


VOLUME = Layer(
    "volume_1m",
    "volume",
    "jsonl",
    (
        Column("open", "string", "quote", "first price, the exchange's text"),
        Column("high", "string", "quote", "highest price, the exchange's text"),
        Column("low", "string", "quote", "lowest price, the exchange's text"),
        Column("close", "string", "quote", "last price, the exchange's text"),
        Column("price_change_pct", "string", "%", "(close/open - 1) x 100, sign and two decimals"),
        Column("total_volume", "string", "quote", "exact sum of notional, at most 8 decimals"),
        Column("buy_volume", "string", "quote", "notional where the taker bought"),
        Column("sell_volume", "string", "quote", "notional where the taker sold"),
        Column("delta", "string", "quote", "buy_volume - sell_volume, with its sign"),
        Column("whale_volume", "string", "quote", "notional of trades >= whale_notional"),
        Column("whale_count", "int", "", "number of trades >= whale_notional (100 000)"),
        Column("trade_count", "int", "", "number of trades"),
        Column(
            "volume_tier",
            "string",
            "",
            "T1 r<0.5, T2 r<1, T3 r<=2, T4 r>2; null before 20 prior minutes",
        ),
        Column("absorption", "bool", "", "|change| < 0.1 % (unrounded) and r > 2"),
        Column(
            "divergence",
            "bool",
            "",
            "price and delta have opposite signs, |change| >= 0.05 %, |delta| >= 0.1 x total",
        ),
        Column(
            "volume_ratio",
            "float",
            "",
            "r: total_volume / median of the 100 prior minutes (at least 20, else null)",
        ),
        Column(
            "divergence_type",
            "string",
            "",
            '"bearish" if price rose, "bullish" if it fell; null without divergence',
        ),
        Column(
            "absorption_side",
            "string",
            "",
            '"sell" if buyers were absorbed (delta > 0), "buy" if sellers were; else null',
        ),
    ),
    "One row per minute with trades: how much traded, who pushed, and whether price gave way.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del tick
    return (Reach("trades", rows=params.window),)


STAGE = Stage(
    name="volume",
    source="trades",
    layers=(VOLUME,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
