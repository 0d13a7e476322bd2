"""A full book as two ladders of integers, and the compiled loop that replays a feed onto it.

Bids are kept under their price, asks under its negative, so that the best level of either side is
the one with the largest key. Keys stand in order in blocks of at most 64, and a directory lists
the blocks in order: a level is found by two short binary searches, and room for a new one is made
by moving a few dozen numbers, however deep the book is.

Each level has the history of its size as far as it can still matter: a chain of nodes, newest
first, whose sizes fall towards the past. A node says since when the size has not been below its
own; so the time since when a level has held half its present size is the start of the last node
that is not below that half (a monotone stack of suffix minima). The newest node's size is the
level's present size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.calc.shuffled import shuffle, unshuffle
from pipeline.jit import Loops

Ints = npt.NDArray[np.int64]
Grid = npt.NDArray[np.int64]

UPDATE, SNAPSHOT = 0, 1
RANKS, TOP = 5, 20
NO_LEVEL = -(2**62)
"""Stands for the price of a rank that a side does not have."""

_LONGEST_HISTORY = 64
_BLOCK, _REFILL = 64, 48
_SPARE = 64

_loops = Loops(globals())


class Levels(NamedTuple):
    """One side: levels in blocks.

    Attributes:
        key, node: by block and place, price keys ascending and newest nodes.
        fill: levels in each block.
        order: the blocks in ascending order of their keys.
        free: blocks to be used again.
        counts: [blocks in `order`, blocks ever used, blocks in `free`, levels].
    """

    key: Grid
    node: Grid
    fill: Ints
    order: Ints
    free: Ints
    counts: Ints


class Nodes(NamedTuple):
    """The histories of all levels: nodes chained from newer to `older` ones (-1: the last).

    `seen` tells whether the node's start was seen to happen, `rank` counts nodes from the oldest.
    `free` lists nodes to be used again;
    `counts` are [nodes ever used, nodes in `free`].
    """

    start: Ints
    size: Ints
    seen: Ints
    older: Ints
    rank: Ints
    free: Ints
    counts: Ints


class Steps(NamedTuple):
    """What is to be applied, in order.

    Attributes:
        time: event time, microseconds.
        kind: `UPDATE` or `SNAPSHOT`.
        is_event: whether the step ends an event; several steps may make one.
        is_opening: whether levels it brings were there before anyone looked.
        low, high: which levels it brings.
    """

    time: Ints
    kind: Ints
    is_event: Ints
    is_opening: Ints
    low: Ints
    high: Ints


class Changes(NamedTuple):
    """Levels that feed records bring: side 0 bid, 1 ask; price, new size (0: gone)."""

    side: Ints
    price: Ints
    size: Ints


_IN_ORDER, _USED, _FREE, _TOTAL = range(4)
_NODES, _FREE_NODES = range(2)


@_loops.add_lean
def _block_of(levels: Levels, key: int) -> int:
    """Where in `order` the block stands in which a key is or would be."""
    low, high = 0, levels.counts[_IN_ORDER]
    while low < high:
        middle = (low + high) >> 1
        if levels.key[levels.order[middle], 0] <= key:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0)


@_loops.add_lean
def _place_in(levels: Levels, block: int, key: int) -> int:
    """Where in a block a key stands, or would stand."""
    low, high = 0, levels.fill[block]
    while low < high:
        middle = (low + high) >> 1
        if levels.key[block, middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@_loops.add_lean
def _new_block(levels: Levels, at: int) -> int:
    """An empty block at a place of `order`."""
    counts = levels.counts
    if counts[_FREE] > 0:
        counts[_FREE] -= 1
        block = levels.free[counts[_FREE]]
    else:
        block = counts[_USED]
        counts[_USED] += 1
    for i in range(counts[_IN_ORDER], at, -1):
        levels.order[i] = levels.order[i - 1]
    levels.order[at] = block
    levels.fill[block] = 0
    counts[_IN_ORDER] += 1
    return int(block)


@_loops.add_lean
def _insert(levels: Levels, at: int, place: int, key: int, node: int) -> None:
    """Put a level into the block that stands at a place of `order`."""
    block = levels.order[at]
    if levels.fill[block] == _BLOCK:
        right = _new_block(levels, at + 1)
        half = _BLOCK // 2
        for i in range(half):
            levels.key[right, i] = levels.key[block, half + i]
            levels.node[right, i] = levels.node[block, half + i]
        levels.fill[block] = half
        levels.fill[right] = half
        if place > half:
            block, place = right, place - half
    for i in range(levels.fill[block], place, -1):
        levels.key[block, i] = levels.key[block, i - 1]
        levels.node[block, i] = levels.node[block, i - 1]
    levels.key[block, place] = key
    levels.node[block, place] = node
    levels.fill[block] += 1
    levels.counts[_TOTAL] += 1


@_loops.add_lean
def _remove(levels: Levels, at: int, place: int) -> None:
    block, counts = levels.order[at], levels.counts
    for i in range(place, levels.fill[block] - 1):
        levels.key[block, i] = levels.key[block, i + 1]
        levels.node[block, i] = levels.node[block, i + 1]
    levels.fill[block] -= 1
    counts[_TOTAL] -= 1
    if levels.fill[block] == 0:
        levels.free[counts[_FREE]] = block
        counts[_FREE] += 1
        for i in range(at, counts[_IN_ORDER] - 1):
            levels.order[i] = levels.order[i + 1]
        counts[_IN_ORDER] -= 1


@_loops.add_lean
def _fill_up(levels: Levels, keys: Ints, nodes: Ints) -> None:
    """Make these the levels of a side; keys ascending."""
    counts = levels.counts
    counts[:] = 0
    for low in range(0, len(keys), _REFILL):
        block = _new_block(levels, counts[_IN_ORDER])
        high = min(low + _REFILL, len(keys))
        for i in range(low, high):
            levels.key[block, i - low] = keys[i]
            levels.node[block, i - low] = nodes[i]
        levels.fill[block] = high - low
    counts[_TOTAL] = len(keys)


@_loops.add_lean
def _flat(levels: Levels, keys: Ints, nodes: Ints) -> None:
    """All levels of a side in ascending order of their keys."""
    count = 0
    for at in range(levels.counts[_IN_ORDER]):
        block = levels.order[at]
        for i in range(levels.fill[block]):
            keys[count] = levels.key[block, i]
            nodes[count] = levels.node[block, i]
            count += 1


@_loops.add_lean
def _new_node(nodes: Nodes, start: int, size: int, seen: int, older: int) -> int:
    counts = nodes.counts
    if counts[_FREE_NODES] > 0:
        counts[_FREE_NODES] -= 1
        node = nodes.free[counts[_FREE_NODES]]
    else:
        node = counts[_NODES]
        counts[_NODES] += 1
    nodes.start[node] = start
    nodes.size[node] = size
    nodes.seen[node] = seen
    nodes.older[node] = older
    nodes.rank[node] = nodes.rank[older] + 1 if older >= 0 else 1
    return int(node)


@_loops.add_lean
def _free(nodes: Nodes, node: int) -> None:
    nodes.free[nodes.counts[_FREE_NODES]] = node
    nodes.counts[_FREE_NODES] += 1


@_loops.add_lean
def _note(nodes: Nodes, newest: int, time: int, size: int, seen: int) -> int:
    """Add a level's new size to its history; returns the newest node."""
    if nodes.size[newest] == size:
        return newest
    if nodes.size[newest] > size:
        # the usual case of a size that falls: the node that is last to go stays as the new one
        while nodes.older[newest] >= 0 and nodes.size[nodes.older[newest]] >= size:
            older = nodes.older[newest]
            _free(nodes, newest)
            newest = older
        nodes.size[newest] = size
        return newest
    newest = _new_node(nodes, time, size, seen, newest)
    if nodes.rank[newest] > _LONGEST_HISTORY:
        _thin(nodes, newest)
    return newest


@_loops.add_lean
def _thin(nodes: Nodes, newest: int) -> None:
    """Let go of the node whose neighbours then differ least; the oldest and newest stay."""
    node, best, least = newest, newest, np.inf
    while nodes.older[nodes.older[node]] >= 0:
        older = nodes.older[node]
        ratio = nodes.size[node] / nodes.size[nodes.older[older]]
        if ratio < least:
            best, least = node, ratio
        node = older
    gone = nodes.older[best]
    node = newest
    while node != gone:
        nodes.rank[node] -= 1
        node = nodes.older[node]
    nodes.older[best] = nodes.older[gone]
    _free(nodes, gone)


@_loops.add_lean
def _forget(nodes: Nodes, node: int) -> None:
    while node >= 0:
        older = nodes.older[node]
        _free(nodes, node)
        node = older


@_loops.add_lean
def _set(
    levels: Levels, nodes: Nodes, key: int, size: int, time: int, grown: int, new: int
) -> None:
    """Give a level a new size; `grown` and `new` say what is seen: its growth, its appearance."""
    at = _block_of(levels, key)
    is_there, place = False, 0
    if levels.counts[_IN_ORDER] > 0:
        block = levels.order[at]
        place = _place_in(levels, block, key)
        is_there = place < levels.fill[block] and levels.key[block, place] == key
    if is_there:
        if size == 0:
            _forget(nodes, levels.node[block, place])
            _remove(levels, at, place)
        else:
            levels.node[block, place] = _note(nodes, levels.node[block, place], time, size, grown)
    elif size > 0:
        if levels.counts[_IN_ORDER] == 0:
            _new_block(levels, 0)
        _insert(levels, at, place, key, _new_node(nodes, time, size, new, -1))


@_loops.add
def _keep_only(levels: Levels, nodes: Nodes, wanted: Ints) -> None:
    """Drop the levels whose keys are not among the wanted ones (ascending)."""
    count = levels.counts[_TOTAL]
    keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
    _flat(levels, keys, heads)
    kept = 0
    for i in range(count):
        at = np.searchsorted(wanted, keys[i])
        if at < len(wanted) and wanted[at] == keys[i]:
            keys[kept], heads[kept] = keys[i], heads[i]
            kept += 1
        else:
            _forget(nodes, heads[i])
    if kept < count:
        _fill_up(levels, keys[:kept], heads[:kept])


@_loops.add_lean
def _best(levels: Levels, nodes: Nodes, sign: int, prices: Ints, sizes: Ints) -> None:
    """The best levels of a side, best first."""
    rank = 0
    for at in range(levels.counts[_IN_ORDER] - 1, -1, -1):
        block = levels.order[at]
        for place in range(levels.fill[block] - 1, -1, -1):
            if rank == len(prices):
                return
            prices[rank] = sign * levels.key[block, place]
            sizes[rank] = nodes.size[levels.node[block, place]]
            rank += 1
    for i in range(rank, len(prices)):
        prices[i] = NO_LEVEL
        sizes[i] = 0


@_loops.add
def _wanted(changes: Changes, low: int, high: int, side: int) -> Ints:
    """The keys of a side that a snapshot holds, ascending."""
    sign = 1 if side == 0 else -1
    keys = np.empty(high - low, np.int64)
    count = 0
    for i in range(low, high):
        if changes.side[i] == side and changes.size[i] > 0:
            keys[count] = sign * changes.price[i]
            count += 1
    return np.sort(keys[:count])


@_loops.add
def _cut_back(
    bids: Levels, asks: Levels, nodes: Nodes, reach: Ints, low: int, high: int, changes: Changes
) -> None:
    """Drop what a snapshot does not hold, and note how far it reaches."""
    for side in range(2):
        keys = _wanted(changes, low, high, side)
        reach[side] = keys[0] if len(keys) else NO_LEVEL
        _keep_only(bids if side == 0 else asks, nodes, keys)


@_loops.add_lean
def _change(
    bids: Levels, asks: Levels, nodes: Nodes, reach: Ints, steps: Steps, step: int, changes: Changes
) -> None:
    """Set the levels that one step brings."""
    time = steps.time[step]
    is_snapshot = steps.kind[step] == SNAPSHOT
    grown = 0 if steps.is_opening[step] else 1
    for i in range(steps.low[step], steps.high[step]):
        side, size = changes.side[i], changes.size[i]
        if is_snapshot and size == 0:
            continue
        key = changes.price[i] if side == 0 else -changes.price[i]
        is_beyond = not is_snapshot and (reach[side] == NO_LEVEL or key < reach[side])
        new = 0 if is_beyond else grown
        if side == 0:
            _set(bids, nodes, key, size, time, grown, new)
        else:
            _set(asks, nodes, key, size, time, grown, new)


@_loops.add
def _replay(
    bids: Levels,
    asks: Levels,
    nodes: Nodes,
    reach: Ints,
    steps: Steps,
    changes: Changes,
    cell_us: int,
    pending: Ints,
    tops: Ints,
    rows: Ints,
    row_times: Ints,
) -> int:
    """Apply steps to the book; returns how many rows of `rows` were filled.

    Args:
        bids: changed in place, as are `asks`, `nodes`, `reach` and `pending`.
        asks: the other side.
        nodes: histories of both sides.
        reach: keys of the worst bid and ask of the last snapshot (`NO_LEVEL`: there was none).
        steps: what to apply, in order.
        changes: the levels they bring.
        cell_us: length of a cell of `rows`; 0: every event is one.
        pending: the best levels after the last event, [its time, then 4 x TOP numbers], time -1
            for none; it becomes a row once an event of another cell follows.
        tops: out, the best `RANKS` levels after each event: bid prices, bid sizes, ask prices,
            ask sizes.
        rows: out, the book at the end of each cell, 4 x TOP numbers.
        row_times: out, the times of `rows`.
    """
    events, filled = 0, 0
    top = pending[1:]
    for step in range(len(steps.time)):
        time = steps.time[step]
        if steps.kind[step] == SNAPSHOT:
            _cut_back(bids, asks, nodes, reach, steps.low[step], steps.high[step], changes)
        _change(bids, asks, nodes, reach, steps, step, changes)
        if not steps.is_event[step]:
            continue
        if pending[0] >= 0 and (cell_us == 0 or pending[0] // cell_us != time // cell_us):
            row_times[filled] = pending[0]
            rows[filled] = top
            filled += 1
        pending[0] = time
        _best(bids, nodes, 1, top[:TOP], top[TOP : 2 * TOP])
        _best(asks, nodes, -1, top[2 * TOP : 3 * TOP], top[3 * TOP :])
        for block in range(4):
            for rank in range(RANKS):
                tops[events, block * RANKS + rank] = top[block * TOP + rank]
        events += 1
    return filled


@_loops.add
def _ages(nodes: Nodes, heads: Ints, since: Ints, seen: Ints) -> None:
    """Since when each level has held at least half its present size."""
    for i in range(len(heads)):
        node = heads[i]
        size = nodes.size[node]
        while node >= 0 and nodes.size[node] * 2 >= size:
            since[i], seen[i] = nodes.start[node], nodes.seen[node]
            node = nodes.older[node]


class Side(NamedTuple):
    """One side of a book, best first: prices, sizes, since when each held half its size, seen."""

    price: Ints
    size: Ints
    since: Ints
    seen: Ints


def _no_levels(blocks: int = 0) -> Levels:
    grids = [np.zeros((blocks, _BLOCK), np.int64) for _ in range(2)]
    columns = [np.zeros(blocks, np.int64) for _ in range(3)]
    return Levels._make([*grids, *columns, np.zeros(4, np.int64)])


def _no_nodes(count: int = 0) -> Nodes:
    return Nodes._make([*(np.zeros(count, np.int64) for _ in range(6)), np.zeros(2, np.int64)])


class Ladder:
    """A book that feed records are applied to. Prices and sizes are integers of one scale each.

    Attributes:
        pending: the book after the last event, as it may become a row: [time, bid prices, bid
            sizes, ask prices, ask sizes], `TOP` each; time -1: nothing waits.
    """

    def __init__(self) -> None:
        self.pending = np.full(1 + 4 * TOP, -1, np.int64)
        self._reach = np.full(2, NO_LEVEL, np.int64)
        self._bids, self._asks, self._nodes = _no_levels(), _no_levels(), _no_nodes()

    def copy(self) -> Ladder:
        """A book of its own with the same content."""
        other = Ladder()
        other.pending, other._reach = self.pending.copy(), self._reach.copy()
        other._bids = Levels(*(column.copy() for column in self._bids))
        other._asks = Levels(*(column.copy() for column in self._asks))
        other._nodes = Nodes(*(column.copy() for column in self._nodes))
        return other

    def clear(self) -> None:
        """Lose the book; what waits to become a row stays."""
        self._reach[:] = NO_LEVEL
        for counts in (self._bids.counts, self._asks.counts, self._nodes.counts):
            counts[:] = 0

    def rescale(self, price_factor: int, size_factor: int) -> None:
        """Multiply all prices and sizes."""
        for levels in (self._bids, self._asks):
            levels.key[:] *= price_factor
        self._nodes.size[:] *= size_factor
        self._reach[self._reach != NO_LEVEL] *= price_factor
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
        _loops.compile()
        self._make_room(int((steps.high - steps.low).sum()))
        events = int(steps.is_event.sum())
        tops = np.empty((events, 4 * RANKS), np.int64)
        rows, times = np.empty((events, 4 * TOP), np.int64), np.empty(events, np.int64)
        filled = _replay(
            self._bids,
            self._asks,
            self._nodes,
            self._reach,
            steps,
            changes,
            cell_us,
            self.pending,
            tops,
            rows,
            times,
        )
        return tops, rows[:filled], times[:filled]

    def side(self, which: int) -> Side:
        """All levels of the bids (0) or asks (1)."""
        keys, heads = self._flat(which)
        since, seen = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        _ages(self._nodes, heads, since, seen)
        sign = 1 if which == 0 else -1
        return Side(sign * keys, self._nodes.size[heads], since, seen)

    def worst(self, which: int) -> int | None:
        """The worst price of the last snapshot on a side."""
        key = int(self._reach[which])
        return None if key == NO_LEVEL else (key if which == 0 else -key)

    def to_text(self) -> str:
        """All of it as a text for the state."""
        found = [self.pending, self._reach]
        for which in range(2):
            keys, heads = self._flat(which)
            chains = [_chain(self._nodes, node) for node in heads.tolist()]
            order = np.array([node for chain in chains for node in chain], np.int64)
            lengths = np.array([len(chain) for chain in chains], np.int64)
            nodes = self._nodes
            found += [keys, lengths, nodes.start[order], nodes.size[order], nodes.seen[order]]
        return shuffle(found)

    @classmethod
    def from_text(cls, text: str) -> Ladder:
        """The inverse of `to_text`."""
        self = cls()
        self.pending, self._reach, *columns = unshuffle(text)
        sides, nodes, offset = [], [np.zeros((5, 0), np.int64)], 0
        for which in range(2):
            keys, lengths, start, size, seen = columns[5 * which : 5 * which + 5]
            ends = np.cumsum(lengths)
            older = np.arange(1, len(start) + 1) + offset
            older[ends - 1] = -1
            sides.append((keys[::-1], (ends - lengths + offset)[::-1]))
            rank = np.repeat(ends, lengths) - np.arange(len(start))
            nodes.append(np.stack([start, size, seen, older, rank]))
            offset += len(start)
        counts = np.array([offset, 0], np.int64)
        columns = [*np.concatenate(nodes, axis=1), np.zeros(offset, np.int64)]
        self._nodes = Nodes._make([*columns, counts])
        self._make_room(offset)
        for levels, (keys, heads) in zip((self._bids, self._asks), sides, strict=True):
            _fill_up(levels, keys, heads)
        return self

    def _flat(self, which: int) -> tuple[Ints, Ints]:
        """Keys and newest nodes of a side, best first."""
        levels = self._asks if which else self._bids
        count = int(levels.counts[_TOTAL])
        keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
        _flat(levels, keys, heads)
        return keys[::-1], heads[::-1]

    def _make_room(self, new: int) -> None:
        self._bids, self._asks = _with_blocks(self._bids, new), _with_blocks(self._asks, new)
        wanted = int(self._nodes.counts[_NODES]) + new
        if len(self._nodes.start) < wanted:
            *columns, counts = self._nodes
            grown = (_grown(column, wanted * 5 // 4 + _SPARE) for column in columns)
            self._nodes = Nodes._make([*grown, counts])


def _with_blocks(levels: Levels, new: int) -> Levels:
    """The same side with room for new levels."""
    # every block may be full and split at once; from then on it takes half a block of levels
    splits = min(new, int(levels.counts[_IN_ORDER])) + new * 2 // _BLOCK
    wanted = int(levels.counts[_USED]) + splits + 2
    if len(levels.fill) >= wanted:
        return levels
    *columns, counts = levels
    grown = (_grown(column, wanted * 5 // 4 + _SPARE) for column in columns)
    return Levels._make([*grown, counts])


def _chain(nodes: Nodes, node: int) -> list[int]:
    """A level's nodes, newest first."""
    found = []
    while node >= 0:
        found.append(node)
        node = int(nodes.older[node])
    return found


def _grown(column: Ints, wanted: int) -> Ints:
    """The same with room for more."""
    larger = np.zeros((wanted, *column.shape[1:]), np.int64)
    larger[: len(column)] = column
    return larger
