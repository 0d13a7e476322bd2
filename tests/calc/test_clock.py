"""The clock of a feed against a loop that looks at one record after the other."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipeline.calc.clock import UNTIMED, judge

JUMP = 300
NO_TIME = -1
Good = list[tuple[int, int]]
"""Records that count, by their place in the feed, and their times."""
Future = list[tuple[int, int]]


def plain(stamps: list[int]) -> tuple[Good, Future, list[int], int | None]:
    """The rules as they are told.

    A record more than `JUMP` past the clock waits for the next one that tells a time: it counts if
    that one is no more than `JUMP` behind it. Untimed records wait with it. Late ones take the
    clock's time.
    """
    good: Good = []
    future: Future = []
    waiting: list[int] = []
    clock: int | None = None
    queue = list(range(len(stamps)))
    while queue:
        index = queue.pop(0)
        stamp = stamps[index]
        if waiting:
            if stamp == NO_TIME:
                waiting.append(index)
                continue
            first = waiting.pop(0)
            if stamp >= stamps[first] - JUMP:
                clock = max(clock or 0, stamps[first])
                good.append((first, clock))
            else:
                future.append((first, index))
            for each in waiting:
                assert clock is not None
                good.append((each, clock))
            waiting = []
        if stamp == NO_TIME:
            good.append((index, UNTIMED if clock is None else clock))
        elif clock is not None and stamp > clock + JUMP:
            waiting = [index]
        else:
            clock = stamp if clock is None else max(clock, stamp)
            good.append((index, clock))
    return good, future, waiting, clock


def in_pieces(stamps: list[int], cuts: list[int]) -> tuple[Good, Future, list[int], int | None]:
    """The same through `judge`, the records that wait put in front of each new piece."""
    good: Good = []
    future: Future = []
    held: list[int] = []
    clock: int | None = None
    for low, high in zip([0, *cuts], [*cuts, len(stamps)], strict=True):
        places = [*held, *range(low, high)]
        judged = judge(np.array([stamps[i] for i in places], np.int64), clock, JUMP)
        for place, time in zip(judged.good.tolist(), judged.times.tolist(), strict=True):
            good.append((places[place], time))
        future += [(places[bad], places[witness]) for bad, witness in judged.future]
        held = [places[i] for i in judged.held]
        clock = judged.clock
    return good, future, held, clock


def random_stamps(rng: random.Random, count: int, untimed: float) -> list[int]:
    """A clock that runs, with late records, far jumps that last and some that do not."""
    now, found = 1000, []
    for _ in range(count):
        kind = rng.random()
        now += rng.randrange(40) if kind < 0.9 else rng.choice((JUMP, JUMP + 1, 3 * JUMP))
        stamp = now
        if rng.random() < 0.1:
            stamp = max(0, now - rng.choice((5, JUMP, JUMP + 1, 900)))
        elif rng.random() < 0.1:
            stamp = now + rng.choice((JUMP, JUMP + 1, 2 * JUMP, 9999))
        found.append(NO_TIME if rng.random() < untimed else stamp)
    return found


@pytest.mark.parametrize("untimed", [0.0, 0.2, 0.9])
@pytest.mark.parametrize("seed", range(40))
def test_any_cutting(seed: int, untimed: float) -> None:
    """Good records with their times, those of the future with their witness, those that wait."""
    rng = random.Random(f"{seed}/{untimed}")
    stamps = random_stamps(rng, rng.randrange(1, 60), untimed)
    wanted = plain(stamps)
    for cuts in ([], list(range(1, len(stamps))), *([_cut(rng, len(stamps))] * 4)):
        assert in_pieces(stamps, cuts) == wanted, (stamps, cuts)


def _cut(rng: random.Random, size: int) -> list[int]:
    return sorted(rng.randrange(size + 1) for _ in range(rng.randrange(5)))


@pytest.mark.parametrize(
    ("stamps", "good", "future", "held"),
    [
        ([], [], [], []),
        ([NO_TIME], [(0, UNTIMED)], [], []),
        ([NO_TIME, 7, NO_TIME], [(0, UNTIMED), (1, 7), (2, 7)], [], []),
        ([10, 310], [(0, 10), (1, 310)], [], []),
        ([10, 311], [(0, 10)], [], [1]),
        ([10, 311, NO_TIME], [(0, 10)], [], [1, 2]),
        ([10, 311, 11], [(0, 10), (1, 311), (2, 311)], [], []),
        ([10, 311, 10], [(0, 10), (2, 10)], [(1, 2)], []),
        ([10, 900, NO_TIME, 20], [(0, 10), (2, 10), (3, 20)], [(1, 3)], []),
        ([10, 900, NO_TIME, 901], [(0, 10), (1, 900), (2, 900), (3, 901)], [], []),
        ([10, 900, 5000], [(0, 10), (1, 900)], [], [2]),
        ([10, 5000, 900], [(0, 10)], [(1, 2)], [2]),
    ],
)
def test_by_hand(stamps: list[int], good: Good, future: Future, held: list[int]) -> None:
    """Each limit on both of its sides."""
    found = in_pieces(stamps, [])
    assert found[:3] == (good, future, held)


def test_an_end_decides_about_what_waits() -> None:
    """A time that comes behind the records moves the clock, and shows what another record would."""
    stamps = np.array([100, 900])
    waits = judge(stamps, None, JUMP)
    assert (waits.good.tolist(), waits.held, waits.clock) == ([0], [1], 100)
    for end, good, clock in ((600, [0, 1], 900), (2000, [0, 1], 2000), (599, [0], 599)):
        ended = judge(stamps, None, JUMP, end)
        assert (ended.good.tolist(), ended.clock) == (good, clock)
        assert ended.times.tolist() == [100, 900][: len(good)]
        assert ended.held == ([] if len(good) > 1 else [1])
        assert ended.future == []
    nothing = np.zeros(0, np.int64)
    assert judge(nothing, None, JUMP, 700)[4] == 700
    assert judge(nothing, 800, JUMP, 700)[4] == 800
    alone = judge(np.array([900]), 100, JUMP, 800)
    assert (alone.good.tolist(), alone.times.tolist(), alone.clock) == ([0], [900], 900)
