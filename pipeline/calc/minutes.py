"""Minutes that are still open: sums of their trades, which later trades of the minute add to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

import polars as pl

from pipeline.calc.ticks import Ticks
from pipeline.stage import MINUTE_US


class Minute(Protocol):
    """What is known of one minute's trades; `start` in microseconds."""

    @property
    def start(self) -> int:
        """When the minute began."""
        ...

    def then(self, later: Self) -> Self:
        """This minute with more of its trades, which stand behind these in file order."""
        ...


M = TypeVar("M", bound=Minute)


def settle(
    still_open: Sequence[M], new: Sequence[M], watermark_us: int | None
) -> tuple[list[M], list[M]]:
    """Add new trades to the open minutes.

    Returns:
        The minutes that ended by the watermark, and those that are still open; each in order of
        time.
    """
    minutes = {minute.start: minute for minute in still_open}
    for minute in new:
        known = minutes.get(minute.start)
        minutes[minute.start] = minute if known is None else known.then(minute)
    closed: list[M] = []
    waiting: list[M] = []
    for start in sorted(minutes):
        ended = watermark_us is not None and start + MINUTE_US <= watermark_us
        (closed if ended else waiting).append(minutes[start])
    return closed, waiting


def per_minute(ticks: Ticks, *sums: pl.Expr) -> pl.DataFrame:
    """Aggregate trades by minute: `start`, then `sums`, in order of time.

    Inside a minute the aggregates see the trades in file order.
    """
    return (
        ticks.frame.lazy()
        .group_by((pl.col("ts") // MINUTE_US * MINUTE_US).alias("start"), maintain_order=True)
        .agg(*sums)
        .sort("start")
        .collect()
    )
