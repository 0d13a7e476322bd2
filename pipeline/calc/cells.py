"""Trades summed into cells of time: the material of bars and volume.

A cell holds exact sums, so cells of the same time from different batches add up to what one batch
would have given.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np

from pipeline.calc.by_time import ByTime, Ints
from pipeline.calc.scale import INT64_SAFE
from pipeline.calc.ticks import Ticks
from pipeline.exact import ZERO, add, decimal_text, scaled


class Cell(msgspec.Struct):
    """Trades of one time cell. Prices are the exchange's texts, sums are exact.

    `start` is in microseconds; volumes in base units; notionals in quote currency.
    """

    start: int
    open: str
    high: str
    low: str
    close: str
    volume: Decimal
    buy_volume: Decimal
    notional: Decimal
    buy_notional: Decimal
    trades: int
    buy_trades: int
    whale_notional: Decimal = ZERO
    whale_buy_notional: Decimal = ZERO
    whale_trades: int = 0
    gaps: int = 0

    def then(self, later: Cell) -> Cell:
        """This cell followed by more trades of the same time (order decides open and close)."""
        higher = Decimal(later.high) > Decimal(self.high)
        lower = Decimal(later.low) < Decimal(self.low)
        return Cell(
            start=self.start,
            open=self.open,
            high=later.high if higher else self.high,
            low=later.low if lower else self.low,
            close=later.close,
            volume=add(self.volume, later.volume),
            buy_volume=add(self.buy_volume, later.buy_volume),
            notional=add(self.notional, later.notional),
            buy_notional=add(self.buy_notional, later.buy_notional),
            trades=self.trades + later.trades,
            buy_trades=self.buy_trades + later.buy_trades,
            whale_notional=add(self.whale_notional, later.whale_notional),
            whale_buy_notional=add(self.whale_buy_notional, later.whale_buy_notional),
            whale_trades=self.whale_trades + later.whale_trades,
            gaps=self.gaps + later.gaps,
        )


def cells_of(ticks: Ticks, span_us: int, whale_notional: Decimal) -> list[Cell]:
    """Sum trades into cells of `span_us` microseconds aligned to the epoch.

    Args:
        ticks: trades in layer order.
        span_us: length of a cell.
        whale_notional: a trade of at least this notional is a whale's.

    Returns:
        One cell per time cell that has trades, in order of time; open and close follow the order
        of the rows, ties for high and low go to the first.
    """
    if not ticks.height:
        return []
    top, bottom = whale_notional.as_integer_ratio()
    least = -(-(top * 10**ticks.nt_scale) // bottom)
    frame = ticks.frame
    cells = ByTime.of(frame["ts"], span_us)
    price, decimals = cells.values(frame["px"]), cells.values(frame["px_dp"])
    size, notional = cells.values(frame["sz"]), cells.values(frame["nt"])
    is_buy = cells.flags(frame["side"]) > 0
    is_whale = notional >= (least if notional.dtype == object else min(least, INT64_SAFE))
    is_whale = is_whale.astype(np.bool_)
    (_, highs), (_, lows) = (cells.extremes(price, kind) for kind in (np.maximum, np.minimum))

    def prices(rows: Ints) -> list[str]:
        pairs = zip(price[rows].tolist(), decimals[rows].tolist(), strict=True)
        return [price_text(value, ticks.px_scale, places) for value, places in pairs]

    def sizes(sums: list[int]) -> list[Decimal]:
        return [scaled(value, ticks.sz_scale) for value in sums]

    def notionals(sums: list[int]) -> list[Decimal]:
        return [scaled(value, ticks.nt_scale) for value in sums]

    columns = (
        cells.starts.tolist(),
        *(prices(rows) for rows in (cells.firsts, highs, lows, cells.lasts)),
        sizes(cells.sums(size)),
        sizes(cells.sums_where(size, is_buy)),
        notionals(cells.sums(notional)),
        notionals(cells.sums_where(notional, is_buy)),
        cells.counts.tolist(),
        cells.numbers(is_buy),
        notionals(cells.sums_where(notional, is_whale)),
        notionals(cells.sums_where(notional, is_whale & is_buy)),
        cells.numbers(is_whale),
        cells.numbers(cells.flags(frame["gap"])),
    )
    return [Cell(*values) for values in zip(*columns, strict=True)]


def price_text(value: int, scale: int, decimals: int) -> str:
    """A price as the exchange wrote it: value / 10**scale with `decimals` decimals."""
    if decimals >= scale:
        return decimal_text(value * 10 ** (decimals - scale), decimals)
    return decimal_text(value // 10 ** (scale - decimals), decimals)


def merge(open_cells: list[Cell], new: list[Cell]) -> list[Cell]:
    """Add new cells to the open ones, in order of time."""
    cells = {cell.start: cell for cell in open_cells}
    for cell in new:
        old = cells.get(cell.start)
        cells[cell.start] = cell if old is None else old.then(cell)
    return [cells[start] for start in sorted(cells)]


def split_closed(
    cells: list[Cell], span_us: int, watermark_us: int | None
) -> tuple[list[Cell], list[Cell]]:
    """Cells that ended by the watermark, and those still open."""
    if watermark_us is None:
        return [], cells
    closed = [cell for cell in cells if cell.start + span_us <= watermark_us]
    return closed, cells[len(closed) :]
