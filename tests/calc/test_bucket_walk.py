"""VPIN walked backwards: by hand, and against a loop that splits one trade after the other."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

from pipeline.calc.bucket_walk import effective_trades, walk

HAND = (np.array([150, 50, 60, 40]), np.array([1, -1, 1, -1]))


def test_by_hand() -> None:
    """+150 -50 +60 -40 in buckets of 100: |20|, |0|, |100| from the end on."""
    assert walk(*HAND, Fraction(100), 3) == (0.4, 3, 0)
    assert walk(*HAND, Fraction(100), 4) == (None, 3, 0)
    assert walk(*HAND, Fraction(100), 1) == (0.2, 1, 2)
    assert walk(*HAND, Fraction(301), 1) == (None, 0, 0)
    assert walk(np.zeros(0, np.int64), np.zeros(0, np.int64), Fraction(1), 3) == (None, 0, 0)


def plain(
    sizes: list[int], signs: list[int], volume: Fraction, count: int
) -> tuple[float | None, int, int]:
    gaps: list[Fraction] = []
    room, flow, first = volume, Fraction(0), 0
    for place in reversed(range(len(sizes))):
        left = Fraction(sizes[place])
        if len(gaps) < count:
            first = place
        while left and len(gaps) < count:
            part = min(left, room)
            flow, room, left = flow + part * signs[place], room - part, left - part
            if not room:
                gaps.append(abs(flow))
                room, flow = volume, Fraction(0)
    value = float(sum(gaps) / (count * volume)) if len(gaps) == count else None
    return value, len(gaps), first


@pytest.mark.parametrize("seed", range(80))
@pytest.mark.parametrize("kind", [np.int64, object])
def test_as_a_loop(seed: int, kind: type) -> None:
    """Buckets of any fraction; trades that fill several; Python integers as well as int64."""
    rng = random.Random(seed)
    sizes = [rng.choice((1, 3, 7, 100, 2500)) for _ in range(rng.randrange(1, 40))]
    signs = [rng.choice((-1, 0, 1)) for _ in sizes]
    volume = Fraction(rng.randrange(1, 4000), rng.choice((1, 7, 50)))
    count = rng.choice((1, 3, 50))
    value, full, first = walk(np.array(sizes, kind), np.array(signs), volume, count)
    wanted = plain(sizes, signs, volume, count)
    assert (value, full) == wanted[:2]
    if value is not None:
        assert first == wanted[2]


def test_a_bucket_is_worth_so_many_equal_trades() -> None:
    assert effective_trades(np.array([100.0] * 7), 500.0) == 5
    assert effective_trades(np.array([500.0, 100.0]), 500.0) == pytest.approx(500 * 600 / 260_000)
