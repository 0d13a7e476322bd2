"""Volume by price: trades summed into price rows inside cells of time.

A price row is all prices p with floor(p / step) = n; n is the row's number and n * step its price.
Sums are exact, so what was summed in pieces adds up to what one piece would have given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.pieces import behind, with_series
from pipeline.calc.scale import fitting, largest, rescale
from pipeline.calc.ticks import Ticks
from pipeline.exact import EXACT, parse_decimal

_EXACT_DOUBLE = 2**53
_DENSE = 1 << 20


class CellRows(msgspec.Struct):
    """The price rows of one open cell, as the carry keeps them.

    Each text holds the numbers of all rows, lowest price first, joined by commas: they may be
    longer than 64 bits. Sizes are integers over 10**scale, the coarsest that holds them.
    """

    start: int
    scale: int
    row: str
    buy: str
    sell: str
    trades: str


@dataclass(frozen=True, slots=True)
class RowSums:
    """Price rows of any number of cells.

    Columns of `frame`, in order of start and row: start (microseconds), row (number), buy and
    sell (base size * 10**scale by taker side), trades (number).
    """

    frame: pl.DataFrame
    scale: int


def step_parts(step: Decimal) -> tuple[int, int]:
    """A step as (integer, decimals), without trailing zeros."""
    return parse_decimal(format(step.normalize(EXACT), "f"))


def row_numbers(ticks: Ticks, step: Decimal) -> pl.Series:
    """floor(price / step) of each trade."""
    unit, decimals = step_parts(step)
    scale = max(ticks.px_scale, decimals)
    prices = rescale(ticks.frame["px"], ticks.px_scale, scale)
    unit *= 10 ** (scale - decimals)
    if unit == 1:
        return prices
    width = pl.Int128 if prices.dtype == pl.Int128 else fitting(unit)
    numbers = prices.cast(width) // pl.Series([unit], dtype=width)
    return numbers.cast(prices.dtype)


def with_trades(sums: RowSums, ticks: Ticks, step: Decimal, span_us: int) -> RowSums:
    """The price rows of cells of `span_us` microseconds with trades added."""
    if not ticks.height:
        return sums
    size, is_buy = ticks.frame["sz"], ticks.frame["side"] > 0
    zero = pl.Series([0], dtype=size.dtype).new_from_index(0, len(size))
    # numpy: a division of polars' is planned as an expression before it is computed
    new = pl.DataFrame(
        [
            pl.Series("start", ticks.frame["ts"].to_numpy() // span_us * span_us),
            row_numbers(ticks, step).alias("row"),
            size.zip_with(is_buy, zero).alias("buy"),
            zero.zip_with(is_buy, size).alias("sell"),
            pl.Series("trades", np.ones(len(size), np.int64)),
        ]
    )
    both = [each for each in (sums, RowSums(new, ticks.sz_scale)) if each.frame.height]
    scale = max(each.scale for each in both)
    return RowSums(_add_up([_at_scale(each, scale) for each in both], span_us), scale)


def split_closed(sums: RowSums, span_us: int, watermark_us: int | None) -> tuple[RowSums, RowSums]:
    """Cells that ended by the watermark, and those still open."""
    frame = sums.frame
    last = -1 if watermark_us is None else watermark_us - span_us
    count = int(frame["start"].to_numpy().searchsorted(last, "right"))
    return RowSums(frame.slice(0, count), sums.scale), RowSums(frame.slice(count), sums.scale)


def to_carry(sums: RowSums) -> list[CellRows]:
    """Open cells as the carry keeps them: the same texts for the same sums."""
    cells = []
    starts = sums.frame["start"].to_numpy()
    columns = [sums.frame[name].to_list() for name in ("row", "buy", "sell", "trades")]
    edges = [0, *(np.flatnonzero(starts[1:] != starts[:-1]) + 1).tolist(), len(starts)]
    for first, end in pairwise(edges if len(starts) else []):
        row, buy, sell, trades = (column[first:end] for column in columns)
        buy, sell, scale = _coarsest(buy, sell, sums.scale)
        texts = (",".join(map(str, each)) for each in (row, buy, sell, trades))
        cells.append(CellRows(int(starts[first]), scale, *texts))
    return cells


def from_carry(cells: list[CellRows]) -> RowSums:
    """The inverse of `to_carry`."""
    scale = max((cell.scale for cell in cells), default=0)
    columns: dict[str, list[int]] = {"start": [], "row": [], "buy": [], "sell": [], "trades": []}
    for cell in cells:
        factor = 10 ** (scale - cell.scale)
        rows = [int(each) for each in cell.row.split(",")]
        columns["start"] += [cell.start] * len(rows)
        columns["row"] += rows
        columns["buy"] += [int(each) * factor for each in cell.buy.split(",")]
        columns["sell"] += [int(each) * factor for each in cell.sell.split(",")]
        columns["trades"] += [int(each) for each in cell.trades.split(",")]
    frame = pl.DataFrame(
        [
            pl.Series(name, values, dtype=fitting(max(values, default=0)))
            for name, values in columns.items()
        ]
    )
    return RowSums(frame, scale)


def doubles(values: pl.Series, scale: int) -> pl.Series:
    """value / 10**scale, each as the nearest double."""
    # numpy divides; polars multiplies by the reciprocal of a scalar, which is not the nearest
    found = values.cast(pl.Float64).to_numpy() / float(10**scale)
    if largest(values) > _EXACT_DOUBLE:
        for index in (values > _EXACT_DOUBLE).arg_true().to_list():
            found[index] = int(values[index]) / 10**scale
    return pl.Series(found)


def _add_up(frames: list[pl.DataFrame], span_us: int) -> pl.DataFrame:
    """One row per cell and price row."""
    kinds: dict[str, type[pl.Int64 | pl.Int128]] = {"row": pl.Int64}
    for name in ("buy", "sell"):
        kinds[name] = fitting(sum(largest(frame[name]) * frame.height for frame in frames))
    for name in kinds:
        if any(frame[name].dtype == pl.Int128 for frame in frames):
            kinds[name] = pl.Int128
    if pl.Int128 not in kinds.values():
        table = _add_up_on_table(frames, span_us)
        if table is not None:
            return table
    cast = [[frame[name].cast(kind) for name, kind in kinds.items()] for frame in frames]
    both = behind([with_series(*each) for each in zip(frames, cast, strict=True)])
    grouped = both.group_by("start", "row").agg(pl.col("buy", "sell", "trades").sum())
    return grouped.sort("start", "row")


def _add_up_on_table(frames: list[pl.DataFrame], span_us: int) -> pl.DataFrame | None:
    """The same by counting on a table of all cells and rows, if it is not too large.

    Four times faster than grouping and sorting, and prices seldom spread so far that it fails.
    """
    starts = [frame["start"].to_numpy() for frame in frames]
    rows = [frame["row"].to_numpy() for frame in frames]
    first, low = min(int(each.min()) for each in starts), min(int(each.min()) for each in rows)
    width = max(int(each.max()) for each in rows) - low + 1
    size = ((max(int(each.max()) for each in starts) - first) // span_us + 1) * width
    if size > _DENSE:
        return None
    tables = {name: np.zeros(size, np.int64) for name in ("buy", "sell", "trades")}
    for frame, start, row in zip(frames, starts, rows, strict=True):
        place = (start - first) // span_us * width + (row - low)
        for name, table in tables.items():
            np.add.at(table, place, frame[name].to_numpy())
    found = np.flatnonzero(tables["trades"])
    return pl.DataFrame(
        [
            pl.Series("start", found // width * span_us + first),
            pl.Series("row", found % width + low),
            *(pl.Series(name, table[found]) for name, table in tables.items()),
        ]
    )


def _at_scale(sums: RowSums, scale: int) -> pl.DataFrame:
    if sums.scale == scale:
        return sums.frame
    return with_series(
        sums.frame, [rescale(sums.frame[name], sums.scale, scale) for name in ("buy", "sell")]
    )


def _coarsest(buy: list[int], sell: list[int], scale: int) -> tuple[list[int], list[int], int]:
    """Drop the trailing zeros that all sizes share."""
    shared, factor = math.gcd(*buy, *sell), 1
    while scale and shared % 10 == 0:
        if not shared:
            return buy, sell, 0
        shared, factor, scale = shared // 10, factor * 10, scale - 1
    return [each // factor for each in buy], [each // factor for each in sell], scale
