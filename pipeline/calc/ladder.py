"""A full book as two ladders of integers, and the compiled loop that replays a feed onto it.

Bids are kept under their price, asks under its negative, so that the best level of either side is
the one with the largest key. Keys stand in order in blocks of at most 32, and a directory lists
the blocks in order: a level is found by two short binary searches, and room for a new one is made
by moving a few dozen numbers, however deep the book is.

Each level has the history of its size as far as it can still matter: a chain of nodes, newest
first, whose sizes fall towards the past. A node says since when the size has not been below its
own; so the time since when a level has held half its present size is the start of the last node
that is not below that half (a monotone stack of suffix minima). The newest node's size is the
level's present size.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.calc.shuffled import shuffle, unshuffle
from pipeline.jit import Loops, at_once

Ints = npt.NDArray[np.int64]
Grid = npt.NDArray[np.int64]
"""An array of more than one dimension."""

UPDATE, SNAPSHOT = 0, 1
RANKS, TOP = 5, 20
NO_LEVEL = -(2**62)
"""Stands for the price of a rank that a side does not have."""

_NO_KEY = 2**63 - 1
_LONGEST_HISTORY = 64
_BLOCK, _REFILL, _NEAR = 32, 24, 8
_SPARE = 64
_WORTH_A_THREAD = 2000
"""Changes from which on both sides are replayed at once: some 0.1 ms of work."""

_loops = Loops(globals())


class Levels(NamedTuple):
    """A side's levels in blocks.

    Few arrays hold all of it: what a compiled loop hands on to another is handed on array by
    array, and that took longer than the work itself.

    Attributes:
        grid: [price keys ascending, newest nodes], block and place; behind the last key of a
            block stands the largest number there is.
        blocks: [how many levels a block has; the blocks in ascending order of their
            keys; the first key of each, in that order; the blocks to be used again].
        counts: [blocks in order, blocks ever used, blocks to be used again, levels, the
            place of the block last used].
    """

    grid: Grid
    blocks: Grid
    counts: Grid


class Nodes(NamedTuple):
    """The histories of a side's levels: nodes chained from newer to older ones (-1: the last).

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


@_loops.add_inlined
def _block_of(levels: Levels, key: int) -> int:
    """Where in order the block stands in which a key is or would be.

    A message's levels come in order of their prices: the block is near the last one found.
    """
    count, at = levels.counts[_IN_ORDER], levels.counts[_LAST]
    at = min(at, max(count - 1, 0))
    low, high = 0, count
    for _ in range(_NEAR):
        if at + 1 < count and levels.blocks[_FIRST, at + 1] <= key:
            at += 1
            low = at
        elif at > 0 and levels.blocks[_FIRST, at] > key:
            high = at
            at -= 1
        else:
            levels.counts[_LAST] = at
            return int(at)
    while low < high:
        middle = (low + high) >> 1
        if levels.blocks[_FIRST, middle] <= key:
            low = middle + 1
        else:
            high = middle
    at = max(low - 1, 0)
    levels.counts[_LAST] = at
    return int(at)


@_loops.add_inlined
def _place_in(levels: Levels, block: int, key: int) -> int:
    """Where in a block a key stands, or would stand."""
    place = 0
    for i in range(_BLOCK):  # a fixed number, places without a level too: vector instructions
        place += levels.grid[_KEY, block, i] < key
    return place


@_loops.add_lean
def _new_block(levels: Levels, at: int) -> int:
    """An empty block at a place of the order."""
    counts, blocks = levels.counts, levels.blocks
    if counts[_UNUSED] > 0:
        counts[_UNUSED] -= 1
        block = blocks[_FREE, counts[_UNUSED]]
    else:
        block = counts[_USED]
        counts[_USED] += 1
    for i in range(counts[_IN_ORDER], at, -1):
        blocks[_ORDER, i] = blocks[_ORDER, i - 1]
        blocks[_FIRST, i] = blocks[_FIRST, i - 1]
    blocks[_ORDER, at] = block
    blocks[_FILL, block] = 0
    for i in range(_BLOCK):
        levels.grid[_KEY, block, i] = _NO_KEY
    counts[_IN_ORDER] += 1
    return int(block)


@_loops.add_inlined
def _insert(levels: Levels, at: int, place: int, key: int, node: int) -> None:
    """Put a level into the block that stands at a place of the order."""
    grid, blocks = levels.grid, levels.blocks
    block = blocks[_ORDER, at]
    if blocks[_FILL, block] == _BLOCK:
        right = _new_block(levels, at + 1)
        half = _BLOCK // 2
        for i in range(half):
            grid[_KEY, right, i] = grid[_KEY, block, half + i]
            grid[_NODE, right, i] = grid[_NODE, block, half + i]
            grid[_KEY, block, half + i] = _NO_KEY
        blocks[_FILL, block] = half
        blocks[_FILL, right] = half
        blocks[_FIRST, at + 1] = grid[_KEY, right, 0]
        if place > half:
            at, block, place = at + 1, right, place - half
    for i in range(blocks[_FILL, block], place, -1):
        grid[_KEY, block, i] = grid[_KEY, block, i - 1]
        grid[_NODE, block, i] = grid[_NODE, block, i - 1]
    grid[_KEY, block, place] = key
    grid[_NODE, block, place] = node
    blocks[_FIRST, at] = grid[_KEY, block, 0]
    blocks[_FILL, block] += 1
    levels.counts[_TOTAL] += 1


@_loops.add_inlined
def _remove(levels: Levels, at: int, place: int) -> None:
    grid, blocks, counts = levels.grid, levels.blocks, levels.counts
    block = blocks[_ORDER, at]
    for i in range(place, blocks[_FILL, block] - 1):
        grid[_KEY, block, i] = grid[_KEY, block, i + 1]
        grid[_NODE, block, i] = grid[_NODE, block, i + 1]
    blocks[_FILL, block] -= 1
    grid[_KEY, block, blocks[_FILL, block]] = _NO_KEY
    blocks[_FIRST, at] = grid[_KEY, block, 0]
    counts[_TOTAL] -= 1
    if blocks[_FILL, block] == 0:
        blocks[_FREE, counts[_UNUSED]] = block
        counts[_UNUSED] += 1
        for i in range(at, counts[_IN_ORDER] - 1):
            blocks[_ORDER, i] = blocks[_ORDER, i + 1]
            blocks[_FIRST, i] = blocks[_FIRST, i + 1]
        counts[_IN_ORDER] -= 1


@_loops.add_lean
def _fill_up(levels: Levels, keys: Ints, nodes: Ints) -> None:
    """Make these the levels of the side; keys ascending."""
    counts = levels.counts
    counts[:] = 0
    for low in range(0, len(keys), _REFILL):
        at = counts[_IN_ORDER]
        block = _new_block(levels, at)
        high = min(low + _REFILL, len(keys))
        for i in range(low, high):
            levels.grid[_KEY, block, i - low] = keys[i]
            levels.grid[_NODE, block, i - low] = nodes[i]
        levels.blocks[_FILL, block] = high - low
        levels.blocks[_FIRST, at] = keys[low]
    counts[_TOTAL] = len(keys)


@_loops.add_lean
def _flat(levels: Levels, keys: Ints, nodes: Ints) -> None:
    """All levels of the side in ascending order of their keys."""
    count = 0
    for at in range(levels.counts[_IN_ORDER]):
        block = levels.blocks[_ORDER, at]
        for i in range(levels.blocks[_FILL, block]):
            keys[count] = levels.grid[_KEY, block, i]
            nodes[count] = levels.grid[_NODE, block, i]
            count += 1


@_loops.add_inlined
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


@_loops.add_inlined
def _free(nodes: Nodes, node: int) -> None:
    nodes.free[nodes.counts[_FREE_NODES]] = node
    nodes.counts[_FREE_NODES] += 1


@_loops.add_inlined
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


@_loops.add_inlined
def _set(
    levels: Levels, nodes: Nodes, key: int, size: int, time: int, grown: int, new: int
) -> None:
    """Give a level a new size; `grown` and `new` say what is seen: its growth, its appearance."""
    at = _block_of(levels, key)
    is_there, place = False, 0
    grid, blocks = levels.grid, levels.blocks
    if levels.counts[_IN_ORDER] > 0:
        block = blocks[_ORDER, at]
        place = _place_in(levels, block, key)
        is_there = place < blocks[_FILL, block] and grid[_KEY, block, place] == key
    if is_there:
        newest = grid[_NODE, block, place]
        if size == 0:
            _forget(nodes, newest)
            _remove(levels, at, place)
        else:
            grid[_NODE, block, place] = _note(nodes, newest, time, size, grown)
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
    """The best levels of the side, best first."""
    rank = 0
    for at in range(levels.counts[_IN_ORDER] - 1, -1, -1):
        block = levels.blocks[_ORDER, at]
        for place in range(levels.blocks[_FILL, block] - 1, -1, -1):
            if rank == len(prices):
                return
            prices[rank] = sign * levels.grid[_KEY, block, place]
            sizes[rank] = nodes.node[levels.grid[_NODE, block, place], _SIZE]
            rank += 1
    for i in range(rank, len(prices)):
        prices[i] = NO_LEVEL
        sizes[i] = 0


@_loops.add
def _cut_back(
    side: int, levels: Levels, nodes: Nodes, reach: Ints, low: int, high: int, changes: Changes
) -> None:
    """Drop what a snapshot does not hold, and note how far it reaches."""
    sign = 1 - 2 * side
    keys = np.empty(high - low, np.int64)
    count = 0
    for i in range(low, high):
        if changes.side[i] == side and changes.size[i] > 0:
            keys[count] = sign * changes.price[i]
            count += 1
    wanted = np.sort(keys[:count])
    reach[0] = wanted[0] if count else NO_LEVEL
    _keep_only(levels, nodes, wanted)


@_loops.add_lean
def _change(
    side: int, levels: Levels, nodes: Nodes, reach: Ints, steps: Steps, step: int, changes: Changes
) -> None:
    """Set the levels of the side that one step brings."""
    time, sign = steps.time[step], 1 - 2 * side
    is_snapshot = steps.kind[step] == SNAPSHOT
    grown = 0 if steps.is_opening[step] else 1
    for i in range(steps.low[step], steps.high[step]):
        size = changes.size[i]
        if changes.side[i] != side or (is_snapshot and size == 0):
            continue
        key = sign * changes.price[i]
        is_beyond = not is_snapshot and (reach[0] == NO_LEVEL or key < reach[0])
        _set(levels, nodes, key, size, time, grown, 0 if is_beyond else grown)


@_loops.add
def _replay(
    side: int,
    levels: Levels,
    nodes: Nodes,
    reach: Ints,
    steps: Steps,
    changes: Changes,
    cell_us: int,
    pending: Ints,
    tops: Grid,
    rows: Grid,
    row_times: Ints,
) -> int:
    """Apply steps to one side of the book; returns how many rows of `rows` were filled.

    The sides share nothing that is written to, so both may be replayed at once.

    Args:
        side: 0 bids, 1 asks.
        levels: changed in place, as are `nodes`, `reach` and the side's part of `pending`.
        nodes: histories of the side.
        reach: key of the worst level of the last snapshot (`NO_LEVEL`: there was none).
        steps: what to apply, in order.
        changes: the levels they bring, of both sides.
        cell_us: length of a cell of `rows`; 0: every event is one.
        pending: the best levels after the last event, [its time, then 4 x TOP numbers], time -1
            for none; it becomes a row once an event of another cell follows.
        tops: out, the best `RANKS` levels after each event: bid prices, bid sizes, ask prices,
            ask sizes.
        rows: out, the book at the end of each cell, 4 x TOP numbers.
        row_times: out, from the bids, the times of `rows`.
    """
    events, filled, waiting = 0, 0, pending[0]
    first, sign = 2 * side * TOP, 1 - 2 * side
    top = pending[1 + first : 1 + first + 2 * TOP]
    for step in range(len(steps.time)):
        time = steps.time[step]
        if steps.kind[step] == SNAPSHOT:
            _cut_back(side, levels, nodes, reach, steps.low[step], steps.high[step], changes)
        _change(side, levels, nodes, reach, steps, step, changes)
        if not steps.is_event[step]:
            continue
        if waiting >= 0 and (cell_us == 0 or waiting // cell_us != time // cell_us):
            if side == 0:
                row_times[filled] = waiting
            for i in range(2 * TOP):
                rows[filled, first + i] = top[i]
            filled += 1
        waiting = time
        _best(levels, nodes, sign, top[:TOP], top[TOP:])
        for rank in range(RANKS):
            tops[events, 2 * side * RANKS + rank] = top[rank]
            tops[events, (2 * side + 1) * RANKS + rank] = top[TOP + rank]
        events += 1
    return filled


@_loops.add_lean
def _ages(nodes: Nodes, heads: Ints, since: Ints, seen: Ints) -> None:
    """Since when each level has held at least half its present size."""
    for i in range(len(heads)):
        node = heads[i]
        size = nodes.node[node, _SIZE]
        while node >= 0 and nodes.node[node, _SIZE] * 2 >= size:
            since[i], seen[i] = nodes.node[node, _START], nodes.node[node, _SEEN]
            node = nodes.node[node, _OLDER]


@_loops.add_lean
def _chains(nodes: Nodes, heads: Ints, order: Ints, lengths: Ints) -> None:
    """Every level's nodes, newest first, one level behind the other."""
    count = 0
    for i in range(len(heads)):
        node, begun = heads[i], count
        while node >= 0:
            order[count] = node
            count += 1
            node = nodes.node[node, _OLDER]
        lengths[i] = count - begun


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
        grid, blocks = np.zeros((2, 0, _BLOCK), np.int64), np.zeros((4, 0), np.int64)
        self.levels = Levels(grid, blocks, np.zeros(_COUNTS, np.int64))
        node, free = np.zeros((0, _FIELDS), np.int64), np.zeros(0, np.int64)
        self.nodes = Nodes(node, free, np.zeros(2, np.int64))

    def copy(self) -> _Half:
        other = _Half(self.which)
        other.reach = self.reach.copy()
        (grid, blocks, counts), used = self.levels, int(self.levels.counts[_USED])
        other.levels = Levels(_used(grid, used, 1), _used(blocks, used, 1), counts.copy())
        (node, free, counts), used = self.nodes, int(self.nodes.counts[_NODES])
        other.nodes = Nodes(_used(node, used, 0), _used(free, used, 0), counts.copy())
        return other

    def clear(self) -> None:
        self.reach[:] = NO_LEVEL
        self.levels.counts[:] = 0
        self.nodes.counts[:] = 0

    def rescale(self, price_factor: int, size_factor: int) -> None:
        blocks, nodes = int(self.levels.counts[_USED]), int(self.nodes.counts[_NODES])
        keys = self.levels.grid[_KEY, :blocks]
        keys[keys != _NO_KEY] *= price_factor
        self.levels.blocks[_FIRST, :blocks] *= price_factor
        self.nodes.node[:nodes, _SIZE] *= size_factor
        self.reach[self.reach != NO_LEVEL] *= price_factor

    def replay(
        self, steps: Steps, changes: Changes, cell_us: int, pending: Ints, out: tuple[Any, ...]
    ) -> int:
        return _replay(
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
        count = int(self.levels.counts[_TOTAL])
        keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
        _flat(self.levels, keys, heads)
        return keys[::-1], heads[::-1]

    def columns(self) -> list[Ints]:
        """All of it but the reach: keys, nodes per level; starts, sizes, seen of the nodes."""
        keys, heads = self.flat()
        used, free = self.nodes.counts.tolist()
        order, lengths = np.empty(used - free, np.int64), np.empty(len(keys), np.int64)
        _chains(self.nodes, heads, order, lengths)
        node = self.nodes.node[order]
        return [keys, lengths, node[:, _START], node[:, _SIZE], node[:, _SEEN]]

    def take(self, keys: Ints, lengths: Ints, start: Ints, size: Ints, seen: Ints) -> None:
        """The inverse of `columns`."""
        ends = np.cumsum(lengths)
        older = np.arange(1, len(start) + 1)
        older[ends - 1] = -1
        rank = np.repeat(ends, lengths) - np.arange(len(start))
        node = np.stack([start, size, seen, older, rank], axis=1)
        counts = np.array([len(start), 0], np.int64)
        self.nodes = Nodes(node, np.zeros(len(start), np.int64), counts)
        self.make_room(len(start))
        _fill_up(self.levels, keys[::-1], (ends - lengths)[::-1])

    def make_room(self, new: int) -> None:
        """For so many changes."""
        grid, blocks, counts = self.levels
        # every block may be full and split at once; from then on it takes half a block of levels
        splits = min(new, int(counts[_IN_ORDER])) + new * 2 // _BLOCK
        wanted = int(counts[_USED]) + splits + 2
        if blocks.shape[1] < wanted:
            room = wanted * 5 // 4 + _SPARE
            self.levels = Levels(_grown(grid, room, axis=1), _grown(blocks, room, axis=1), counts)
        node, free, own = self.nodes
        wanted = int(own[_NODES]) + new
        if len(node) < wanted:
            room = wanted * 5 // 4 + _SPARE
            self.nodes = Nodes(_grown(node, room, axis=0), _grown(free, room, axis=0), own)


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
        _loops.compile()
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
        _ages(half.nodes, heads, since, seen)
        sign = 1 if which == 0 else -1
        return Side(sign * keys, half.nodes.node[heads, _SIZE], since, seen)

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
