"""The simulated order book: a set of resting levels that follows the touch.

Between two book events the book does not change. An event moves the touch to
the best prices in force, redraws a few levels around it, and puts or pulls
walls. Levels are sparse in the distance and never cross.
"""

from __future__ import annotations

import itertools
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline.sim.activity import DAY_MS
from pipeline.sim.path import Wall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pipeline.sim.instrument import Instrument
    from pipeline.sim.path import Touch

_REACH_BPS = 106.0
_SLACK_BPS = 10.0
_WALL_RANGE_BPS = 100.0
# share of ticks that hold a level, by distance from the touch in bps
_DENSITIES = ((0.8, 0.25), (8.0, 0.06), (_REACH_BPS + _SLACK_BPS, 0.025))
_FAR_GAP_MEAN = 40
# what a moving touch leaves behind: sparser than near levels, which fill up
_NEAR_GAP_MEAN = 16
_REDRAWS = 5  # levels a side and event
_TOUCH_REDRAW = 0.5
_LEVEL_QUOTE = 15_000.0
_LEVEL_SIGMA = 0.9
_LEVEL_CAP_QUOTE = 100_000.0
_TOUCH_QUOTE = 60_000.0
_TOUCH_SIGMA = 0.7
_TOUCH_CAP_QUOTE = 200_000.0
_TILT = 0.45  # log size by which the touch hints at its next move
_TILT_STEPS = 4
_CLOSE_BPS = 25.0
_WALL_QUOTE = {
    "wall_stands": (1.2e6, 0.8e6),
    "wall_pulled": (3.6e6, 1.4e6),
    "setup": (15.0e6, 5.0e6),
}
_POOL = 1 << 14
_SEQ_STEP = (40, 3000)

Levels = dict[int, int]


@dataclass(slots=True)
class WallLife:
    """What a planted wall really was in the book, for the truth file.

    Attributes:
        wall: the plan.
        lots: its size.
        start_ms, end_ms: times (of the day) of the book events that put and
            pulled it; `end_ms` is None while it stands.
        median_units: median notional of the levels within 100 bps at its start.
        share: of the notional within 25 bps of the mid, how much lies on its
            side just before it is pulled.
    """

    wall: Wall
    lots: int
    start_ms: int
    median_units: float
    end_ms: int | None = None
    share: float = 0.0


@dataclass(slots=True)
class Book:
    """Resting levels, lots by tick; carried from one day into the next.

    Attributes:
        facts: the instrument.
        bids, asks: the levels.
        seq_id: sequence id of the last event.
        bid, ask: best prices.
        bid_edge, ask_edge: ticks up to which levels have been drawn.
        walls: the planted walls that stand, by price.
    """

    facts: Instrument
    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)
    seq_id: int = 900_000_000
    bid: int = 0
    ask: int = 0
    bid_edge: int = 0
    ask_edge: int = 0
    walls: dict[int, WallLife] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BookEvent:
    """One change of the book; its levels hold 0 lots where one is gone.

    Attributes:
        time_ms: ms of the day.
        seq_id, prev_seq_id: the chain; -1 before a snapshot.
        bids, asks: changed levels, all of them in a snapshot.
        top: (bid ticks, bid lots, ask ticks, ask lots) after the event.
    """

    time_ms: int
    seq_id: int
    prev_seq_id: int
    bids: Levels
    asks: Levels
    top: tuple[int, int, int, int]


def event_times(rng: np.random.Generator, touch: Touch, book_ms: int) -> NDArray[np.int64]:
    """Return the ms of the day of every book event.

    One in each cell of `book_ms`, and one wherever the touch moves.
    """
    moved = (np.diff(touch.bid, prepend=0) != 0) | (np.diff(touch.ask, prepend=0) != 0)
    cells = np.arange(0, DAY_MS, book_ms, dtype=np.int64)
    cells += rng.integers(0, max(book_ms // 2, 1), len(cells))
    return np.unique(np.concatenate((touch.times[:1], touch.times[moved], cells)))


class BookDay:
    """Plays one day's book events onto a `Book`."""

    def __init__(self, rng: np.random.Generator, book: Book, touch: Touch) -> None:
        self.lives: list[WallLife] = []
        self._rng = rng
        self._book = book
        self._touch = touch
        self._reach = book.facts.bps(_REACH_BPS)
        self._slack = book.facts.bps(_SLACK_BPS)
        self._due = sorted(touch.walls, key=lambda wall: wall.birth_ms)
        self._lots = itertools.cycle(self._level_lots(_POOL))
        self._near = itertools.cycle(rng.geometric(1 / _NEAR_GAP_MEAN, _POOL).tolist())
        self._far = itertools.cycle(rng.geometric(1 / _FAR_GAP_MEAN, _POOL).tolist())
        self._started = False

    def events(self, times: NDArray[np.int64]) -> Iterator[BookEvent]:
        """Yield the events at `times`: all of one hour's, hours in order.

        Draws are made for the whole of `times` first, so a reader that stops
        early sees a prefix.
        """
        step = self._touch.at(times)
        redraws = [self._redraws(len(times)) for _ in range(2)]
        tops = [self._touch_lots(step, tilt) for tilt in (_TILT, -_TILT)]
        renew = (self._rng.random((2, len(times))) < _TOUCH_REDRAW).tolist()
        seq = self._rng.integers(*_SEQ_STEP, len(times)).tolist()
        best_bid, best_ask = self._touch.bid[step].tolist(), self._touch.ask[step].tolist()
        book = self._book
        for index, time_ms in enumerate(times.tolist()):
            bid, ask = best_bid[index], best_ask[index]
            bids: Levels = {}
            asks: Levels = {}
            first = not self._started
            if first:
                self._open(bid, ask)
            self._move(bid, ask, bids, asks)
            self._walls(time_ms, bids, asks)
            for offset, lots in redraws[0][index]:
                self._redraw(book.bids, bids, bid - offset, lots)
            for offset, lots in redraws[1][index]:
                self._redraw(book.asks, asks, ask + offset, lots)
            self._set_touch(book.bids, bids, bid, tops[0][index], renew=renew[0][index])
            self._set_touch(book.asks, asks, ask, tops[1][index], renew=renew[1][index])
            if first:
                bids, asks = book.bids, book.asks
            elif not bids and not asks:
                continue
            prev = -1 if first else book.seq_id
            book.seq_id += seq[index]
            top = (bid, book.bids[bid], ask, book.asks[ask])
            yield BookEvent(time_ms, book.seq_id, prev, bids, asks, top)

    def _level_lots(self, count: int) -> list[int]:
        facts = self._book.facts
        draw = np.exp(_LEVEL_SIGMA * self._rng.standard_normal(count))
        return _whole(draw * facts.lots_worth(_LEVEL_QUOTE), facts.lots_worth(_LEVEL_CAP_QUOTE))

    def _touch_lots(self, step: NDArray[np.int64], tilt: float) -> list[int]:
        """Return sizes at the best price, larger on the side the price leaves."""
        facts = self._book.facts
        bid = self._touch.bid
        coming = np.sign(bid[np.minimum(step + _TILT_STEPS, len(bid) - 1)] - bid[step])
        draw = np.exp(_TOUCH_SIGMA * self._rng.standard_normal(len(step)) + tilt * coming)
        return _whole(draw * facts.lots_worth(_TOUCH_QUOTE), facts.lots_worth(_TOUCH_CAP_QUOTE))

    def _redraws(self, count: int) -> list[list[tuple[int, int]]]:
        """Return per event the (offset from the touch, new lots) of some levels.

        Near levels are redrawn more often than far ones; a level is left empty
        where its distance's density says so (lots 0).
        """
        size = count * _REDRAWS
        offset = np.exp(np.sqrt(self._rng.random(size)) * np.log(self._reach)).astype(np.int64)
        chance = self._rng.random(size)
        density = np.select(
            [offset <= self._book.facts.bps(bps) for bps, _ in _DENSITIES],
            [share for _, share in _DENSITIES],
        )
        lots = np.where(chance < density, np.array(self._level_lots(size)), 0)
        pairs = list(zip(offset.tolist(), lots.tolist(), strict=True))
        return [pairs[start : start + _REDRAWS] for start in range(0, size, _REDRAWS)]

    def _open(self, bid: int, ask: int) -> None:
        """Fill an empty book; a carried one only moves."""
        self._started = True
        book = self._book
        if book.bids:
            return
        book.bid, book.ask = bid, ask
        book.bid_edge, book.ask_edge = bid, ask
        near = book.facts.bps(_DENSITIES[1][0])
        for tick in self._gaps(ask, ask + near, self._near):
            book.asks[tick] = next(self._lots)
        for tick in self._gaps(-bid, -bid + near, self._near):
            book.bids[-tick] = next(self._lots)
        book.ask_edge, book.bid_edge = ask + near, bid - near

    @staticmethod
    def _gaps(start: int, stop: int, gaps: Iterator[int]) -> Iterator[int]:
        """Yield ticks after `start` and before `stop`."""
        tick = start + next(gaps)
        while tick < stop:
            yield tick
            tick += next(gaps)

    def _move(self, bid: int, ask: int, bids: Levels, asks: Levels) -> None:
        """Bring the touch to (bid, ask): drop what it passes, fill what it leaves."""
        book = self._book
        for tick in range(book.ask, ask):
            if book.asks.pop(tick, 0):
                asks[tick] = 0
        for tick in range(bid + 1, book.bid + 1):
            if book.bids.pop(tick, 0):
                bids[tick] = 0
        for tick in self._gaps(book.bid, bid, self._near):
            book.bids[tick] = bids[tick] = next(self._lots)
        for tick in self._gaps(ask, book.ask, self._near):
            book.asks[tick] = asks[tick] = next(self._lots)
        # what was the touch shrinks to an ordinary level
        if bid > book.bid:
            self._redraw(book.bids, bids, book.bid, next(self._lots))
        if ask < book.ask:
            self._redraw(book.asks, asks, book.ask, next(self._lots))
        book.bid, book.ask = bid, ask
        self._keep_ask_reach(ask, asks)
        self._keep_bid_reach(bid, bids)

    def _keep_ask_reach(self, ask: int, asks: Levels) -> None:
        """Let the asks reach beyond 100 bps, and not much farther."""
        book = self._book
        if book.ask_edge < ask + self._reach:
            for tick in self._gaps(book.ask_edge, ask + self._reach + self._slack, self._far):
                book.asks[tick] = asks[tick] = next(self._lots)
                book.ask_edge = tick
        elif book.ask_edge > ask + self._reach + 3 * self._slack:
            self._trim(book.asks, asks, ask + self._reach + self._slack, book.ask_edge)
            book.ask_edge = ask + self._reach + self._slack

    def _keep_bid_reach(self, bid: int, bids: Levels) -> None:
        """Let the bids reach beyond 100 bps, and not much farther."""
        book = self._book
        if book.bid_edge > bid - self._reach:
            for tick in self._gaps(-book.bid_edge, -bid + self._reach + self._slack, self._far):
                book.bids[-tick] = bids[-tick] = next(self._lots)
                book.bid_edge = -tick
        elif book.bid_edge < bid - self._reach - 3 * self._slack:
            self._trim(book.bids, bids, book.bid_edge, bid - self._reach - self._slack)
            book.bid_edge = bid - self._reach - self._slack

    @staticmethod
    def _trim(levels: Levels, changes: Levels, low: int, high: int) -> None:
        for tick in range(low, high + 1):
            if levels.pop(tick, 0):
                changes[tick] = 0

    def _redraw(self, levels: Levels, changes: Levels, tick: int, lots: int) -> None:
        # a level touched twice in one event could end as the deletion of a level
        # no reader has ever seen
        if tick in changes or tick in self._book.walls or levels.get(tick, 0) == lots:
            return
        changes[tick] = lots
        if lots:
            levels[tick] = lots
        else:
            del levels[tick]

    def _set_touch(
        self, levels: Levels, changes: Levels, tick: int, lots: int, *, renew: bool
    ) -> None:
        if tick in levels and (not renew or tick in self._book.walls or levels[tick] == lots):
            return
        levels[tick] = changes[tick] = lots

    def _walls(self, time_ms: int, bids: Levels, asks: Levels) -> None:
        """Put the walls that are due and pull those whose time is over."""
        book = self._book
        while self._due and self._due[0].birth_ms <= time_ms:
            wall = self._due.pop(0)
            low, extra = _WALL_QUOTE[wall.event.name]
            lots = book.facts.lots_worth(low + extra * wall.event.strength)
            life = WallLife(wall, lots, time_ms, self._median_units())
            self.lives.append(life)
            book.walls[wall.ticks] = life
            levels, changes = (book.asks, asks) if wall.event.direction > 0 else (book.bids, bids)
            levels[wall.ticks] = changes[wall.ticks] = lots
        for tick, life in list(book.walls.items()):
            if life.wall.death_ms <= time_ms:
                is_ask = life.wall.event.direction > 0
                life.end_ms, life.share = time_ms, self._share_of(is_ask=is_ask)
                del book.walls[tick]
                levels, changes = (book.asks, asks) if is_ask else (book.bids, bids)
                if levels.pop(tick, 0):
                    changes[tick] = 0

    def _median_units(self) -> float:
        """Return the median notional of the levels of both sides within 100 bps."""
        book = self._book
        reach = book.facts.bps(_WALL_RANGE_BPS)
        near = [
            tick * lots
            for levels in (book.bids, book.asks)
            for tick, lots in levels.items()
            if book.bid - reach <= tick <= book.ask + reach
        ]
        return float(statistics.median(near))

    def _share_of(self, *, is_ask: bool) -> float:
        """Return a side's share of the notional within 25 bps of the mid."""
        book = self._book
        mid = (book.bid + book.ask) / 2
        reach = mid * _CLOSE_BPS / 10_000
        sides = [
            sum(tick * lots for tick, lots in levels.items() if abs(tick - mid) <= reach)
            for levels in (book.bids, book.asks)
        ]
        return sides[is_ask] / sum(sides)


def _whole(lots: NDArray[np.float64], cap: int) -> list[int]:
    """Return sizes as whole lots between 1 and `cap`."""
    whole: list[int] = np.clip(np.rint(lots), 1, cap).astype(np.int64).tolist()
    return whole
