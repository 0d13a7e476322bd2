"""A full book, rebuilt from a feed: two ladders of integers that are replayed side by side."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from pipeline.calc import ladder_loops as loops
from pipeline.calc.ladder_loops import NO_LEVEL, RANKS, TOP, Changes, Grid, Ints, Steps
from pipeline.calc.shuffled import shuffle, unshuffle
from pipeline.jit import at_once

_SPARE = 64
_WORTH_A_THREAD = 2000
"""Changes from which on both sides are replayed at once: some 0.1 ms of work."""


class Side(NamedTuple):
    """One side of a book, best first: prices, sizes, since when each held half its size, seen."""

    price: Ints
    size: Ints
    since: Ints
    seen: Ints


class _Half:
    """One side of a ladder: what the compiled loops work on."""

    def __init__(self, which: int) -> None:
        self.which, self.reach = which, np.full(1, NO_LEVEL, np.int64)
        grid, blocks = np.zeros((2, 0, loops.BLOCK), np.int64), np.zeros((4, 0), np.int64)
        self.levels = loops.Levels(grid, blocks, np.zeros(loops.COUNTS, np.int64))
        node, free = np.zeros((0, loops.FIELDS), np.int64), np.zeros(0, np.int64)
        self.nodes = loops.Nodes(node, free, np.zeros(2, np.int64))

    def copy(self) -> _Half:
        other = _Half(self.which)
        other.reach = self.reach.copy()
        (grid, blocks, counts), used = self.levels, int(self.levels.counts[loops.USED])
        other.levels = loops.Levels(_used(grid, used, 1), _used(blocks, used, 1), counts.copy())
        (node, free, counts), used = self.nodes, int(self.nodes.counts[loops.NODES])
        other.nodes = loops.Nodes(_used(node, used, 0), _used(free, used, 0), counts.copy())
        return other

    def clear(self) -> None:
        self.reach[:] = NO_LEVEL
        self.levels.counts[:] = 0
        self.nodes.counts[:] = 0

    def rescale(self, price_factor: int, size_factor: int) -> None:
        blocks, nodes = int(self.levels.counts[loops.USED]), int(self.nodes.counts[loops.NODES])
        keys = self.levels.grid[loops.KEY, :blocks]
        keys[keys != loops.NO_KEY] *= price_factor
        self.levels.blocks[loops.FIRST, :blocks] *= price_factor
        self.nodes.node[:nodes, loops.SIZE] *= size_factor
        self.reach[self.reach != NO_LEVEL] *= price_factor

    def replay(
        self, steps: Steps, changes: Changes, cell_us: int, pending: Ints, out: tuple[Any, ...]
    ) -> int:
        return loops.replay(
            self.which,
            self.levels,
            self.nodes,
            self.reach,
            steps,
            changes,
            cell_us,
            pending,
            *out,
        )

    def flat(self) -> tuple[Ints, Ints]:
        """Keys and newest nodes, best first."""
        count = int(self.levels.counts[loops.TOTAL])
        keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
        loops.flat(self.levels, keys, heads)
        return keys[::-1], heads[::-1]

    def columns(self) -> list[Ints]:
        """All of it but the reach: keys, nodes per level; starts, sizes, seen of the nodes."""
        keys, heads = self.flat()
        used, free = self.nodes.counts.tolist()
        order, lengths = np.empty(used - free, np.int64), np.empty(len(keys), np.int64)
        loops.chains(self.nodes, heads, order, lengths)
        node = self.nodes.node[order]
        return [keys, lengths, node[:, loops.START], node[:, loops.SIZE], node[:, loops.SEEN]]

    def take(self, keys: Ints, lengths: Ints, start: Ints, size: Ints, seen: Ints) -> None:
        """The inverse of `columns`."""
        ends = np.cumsum(lengths)
        older = np.arange(1, len(start) + 1)
        older[ends - 1] = -1
        rank = np.repeat(ends, lengths) - np.arange(len(start))
        node = np.stack([start, size, seen, older, rank], axis=1)
        counts = np.array([len(start), 0], np.int64)
        self.nodes = loops.Nodes(node, np.zeros(len(start), np.int64), counts)
        self.make_room(len(start))
        loops.fill_up(self.levels, keys[::-1], (ends - lengths)[::-1])

    def make_room(self, new: int) -> None:
        """For so many changes."""
        grid, blocks, counts = self.levels
        # every block may be full and split at once; from then on it takes half a block of levels
        splits = min(new, int(counts[loops.IN_ORDER])) + new * 2 // loops.BLOCK
        wanted = int(counts[loops.USED]) + splits + 2
        if blocks.shape[1] < wanted:
            room = wanted * 5 // 4 + _SPARE
            self.levels = loops.Levels(
                _grown(grid, room, axis=1), _grown(blocks, room, axis=1), counts
            )
        node, free, own = self.nodes
        wanted = int(own[loops.NODES]) + new
        if len(node) < wanted:
            room = wanted * 5 // 4 + _SPARE
            self.nodes = loops.Nodes(_grown(node, room, axis=0), _grown(free, room, axis=0), own)


class Ladder:
    """A book that feed records are applied to. Prices and sizes are integers of one scale each.

    Attributes:
        pending: the book after the last event, as it may become a row: [time, bid prices, bid
            sizes, ask prices, ask sizes], `TOP` each; time -1: nothing waits.
    """

    def __init__(self) -> None:
        self.pending = np.full(1 + 4 * TOP, -1, np.int64)
        self._halves = _Half(0), _Half(1)

    def copy(self) -> Ladder:
        """A book of its own with the same content."""
        other = Ladder()
        other.pending = self.pending.copy()
        bids, asks = self._halves
        other._halves = bids.copy(), asks.copy()
        return other

    def clear(self) -> None:
        """Lose the book; what waits to become a row stays."""
        for half in self._halves:
            half.clear()

    def rescale(self, price_factor: int, size_factor: int) -> None:
        """Multiply all prices and sizes."""
        for half in self._halves:
            half.rescale(price_factor, size_factor)
        if self.pending[0] >= 0:
            top = self.pending[1:].reshape(4, TOP)
            for block in (0, 2):
                top[block, top[block] != NO_LEVEL] *= price_factor
            top[1::2] *= size_factor

    def replay(self, steps: Steps, changes: Changes, cell_us: int) -> tuple[Grid, Grid, Ints]:
        """Apply steps.

        Returns:
            The best `RANKS` levels after each event, of shape (events, 4 * RANKS): bid prices,
            bid sizes, ask prices, ask sizes; and the rows of finished cells, of shape
            (rows, 4 * TOP), with their times.
        """
        loops.compile_loops()
        new = int((steps.high - steps.low).sum())
        is_event = steps.is_event != 0
        events = int(np.count_nonzero(is_event))
        tops = np.empty((events, 4 * RANKS), np.int64)
        rows, times = np.empty((events, 4 * TOP), np.int64), np.empty(events, np.int64)
        work = []
        for half in self._halves:
            half.make_room(new)
            out = (tops, rows, times)
            work.append(partial(half.replay, steps, changes, cell_us, self.pending, out))
        filled = at_once(*work) if new >= _WORTH_A_THREAD else [each() for each in work]
        if events:
            self.pending[0] = steps.time[is_event][-1]
        return tops, rows[: filled[0]], times[: filled[0]]

    def side(self, which: int) -> Side:
        """All levels of the bids (0) or asks (1)."""
        half = self._halves[which]
        keys, heads = half.flat()
        since, seen = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        loops.ages(half.nodes, heads, since, seen)
        sign = 1 if which == 0 else -1
        return Side(sign * keys, half.nodes.node[heads, loops.SIZE], since, seen)

    def worst(self, which: int) -> int | None:
        """The worst price of the last snapshot on a side."""
        key = int(self._halves[which].reach[0])
        return None if key == NO_LEVEL else (key if which == 0 else -key)

    def to_text(self) -> str:
        """All of it as a text for the state."""
        bids, asks = self._halves
        reach = np.concatenate((bids.reach, asks.reach))
        return shuffle([self.pending, reach, *bids.columns(), *asks.columns()])

    @classmethod
    def from_text(cls, text: str) -> Ladder:
        """The inverse of `to_text`."""
        self = cls()
        self.pending, reach, *columns = unshuffle(text)
        for which, half in enumerate(self._halves):
            half.reach[0] = reach[which]
            keys, lengths, start, size, seen = columns[5 * which : 5 * which + 5]
            half.take(keys, lengths, start, size, seen)
        return self


def _used(column: Grid, used: int, axis: int) -> Grid:
    """A copy with the same room, of the part that is in use."""
    other = np.empty_like(column)
    own = (slice(None),) * axis + (slice(used),)
    other[own] = column[own]
    return other


def _grown(column: Grid, wanted: int, *, axis: int) -> Grid:
    """The same with room for more."""
    shape = list(column.shape)
    shape[axis] = wanted
    larger = np.empty(shape, np.int64)
    larger[tuple(slice(length) for length in column.shape)] = column
    return larger
