"""Closed cells of the day with their trades, and the row texts every layer shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from .fold import Judge
from .layers import Bar, closed_bars
from .raw import Trade

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
ENOUGH_FOR_TICK = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cell:
    """One closed bar and its own trades in file order."""

    bar: Bar
    trades: list[Trade]
    end_us: int

    @property
    def start_us(self) -> int:
        """When the bar opens."""
        return self.bar.start_us

    @property
    def day_us(self) -> int:
        """Midnight before (or at) the bar's opening."""
        return self.start_us // DAY_US * DAY_US


def closed_cells(judge: Judge, minutes: int) -> list[Cell]:
    """The cells with trades that the watermark has passed, in time order."""
    length = minutes * MINUTE_US
    inside: dict[int, list[Trade]] = {}
    for row in judge.accepted:
        inside.setdefault(row.trade.ts_us // length * length, []).append(row.trade)
    return [
        Cell(bar, inside[bar.start_us], bar.start_us + length)
        for bar in closed_bars(judge, minutes)
    ]


def moment(ts_us: int) -> datetime:
    """A time stamp as Parquet gives it back."""
    return _EPOCH + timedelta(microseconds=ts_us)


def stamp(ts_us: int) -> str:
    """`2025-12-14T21:34:00Z`."""
    return moment(ts_us).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp_ms(ts_us: int) -> str:
    """`2025-12-14T21:34:56.123Z`, finer digits cut off."""
    return f"{moment(ts_us):%Y-%m-%dT%H:%M:%S}.{ts_us // 1000 % 1000:03d}Z"


def tick_of(judge: Judge, known: Decimal | None) -> Decimal | None:
    """The published tick, else the finest decimal place of the first thousand trades.

    None where the tick is unknown and fewer trades than that have been accepted:
    layers that need it then have no rows yet.
    """
    if known is not None:
        return known
    if len(judge.accepted) < ENOUGH_FOR_TICK:
        return None
    return finest_place([row.trade.price for row in judge.accepted[:ENOUGH_FOR_TICK]])


def finest_place(prices: Sequence[Decimal]) -> Decimal:
    """0.01 for prices such as 5 and 1.250; never coarser than 1."""
    places = [-int(price.normalize().as_tuple().exponent) for price in prices]
    return Decimal(1).scaleb(-max(0, *places))


def row_number(price: Decimal, row: Decimal) -> int:
    """How many whole rows fit under a price."""
    return int(price // row)
