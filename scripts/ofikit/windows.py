"""Events and trades cut into windows of one length: price change, OFI, trade imbalance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

STANDS_US = 60_000_000
"""A quote older than this is no quote."""

SESSION_US = 6 * 3_600_000_000
"""A silence longer than this parts two recordings."""


class Events(NamedTuple):
    """Quotes in order of time: mid (NaN: no quote) and OFI term against the one before.

    The term is NaN where one of the two is no quote or more than 60 s lie between.
    """

    ts: Ints
    mid: Floats
    term: Floats

    def part(self, low: int, high: int) -> Events:
        """Some of them."""
        return Events(self.ts[low:high], self.mid[low:high], self.term[low:high])


class Trades(NamedTuple):
    """Trades in order of time: size in base units, negative where the taker sold."""

    ts: Ints
    signed: Floats


class Windows(NamedTuple):
    """By window: change of the mid, sum of OFI terms, sum of signed trades."""

    change: Floats
    ofi: Floats
    traded: Floats


def sessions(events: Events) -> Iterator[Events]:
    """The recordings that a feed consists of."""
    cuts = np.flatnonzero(np.diff(events.ts) > SESSION_US) + 1
    edges = [0, *cuts.tolist(), len(events.ts)]
    for low, high in pairwise(edges):
        yield events.part(low, high)


def cut(events: Events, trades: Trades, length_us: int) -> Windows:
    """Cut into the windows [k length, (k + 1) length) that both feeds cover.

    Left out are windows at whose ends no quote stands, or only one older than 60 s, and windows
    with an event that has no OFI term. In a window without an event nothing changed.
    """
    none = Windows(*(np.zeros(0) for _ in Windows._fields))
    if not (len(events.ts) and len(trades.ts)):
        return none
    first = max(int(events.ts[0]), int(trades.ts[0])) // length_us + 1
    last = min(int(events.ts[-1]), int(trades.ts[-1])) // length_us
    count = last - first
    if count < 1:
        return none
    edges = np.arange(first, last + 1, dtype=np.int64) * length_us
    standing = np.searchsorted(events.ts, edges) - 1
    mid = np.where(edges - events.ts[standing] <= STANDS_US, events.mid[standing], np.nan)
    change = np.diff(mid)
    ofi = _sums(events.ts, events.term, edges)
    is_whole = ~(np.isnan(change) | np.isnan(ofi))
    traded = _sums(trades.ts, trades.signed, edges)
    return Windows(change[is_whole], ofi[is_whole], traded[is_whole])


def _sums(ts: Ints, values: Floats, edges: Ints) -> Floats:
    """Sums of values between edges; NaN if one of them is."""
    low, high = np.searchsorted(ts, edges[[0, -1]])
    window = np.searchsorted(edges, ts[low:high], side="right") - 1
    return np.bincount(window, values[low:high], minlength=len(edges) - 1).astype(np.float64)
