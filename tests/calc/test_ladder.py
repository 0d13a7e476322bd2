"""The ladder against a dict of prices with the whole history of every size."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.calc.ladder import Ladder
from pipeline.calc.ladder_loops import NO_LEVEL, RANKS, SNAPSHOT, TOP, UPDATE, Changes, Steps

Level = tuple[int, int, int]
"""Side, price, size."""
History = list[tuple[int, int, bool]]
"""From when on which size, and whether that moment was seen."""
CELL_US = 1000
LONGEST = 64


@dataclass(frozen=True)
class Step:
    """A record: its time, its levels, and what it is."""

    time: int
    levels: list[Level]
    kind: int = UPDATE
    is_opening: bool = False
    is_event: bool = True


@dataclass
class Plain:
    """A book that forgets nothing."""

    levels: dict[tuple[int, int], History] = field(default_factory=dict)
    reach: list[int | None] = field(default_factory=lambda: [None, None])

    def apply(self, step: Step) -> None:
        """One record."""
        is_snapshot = step.kind == SNAPSHOT
        if is_snapshot:
            wanted = {(side, price) for side, price, size in step.levels if size}
            self.levels = {key: old for key, old in self.levels.items() if key in wanted}
            for side, worst in ((0, min), (1, max)):
                prices = [price for s, price in wanted if s == side]
                self.reach[side] = worst(prices) if prices else None
        for side, price, size in step.levels:
            self.set(step, side, price, size)

    def set(self, step: Step, side: int, price: int, size: int) -> None:
        """One level."""
        key, is_snapshot = (side, price), step.kind == SNAPSHOT
        if size == 0:
            if not is_snapshot:
                self.levels.pop(key, None)
            return
        if key in self.levels:
            self.levels[key].append((step.time, size, not step.is_opening))
            return
        reach = self.reach[side]
        is_beyond = reach is None or (price < reach if side == 0 else price > reach)
        seen = not step.is_opening and (is_snapshot or not is_beyond)
        self.levels[key] = [(step.time, size, seen)]

    def side(self, side: int) -> list[tuple[int, int, int, bool]]:
        """Price, size, since and seen, best first."""
        found = []
        for (own, price), history in self.levels.items():
            if own == side:
                found.append((price, history[-1][1], *self.since(history)))
        return sorted(found, reverse=side == 0)

    @staticmethod
    def since(history: History) -> tuple[int, bool]:
        """Where the run of sizes begins that are at least half the present one."""
        half, found = history[-1][1], history[-1]
        start = len(history) - 1
        while start >= 0 and history[start][1] * 2 >= half:
            found = history[start]
            start -= 1
        return found[0], found[2]

    def best(self, count: int) -> list[int]:
        """Prices and sizes of both sides."""
        found: list[int] = []
        for side in (0, 1):
            rows = [(price, size) for price, size, _, _ in self.side(side)][:count]
            rows += [(NO_LEVEL, 0)] * (count - len(rows))
            found += [price for price, _ in rows] + [size for _, size in rows]
        return found


def steps_of(steps: list[Step]) -> tuple[Steps, Changes]:
    """Columns as a replay takes them."""
    lengths = [len(step.levels) for step in steps]
    ends = np.cumsum(lengths)
    rows = [level for step in steps for level in step.levels]
    changes = Changes(*(np.array(column, np.int64) for column in zip(*rows, strict=True)))
    columns = [
        [step.time for step in steps],
        [step.kind for step in steps],
        [int(step.is_event) for step in steps],
        [int(step.is_opening) for step in steps],
        ends - lengths,
        ends,
    ]
    return Steps(*(np.array(column, np.int64) for column in columns)), changes


def play(book: Ladder, steps: list[Step]) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Replay steps."""
    tops, rows, times = book.replay(*steps_of(steps), CELL_US)
    return tops.tolist(), rows.tolist(), times.tolist()


def sides(book: Ladder) -> list[list[tuple[int, ...]]]:
    """Both sides of a ladder, row by row."""
    return [
        [tuple(int(x) for x in row) for row in zip(*book.side(which), strict=True)]
        for which in (0, 1)
    ]


def plain_sides(book: Plain) -> list[list[tuple[int, ...]]]:
    """The same of the plain book."""
    return [[(p, s, since, int(seen)) for p, s, since, seen in book.side(w)] for w in (0, 1)]


def random_steps(rng: random.Random, count: int, width: int) -> list[Step]:
    """An opening snapshot, then mostly updates, at times another snapshot."""
    found = []
    time = 0
    for number in range(count):
        time += rng.choice((0, 1, 90, 700, 2500))
        is_snapshot = number == 0 or rng.random() < 0.04
        levels: list[Level] = []
        taken: set[tuple[int, int]] = set()
        for _ in range(rng.randrange(1, width) if is_snapshot else rng.randrange(1, 12)):
            side = rng.randrange(2)
            price = 10_000 + (1 if side else -1) * rng.randrange(-3, width)
            if (side, price) not in taken:
                taken.add((side, price))
                levels.append((side, price, rng.choice((0, 1, 2, 3, 5, 8, 13, 40, 100))))
        kind = SNAPSHOT if is_snapshot else UPDATE
        found.append(Step(time, levels, kind, number == 0, rng.random() < 0.9))
    return found


@pytest.mark.parametrize("width", [4, 40, 900])
@pytest.mark.parametrize("seed", range(6))
def test_random_books(seed: int, width: int) -> None:
    """Levels, ages, reach, best levels and cells, whatever the calls are cut into.

    Blocks split and empty; between calls the book goes through text, or is copied.
    """
    rng = random.Random(seed * 1000 + width)
    steps = random_steps(rng, 300, width)
    plain, book = Plain(), Ladder()
    tops: list[list[int]] = []
    cells: list[list[int]] = []
    times: list[int] = []
    wanted_tops, ends = [], {}
    at = 0
    while at < len(steps):
        piece = steps[at : at + rng.choice((1, 2, 7, 60))]
        at += len(piece)
        new = play(book, piece)
        tops += new[0]
        cells += new[1]
        times += new[2]
        for step in piece:
            plain.apply(step)
            if step.is_event:
                wanted_tops.append(plain.best(RANKS))
                ends[step.time // CELL_US] = (step.time, plain.best(TOP))
        assert sides(book) == plain_sides(plain)
        assert [book.worst(0), book.worst(1)] == plain.reach
        kind = rng.random()
        if kind < 0.3:
            again = Ladder.from_text(book.to_text())
            assert again.to_text() == book.to_text()
            book = again
        elif kind < 0.5:
            old, text = book, book.to_text()
            book = book.copy()
            play(book, [Step(steps[at - 1].time, [(0, 1, 5)], is_event=False)])
            assert old.to_text() == text, "a copy is a book of its own"
            book = old
    assert tops == wanted_tops
    assert times == [time for time, _ in ends.values()][: len(times)]
    assert cells == [rows for _, rows in ends.values()][: len(cells)]
    assert len(times) == len(ends) - 1, "the last cell waits"
    assert book.pending.tolist() == [list(ends.values())[-1][0], *list(ends.values())[-1][1]]


def test_a_level_is_as_old_as_half_its_size() -> None:
    """By hand: grown, halved, more than halved, gone, back."""
    book = Ladder()
    levels = [(0, 100, 10), (1, 101, 10)]
    play(book, [Step(0, levels, SNAPSHOT, is_opening=True)])
    history = [(1, 12), (2, 30), (3, 16), (4, 15), (5, 7), (6, 14), (7, 15)]
    wanted = {1: 0, 2: 2, 3: 0, 4: 0, 5: 0, 6: 0, 7: 6}
    for time, size in history:
        play(book, [Step(time, [(0, 100, size)])])
        assert int(book.side(0).since[0]) == wanted[time], time
    assert book.side(0).seen.tolist() == [1]
    play(book, [Step(8, [(0, 100, 0)]), Step(9, [(0, 100, 3)]), Step(10, [(0, 99, 3)])])
    assert sides(book)[0] == [(100, 3, 9, 1), (99, 3, 10, 0)], "99 lies beyond the snapshot"


@pytest.mark.parametrize("seed", range(8))
def test_long_histories_are_thinned_alike_however_often_they_are_kept(seed: int) -> None:
    """Sizes that rise more than 64 times, fall part of the way and rise again."""
    rng = random.Random(seed)
    whole, kept = Ladder(), Ladder()
    size = 1
    for time in range(1, 401):
        size = size + rng.randrange(1, 9) if rng.random() < 0.93 else max(1, size * 2 // 3)
        step = [Step(time, [(0, 100, size)])]
        play(whole, step)
        play(kept, step)
        if rng.random() < 0.3:
            kept = Ladder.from_text(kept.to_text())
        assert kept.to_text() == whole.to_text(), time
        assert len(whole.to_text()) < 4000, "a history has an end"


def test_a_thinned_history_is_off_by_a_little_only() -> None:
    """A thousand rises: the age is that of a size near half the present one."""
    book, plain = Ladder(), Plain()
    for time in range(1, 1001):
        step = Step(time, [(0, 100, 1000 + time * 7)])
        play(book, [step])
        plain.apply(step)
    found, exact = int(book.side(0).since[0]), plain.side(0)[0][2]
    assert abs((1000 + found * 7) / (1000 + exact * 7) - 1) < 0.1


BLOCK = 32
"""As many levels as a block holds."""


def blocks(book: Ladder) -> list[list[int]]:
    """The keys of the bids, block by block."""
    levels = book._halves[0].levels
    keys, (fill, order, *_) = levels.grid[0], levels.blocks
    there = order[: levels.counts[0]].tolist()
    return [keys[block, : fill[block]].tolist() for block in there]


def one_more_each(rng: random.Random, book: Ladder) -> list[Level]:
    """A new price for every block that is not full, or for all if all are."""
    found = blocks(book)
    chosen = [keys for keys in found if len(keys) < BLOCK] or found
    return [(0, rng.choice(keys[:-1]) + rng.randrange(1, 2**20), 1) for keys in chosen]


def test_there_is_room_when_every_block_splits_at_once() -> None:
    """Again and again all blocks are filled to the brim, then each is given one more."""
    rng, book = random.Random(1), Ladder()
    keys = [price << 30 for price in range(1, 12_001)]
    play(book, [Step(0, [(0, price, 1) for price in keys], SNAPSHOT)])
    for _ in range(2):
        while min(map(len, blocks(book))) < BLOCK:
            play(book, [Step(1, one_more_each(rng, book))])
        play(book, [Step(2, one_more_each(rng, book))])
        levels = book._halves[0].levels
        used, room = int(levels.counts[1]), levels.blocks.shape[1]
        assert used <= room, f"{used} blocks, room for {room}"
    assert len(blocks(book)) > 1000


def test_rescaling_multiplies_everything() -> None:
    """Prices, sizes, reach, the waiting row; missing levels stay missing."""
    book = Ladder()
    levels = [(0, 100, 10), (0, 99, 4), (1, 101, 7)]
    play(book, [Step(5, levels, SNAPSHOT)])
    book.rescale(10, 100)
    assert sides(book) == [[(1000, 1000, 5, 1), (990, 400, 5, 1)], [(1010, 700, 5, 1)]]
    assert (book.worst(0), book.worst(1)) == (990, 1010)
    bid, bid_size, ask, ask_size = book.pending[1:].reshape(4, TOP).tolist()
    assert bid == [1000, 990, *[NO_LEVEL] * 18]
    assert bid_size == [1000, 400, *[0] * 18]
    assert ask == [1010, *[NO_LEVEL] * 19]
    assert ask_size == [700, *[0] * 19]
    play(book, [Step(6, [(0, 1000, 0)])])
    assert sides(book)[0] == [(990, 400, 5, 1)]


def test_clear_loses_the_book_but_not_the_waiting_row() -> None:
    """A gap: what the cell held before stands; reach and levels are gone."""
    book = Ladder()
    play(book, [Step(5, [(0, 100, 10), (1, 101, 7)], SNAPSHOT)])
    waiting = book.pending.tolist()
    book.clear()
    assert sides(book) == [[], []]
    assert (book.worst(0), book.worst(1)) == (None, None)
    assert book.pending.tolist() == waiting
    play(book, [Step(6, [(0, 7, 1)], is_event=False)])
    assert sides(book)[0] == [(7, 1, 6, 0)]
    assert Ladder.from_text(Ladder().to_text()).to_text() == Ladder().to_text()
