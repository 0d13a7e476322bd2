"""Which side took a trade: the quote rule, and the tick rule where it does not tell.

C. Lee and M. Ready, "Inferring Trade Direction from Intraday Data", Journal of Finance 46 (1991).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

AT_MID = 1e-9
"""A price this near to the mid is at it."""
QUOTED_SHARE = 0.8
"""With a valid quote for less of a day's volume than this, the day is one of the tick rule."""


class Last(NamedTuple):
    """The trade before: the day it is of, its price, and the last tick other than zero."""

    day: int
    price: float
    tick: int


def ticks(day: Ints, price: Floats, before: Last | None) -> Ints:
    """By each trade the last change of price up to it: 1 up, -1 down, 0 none yet that day.

    Args:
        day: the day of each trade, never falling; each begins anew.
        price: prices in the trades' order.
        before: the trade before the first.
    """
    count = len(price)
    if not count:
        return np.zeros(0, np.int64)
    goes_on = before is not None and before.day == day[0]
    first = before.price if before is not None and goes_on else price[0]
    change = np.sign(np.diff(price, prepend=first)).astype(np.int64)
    is_first = np.diff(day, prepend=day[0]) > 0
    change[is_first] = 0
    start = np.maximum.accumulate(np.where(is_first, np.arange(count), 0))
    place = np.maximum.accumulate(np.where(change != 0, np.arange(count), -1))
    found = np.where(place >= start, change[np.maximum(place, 0)], 0)
    if before is not None and goes_on:
        found[(place < 0) & (day == before.day)] = before.tick
    return found


def in_force(quoted: Ints, at: Ints) -> Ints:
    """The last quote strictly before each time, -1 where there is none.

    Args:
        quoted: times of the quotes, never falling.
        at: the times.
    """
    return np.searchsorted(quoted, at, side="left") - 1


def sides(price: Floats, mid: Floats, tick: Ints) -> tuple[Ints, Flags]:
    """1 for a buyer, -1 for a seller, 0 where nothing tells; and where the quote told.

    Args:
        price: prices.
        mid: the mid in force, NaN where no valid quote was.
        tick: see `ticks`.
    """
    above, below = price > mid + AT_MID, price < mid - AT_MID
    told: Flags = above | below
    return np.where(told, above.astype(np.int64) - below, tick), told


def is_lee_ready(quoted: int, total: int) -> bool:
    """Whether a day counts as classified by quotes, from its volume with a valid one and in all."""
    return quoted / total >= QUOTED_SHARE


def imbalance(bought: int, sold: int) -> float | None:
    """(B - S) / (B + S); None where nothing was bought or sold."""
    return (bought - sold) / (bought + sold) if bought + sold else None
