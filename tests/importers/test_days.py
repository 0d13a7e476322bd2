"""Which day file a row goes to."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from pipeline.importers.days import NO_TIME, Calendar

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000
EVE = 20_000 * DAY
"""A midnight."""


def days(clock: list[int], cuts: tuple[int, ...] = ()) -> tuple[list[int], int]:
    """Days counted from the eve's, and how many rows were far behind, read in pieces."""
    calendar = Calendar()
    found: list[int] = []
    edges = [0, *cuts, len(clock)]
    for first, last in pairwise(edges):
        after = clock[last] if last < len(clock) else NO_TIME
        day, _ = calendar.days(np.array(clock[first:last], np.int64), after)
        found += (day - EVE // DAY).tolist()
    return found, calendar.behind


@pytest.mark.parametrize(
    ("clock", "wanted", "behind"),
    [
        ([-2, -1, 0, 1], [-1, -1, 0, 0], 0),
        # stragglers stay where they came
        ([-2, 1, -1, 2], [-1, 0, 0, 0], 0),
        ([-2 * MINUTE, 0, -4 * MINUTE, MINUTE], [-1, 0, 0, 0], 0),
        # nothing traded for hours
        ([-HOUR, 5 * HOUR, 6 * HOUR], [-1, 0, 0], 0),
        ([-HOUR, 49 * HOUR, 50 * HOUR], [-1, 2, 2], 0),
        ([-HOUR, HOUR], [-1, 0], 0),
        # one wrong stamp, ahead or behind, moves nobody
        ([-HOUR, 9 * DAY, 1 - HOUR, 0], [-1, -1, -1, 0], 0),
        ([9 * DAY, -HOUR, 0], [-1, -1, 0], 0),
        ([-HOUR, 1 - HOUR, -9 * DAY, 2 - HOUR, 0], [-1, -1, -1, -1, 0], 1),
        # a confirmed jump is the truth; what comes before it again is out of order
        ([-HOUR, 2 * DAY, 2 * DAY + 1, 0], [-1, 2, 2, 2], 1),
        ([], [], 0),
    ],
)
def test_days(clock: list[int], wanted: list[int], behind: int) -> None:
    moments = [EVE + each for each in clock]
    for cut in [(), *((at,) for at in range(1, len(clock)))]:
        assert days(moments, cut) == (wanted, behind), cut


@pytest.mark.parametrize("seed", range(5))
def test_any_cutting_gives_the_same_days(seed: int) -> None:
    rng = random.Random(seed)
    now, clock = EVE - 5 * HOUR, []
    for _ in range(500):
        now += rng.choice((0, 1, 1000, MINUTE, 7 * MINUTE, rng.randrange(2 * HOUR)))
        wrong = rng.choice((0,) * 30 + (-9 * MINUTE, 3 * DAY, -3 * DAY, -MINUTE))
        clock.append(now + wrong)
    whole = days(clock)
    for _ in range(20):
        cuts = tuple(sorted(rng.sample(range(1, 500), rng.randrange(1, 40))))
        assert days(clock, cuts) == whole
    assert whole[0] == sorted(whole[0])
