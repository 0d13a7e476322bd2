"""Volume by price inside each minute, buyers and sellers apart (Parquet).

A row is one price row of one closed minute in which something traded there. The profile of any
longer time is a sum of these rows.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import polars as pl

from pipeline.calc.price_rows import (
    CellRows,
    RowSums,
    doubles,
    from_carry,
    split_closed,
    step_parts,
    to_carry,
    with_trades,
)
from pipeline.calc.scale import times
from pipeline.calc.tick_size import TickSize, check_step, looked_up, settle
from pipeline.calc.ticks import Ticks
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Stage


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[footprint]`: `row`, height of a price row in quote currency (the tick)."""

    row: Decimal | None = None

    def __post_init__(self) -> None:
        check_step(self.row)


class Carry(msgspec.Struct):
    """The height of a row, and the price rows of minutes that are still open."""

    tick: TickSize = msgspec.field(default_factory=TickSize)
    minutes: list[CellRows] = []


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open minutes and write those whose time has come."""
    settled = settle(ticks, carry.tick, context, context.params.row)
    if isinstance(settled, TickSize):
        return Closed(Carry(settled), {"footprint": None}, holds_back=True)
    ticks, step, tick = settled
    sums = with_trades(from_carry(carry.minutes), ticks, step, MINUTE_US)
    closed, still_open = split_closed(sums, MINUTE_US, context.watermark_us)
    return Closed(Carry(tick, to_carry(still_open)), {"footprint": _public(closed, step)})


def _public(sums: RowSums, step: Decimal) -> pl.DataFrame | None:
    if not sums.frame.height:
        return None
    unit, decimals = step_parts(step)
    prices = times(sums.frame["row"], pl.Series([unit], dtype=pl.Int128))
    return pl.DataFrame(
        [
            sums.frame["start"].cast(pl.Datetime("us", "UTC")).alias("ts"),
            doubles(prices, decimals).alias("price"),
            doubles(sums.frame["buy"], sums.scale).alias("buy_volume"),
            doubles(sums.frame["sell"], sums.scale).alias("sell_volume"),
            sums.frame["trades"],
        ]
    )


FOOTPRINT = Layer(
    "footprint",
    "footprint",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "start of the minute"),
        Column(
            "price",
            "float64",
            "quote",
            "lowest price of the row: floor(p / row) x row; row: a parameter, else the tick of "
            "instruments.toml, else the finest decimal place of the first 1000 trades",
        ),
        Column("buy_volume", "float64", "base", "sum of size where the taker bought"),
        Column("sell_volume", "float64", "base", "sum of size where the taker sold"),
        Column("trades", "int64", "", "number of trades, at least 1"),
    ),
    "One row per minute and traded price row, in order of time, then price.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    return (Reach("trades"), *looked_up(params.row, tick))


STAGE = Stage(
    name="footprint",
    source="trades",
    layers=(FOOTPRINT,),
    params=Params,
    carry=Carry,
    fold=fold,
    uses_tick=True,
    reach=reach,
)
