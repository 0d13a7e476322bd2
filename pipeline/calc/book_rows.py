"""Rows of the book layers from what a replay has found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.clock import Ints
from pipeline.calc.ladder import Side
from pipeline.calc.ladder_loops import NO_LEVEL, RANKS, TOP
from pipeline.calc.replay import FullBook
from pipeline.calc.scales import Floats, Scale
from pipeline.calc.standing import STANDS_US

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[Any]
_TIME = pl.Datetime("us", "UTC")
_INVERSE_DECIMALS = 12

BOOK_COLUMNS = [
    f"{side}_{what}_{i}" for side in ("bid", "ask") for what in ("px", "sz") for i in range(TOP)
]
_LISTS: dict[str, Any] = {
    "px": pl.List(pl.Float64),
    "sz": pl.List(pl.Float64),
    "since": pl.List(pl.Int64),
    "seen": pl.List(pl.Boolean),
}
_LADDER: dict[str, Any] = {
    "ts": _TIME,
    "at": _TIME,
    **{f"{side}_{name}": kind for side in ("bid", "ask") for name, kind in _LISTS.items()},
    "bid_reach_px": pl.Float64,
    "ask_reach_px": pl.Float64,
}


@dataclass(frozen=True, slots=True)
class Units:
    """What a book's integers stand for.

    Sizes of inverse contracts are dollars, and base units only at a price: USD / price, rounded
    half-even to 12 decimals.
    """

    price: Scale
    size: Scale
    is_inverse: bool

    def prices(self, prices: Ints) -> Floats:
        """In quote currency."""
        return self.price.floats(prices)

    def amounts(self, sizes: Ints, prices: Ints) -> Numbers:
        """Sizes as numbers to be added up: integers, but doubles if inverse."""
        is_there = prices != NO_LEVEL
        if not self.is_inverse:
            return np.where(is_there, sizes, 0)
        base = np.round(self.size.floats(sizes) / self.price.floats(prices), _INVERSE_DECIMALS)
        return np.where(is_there, base, 0.0)

    def base(self, amounts: Numbers) -> Floats:
        """Sums of amounts in base units."""
        if not self.is_inverse:
            return self.size.floats(amounts)
        return np.asarray(np.round(amounts, _INVERSE_DECIMALS), np.float64)


@dataclass(frozen=True, slots=True)
class Last:
    """The last row of `book_events`: its time, and the best levels if there was a book."""

    time: int
    top: Ints | None


def event_rows(
    noted: Sequence[Ints], tops: Sequence[Ints], last: Last, units: Units
) -> tuple[pl.DataFrame, Last, int]:
    """Rows of `book_events`, the last of them, and how many are crossed or locked.

    Order-flow imbalance of rank m, Cont, Kukanov and Stoikov (2014), equation 4:
    e = [Pb >= Pb'] qb - [Pb <= Pb'] qb' - [Pa <= Pa'] qa + [Pa >= Pa'] qa'.
    """
    times, ids, flags = np.concatenate(noted).T
    is_event = flags.astype(np.bool_)
    best = np.full((len(times) + 1, 4, RANKS), NO_LEVEL, np.int64)
    if last.top is not None:
        best[0] = last.top.reshape(4, RANKS)
    if tops:
        best[1:][is_event] = np.concatenate(tops).reshape(-1, 4, RANKS)
    bid, bid_size, ask, ask_size = best.transpose(1, 0, 2)
    has_bid, has_ask = bid != NO_LEVEL, ask != NO_LEVEL
    bids, asks = units.amounts(bid_size, bid), units.amounts(ask_size, ask)
    imbalance = (
        np.where(bid[1:] >= bid[:-1], bids[1:], 0)
        - np.where(bid[1:] <= bid[:-1], bids[:-1], 0)
        - np.where(ask[1:] <= ask[:-1], asks[1:], 0)
        + np.where(ask[1:] >= ask[:-1], asks[:-1], 0)
    )
    is_whole = has_bid & has_ask
    is_near = np.diff(times, prepend=last.time) <= STANDS_US
    is_pair = is_near[:, None] & is_whole[1:] & is_whole[:-1]
    is_crossed = is_whole[1:, 0] & (bid[1:, 0] >= ask[1:, 0])

    def column(amounts: Numbers, is_there: Flags) -> pl.Series:
        return _nullable(units.base(amounts), is_there)

    rows = pl.DataFrame(
        {
            "ts": pl.Series(times).cast(_TIME),
            "last_id": pl.Series(ids).replace(-1, None),
            "bid": _nullable(units.prices(bid[1:, 0]), has_bid[1:, 0]),
            "bid_size": column(bids[1:, 0], has_bid[1:, 0]),
            "ask": _nullable(units.prices(ask[1:, 0]), has_ask[1:, 0]),
            "ask_size": column(asks[1:, 0], has_ask[1:, 0]),
            "bid_depth": column(bids[1:].sum(axis=1), is_event),
            "ask_depth": column(asks[1:].sum(axis=1), is_event),
            **{
                f"ofi_{rank + 1}": column(imbalance[:, rank], is_pair[:, rank])
                for rank in range(RANKS)
            },
            "crossed": pl.Series(is_crossed),
        }
    )
    newest = Last(int(times[-1]), best[-1].ravel() if is_event[-1] else None)
    return rows, newest, int(is_crossed.sum())


def book_rows(cells: Sequence[Ints], times: Sequence[Ints], units: Units) -> pl.DataFrame:
    """Rows of `book` from the best `TOP` levels at the ends of cells."""
    best = np.concatenate(cells).reshape(-1, 4, TOP)
    columns: dict[str, Any] = {"ts": pl.Series(np.concatenate(times)).cast(_TIME)}
    for block, side in ((0, "bid"), (2, "ask")):
        price, size = best[:, block], best[:, block + 1]
        is_there = price != NO_LEVEL
        values, base = units.prices(price), units.base(units.amounts(size, price))
        for rank in range(TOP):
            columns[f"{side}_px_{rank}"] = _nullable(values[:, rank], is_there[:, rank])
            columns[f"{side}_sz_{rank}"] = _nullable(base[:, rank], is_there[:, rank])
    return pl.DataFrame(columns).select("ts", *BOOK_COLUMNS)


def ladder_rows(
    books: Sequence[FullBook], units: Units, first_us: int, near_bps: float, notional: float
) -> pl.DataFrame:
    """Rows of `ladder_1m`.

    Args:
        books: full books at the ends of minutes.
        units: what their integers stand for.
        first_us: when the feed's clock began; nothing can be older.
        near_bps: levels this near to the mid are kept,
        notional: and as many further ones as it takes to hold this much quote currency in all.
    """
    rows = []
    for book in books:
        row: dict[str, Any] = {"ts": book.minute_us, "at": book.at_us}
        best = [float(units.prices(side.price[:1])[0]) for side in book.sides if len(side.price)]
        mid = sum(best) / 2 if len(best) == len(book.sides) else None
        for name, side, worst in zip(("bid", "ask"), book.sides, book.worst, strict=True):
            reach = None if worst is None else float(units.prices(np.array([worst]))[0])
            row |= _side_lists(name, side, units, first_us, mid, near_bps, notional)
            row[f"{name}_reach_px"] = reach
        rows.append(row)
    return pl.DataFrame(rows, schema=_LADDER)


def _side_lists(
    name: str,
    side: Side,
    units: Units,
    first_us: int,
    mid: float | None,
    near_bps: float,
    notional: float,
) -> dict[str, Any]:
    price = units.prices(side.price)
    size = units.base(units.amounts(side.size, side.price))
    count = len(price)
    if mid is not None:
        value = price * size
        is_near = np.abs(price - mid) <= mid * near_bps / 1e4
        count = int((is_near | (np.cumsum(value) - value < notional)).sum())
    return {
        f"{name}_px": price[:count],
        f"{name}_sz": size[:count],
        f"{name}_since": np.maximum(side.since[:count], first_us),
        f"{name}_seen": side.seen[:count].astype(np.bool_),
    }


def _nullable(values: Floats, is_there: Flags) -> pl.Series:
    """A column with nulls where there is nothing."""
    if is_there.all():
        return pl.Series(np.ascontiguousarray(values))
    return pl.Series(np.where(is_there, values, np.nan), nan_to_null=True)
