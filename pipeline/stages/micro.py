"""Market quality by minute: spread, depth, and what a large order would cost.

A row is one minute with a quote. Means are weighted by time; what a large order would cost comes
from walking the full book as it was at the minute's end, against that book's own mid.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.limits import exceeds
from pipeline.calc.lists import arrays
from pipeline.calc.standing import STANDS_US, Floats, Minutes, divided, plain
from pipeline.calc.touch import COLUMNS, Touch, imbalance
from pipeline.calc.walk import Fill, walk
from pipeline.exact import check_positive
from pipeline.layers import Column, Layer
from pipeline.stage import BEGINNING_US, MINUTE_US, Closed, Context, Input, Joined, Row, Stage

_LIQUIDITY = ((2, "excellent"), (10, "good"), (25, "fair"))
_LADDER = ("bid_px", "bid_sz", "ask_px", "ask_sz")
_NO_DEPTH = (None,) * 4
_NO_COSTS = (None,) * 8


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[micro]`: the orders to price, in quote currency."""

    small_notional: Decimal = Decimal(100_000)
    large_notional: Decimal = Decimal(1_000_000)

    def __post_init__(self) -> None:
        """Refuse amounts that are none."""
        check_positive(small_notional=self.small_notional, large_notional=self.large_notional)


class Carry(msgspec.Struct):
    """Nothing: what a minute needs from before it is read again."""


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Describe the market in each minute of the window."""
    frames, params = joined.known, context.params
    amounts = (float(params.small_notional), float(params.large_notional))
    depths, buyers = _depths(joined), _buyers(frames.get("trades"))
    vwap = frames.get("vwap_1m")
    deviations = {} if vwap is None else dict(vwap.select("ts", "deviation_pct").iter_rows())
    costs = _costs(frames.get("ladder_1m"), amounts)
    rows: list[Row] = []
    for start, *quote in _quotes(joined):
        depth, cost = depths.get(start, _NO_DEPTH), costs.get(start, _NO_COSTS)
        rows.append((start, (*quote, *depth, buyers.get(start), deviations.get(start), *cost)))
    return Closed(carry, {"micro_1m": rows})


def _quotes(joined: Joined) -> list[tuple[Any, ...]]:
    """Of each minute with a quote: its beginning, mids, spreads and liquidity."""
    quotes = joined.frames["quote"]
    touch = Touch.of(quotes)
    minutes = Minutes.of(quotes["ts"].to_numpy(), joined.start_us)
    last = minutes.last(touch.is_there)
    is_there, last = last >= 0, last[last >= 0]
    spread = touch.spread_bps
    means = plain(minutes.means(spread)[is_there])
    return list(
        zip(
            minutes.start[is_there].tolist(),
            plain(touch.mid[last]),
            plain(touch.weighted_mid[last]),
            means,
            plain(spread[last]),
            map(liquidity, means),
            strict=True,
        )
    )


def liquidity(spread_bps: float | None) -> str | None:
    """A word for a spread."""
    if spread_bps is None:
        return None
    return next((word for most, word in _LIQUIDITY if not exceeds(spread_bps, most)), "poor")


def _depths(joined: Joined) -> dict[int, tuple[float | None, ...]]:
    """Depths and depth imbalances by minute."""
    if "book_events" not in joined.known:
        return {}
    events = joined.known["book_events"]
    minutes = Minutes.of(events["ts"].to_numpy(), joined.start_us)
    bids, asks = (events[name].to_numpy() for name in ("bid_depth", "ask_depth"))
    balance = imbalance(bids, asks)
    last = np.append(minutes.first[1:], len(bids))[: len(minutes.first)] - 1
    columns = (bids[last], asks[last], minutes.means(balance), balance[last])
    found = dict(zip(minutes.start.tolist(), zip(*map(plain, columns), strict=True), strict=True))
    still = minutes.left_standing(balance)
    return found | {start: (None, None, value, None) for start, value in still.items()}


def _buyers(trades: pl.DataFrame | None) -> dict[int, float | None]:
    """Buyers' share of each minute's base volume, per cent."""
    if trades is None:
        return {}
    trades = trades.sort(pl.col("ts") // MINUTE_US, maintain_order=True)
    minutes = Minutes.of(trades["ts"].to_numpy(), BEGINNING_US)
    size: Floats = trades["size"].to_numpy()
    bought = np.where(trades["side"].to_numpy() > 0, size, 0.0)
    share = 100 * divided(minutes.sums(bought), minutes.sums(size))
    return dict(zip(minutes.start.tolist(), plain(share), strict=True))


def _costs(
    ladders: pl.DataFrame | None, amounts: tuple[float, ...]
) -> dict[int, tuple[float | None, ...]]:
    """By minute what orders of the amounts would cost: bought, sold, and how much was filled."""
    if ladders is None:
        return {}
    levels = (arrays(ladders[name]) for name in _LADDER)
    return {
        start: costs((bid, bid_size), (ask, ask_size), amounts)
        for start, bid, bid_size, ask, ask_size in zip(
            ladders["ts"].to_list(), *levels, strict=True
        )
    }


def costs(
    bids: tuple[Floats, Floats], asks: tuple[Floats, Floats], amounts: tuple[float, ...]
) -> tuple[float | None, ...]:
    """Per amount: bps paid above the mid, bps received below it, shares bought and sold.

    Sides are prices and sizes, best first. The bps are null where the book runs out, or has no mid
    because a side is empty.
    """
    is_whole = len(bids[0]) and len(asks[0])
    mid = (float(bids[0][0]) + float(asks[0][0])) / 2 if is_whole else None
    found: list[float | None] = []
    for buy, sell in zip(walk(*asks, amounts), walk(*bids, amounts), strict=True):
        found += [_bps(buy, mid, 1), _bps(sell, mid, -1), buy.share, sell.share]
    return tuple(found)


def _bps(fill: Fill, mid: float | None, sign: int) -> float | None:
    if fill.price is None or mid is None:
        return None
    return 1e4 * sign * (fill.price - mid) / mid + 0.0


def _cost_columns(label: str, name: str, amount: str) -> tuple[Column, ...]:
    order = f"{name} ({amount})"
    return (
        Column(
            f"impact_buy_bps_{label}",
            "float",
            "bps",
            f"1e4 x (average price - mid) / mid of buying for {order} of quote currency from the "
            "full book at the minute's end, mid the book's; null without a book, or where it "
            "runs out",
        ),
        Column(
            f"impact_sell_bps_{label}",
            "float",
            "bps",
            f"1e4 x (mid - average price) / mid of selling for {order}; null as for buying",
        ),
        Column(
            f"filled_buy_{label}",
            "float",
            "",
            f"share of {order} that the asks could fill, 1 for all; null without a book",
        ),
        Column(f"filled_sell_{label}", "float", "", "the same of the bids"),
    )


MICRO = Layer(
    "micro_1m",
    "micro",
    "jsonl",
    (
        Column("mid", "float", "quote", "(bid + ask) / 2 of the minute's last quote"),
        Column(
            "weighted_mid",
            "float",
            "quote",
            "(bid_size x ask + ask_size x bid) / (bid_size + ask_size) of the same; null without "
            "sizes",
        ),
        Column(
            "spread_bps",
            "float",
            "bps",
            "1e4 x (ask - bid) / mid, weighted by the time each quote stood in the minute (at most "
            "60 s)",
        ),
        Column("spread_bps_last", "float", "bps", "the same of the minute's last quote"),
        Column(
            "liquidity",
            "string",
            "",
            "by spread_bps: <= 2 excellent, <= 10 good, <= 25 fair, else poor",
        ),
        Column(
            "bid_depth",
            "float",
            "base",
            "size of the five best bids at the minute's end; null without a book event in the "
            "minute, or if there is no book at its end",
        ),
        Column("ask_depth", "float", "base", "the same of the asks"),
        Column(
            "depth_imbalance",
            "float",
            "",
            "(bid_depth - ask_depth) / (bid_depth + ask_depth), weighted by the time each book "
            "stood in the minute (at most 60 s); null if none did",
        ),
        Column("depth_imbalance_last", "float", "", "the same at the minute's end; null as depths"),
        Column(
            "buy_pressure_pct",
            "float",
            "%",
            "buyers' share of the base volume of the minute's trades; null without trades",
        ),
        Column(
            "vwap_deviation_pct",
            "float",
            "%",
            "deviation_pct of the minute's row of vwap_1m: last price from the session's VWAP; "
            "null without one",
        ),
        *_cost_columns("100k", "small_notional", "100 000"),
        *_cost_columns("1m", "large_notional", "1 000 000"),
    ),
    "One row per minute with a quote: spread, depth, and the price of immediacy.",
    span_us=MINUTE_US,
)

STAGE = Stage(
    name="micro",
    inputs=(
        Input("quote", COLUMNS, behind_us=STANDS_US),
        Input("book_events", ("bid_depth", "ask_depth"), required=False, behind_us=STANDS_US),
        Input("ladder_1m", _LADDER, required=False),
        Input("trades", ("size", "side"), required=False),
        Input("vwap_1m", ("deviation_pct",), required=False),
    ),
    layers=(MICRO,),
    params=Params,
    carry=Carry,
    fold=fold,
)
