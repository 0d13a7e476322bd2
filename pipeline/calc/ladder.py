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
"""An array of more than one dimension."""

UPDATE, SNAPSHOT = 0, 1
RANKS, TOP = 5, 20
NO_LEVEL = -(2**62)
"""Stands for the price of a rank that a side does not have."""

_LONGEST_HISTORY = 64
_BLOCK, _REFILL, _NEAR = 32, 24, 8
_SPARE = 64

_loops = Loops(globals())


class Levels(NamedTuple):
    """Both sides' levels in blocks.

    Few arrays hold all of it: what a compiled loop hands on to another is handed on array by
    array, and that took longer than the work itself.

    Attributes:
        grid: by side, [price keys ascending, newest nodes], block and place.
        blocks: by side and [how many levels a block has; the blocks in ascending order of their
            keys; the first key of each, in that order; the blocks to be used again].
        counts: by side, [blocks in order, blocks ever used, blocks to be used again, levels, the
            place of the block last used].
    """

    grid: Grid
    blocks: Grid
    counts: Grid


class Nodes(NamedTuple):
    """The histories of all levels: nodes chained from newer to older ones (-1: the last).

    A row of `node` is [start, size, whether its start was seen to happen, the older node, how
    many there are from the oldest on]: side by side, since a change looks at all of them.
    `free` lists nodes to be used again; `counts` are [nodes ever used, nodes in `free`].
    """

    node: Grid
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


_KEY, _NODE = range(2)
_FILL, _ORDER, _FIRST, _FREE = range(4)
_COUNTS = 5
_IN_ORDER, _USED, _UNUSED, _TOTAL, _LAST = range(_COUNTS)
_NODES, _FREE_NODES = range(2)
_FIELDS = 5
_START, _SIZE, _SEEN, _OLDER, _RANK = range(_FIELDS)


@_loops.add_lean
def _block_of(levels: Levels, side: int, key: int) -> int:
    """Where in order the block stands in which a key is or would be.

    A message's levels come in order of their prices: the block is near the last one found.
    """
    count, at = levels.counts[side, _IN_ORDER], levels.counts[side, _LAST]
    at = min(at, max(count - 1, 0))
    low, high = 0, count
    for _ in range(_NEAR):
        if at + 1 < count and levels.blocks[side, _FIRST, at + 1] <= key:
            at += 1
            low = at
        elif at > 0 and levels.blocks[side, _FIRST, at] > key:
            high = at
            at -= 1
        else:
            levels.counts[side, _LAST] = at
            return int(at)
    while low < high:
        middle = (low + high) >> 1
        if levels.blocks[side, _FIRST, middle] <= key:
            low = middle + 1
        else:
            high = middle
    at = max(low - 1, 0)
    levels.counts[side, _LAST] = at
    return int(at)


@_loops.add_lean
def _place_in(levels: Levels, side: int, block: int, key: int) -> int:
    """Where in a block a key stands, or would stand."""
    place = 0
    for i in range(levels.blocks[side, _FILL, block]):
        place += levels.grid[side, _KEY, block, i] < key
    return place


@_loops.add_lean
def _new_block(levels: Levels, side: int, at: int) -> int:
    """An empty block at a place of the order."""
    counts, blocks = levels.counts, levels.blocks
    if counts[side, _UNUSED] > 0:
        counts[side, _UNUSED] -= 1
        block = blocks[side, _FREE, counts[side, _UNUSED]]
    else:
        block = counts[side, _USED]
        counts[side, _USED] += 1
    for i in range(counts[side, _IN_ORDER], at, -1):
        blocks[side, _ORDER, i] = blocks[side, _ORDER, i - 1]
        blocks[side, _FIRST, i] = blocks[side, _FIRST, i - 1]
    blocks[side, _ORDER, at] = block
    blocks[side, _FILL, block] = 0
    counts[side, _IN_ORDER] += 1
    return int(block)


@_loops.add_lean
def _insert(levels: Levels, side: int, at: int, place: int, key: int, node: int) -> None:
    """Put a level into the block that stands at a place of the order."""
    grid, blocks = levels.grid, levels.blocks
    block = blocks[side, _ORDER, at]
    if blocks[side, _FILL, block] == _BLOCK:
        right = _new_block(levels, side, at + 1)
        half = _BLOCK // 2
        for i in range(half):
            grid[side, _KEY, right, i] = grid[side, _KEY, block, half + i]
            grid[side, _NODE, right, i] = grid[side, _NODE, block, half + i]
        blocks[side, _FILL, block] = half
        blocks[side, _FILL, right] = half
        blocks[side, _FIRST, at + 1] = grid[side, _KEY, right, 0]
        if place > half:
            at, block, place = at + 1, right, place - half
    for i in range(blocks[side, _FILL, block], place, -1):
        grid[side, _KEY, block, i] = grid[side, _KEY, block, i - 1]
        grid[side, _NODE, block, i] = grid[side, _NODE, block, i - 1]
    grid[side, _KEY, block, place] = key
    grid[side, _NODE, block, place] = node
    blocks[side, _FIRST, at] = grid[side, _KEY, block, 0]
    blocks[side, _FILL, block] += 1
    levels.counts[side, _TOTAL] += 1


@_loops.add_lean
def _remove(levels: Levels, side: int, at: int, place: int) -> None:
    grid, blocks, counts = levels.grid, levels.blocks, levels.counts
    block = blocks[side, _ORDER, at]
    for i in range(place, blocks[side, _FILL, block] - 1):
        grid[side, _KEY, block, i] = grid[side, _KEY, block, i + 1]
        grid[side, _NODE, block, i] = grid[side, _NODE, block, i + 1]
    blocks[side, _FIRST, at] = grid[side, _KEY, block, 0]
    blocks[side, _FILL, block] -= 1
    counts[side, _TOTAL] -= 1
    if blocks[side, _FILL, block] == 0:
        blocks[side, _FREE, counts[side, _UNUSED]] = block
        counts[side, _UNUSED] += 1
        for i in range(at, counts[side, _IN_ORDER] - 1):
            blocks[side, _ORDER, i] = blocks[side, _ORDER, i + 1]
            blocks[side, _FIRST, i] = blocks[side, _FIRST, i + 1]
        counts[side, _IN_ORDER] -= 1


@_loops.add_lean
def _fill_up(levels: Levels, side: int, keys: Ints, nodes: Ints) -> None:
    """Make these the levels of a side; keys ascending."""
    counts = levels.counts
    counts[side, :] = 0
    for low in range(0, len(keys), _REFILL):
        at = counts[side, _IN_ORDER]
        block = _new_block(levels, side, at)
        high = min(low + _REFILL, len(keys))
        for i in range(low, high):
            levels.grid[side, _KEY, block, i - low] = keys[i]
            levels.grid[side, _NODE, block, i - low] = nodes[i]
        levels.blocks[side, _FILL, block] = high - low
        levels.blocks[side, _FIRST, at] = keys[low]
    counts[side, _TOTAL] = len(keys)


@_loops.add_lean
def _flat(levels: Levels, side: int, keys: Ints, nodes: Ints) -> None:
    """All levels of a side in ascending order of their keys."""
    count = 0
    for at in range(levels.counts[side, _IN_ORDER]):
        block = levels.blocks[side, _ORDER, at]
        for i in range(levels.blocks[side, _FILL, block]):
            keys[count] = levels.grid[side, _KEY, block, i]
            nodes[count] = levels.grid[side, _NODE, block, i]
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
    nodes.node[node, _START] = start
    nodes.node[node, _SIZE] = size
    nodes.node[node, _SEEN] = seen
    nodes.node[node, _OLDER] = older
    nodes.node[node, _RANK] = nodes.node[older, _RANK] + 1 if older >= 0 else 1
    return int(node)


@_loops.add_lean
def _free(nodes: Nodes, node: int) -> None:
    nodes.free[nodes.counts[_FREE_NODES]] = node
    nodes.counts[_FREE_NODES] += 1


@_loops.add_lean
def _note(nodes: Nodes, newest: int, time: int, size: int, seen: int) -> int:
    """Add a level's new size to its history; returns the newest node."""
    if nodes.node[newest, _SIZE] == size:
        return newest
    if nodes.node[newest, _SIZE] > size:
        # the usual case of a size that falls: the node that is last to go stays as the new one
        while (
            nodes.node[newest, _OLDER] >= 0
            and nodes.node[nodes.node[newest, _OLDER], _SIZE] >= size
        ):
            older = nodes.node[newest, _OLDER]
            _free(nodes, newest)
            newest = older
        nodes.node[newest, _SIZE] = size
        return newest
    newest = _new_node(nodes, time, size, seen, newest)
    if nodes.node[newest, _RANK] > _LONGEST_HISTORY:
        _thin(nodes, newest)
    return newest


@_loops.add_lean
def _thin(nodes: Nodes, newest: int) -> None:
    """Let go of the node whose neighbours then differ least; the oldest and newest stay."""
    node, best, least = newest, newest, np.inf
    while nodes.node[nodes.node[node, _OLDER], _OLDER] >= 0:
        older = nodes.node[node, _OLDER]
        ratio = nodes.node[node, _SIZE] / nodes.node[nodes.node[older, _OLDER], _SIZE]
        if ratio < least:
            best, least = node, ratio
        node = older
    gone = nodes.node[best, _OLDER]
    node = newest
    while node != gone:
        nodes.node[node, _RANK] -= 1
        node = nodes.node[node, _OLDER]
    nodes.node[best, _OLDER] = nodes.node[gone, _OLDER]
    _free(nodes, gone)


@_loops.add_lean
def _forget(nodes: Nodes, node: int) -> None:
    while node >= 0:
        older = nodes.node[node, _OLDER]
        _free(nodes, node)
        node = older


@_loops.add_lean
def _set(
    levels: Levels, nodes: Nodes, side: int, key: int, size: int, time: int, grown: int, new: int
) -> None:
    """Give a level a new size; `grown` and `new` say what is seen: its growth, its appearance."""
    at = _block_of(levels, side, key)
    is_there, place = False, 0
    grid, blocks = levels.grid, levels.blocks
    if levels.counts[side, _IN_ORDER] > 0:
        block = blocks[side, _ORDER, at]
        place = _place_in(levels, side, block, key)
        is_there = place < blocks[side, _FILL, block] and grid[side, _KEY, block, place] == key
    if is_there:
        newest = grid[side, _NODE, block, place]
        if size == 0:
            _forget(nodes, newest)
            _remove(levels, side, at, place)
        else:
            grid[side, _NODE, block, place] = _note(nodes, newest, time, size, grown)
    elif size > 0:
        if levels.counts[side, _IN_ORDER] == 0:
            _new_block(levels, side, 0)
        _insert(levels, side, at, place, key, _new_node(nodes, time, size, new, -1))


@_loops.add
def _keep_only(levels: Levels, nodes: Nodes, side: int, wanted: Ints) -> None:
    """Drop the levels whose keys are not among the wanted ones (ascending)."""
    count = levels.counts[side, _TOTAL]
    keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
    _flat(levels, side, keys, heads)
    kept = 0
    for i in range(count):
        at = np.searchsorted(wanted, keys[i])
        if at < len(wanted) and wanted[at] == keys[i]:
            keys[kept], heads[kept] = keys[i], heads[i]
            kept += 1
        else:
            _forget(nodes, heads[i])
    if kept < count:
        _fill_up(levels, side, keys[:kept], heads[:kept])


@_loops.add_lean
def _best(levels: Levels, nodes: Nodes, side: int, prices: Ints, sizes: Ints) -> None:
    """The best levels of a side, best first."""
    rank, sign = 0, 1 - 2 * side
    for at in range(levels.counts[side, _IN_ORDER] - 1, -1, -1):
        block = levels.blocks[side, _ORDER, at]
        for place in range(levels.blocks[side, _FILL, block] - 1, -1, -1):
            if rank == len(prices):
                return
            prices[rank] = sign * levels.grid[side, _KEY, block, place]
            sizes[rank] = nodes.node[levels.grid[side, _NODE, block, place], _SIZE]
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
    levels: Levels, nodes: Nodes, reach: Ints, low: int, high: int, changes: Changes
) -> None:
    """Drop what a snapshot does not hold, and note how far it reaches."""
    for side in range(2):
        keys = _wanted(changes, low, high, side)
        reach[side] = keys[0] if len(keys) else NO_LEVEL
        _keep_only(levels, nodes, side, keys)


@_loops.add_lean
def _change(
    levels: Levels, nodes: Nodes, reach: Ints, steps: Steps, step: int, changes: Changes
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
        _set(levels, nodes, side, key, size, time, grown, 0 if is_beyond else grown)


@_loops.add
def _replay(
    levels: Levels,
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
        levels: changed in place, as are `nodes`, `reach` and `pending`.
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
            _cut_back(levels, nodes, reach, steps.low[step], steps.high[step], changes)
        _change(levels, nodes, reach, steps, step, changes)
        if not steps.is_event[step]:
            continue
        if pending[0] >= 0 and (cell_us == 0 or pending[0] // cell_us != time // cell_us):
            row_times[filled] = pending[0]
            rows[filled] = top
            filled += 1
        pending[0] = time
        _best(levels, nodes, 0, top[:TOP], top[TOP : 2 * TOP])
        _best(levels, nodes, 1, top[2 * TOP : 3 * TOP], top[3 * TOP :])
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
        size = nodes.node[node, _SIZE]
        while node >= 0 and nodes.node[node, _SIZE] * 2 >= size:
            since[i], seen[i] = nodes.node[node, _START], nodes.node[node, _SEEN]
            node = nodes.node[node, _OLDER]


class Side(NamedTuple):
    """One side of a book, best first: prices, sizes, since when each held half its size, seen."""

    price: Ints
    size: Ints
    since: Ints
    seen: Ints


def _no_levels() -> Levels:
    grid, blocks = np.zeros((2, 2, 0, _BLOCK), np.int64), np.zeros((2, 4, 0), np.int64)
    return Levels(grid, blocks, np.zeros((2, _COUNTS), np.int64))


def _no_nodes() -> Nodes:
    return Nodes(np.zeros((0, _FIELDS), np.int64), np.zeros(0, np.int64), np.zeros(2, np.int64))


class Ladder:
    """A book that feed records are applied to. Prices and sizes are integers of one scale each.

    Attributes:
        pending: the book after the last event, as it may become a row: [time, bid prices, bid
            sizes, ask prices, ask sizes], `TOP` each; time -1: nothing waits.
    """

    def __init__(self) -> None:
        self.pending = np.full(1 + 4 * TOP, -1, np.int64)
        self._reach = np.full(2, NO_LEVEL, np.int64)
        self._levels, self._nodes = _no_levels(), _no_nodes()

    def copy(self) -> Ladder:
        """A book of its own with the same content."""
        other = Ladder()
        other.pending, other._reach = self.pending.copy(), self._reach.copy()
        other._levels = Levels(*(column.copy() for column in self._levels))
        other._nodes = Nodes(*(column.copy() for column in self._nodes))
        return other

    def clear(self) -> None:
        """Lose the book; what waits to become a row stays."""
        self._reach[:] = NO_LEVEL
        self._levels.counts[:] = 0
        self._nodes.counts[:] = 0

    def rescale(self, price_factor: int, size_factor: int) -> None:
        """Multiply all prices and sizes."""
        self._levels.grid[:, _KEY] *= price_factor
        self._levels.blocks[:, _FIRST] *= price_factor
        self._nodes.node[:, _SIZE] *= size_factor
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
            self._levels,
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
        return Side(sign * keys, self._nodes.node[heads, _SIZE], since, seen)

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
            found += [
                keys,
                lengths,
                nodes.node[order, _START],
                nodes.node[order, _SIZE],
                nodes.node[order, _SEEN],
            ]
        return shuffle(found)

    @classmethod
    def from_text(cls, text: str) -> Ladder:
        """The inverse of `to_text`."""
        self = cls()
        self.pending, self._reach, *columns = unshuffle(text)
        sides, nodes, offset = [], [np.zeros((0, _FIELDS), np.int64)], 0
        for which in range(2):
            keys, lengths, start, size, seen = columns[5 * which : 5 * which + 5]
            ends = np.cumsum(lengths)
            older = np.arange(1, len(start) + 1) + offset
            older[ends - 1] = -1
            sides.append((keys[::-1], (ends - lengths + offset)[::-1]))
            rank = np.repeat(ends, lengths) - np.arange(len(start))
            nodes.append(np.stack([start, size, seen, older, rank], axis=1))
            offset += len(start)
        counts = np.array([offset, 0], np.int64)
        self._nodes = Nodes(np.concatenate(nodes), np.zeros(offset, np.int64), counts)
        self._make_room(offset)
        for which, (keys, heads) in enumerate(sides):
            _fill_up(self._levels, which, keys, heads)
        return self

    def _flat(self, which: int) -> tuple[Ints, Ints]:
        """Keys and newest nodes of a side, best first."""
        count = int(self._levels.counts[which, _TOTAL])
        keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
        _flat(self._levels, which, keys, heads)
        return keys[::-1], heads[::-1]

    def _make_room(self, new: int) -> None:
        counts, blocks = self._levels.counts, self._levels.blocks
        # every block may be full and split at once; from then on it takes half a block of levels
        splits = min(new, int(counts[:, _IN_ORDER].max())) + new * 2 // _BLOCK
        wanted = int(counts[:, _USED].max()) + splits + 2
        if blocks.shape[2] < wanted:
            room = wanted * 5 // 4 + _SPARE
            grid = _grown(self._levels.grid, room, axis=2)
            self._levels = Levels(grid, _grown(blocks, room, axis=2), counts)
        wanted = int(self._nodes.counts[_NODES]) + new
        if len(self._nodes.node) < wanted:
            room = wanted * 5 // 4 + _SPARE
            node, free, own = self._nodes
            self._nodes = Nodes(_grown(node, room, axis=0), _grown(free, room, axis=0), own)


def _chain(nodes: Nodes, node: int) -> list[int]:
    """A level's nodes, newest first."""
    found = []
    while node >= 0:
        found.append(node)
        node = int(nodes.node[node, _OLDER])
    return found


def _grown(column: Grid, wanted: int, *, axis: int) -> Grid:
    """The same with room for more."""
    shape = list(column.shape)
    shape[axis] = wanted
    larger = np.zeros(shape, np.int64)
    larger[tuple(slice(length) for length in column.shape)] = column
    return larger
