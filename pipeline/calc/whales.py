"""How many large trades bought and sold, by minute."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from pipeline.stage import MINUTE_US


@dataclass(frozen=True, slots=True)
class WhaleTrades:
    """Buys and sells by beginning of the minute; None where trades are not known at all."""

    counts: tuple[Counter[int], Counter[int]] | None

    def of(self, start: int) -> tuple[int | None, int | None]:
        """Buys and sells of a minute."""
        if self.counts is None:
            return None, None
        buys, sells = self.counts
        return buys[start], sells[start]


def whale_trades(trades: pl.DataFrame | None, least: Decimal) -> WhaleTrades:
    """Count trades of at least that notional; `trades` has `ts`, `notional` and `side`."""
    if trades is None:
        return WhaleTrades(None)
    large = trades.filter(pl.col("notional") >= float(least))
    start = (pl.col("ts") // MINUTE_US * MINUTE_US).alias("start")
    buys, sells = (
        Counter(large.filter(is_side).select(start)["start"].to_list())
        for is_side in (pl.col("side") > 0, pl.col("side") < 0)
    )
    return WhaleTrades((buys, sells))
