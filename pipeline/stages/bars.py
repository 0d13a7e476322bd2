"""Bars of 1, 5, 15 and 30 minutes with buyers, sellers and whales.

A row is one bar with at least one trade, aligned to the epoch and written when the watermark
reaches its end. Longer bars are sums of closed one-minute bars.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.calc.cells import Cell, cells_of, split_closed
from pipeline.calc.minutes import settle
from pipeline.calc.ticks import Ticks
from pipeline.exact import check_positive, nearest, ratio, subtract
from pipeline.layers import Column, Layer
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage

MINUTES = (1, 5, 15, 30)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[bars]`; `whale_notional` in quote currency."""

    whale_notional: Decimal = Decimal(100_000)

    def __post_init__(self) -> None:
        """Refuse a size that is none."""
        check_positive(whale_notional=self.whale_notional)


class Carry(msgspec.Struct):
    """Bars that are still open: minutes, and by length the longer ones they add to."""

    minutes: list[Cell] = []
    longer: dict[str, list[Cell]] = {}


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open bars and close those whose time has come."""
    watermark = context.watermark_us
    new = cells_of(ticks, MINUTE_US, context.params.whale_notional)
    closed, still_open = settle(carry.minutes, new, watermark)
    rows: dict[str, list[Row]] = {"bars_1m": [_row(cell) for cell in closed]}
    longer: dict[str, list[Cell]] = {}
    for length in MINUTES[1:]:
        # each length is made of closed bars of the one before it, which all divide it
        added = carry.longer.get(str(length), [])
        for cell in closed:
            added = _extend(added, cell, length * MINUTE_US)
        closed, longer[str(length)] = split_closed(added, length * MINUTE_US, watermark)
        rows[f"bars_{length}m"] = [_row(cell) for cell in closed]
    return Closed(Carry(still_open, longer), rows)


def _extend(cells: list[Cell], shorter: Cell, span_us: int) -> list[Cell]:
    """Add a closed shorter bar, which is never older than the last cell, to the longer ones."""
    start = shorter.start // span_us * span_us
    if cells and cells[-1].start == start:
        return [*cells[:-1], cells[-1].then(shorter)]
    return [*cells, msgspec.structs.replace(shorter, start=start)]


def _row(cell: Cell) -> Row:
    sell_volume = subtract(cell.volume, cell.buy_volume)
    sell_notional = subtract(cell.notional, cell.buy_notional)
    return cell.start, (
        float(cell.open),
        float(cell.high),
        float(cell.low),
        float(cell.close),
        nearest(cell.volume),
        nearest(cell.buy_volume),
        nearest(sell_volume),
        nearest(cell.notional),
        nearest(cell.buy_notional),
        nearest(sell_notional),
        nearest(ratio(cell.notional, cell.volume)) if cell.volume else None,
        cell.trades,
        cell.buy_trades,
        cell.trades - cell.buy_trades,
        nearest(cell.whale_notional),
        cell.whale_trades,
        nearest(cell.whale_buy_notional),
        cell.gaps,
    )


_COLUMNS = (
    Column("open", "float", "quote", "price of the first trade in file order"),
    Column("high", "float", "quote", "highest price"),
    Column("low", "float", "quote", "lowest price"),
    Column("close", "float", "quote", "price of the last trade in file order"),
    Column("volume", "float", "base", "sum of size"),
    Column("buy_volume", "float", "base", "sum of size where the taker bought"),
    Column("sell_volume", "float", "base", "sum of size where the taker sold"),
    Column("notional", "float", "quote", "sum of notional"),
    Column("buy_notional", "float", "quote", "sum of notional where the taker bought"),
    Column("sell_notional", "float", "quote", "sum of notional where the taker sold"),
    Column("vwap", "float", "quote", "notional / volume"),
    Column("trades", "int", "", "number of trades"),
    Column("buy_trades", "int", "", "trades where the taker bought"),
    Column("sell_trades", "int", "", "trades where the taker sold"),
    Column("whale_notional", "float", "quote", "sum of notional of trades >= whale_notional"),
    Column("whale_trades", "int", "", "number of trades >= whale_notional (100 000)"),
    Column("whale_buy_notional", "float", "quote", "their notional where the taker bought"),
    Column("gaps", "int", "", "trades of the bar with ids missing just before them"),
)

STAGE = Stage(
    name="bars",
    source="trades",
    layers=tuple(
        Layer(
            f"bars_{length}m",
            "bars",
            "jsonl",
            _COLUMNS,
            f"Bars of {length} minute{'s' if length > 1 else ''}; none where nothing traded.",
            span_us=length * MINUTE_US,
        )
        for length in MINUTES
    ),
    params=Params,
    carry=Carry,
    fold=fold,
)
