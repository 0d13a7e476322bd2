"""What the market looked like to each trade just before it: six features of quote and book.

Times are whole milliseconds, finer ones floored. A quote counts if 0 < bid < ask and both sizes
are above 0, a book if both its sides have a level; others are passed over. Where a book is lost
there is none until the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.decimal_sums import added, subtracted
from pipeline.calc.lookup import last_change, rows_before, taken

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_PRICES = ("bid", "bid_size", "ask", "ask_size")
_IN_FRONT = -(2**62)


class LastQuote(msgspec.Struct, array_like=True, frozen=True):
    """The last quote in front of a frame; times of the last changes of mid, bid and ask."""

    ts: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    mid_ts: int
    bid_ts: int
    ask_ts: int


class LastBook(msgspec.Struct, array_like=True, frozen=True):
    """The last book in front of a frame: sizes of its best levels together, by side."""

    ts: int
    bids: float
    asks: float
    is_lost: bool


@dataclass(frozen=True)
class Quotes:
    """Quotes that count, in order of time.

    Attributes:
        us: event times, microseconds; -2**62 for what stands in front of the frame.
        ts: in milliseconds.
        mid_ts: when the mid last changed, as `bid_ts` and `ask_ts` for the prices.
    """

    us: Ints
    ts: Ints
    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats
    mid_ts: Ints
    bid_ts: Ints
    ask_ts: Ints

    @classmethod
    def of(cls, frame: pl.DataFrame, last: LastQuote | None) -> Quotes:
        """The rows of a frame of the layer `quote`, behind what stands in front of it."""
        us = frame["ts"].to_numpy()
        bid, bid_size, ask, ask_size = columns = [frame[name].to_numpy() for name in _PRICES]
        counts = (bid > 0) & (ask > bid) & (bid_size > 0) & (ask_size > 0)
        us, columns = us[counts], [column[counts] for column in columns]
        ts, since = us // 1000, (0, 0, 0)
        if last is not None:
            us, ts = np.append(_IN_FRONT, us), np.append(last.ts, ts)
            front = (last.bid, last.bid_size, last.ask, last.ask_size)
            columns = [np.append(value, c) for value, c in zip(front, columns, strict=True)]
            since = (last.mid_ts, last.bid_ts, last.ask_ts)
        bid, _, ask, _ = columns
        twice = added(bid, ask)
        has_changed = [prices[1:] != prices[:-1] for prices in (twice, bid, ask)]
        # the first quote of all counts as a change
        changes = [
            last_change(ts, np.append(last is None, flags)[: len(ts)], before)
            for flags, before in zip(has_changed, since, strict=True)
        ]
        return cls(us, ts, *columns, *changes)

    def last_before(self, us: int) -> LastQuote | None:
        """What stands in front of the rows from a time on, microseconds."""
        row = int(np.searchsorted(self.us, us)) - 1
        if row < 0:
            return None
        bid, bid_size, ask, ask_size = (float(getattr(self, name)[row]) for name in _PRICES)
        times = (int(column[row]) for column in (self.mid_ts, self.bid_ts, self.ask_ts))
        return LastQuote(int(self.ts[row]), bid, bid_size, ask, ask_size, *times)

    def rows_before(self, times: Ints, max_age_ms: int) -> Ints:
        """The quote that stands just before each time, -1 where there is none."""
        return rows_before(self.ts, np.zeros(len(self.ts), np.bool_), times, max_age_ms)


@dataclass(frozen=True)
class Books:
    """Depths of books that count, as `Quotes`, and the places where the book was lost."""

    us: Ints
    ts: Ints
    is_lost: Flags
    bids: Floats
    asks: Floats

    @classmethod
    def of(
        cls, book: pl.DataFrame, events: pl.DataFrame, levels: int, last: LastBook | None
    ) -> Books:
        """The rows of frames of `book` and `book_events`, behind what stands in front of them.

        Where a book is lost and begins again in the same microsecond, the event that came last
        tells which of the two holds.
        """
        us = book["ts"].to_numpy()
        sides = [_depth(book, side, levels) for side in ("bid", "ask")]
        counts = ~(np.isnan(sides[0]) | np.isnan(sides[1]))
        us, bids, asks = us[counts], sides[0][counts], sides[1][counts]
        event_us = events["ts"].to_numpy()
        is_lost = events["bid_depth"].is_null().to_numpy()
        is_last = np.append(event_us[1:] != event_us[:-1], True)[: len(event_us)]
        lost = np.flatnonzero(is_lost)
        nothing = np.full(len(lost), np.nan)
        front: tuple[list[int], list[float], list[float], list[bool]] = ([], [], [], [])
        if last is not None:
            front = ([last.ts * 1000], [last.bids], [last.asks], [last.is_lost])
        times = np.concatenate((us, event_us[lost])).astype(np.int64)
        rank = np.concatenate((np.ones(len(us)), np.where(is_last[lost], 2, 0)))
        order = np.lexsort((rank, times))
        flags = np.concatenate((np.zeros(len(us), np.bool_), np.ones(len(lost), np.bool_)))
        stamps = np.concatenate((np.array(front[0], np.int64), times[order])) // 1000
        marks = np.full(len(front[0]), _IN_FRONT, np.int64)
        return cls(
            np.concatenate((marks, times[order])),
            stamps,
            np.concatenate((np.array(front[3], np.bool_), flags[order])),
            np.concatenate((front[1], np.concatenate((bids, nothing))[order])),
            np.concatenate((front[2], np.concatenate((asks, nothing))[order])),
        )

    def last_before(self, us: int) -> LastBook | None:
        """What stands in front of the rows from a time on, microseconds."""
        row = int(np.searchsorted(self.us, us)) - 1
        if row < 0:
            return None
        if self.is_lost[row]:
            return LastBook(int(self.ts[row]), 0.0, 0.0, is_lost=True)
        return LastBook(
            int(self.ts[row]), float(self.bids[row]), float(self.asks[row]), is_lost=False
        )

    def rows_before(self, times: Ints, max_age_ms: int) -> Ints:
        """The book that stands just before each time, -1 where there is none."""
        return rows_before(self.ts, self.is_lost, times, max_age_ms)


def _depth(book: pl.DataFrame, side: str, levels: int) -> Floats:
    """Sizes of the best levels of a side, added up from the best on; NaN for an empty side."""
    best, *others = (book[f"{side}_sz_{rank}"].to_numpy() for rank in range(levels))
    total = best.copy()
    for sizes in others:
        total += np.where(np.isnan(sizes), 0.0, sizes)
    return total


def features(
    times: Ints, sizes: Floats, sides: Ints, quotes: tuple[Quotes, Ints], books: tuple[Books, Ints]
) -> Floats:
    """The six features of trades, as rows; NaN where something is not known.

    Args:
        times: milliseconds.
        sizes: base units.
        sides: 1 where the taker bought, which hits the asks, -1 where they sold.
        quotes: quotes, and the one that stands just before each trade (-1 for none).
        books: books, likewise.
    """
    quote, at = quotes
    book, row = books
    bid, ask = taken(quote.bid, at), taken(quote.ask, at)
    top = taken(quote.bid_size, at) + taken(quote.ask_size, at)
    is_buy = sides > 0
    bids, asks = taken(book.bids, row), taken(book.asks, row)
    hit_ts = np.where(is_buy, taken_times(quote.ask_ts, at), taken_times(quote.bid_ts, at))
    found = np.empty((len(times), 6))
    found[:, 0] = np.log(sizes / top)
    found[:, 1] = np.log1p(np.where(is_buy, asks, bids))
    found[:, 2] = np.log1p(np.where(is_buy, bids, asks))
    found[:, 3] = 1e4 * subtracted(ask, bid) / ((ask + bid) / 2)
    found[:, 4] = np.log1p(np.where(at >= 0, times - taken_times(quote.mid_ts, at), np.nan))
    found[:, 5] = np.log1p(np.where(at >= 0, times - hit_ts, np.nan))
    return found


def taken_times(stamps: Ints, rows: Ints) -> Ints:
    """Times of rows, 0 where there is no row."""
    return stamps[rows.clip(0)] if len(stamps) else np.zeros(len(rows), np.int64)
