"""Cost of trading by minute: effective spread, split into realised and impact.

A row is one minute with trades. With D the taker's side, p the price, m the mid just before the
trade and m' the mid 60 s after it,

    effective = 2 D (p - m) / m        realised = 2 D (p - m') / m        impact = 2 D (m' - m) / m

in bps, so that effective = realised + impact: what the taker paid is what the maker kept and what
the market moved. After R. Huang and H. Stoll, "Dealer versus auction markets", Journal of Financial
Economics 41 (1996).
"""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.standing import STANDS_US, Floats, Ints, Minutes, divided, plain
from pipeline.layers import Column, Layer
from pipeline.stage import (
    BEGINNING_US,
    MINUTE_US,
    Closed,
    Context,
    Input,
    Joined,
    Stage,
)

HORIZON_US = 60_000_000
_BOTH_SIDES_BPS = 2e4


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[costs]` has no settings: how long to wait for the later mid decides what is read."""


class Carry(msgspec.Struct):
    """Nothing: the quotes around each trade are read with it."""


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Compare the trades of each minute with the mids before and after them."""
    del context
    trades = joined.frames["trades"].sort(pl.col("ts") // MINUTE_US, maintain_order=True)
    minutes = Minutes.of(trades["ts"].to_numpy(), BEGINNING_US)
    before, after = mids(joined.frames["quote"], minutes.ts)
    weight = np.where(np.isnan(before) | np.isnan(after), np.nan, trades["notional"].to_numpy())
    price, side = trades["price"].to_numpy(), trades["side"].to_numpy()
    total = minutes.sums(weight)

    def mean(distance: Floats) -> list[float | None]:
        bps = _BOTH_SIDES_BPS * side * distance / before
        return plain(divided(minutes.sums(weight * bps), total))

    columns = (
        mean(price - before),
        mean(price - after),
        mean(after - before),
        minutes.counts(~np.isnan(weight)).tolist(),
    )
    values = zip(*columns, strict=True)
    return Closed(carry, {"costs_1m": list(zip(minutes.start.tolist(), values, strict=True))})


def mids(quotes: pl.DataFrame, ts: Ints) -> tuple[Floats, Floats]:
    """Mids before times and 60 s after them; NaN where there is none or it is older than 60 s.

    The first is that of the last quote strictly before, the second that of the last quote at or
    before the later moment.
    """
    times = quotes["ts"].to_numpy()
    mid = ((quotes["bid"] + quotes["ask"]) / 2).to_numpy()
    later = ts + HORIZON_US
    return (
        _standing(times, mid, np.searchsorted(times, ts, side="left") - 1, ts),
        _standing(times, mid, np.searchsorted(times, later, side="right") - 1, later),
    )


def _standing(times: Ints, mid: Floats, place: Ints, at: Ints) -> Floats:
    """The values at places, -1 for none, that are no older than 60 s."""
    if not len(times):
        return np.full(len(at), np.nan)
    fits = (place >= 0) & (at - times[place] <= STANDS_US)
    return np.where(fits, mid[place], np.nan)


COSTS = Layer(
    "costs_1m",
    "costs",
    "jsonl",
    (
        Column(
            "effective_spread_bps",
            "float",
            "bps",
            "2e4 x side x (price - m) / m, m the mid strictly before the trade (at most 60 s old), "
            "weighted by notional over the trades with both mids; null if there are none",
        ),
        Column(
            "realised_spread_bps",
            "float",
            "bps",
            "2e4 x side x (price - m') / m over the same trades, m' the last mid at or before 60 s "
            "after the trade (at most 60 s old then)",
        ),
        Column(
            "price_impact_bps",
            "float",
            "bps",
            "2e4 x side x (m' - m) / m over the same trades: effective less realised",
        ),
        Column("trades", "int", "", "trades with both mids"),
    ),
    "One row per minute with trades, once the 60 s behind it are known: what takers paid.",
    span_us=MINUTE_US,
)

STAGE = Stage(
    name="costs",
    inputs=(
        Input("trades", ("price", "notional", "side")),
        Input("quote", ("bid", "ask"), behind_us=STANDS_US, ahead_us=HORIZON_US),
    ),
    layers=(COSTS,),
    params=Params,
    carry=Carry,
    fold=fold,
)
