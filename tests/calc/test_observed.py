"""What is known of cells that are still open."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from pipeline.calc.observed import Feed, cells, total

SPAN = 60


class Seen(NamedTuple):
    """An observation by hand."""

    time_us: int
    values: tuple[Decimal, ...]
    is_bar: bool = False
    key: str | None = None


def seen(time: int, value: int, *, bar: bool = False, key: str | None = None) -> Seen:
    return Seen(time, (Decimal(value),), bar, key)


def numbers(closed: list[tuple[int, list[tuple[Decimal, ...]]]]) -> list[tuple[int, list[int]]]:
    return [(start, [int(value) for (value,) in values]) for start, values in closed]


def test_a_cell_ends_when_the_clock_reaches_its_end() -> None:
    feed = Feed()
    assert cells(feed, [seen(5, 1), seen(59, 2)], SPAN) == ([], 0)
    closed, repeated = cells(feed, [seen(60, 3)], SPAN)
    assert (numbers(closed), repeated) == ([(0, [1, 2])], 0)
    closed, _ = cells(feed, [seen(500, 4)], SPAN)
    assert numbers(closed) == [(60, [3])]
    assert (feed.clock, feed.closed_us) == (500, 480)
    assert [known.time_us for known in feed.open] == [500]


def test_what_comes_late_counts_at_the_clock() -> None:
    feed = Feed()
    closed, _ = cells(feed, [seen(50, 1), seen(70, 2), seen(10, 3), seen(130, 4)], SPAN)
    assert numbers(closed) == [(0, [1]), (60, [2, 3])]


def test_bars_are_replaced_until_their_cell_is_over() -> None:
    feed = Feed()
    drawn = [
        seen(0, 1, bar=True),
        seen(30, 9, bar=True),
        seen(0, 2, bar=True),
        seen(60, 5, bar=True),
    ]
    closed, repeated = cells(feed, drawn, SPAN)
    assert (numbers(closed), repeated) == ([(0, [2, 9])], 0)
    closed, repeated = cells(feed, [seen(30, 7, bar=True), seen(59, 7, bar=True)], SPAN)
    assert (closed, repeated) == ([], 2)


def test_ids_are_remembered_for_a_while() -> None:
    feed = Feed()
    given = [seen(1, 1, key="a"), seen(2, 2, key="b"), seen(3, 9, key="a"), seen(4, 3, key="c")]
    _, repeated = cells(feed, given, SPAN, remembered=2)
    assert repeated == 1
    assert feed.ids == ["b", "c"]
    _, repeated = cells(feed, [seen(5, 4, key="a"), seen(90, 9, key="a")], SPAN, remembered=2)
    assert repeated == 1
    assert feed.clock == 90  # a repetition tells the time


def test_it_outlives_a_run() -> None:
    whole, pieces = Feed(), Feed()
    given = [seen(t, v, bar=t % 3 == 0, key=None if t % 3 == 0 else str(v % 7)) for t, v in
             zip((5, 9, 9, 70, 61, 130, 120, 60, 400, 401), range(10), strict=True)]  # fmt: skip
    found = cells(whole, given, SPAN, remembered=3)
    closed, repeated = [], 0
    for each in given:
        pieces = msgspec.json.decode(msgspec.json.encode(pieces), type=Feed)
        more, again = cells(pieces, [each], SPAN, remembered=3)
        closed += more
        repeated += again
    assert (closed, repeated) == found
    assert pieces == whole


def test_totals_are_exact() -> None:
    values = [(Decimal("0.1"), Decimal(1)), (Decimal("0.2"), Decimal("1e-18"))]
    assert total(values, 0) == Decimal("0.3")
    assert total(values, 1) == Decimal("1.000000000000000001")
    assert total([], 0) == 0
