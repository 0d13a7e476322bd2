"""Trades summed into cells of time: the material of bars and volume.

A cell holds exact sums, so cells of the same time from different batches add up to what one batch
would have given.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.ticks import Ticks
from pipeline.exact import ZERO, add, decimal_text, scaled

MINUTE_US = 60_000_000


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
    wide = least >= 2**62 and frame.schema["nt"] == pl.Int64
    is_whale = (
        pl.lit(value=False) if wide else pl.col("nt") >= pl.lit(least, dtype=frame.schema["nt"])
    )
    is_buy = pl.col("side") > 0
    size, notional = pl.col("sz").cast(pl.Int128), pl.col("nt").cast(pl.Int128)
    zero = pl.lit(0, dtype=pl.Int128)
    one_text = frame["px_dp"].n_unique() == 1
    decimals = pl.col("px_dp")
    whales = (
        frame.lazy()
        .select(
            (pl.col("ts") // span_us * span_us).alias("start"),
            "px",
            "px_dp",
            size.alias("sz"),
            pl.when(is_buy).then(size).otherwise(zero).alias("buy_sz"),
            notional.alias("nt"),
            pl.when(is_buy).then(notional).otherwise(zero).alias("buy_nt"),
            is_buy.alias("is_buy"),
            is_whale.alias("is_whale"),
            "gap",
        )
        .group_by("start", maintain_order=True)
        .agg(
            pl.col("px").first().alias("open"),
            pl.col("px").max().alias("high"),
            pl.col("px").min().alias("low"),
            pl.col("px").last().alias("close"),
            decimals.first().alias("open_dp"),
            (
                decimals.first()
                if one_text
                else decimals.filter(pl.col("px") == pl.col("px").max()).first()
            ).alias("high_dp"),
            (
                decimals.first()
                if one_text
                else decimals.filter(pl.col("px") == pl.col("px").min()).first()
            ).alias("low_dp"),
            decimals.last().alias("close_dp"),
            pl.col("sz").sum(),
            pl.col("buy_sz").sum(),
            pl.col("nt").sum(),
            pl.col("buy_nt").sum(),
            pl.len().alias("trades"),
            pl.col("is_buy").sum().alias("buys"),
            pl.col("nt").filter("is_whale").sum().alias("whale_nt"),
            pl.col("buy_nt").filter("is_whale").sum().alias("whale_buy_nt"),
            pl.col("is_whale").sum().alias("whales"),
            pl.col("gap").sum().alias("gaps"),
        )
        .sort("start")
        .collect()
    )
    return [_cell(row, ticks) for row in whales.iter_rows(named=True)]


def _cell(row: dict[str, Any], ticks: Ticks) -> Cell:
    def price(name: str) -> str:
        return price_text(row[name], ticks.px_scale, row[f"{name}_dp"])

    return Cell(
        start=row["start"],
        open=price("open"),
        high=price("high"),
        low=price("low"),
        close=price("close"),
        volume=scaled(row["sz"], ticks.sz_scale),
        buy_volume=scaled(row["buy_sz"], ticks.sz_scale),
        notional=scaled(row["nt"], ticks.nt_scale),
        buy_notional=scaled(row["buy_nt"], ticks.nt_scale),
        trades=row["trades"],
        buy_trades=row["buys"],
        whale_notional=scaled(row["whale_nt"], ticks.nt_scale),
        whale_buy_notional=scaled(row["whale_buy_nt"], ticks.nt_scale),
        whale_trades=row["whales"],
        gaps=row["gaps"],
    )


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
