"""One side of a full book as a ladder of integers, and the compiled loop that replays a feed on it.

Bids are kept under their price, asks under its negative, so that the best level of either side is
the one with the largest key. Keys stand in order in blocks of at most 32, and a directory lists
the blocks in order: a level is found a few blocks from the last one, or by a short binary search,
and room for a new one is made by moving a few dozen numbers, however deep the book is.

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

from pipeline.jit import Loops

Ints = npt.NDArray[np.int64]
Grid = npt.NDArray[np.int64]
"""An array of more than one dimension."""

UPDATE, SNAPSHOT = 0, 1
RANKS, TOP = 5, 20
NO_LEVEL = -(2**62)
"""Stands for the price of a rank that a side does not have."""

NO_KEY = 2**63 - 1
_LONGEST_HISTORY = 64
BLOCK, _REFILL, _NEAR = 32, 24, 8

_loops = Loops(globals())
compile_loops = _loops.compile


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


KEY, NODE = range(2)
_FILL, _ORDER, FIRST, _FREE = range(4)
COUNTS = 5
IN_ORDER, USED, _UNUSED, TOTAL, _LAST = range(COUNTS)
NODES, _FREE_NODES = range(2)
FIELDS = 5
START, SIZE, SEEN, _OLDER, _RANK = range(FIELDS)


@_loops.add_inlined
def _block_of(levels: Levels, key: int) -> int:
    """Where in order the block stands in which a key is or would be.

    A message's levels come in order of their prices: the block is near the last one found.
    """
    count, at = levels.counts[IN_ORDER], levels.counts[_LAST]
    at = min(at, max(count - 1, 0))
    low, high = 0, count
    for _ in range(_NEAR):
        if at + 1 < count and levels.blocks[FIRST, at + 1] <= key:
            at += 1
            low = at
        elif at > 0 and levels.blocks[FIRST, at] > key:
            high = at
            at -= 1
        else:
            levels.counts[_LAST] = at
            return int(at)
    while low < high:
        middle = (low + high) >> 1
        if levels.blocks[FIRST, middle] <= key:
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
    for i in range(BLOCK):  # a fixed number, places without a level too: vector instructions
        place += levels.grid[KEY, block, i] < key
    return place


@_loops.add_lean
def _new_block(levels: Levels, at: int) -> int:
    """An empty block at a place of the order."""
    counts, blocks = levels.counts, levels.blocks
    if counts[_UNUSED] > 0:
        counts[_UNUSED] -= 1
        block = blocks[_FREE, counts[_UNUSED]]
    else:
        block = counts[USED]
        counts[USED] += 1
    for i in range(counts[IN_ORDER], at, -1):
        blocks[_ORDER, i] = blocks[_ORDER, i - 1]
        blocks[FIRST, i] = blocks[FIRST, i - 1]
    blocks[_ORDER, at] = block
    blocks[_FILL, block] = 0
    for i in range(BLOCK):
        levels.grid[KEY, block, i] = NO_KEY
    counts[IN_ORDER] += 1
    return int(block)


@_loops.add_inlined
def _insert(levels: Levels, at: int, place: int, key: int, node: int) -> None:
    """Put a level into the block that stands at a place of the order."""
    grid, blocks = levels.grid, levels.blocks
    block = blocks[_ORDER, at]
    if blocks[_FILL, block] == BLOCK:
        right = _new_block(levels, at + 1)
        half = BLOCK // 2
        for i in range(half):
            grid[KEY, right, i] = grid[KEY, block, half + i]
            grid[NODE, right, i] = grid[NODE, block, half + i]
            grid[KEY, block, half + i] = NO_KEY
        blocks[_FILL, block] = half
        blocks[_FILL, right] = half
        blocks[FIRST, at + 1] = grid[KEY, right, 0]
        if place > half:
            at, block, place = at + 1, right, place - half
    for i in range(blocks[_FILL, block], place, -1):
        grid[KEY, block, i] = grid[KEY, block, i - 1]
        grid[NODE, block, i] = grid[NODE, block, i - 1]
    grid[KEY, block, place] = key
    grid[NODE, block, place] = node
    blocks[FIRST, at] = grid[KEY, block, 0]
    blocks[_FILL, block] += 1
    levels.counts[TOTAL] += 1


@_loops.add_inlined
def _remove(levels: Levels, at: int, place: int) -> None:
    grid, blocks, counts = levels.grid, levels.blocks, levels.counts
    block = blocks[_ORDER, at]
    for i in range(place, blocks[_FILL, block] - 1):
        grid[KEY, block, i] = grid[KEY, block, i + 1]
        grid[NODE, block, i] = grid[NODE, block, i + 1]
    blocks[_FILL, block] -= 1
    grid[KEY, block, blocks[_FILL, block]] = NO_KEY
    blocks[FIRST, at] = grid[KEY, block, 0]
    counts[TOTAL] -= 1
    if blocks[_FILL, block] == 0:
        blocks[_FREE, counts[_UNUSED]] = block
        counts[_UNUSED] += 1
        for i in range(at, counts[IN_ORDER] - 1):
            blocks[_ORDER, i] = blocks[_ORDER, i + 1]
            blocks[FIRST, i] = blocks[FIRST, i + 1]
        counts[IN_ORDER] -= 1


@_loops.add_lean
def fill_up(levels: Levels, keys: Ints, nodes: Ints) -> None:
    """Make these the levels of the side; keys ascending."""
    counts = levels.counts
    counts[:] = 0
    for low in range(0, len(keys), _REFILL):
        at = counts[IN_ORDER]
        block = _new_block(levels, at)
        high = min(low + _REFILL, len(keys))
        for i in range(low, high):
            levels.grid[KEY, block, i - low] = keys[i]
            levels.grid[NODE, block, i - low] = nodes[i]
        levels.blocks[_FILL, block] = high - low
        levels.blocks[FIRST, at] = keys[low]
    counts[TOTAL] = len(keys)


@_loops.add_lean
def flat(levels: Levels, keys: Ints, nodes: Ints) -> None:
    """All levels of the side in ascending order of their keys."""
    count = 0
    for at in range(levels.counts[IN_ORDER]):
        block = levels.blocks[_ORDER, at]
        for i in range(levels.blocks[_FILL, block]):
            keys[count] = levels.grid[KEY, block, i]
            nodes[count] = levels.grid[NODE, block, i]
            count += 1


@_loops.add_inlined
def _new_node(nodes: Nodes, start: int, size: int, seen: int, older: int) -> int:
    counts = nodes.counts
    if counts[_FREE_NODES] > 0:
        counts[_FREE_NODES] -= 1
        node = nodes.free[counts[_FREE_NODES]]
    else:
        node = counts[NODES]
        counts[NODES] += 1
    nodes.node[node, START] = start
    nodes.node[node, SIZE] = size
    nodes.node[node, SEEN] = seen
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
    if nodes.node[newest, SIZE] == size:
        return newest
    if nodes.node[newest, SIZE] > size:
        # the usual case of a size that falls: the node that is last to go stays as the new one
        while (
            nodes.node[newest, _OLDER] >= 0 and nodes.node[nodes.node[newest, _OLDER], SIZE] >= size
        ):
            older = nodes.node[newest, _OLDER]
            _free(nodes, newest)
            newest = older
        nodes.node[newest, SIZE] = size
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
        ratio = nodes.node[node, SIZE] / nodes.node[nodes.node[older, _OLDER], SIZE]
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
    if levels.counts[IN_ORDER] > 0:
        block = blocks[_ORDER, at]
        place = _place_in(levels, block, key)
        is_there = place < blocks[_FILL, block] and grid[KEY, block, place] == key
    if is_there:
        newest = grid[NODE, block, place]
        if size == 0:
            _forget(nodes, newest)
            _remove(levels, at, place)
        else:
            grid[NODE, block, place] = _note(nodes, newest, time, size, grown)
    elif size > 0:
        if levels.counts[IN_ORDER] == 0:
            _new_block(levels, 0)
        _insert(levels, at, place, key, _new_node(nodes, time, size, new, -1))


@_loops.add
def _keep_only(levels: Levels, nodes: Nodes, wanted: Ints) -> None:
    """Drop the levels whose keys are not among the wanted ones (ascending)."""
    count = levels.counts[TOTAL]
    keys, heads = np.empty(count, np.int64), np.empty(count, np.int64)
    flat(levels, keys, heads)
    kept = 0
    for i in range(count):
        at = np.searchsorted(wanted, keys[i])
        if at < len(wanted) and wanted[at] == keys[i]:
            keys[kept], heads[kept] = keys[i], heads[i]
            kept += 1
        else:
            _forget(nodes, heads[i])
    if kept < count:
        fill_up(levels, keys[:kept], heads[:kept])


@_loops.add_lean
def _best(levels: Levels, nodes: Nodes, sign: int, prices: Ints, sizes: Ints) -> None:
    """The best levels of the side, best first."""
    rank = 0
    for at in range(levels.counts[IN_ORDER] - 1, -1, -1):
        block = levels.blocks[_ORDER, at]
        for place in range(levels.blocks[_FILL, block] - 1, -1, -1):
            if rank == len(prices):
                return
            prices[rank] = sign * levels.grid[KEY, block, place]
            sizes[rank] = nodes.node[levels.grid[NODE, block, place], SIZE]
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
def replay(
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
def ages(nodes: Nodes, heads: Ints, since: Ints, seen: Ints) -> None:
    """Since when each level has held at least half its present size."""
    for i in range(len(heads)):
        node = heads[i]
        size = nodes.node[node, SIZE]
        while node >= 0 and nodes.node[node, SIZE] * 2 >= size:
            since[i], seen[i] = nodes.node[node, START], nodes.node[node, SEEN]
            node = nodes.node[node, _OLDER]


@_loops.add_lean
def chains(nodes: Nodes, heads: Ints, order: Ints, lengths: Ints) -> None:
    """Every level's nodes, newest first, one level behind the other."""
    count = 0
    for i in range(len(heads)):
        node, begun = heads[i], count
        while node >= 0:
            order[count] = node
            count += 1
            node = nodes.node[node, _OLDER]
        lengths[i] = count - begun
