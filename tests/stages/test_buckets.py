from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest

from pipeline.stages.buckets import STAGE, Params

from .joined_tape import SECOND, assert_any_windows, at, run
from .tick_tape import MINUTE_US

Level = tuple[float, float, int, bool]
"""Price, size, age at the minute's end in seconds, whether its beginning was seen."""

EDGES = (5, 10, 25, 50, 100)
WALL_NAMES = [
    f"{side}_{name}"
    for name in ("wall", "young_wall", "wall_price", "wall_age_s")
    for side in ("bid", "ask")
]


def level(price: float, notional: float, age: int = 9_999, seen: bool = True) -> Level:
    return price, notional / price, age, seen


def book(
    start: int,
    bids: Sequence[Level],
    asks: Sequence[Level],
    reach: tuple[float | None, float | None] = (1e-9, 1e9),
) -> tuple[Any, ...]:
    """A row of `ladder_1m`, levels best first."""
    row: list[Any] = [start]
    for side, worst in zip((bids, asks), reach, strict=True):
        since = [start + MINUTE_US - age * SECOND for _, _, age, _ in side]
        row += [[float(x[0]) for x in side], [float(x[1]) for x in side], since]
        row += [[x[3] for x in side], worst]
    return tuple(row)


def measured(*arguments: Any, **params: Any) -> dict[str, Any]:
    (row,) = run(STAGE, {"ladder_1m": [book(at(0), *arguments)]}, **params)
    return row


def bands(row: dict[str, Any], side: str) -> list[float | None]:
    assert [band["bps"] for band in row["bands"]] == list(EDGES)
    assert all(list(b) == ["bps", "bid_notional", "ask_notional"] for b in row["bands"])
    return [band[f"{side}_notional"] for band in row["bands"]]


def test_a_level_on_an_edge_belongs_to_the_nearer_band() -> None:
    """The mid is 10 000, so that a bps is 1."""
    away = (5, 5.01, 10, 10.01, 25, 25.01, 50, 50.01, 100, 100.01)
    bids = [level(10_000 - x, 2**i) for i, x in enumerate(away)]
    asks = [level(10_000 + x, 3**i) for i, x in enumerate(away)]
    row = measured(bids, asks)
    assert bands(row, "bid") == pytest.approx([1, 2 + 4, 8 + 16, 32 + 64, 128 + 256])
    assert bands(row, "ask") == pytest.approx([1, 3 + 9, 27 + 81, 243 + 729, 2187 + 6561])
    assert row["ask_imbalance"] == pytest.approx(121 / 152)
    assert row["bid_imbalance"] == pytest.approx(31 / 152)


def test_rounding_does_not_push_a_level_over_an_edge() -> None:
    for mid in (Fraction(12, 100), Fraction(7, 10), Fraction(123, 10), Fraction(61_300)):
        for edge in EDGES:
            away = mid * edge / 10_000
            near = mid / 10**6
            asks = [(float(mid + x), 1.0, 1, True) for x in (near, away)]
            bids = [(float(mid - x), 1.0, 1, True) for x in (near, away)]
            row = measured(bids, asks)
            for side in ("bid", "ask"):
                last = bands(row, side)[EDGES.index(edge)]
                assert last == pytest.approx(float(mid) * (2 if edge == 5 else 1), rel=0.02)


@pytest.mark.parametrize(
    ("worst", "reach", "known"),
    [
        (9_975.0, 25, [True, True, True, False, False]),
        (9_974.9, 25.1, [True, True, True, True, False]),
        (9_995.0, 5, [True, False, False, False, False]),
        (9_999.0, 1, [True, False, False, False, False]),
        (10_000.0, 0, [False] * 5),
        (10_050.0, 0, [False] * 5),
        (None, None, [False] * 5),
        (5_000.0, 5_000, [True] * 5),
    ],
)
def test_bands_wholly_beyond_reach_are_null(
    worst: float | None, reach: float | None, known: list[bool]
) -> None:
    bids = [level(9_999, 100), level(9_950, 7)]
    mirrored = None if worst is None else 20_000 - worst
    row = measured(bids, [level(20_000 - x[0], x[1] * x[0]) for x in bids], (worst, mirrored))
    for side in ("bid", "ask"):
        expected = None if reach is None else pytest.approx(reach)
        assert row[f"{side}_reach_bps"] == expected
        assert [value is not None for value in bands(row, side)] == known
    assert row["ask_imbalance"] == pytest.approx(0.5)


def test_an_empty_band_within_reach_is_zero() -> None:
    row = measured([level(9_999, 100)], [level(10_001, 100)])
    assert bands(row, "bid") == pytest.approx([100, 0, 0, 0, 0])


def test_nothing_near() -> None:
    row = measured([level(9_000, 1e6)], [level(11_000, 1e6)])
    assert (row["ask_imbalance"], row["bid_imbalance"]) == (None, None)
    assert bands(row, "ask") == [0] * 5
    assert [row[name] for name in WALL_NAMES] == [0, 0, 0, 0, None, None, None, None]


@pytest.mark.parametrize("sides", [([], [level(1, 1)]), ([level(1, 1)], []), ([], [])])
def test_a_book_without_a_side(sides: tuple[list[Level], list[Level]]) -> None:
    row = measured(*sides)
    assert bands(row, "bid") == bands(row, "ask") == [None] * 5
    assert all(value is None for name, value in row.items() if name not in ("at", "bands"))


def test_a_crossed_book_counts_from_its_mid() -> None:
    row = measured([level(10_200, 1), level(9_999, 2)], [level(9_800, 3), level(10_001, 4)])
    assert bands(row, "bid") == pytest.approx([3, 0, 0, 0, 0])
    assert bands(row, "ask") == pytest.approx([7, 0, 0, 0, 0])


def test_walls() -> None:
    small = [level(9_990 - i, 10_000) for i in range(9)]
    others = [level(10_010 + i, 10_000) for i in range(9)]
    bids = [level(9_995, 300_000, 400), level(9_994, 250_000, 299), *small]
    asks = [level(10_005, 249_999, 5), *others]
    row = measured(bids, asks)
    assert row["bid_wall"] == pytest.approx(300_000)
    assert (row["bid_wall_price"], row["bid_wall_age_s"]) == (9_995, 400)
    assert row["bid_young_wall"] == pytest.approx(250_000)
    assert [row[name] for name in WALL_NAMES if name.startswith("ask")] == [0, 0, None, None]
    row = measured(bids, asks, wall_notional=249_999)
    assert row["ask_wall"] == row["ask_young_wall"] == pytest.approx(249_999)
    row = measured(bids, asks, wall_notional=300_000)
    assert row["bid_wall"] == pytest.approx(300_000)
    assert row["bid_young_wall"] == 0
    assert measured(bids, asks, young_s=299)["bid_young_wall"] == 0
    assert measured(bids, asks, young_s=401)["bid_young_wall"] == pytest.approx(300_000)


def test_a_wall_towers_over_the_median_of_both_sides() -> None:
    bids = [level(9_995, 500_000), level(9_990, 100_000), level(9_900, 100_000)]
    asks = [level(10_005, 100_000), level(10_010, 499_999), level(10_101, 1e9)]
    row = measured(bids, asks)
    assert row["bid_wall"] == pytest.approx(500_000)
    assert row["ask_wall"] == 0
    asks = [level(10_005, 100_000), level(10_010, 300_000)]
    bids = [*bids[:2], level(9_980, 300_000)]
    assert measured(bids, asks)["bid_wall"] == 0
    assert measured(bids, asks, wall_ratio=1)["bid_wall"] == pytest.approx(500_000)


def test_of_equal_walls_the_nearest() -> None:
    small = [level(9_990 - i, 1) for i in range(9)]
    walls = [(9_996.0, 64.0, 7, True), (9_994.5, 64.0, 1, True)]
    equal = [(9_995.0, 50.0, 9, True), (9_990.0, 50 * 9_995 / 9_990, 1, True)]
    row = measured([*walls, *small], [level(10_004, 1)])
    assert (row["bid_wall_price"], row["bid_wall_age_s"]) == (9_996, 7)
    row = measured([*equal, *small[1:]], [level(10_005, 1)])
    assert (row["bid_wall_price"], row["bid_wall_age_s"]) == (9_995, 9)


@pytest.mark.parametrize(
    ("age", "seen", "is_young"),
    [(299, True, True), (300, True, False), (299, False, False), (0, True, True)],
)
def test_young_is_less_than_300_seconds_and_seen(age: int, seen: bool, is_young: bool) -> None:
    asks = [level(10_001, 1), level(10_002, 1e6, age, seen), *[level(10_003, 1)] * 3]
    row = measured([level(9_999, 1)], asks)
    assert row["ask_wall"] == pytest.approx(1e6)
    assert row["ask_wall_age_s"] == age
    assert row["ask_young_wall"] == (row["ask_wall"] if is_young else 0)


@pytest.mark.parametrize("name", ["wall_notional", "wall_ratio"])
def test_limits_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Params(**{name: 0})  # type: ignore[arg-type]


def random_side(rng: random.Random, sign: int) -> list[Level]:
    price, found = 10_000.0, []
    for _ in range(rng.randrange(1, 60)):
        price += sign * rng.choice((0.5, 1.0, 3.5))
        size = rng.choice((0.1, 1.5, 2, 40, 100))
        found.append((price, size, rng.randrange(600), rng.random() < 0.7))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_against_a_plain_loop(seed: int) -> None:
    rng = random.Random(seed)
    books: dict[int, tuple[list[list[Level]], tuple[float, float]]] = {}
    for minute in range(60):
        if rng.random() < 0.8:
            sides = [random_side(rng, sign) for sign in (-1, 1)]
            reach = (10_000 - rng.uniform(-5, 150), 10_000 + rng.uniform(-5, 150))
            books[at(minute)] = sides, reach
    ladders = [book(start, sides[0], sides[1], reach) for start, (sides, reach) in books.items()]
    rows = assert_any_windows(STAGE, {"ladder_1m": ladders}, seed)
    assert [row["at"] for row in rows] == list(books)
    for row in rows:
        sides, reach = books[row["at"]]
        mid = Fraction(sides[0][0][0] + sides[1][0][0]) / 2
        far = [abs(Fraction(p) - mid) / mid * 10_000 for side in sides for p, *_ in side]
        money = [p * s for side in sides for p, s, *_ in side]
        median = statistics.median(m for m, d in zip(money, far, strict=True) if d <= 100)
        split = len(sides[0])
        close = [m if d <= 25 else 0 for m, d in zip(money, far, strict=True)]
        share = sum(close[split:]) / sum(close) if sum(close) else None
        assert row["ask_imbalance"] == (None if share is None else pytest.approx(share))
        for name, side, worst, sign, where in zip(
            ("bid", "ask"), sides, reach, (-1, 1), (slice(split), slice(split, None)), strict=True
        ):
            reached = max(Fraction(0), sign * (Fraction(worst) - mid) / mid * 10_000)
            assert row[f"{name}_reach_bps"] == pytest.approx(float(reached), abs=1e-9)
            levels = list(zip(side, far[where], money[where], strict=True))
            for low, high, value in zip((0, *EDGES), EDGES, bands(row, name), strict=False):
                inside = sum(m for _, d, m in levels if low < d <= high)
                assert value == (pytest.approx(inside) if reached > low else None)
            walls = [
                (m, p, age, age < 300 and seen)
                for (p, _, age, seen), d, m in levels
                if d <= 100 and m >= 5 * median and m >= 250_000
            ]
            best = max(walls, key=lambda wall: wall[0]) if walls else (0, None, None, False)
            young = max((wall[0] for wall in walls if wall[3]), default=0)
            assert row[f"{name}_wall"] == pytest.approx(best[0])
            assert row[f"{name}_wall_price"] == best[1]
            assert row[f"{name}_wall_age_s"] == best[2]
            assert row[f"{name}_young_wall"] == pytest.approx(young)
