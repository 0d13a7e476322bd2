"""Five-minute bars of a regular session, from classified trades and the quotes around them.

Every sum is taken over one bar alone and rounded once, so it does not depend on what else was read
with it. A quote of another New York day is not in force.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.lee_ready import Flags, Floats, Ints, in_force
from pipeline.calc.new_york import BAR_US, Session, days_of
from pipeline.calc.shares import parts_of

_BOTH_SIDES_BPS = 2e4
_BPS = 1e4


class Bar(msgspec.Struct, array_like=True):
    """A bar; volumes in parts of a share.

    Attributes:
        trades: how many.
        bought, sold, total: volume of buyers, of sellers, of all.
        quoted: volume of trades that met a valid quote.
        blocks: volume of block trades.
        flow: sum of side x price x shares.
        mid: that of the last valid quote of the day strictly before the bar's end.
        weight: notional of trades with a side that met a valid quote.
        effective, realized: sums of notional x spread in bps over these.
        stood_us: how long a valid quote was in force.
        spread: sum of microseconds x quoted spread in bps over that.
    """

    trades: int = 0
    bought: int = 0
    sold: int = 0
    total: int = 0
    quoted: int = 0
    blocks: int = 0
    flow: float = 0.0
    mid: float | None = None
    weight: float = 0.0
    effective: float = 0.0
    realized: float = 0.0
    stood_us: int = 0
    spread: float = 0.0


class Block(NamedTuple):
    """From which size or notional on a trade is a block."""

    shares: float
    notional: float


class Prints(NamedTuple):
    """Classified trades in order of time; `mid` is NaN where no valid quote was in force."""

    ts: Ints
    price: Floats
    size: Floats
    side: Ints
    mid: Floats

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Prints:
        """The rows of layer `classified`."""
        return cls(
            frame["ts"].to_numpy(),
            frame["price"].to_numpy(),
            frame["size"].to_numpy(),
            frame["side"].to_numpy().astype(np.int64),
            frame["mid"].fill_null(np.nan).to_numpy(),
        )

    def between(self, low_us: int, high_us: int) -> Prints:
        """Those of the times [low, high)."""
        own = slice(*np.searchsorted(self.ts, [low_us, high_us]).tolist())
        columns = (self.price[own], self.size[own], self.side[own], self.mid[own])
        return Prints(self.ts[own], *columns)


class LastQuote(msgspec.Struct, array_like=True):
    """What stands in front of a window's quotes.

    Attributes:
        ts, bid, ask: the last quote; a time before every event where there is none.
        valid_us, mid: the last valid one.
    """

    ts: int
    bid: float | None
    ask: float | None
    valid_us: int | None = None
    mid: float | None = None


class Quotes(NamedTuple):
    """One day's quotes in order of time; NaN where one is not valid.

    Attributes:
        valid: by quote the last valid one up to it, -1 for none.
        older: the last valid mid before them all, NaN for none.
    """

    ts: Ints
    mid: Floats
    spread: Floats
    valid: Ints
    older: float

    def last_mid(self, at: Ints) -> Floats:
        """The last valid mid strictly before each time, NaN for none."""
        if not len(self.ts):
            return np.full(len(at), self.older)
        place = in_force(self.ts, at)
        valid = np.where(place >= 0, self.valid[np.maximum(place, 0)], -1)
        return np.where(valid >= 0, self.mid[np.maximum(valid, 0)], self.older)


def mid_and_spread(bid: pl.Series, ask: pl.Series) -> tuple[Floats, Floats]:
    """Mid, and spread in bps of it; NaN where a side is missing or they lock or cross."""
    is_valid = ((bid > 0) & (ask > bid)).fill_null(value=False).to_numpy()
    low, high = (side.fill_null(np.nan).to_numpy() for side in (bid, ask))
    mid = np.where(is_valid, (low + high) / 2, np.nan)
    return mid, _BPS * (high - low) / mid


class Feed:
    """The quotes of a window, behind the last one before it."""

    def __init__(self, frame: pl.DataFrame, before: LastQuote | None) -> None:
        shown = frame.select("ts", "bid", "ask")
        if before is not None:
            first = pl.DataFrame(
                [(before.ts, before.bid, before.ask)], schema=shown.schema, orient="row"
            )
            shown = pl.concat([first, shown])
        self._shown, self._before = shown, before
        self._ts = shown["ts"].to_numpy()
        self._day = days_of(self._ts)
        self._mid, self._spread = mid_and_spread(shown["bid"], shown["ask"])

    @property
    def days(self) -> set[int]:
        """The days that have quotes."""
        return set(np.unique(self._day).tolist())

    def of_day(self, day: int) -> Quotes:
        """The quotes of a day."""
        low, high = np.searchsorted(self._day, [day, day + 1])
        mid = self._mid[low:high]
        valid = np.maximum.accumulate(np.where(np.isnan(mid), -1, np.arange(len(mid))))
        before, older = self._before, math.nan
        if before is not None and before.valid_us is not None and before.mid is not None:
            is_same = int(days_of(np.array([before.valid_us]))[0]) == day
            older = before.mid if is_same else older
        return Quotes(self._ts[low:high], mid, self._spread[low:high], valid, older)

    def last(self) -> LastQuote | None:
        """What stands in front of the next window."""
        if not len(self._ts):
            return None
        ts, bid, ask = self._shown.row(-1)
        valid = np.flatnonzero(~np.isnan(self._mid))
        if len(valid):
            place = int(valid[-1])
            return LastQuote(ts, bid, ask, int(self._ts[place]), float(self._mid[place]))
        before = self._before
        return LastQuote(ts, bid, ask, *((before.valid_us, before.mid) if before else (None, None)))


def bars(
    prints: Prints, quotes: Quotes, low_us: int, high_us: int, block: Block, *, is_quoted: bool
) -> list[Bar]:
    """The bars of [low, high) of a session; `realized` comes later.

    Args:
        prints: trades of at least that time.
        quotes: the day's quotes up to `high_us`.
        low_us: where a bar begins.
        high_us: where one ends.
        block: what a block trade is.
        is_quoted: all quotes are there; otherwise no bar has a mid.
    """
    own = prints.between(low_us, high_us)
    parts, notional = parts_of(own.size), own.price * own.size
    is_block = (own.size >= block.shares) | (notional >= block.notional)
    met_quote = ~np.isnan(own.mid)
    is_told = met_quote & (own.side != 0)
    paid = _BOTH_SIDES_BPS * own.side * (own.price - own.mid) / own.mid * notional
    flow = own.side * notional
    starts = np.arange(low_us, high_us, BAR_US)
    edges = np.searchsorted(own.ts, np.append(starts, high_us))
    mids = quotes.last_mid(starts + BAR_US)
    found = []
    for low, high, mid in zip(edges[:-1].tolist(), edges[1:].tolist(), mids.tolist(), strict=True):
        size, side, told = parts[low:high], own.side[low:high], is_told[low:high]
        found.append(
            Bar(
                trades=high - low,
                bought=int(size[side > 0].sum()),
                sold=int(size[side < 0].sum()),
                total=int(size.sum()),
                quoted=int(size[met_quote[low:high]].sum()),
                blocks=int(size[is_block[low:high]].sum()),
                flow=math.fsum(flow[low:high].tolist()),
                mid=mid if is_quoted and not math.isnan(mid) else None,
                weight=math.fsum(notional[low:high][told].tolist()),
                effective=math.fsum(paid[low:high][told].tolist()),
            )
        )
    _add_spreads(found, quotes, starts, high_us)
    return found


def _add_spreads(found: list[Bar], quotes: Quotes, starts: Ints, high_us: int) -> None:
    """Weigh each valid quote with how long it was in force in each bar."""
    new = np.flatnonzero((quotes.ts >= starts[0]) & (quotes.ts < high_us))
    times = np.concatenate((starts, quotes.ts[new]))
    place = np.concatenate((in_force(quotes.ts, starts), new))
    order = np.argsort(times, kind="stable")
    times, place = times[order], place[order]
    length = np.diff(times, append=high_us)
    spread = np.append(quotes.spread, math.nan)[place]
    stands: Flags = ~np.isnan(spread)
    edges = np.append(np.searchsorted(times, starts), len(times)).tolist()
    for bar, low, high in zip(found, edges[:-1], edges[1:], strict=True):
        own = stands[low:high]
        bar.stood_us = int(length[low:high][own].sum())
        bar.spread = math.fsum((length[low:high][own] * spread[low:high][own]).tolist())


def realized(
    prints: Prints, quotes: Quotes, session: Session, low_us: int, high_us: int
) -> list[float]:
    """Sum of notional x realized spread in bps of each bar of [low, high).

    The later mid is the last valid one strictly before the trade's time plus five minutes, or
    before the session's end if that comes sooner.
    """
    own = prints.between(low_us, high_us)
    later = quotes.last_mid(np.minimum(own.ts + BAR_US, session.close_us))
    is_told = ~np.isnan(own.mid) & (own.side != 0) & ~np.isnan(later)
    kept = _BOTH_SIDES_BPS * own.side * (own.price - later) / own.mid * own.price * own.size
    edges = np.searchsorted(own.ts, np.append(np.arange(low_us, high_us, BAR_US), high_us))
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [math.fsum(kept[low:high][is_told[low:high]].tolist()) for low, high in pairs]
