from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.calc.walk import walk
from pipeline.stages.micro import STAGE, Params, liquidity

from .joined_tape import (
    Rows,
    assert_any_windows,
    at,
    minutes_of,
    random_events,
    random_quotes,
    random_trades,
    run,
    time_mean,
)

Side = Sequence[tuple[float, float]]
IMPACTS = [f"{what}_{label}" for label in ("100k", "1m") for what in (
    "impact_buy_bps", "impact_sell_bps", "filled_buy", "filled_sell")]  # fmt: skip


def quote(ts: int, bid: Any, ask: Any, bid_size: Any = 1, ask_size: Any = 1) -> tuple[Any, ...]:
    return ts, bid, bid_size, ask, ask_size, "quotes"


def lost(ts: int) -> tuple[Any, ...]:
    return quote(ts, None, None, None, None)


def book_event(ts: int, bid_depth: Any, ask_depth: Any) -> tuple[Any, ...]:
    return ts, bid_depth, ask_depth, *(None,) * 5


def ladder(ts: int, bids: Side, asks: Side) -> tuple[Any, ...]:
    """A row of `ladder_1m`, (price, size) best first."""
    row: list[Any] = [ts]
    for side in (bids, asks):
        row += [[p for p, _ in side], [s for _, s in side]]
        row += [[0] * len(side), [True] * len(side), None]
    return tuple(row)


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def test_the_last_quote_of_the_minute() -> None:
    quotes = [quote(at(0, 1), 90, 91), quote(at(0, 2), 99, 101, 3, 1), lost(at(0, 3))]
    row = only(run(STAGE, {"quote": quotes}))
    assert row["mid"] == 100
    assert row["weighted_mid"] == (3 * 101 + 1 * 99) / 4
    assert row["spread_bps_last"] == 200
    # the first stood for one second and so did the second
    assert row["spread_bps"] == pytest.approx((1e4 / 90.5 + 200) / 2)
    for name in ("bid_depth", "ask_depth", "depth_imbalance", "depth_imbalance_last"):
        assert row[name] is None
    assert row["buy_pressure_pct"] is None
    assert row["vwap_deviation_pct"] is None
    assert {row[name] for name in IMPACTS} == {None}


def test_a_quote_without_sizes_has_no_weighted_mid() -> None:
    row = only(run(STAGE, {"quote": [quote(at(0), 99, 101, None, None)]}))
    assert (row["mid"], row["weighted_mid"], row["spread_bps"]) == (100, None, 200)


def test_minutes_without_a_quote_have_no_row() -> None:
    quotes = [quote(at(0), 99, 101), lost(at(1)), quote(at(4), 99, 101)]
    assert [row["at"] for row in run(STAGE, {"quote": quotes})] == [at(0), at(4)]


def test_spread_carried_in_from_the_minute_before() -> None:
    quotes = [quote(at(0, 45), 9_999, 10_001), quote(at(1, 30), 9_998, 10_002)]
    assert run(STAGE, {"quote": quotes})[1]["spread_bps"] == pytest.approx(3)
    assert run(STAGE, {"quote": quotes}, [at(1)])[1]["spread_bps"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("spread", "word"),
    [
        (-3, "excellent"),
        (0, "excellent"),
        (2, "excellent"),
        (2.0001, "good"),
        (10, "good"),
        (10.0001, "fair"),
        (25, "fair"),
        (25.0001, "poor"),
        (None, None),
    ],
)
def test_words_for_spreads(spread: float | None, word: str | None) -> None:
    assert liquidity(spread) == word


def test_rounding_does_not_worsen_a_word() -> None:
    """Spreads of exactly 2 bps at prices that doubles do not hold."""
    for price in (0.1, 0.7, 1.1, 2.3, 61.3, 0.00123):
        bid, ask = price * (1 - 1e-4), price * (1 + 1e-4)
        row = only(run(STAGE, {"quote": [quote(at(0, i), bid, ask) for i in range(50)]}))
        assert row["liquidity"] == "excellent"


def test_depths() -> None:
    quotes = [quote(at(i), 99, 101) for i in range(7)]
    events = [
        book_event(at(0, 30), 3, 1),
        book_event(at(0, 45), 1, 3),
        book_event(at(1, 30), 0, 0),
        book_event(at(2, 15), 0, 2),
        book_event(at(2, 30), None, None),
        book_event(at(3, 30), 9, 1),
        book_event(at(5), 1, 1),
    ]
    names = ("bid_depth", "ask_depth", "depth_imbalance", "depth_imbalance_last")
    rows = run(STAGE, {"quote": quotes, "book_events": events})
    assert [tuple(row[name] for name in names) for row in rows] == [
        (1, 3, 0, -0.5),
        (0, 0, -0.5, None),
        (None, None, -1, None),
        (9, 1, 0.8, 0.8),
        (None, None, 0.8, None),  # what stands from the minute before
        (1, 1, 0, 0),
        (None, None, None, None),  # nothing stands longer than 60 s
    ]
    cuts = [at(i) for i in range(8)]
    assert run(STAGE, {"quote": quotes, "book_events": events}, cuts) == rows


def test_buyers_and_vwap() -> None:
    quotes = [quote(at(i), 99, 101) for i in range(3)]
    trades = [(at(0, 9), 1, 0.3, 1, 1), (at(0, 3), 1, 0.1, 1, -1), (at(1), 1, 7.7, 1, 1)]
    vwap = [(at(0), 0.25), (at(2), None), (at(9), 3)]
    rows = run(STAGE, {"quote": quotes, "trades": trades, "vwap_1m": vwap})
    assert [row["buy_pressure_pct"] for row in rows] == [pytest.approx(75), 100, None]
    assert [row["vwap_deviation_pct"] for row in rows] == [0.25, None, None]


def test_walk_by_hand() -> None:
    price, size = np.array([100.0, 101, 110]), np.array([1.0, 2, 3])
    fills = walk(price, size, (50, 100, 201, 302, 632, 632.01, 1264))
    assert [fill.share for fill in fills] == pytest.approx([1, 1, 1, 1, 1, 632 / 632.01, 0.5])
    averages = [100, 100, 201 / 2, 302 / 3, 632 / 6, None, None]
    assert [fill.price for fill in fills] == pytest.approx(averages)
    assert walk(np.empty(0), np.empty(0), (1,)) == [(0, None)]


def test_a_book_that_holds_exactly_the_amount_fills_it() -> None:
    price, size = np.full(10, 0.1), np.full(10, 0.7)
    (fill,) = walk(price, size, (0.7,))
    assert fill.share == 1
    assert fill.price == pytest.approx(0.1)


def test_cost_of_orders() -> None:
    bids = [(99.0, 500.0), (98.0, 10_000.0)]
    asks = [(101.0, 1_000.0), (102.0, 500.0)]
    book = ladder(at(0), bids, asks)
    row = only(run(STAGE, {"quote": [quote(at(0, 1), 1, 2)], "ladder_1m": [book]}))
    assert row["impact_buy_bps_100k"] == pytest.approx(100)
    average = 100_000 / (500 + 50_500 / 98)
    assert row["impact_sell_bps_100k"] == pytest.approx(1e4 * (100 - average) / 100)
    assert (row["filled_buy_100k"], row["filled_sell_100k"]) == (1, 1)
    assert row["impact_buy_bps_1m"] is None
    assert row["filled_buy_1m"] == pytest.approx(0.152)
    average = 1_000_000 / (500 + 950_500 / 98)
    assert row["impact_sell_bps_1m"] == pytest.approx(1e4 * (100 - average) / 100)
    assert row["filled_sell_1m"] == 1
    layers: dict[str, Rows] = {"quote": [quote(at(0, 1), 1, 2)], "ladder_1m": [book]}
    row = only(run(STAGE, layers, small_notional=152_000, large_notional=49_500))
    assert row["filled_buy_100k"] == 1
    assert row["impact_sell_bps_1m"] == 100


def test_a_book_with_one_side_or_none() -> None:
    quotes = [quote(at(i), 1, 2) for i in range(3)]
    books = [ladder(at(0), [], [(100.0, 5_000.0)]), ladder(at(1), [], [])]
    rows = run(STAGE, {"quote": quotes, "ladder_1m": books})
    assert [rows[0][name] for name in IMPACTS] == [None, None, 1, 0, None, None, 0.5, 0]
    assert [rows[1][name] for name in IMPACTS] == [None, None, 0, 0, None, None, 0, 0]
    assert {rows[2][name] for name in IMPACTS} == {None}


@pytest.mark.parametrize("name", ["small_notional", "large_notional"])
def test_an_amount_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Params(**{name: 0})  # type: ignore[arg-type]


def walked(side: Side, amount: float) -> tuple[float, float | None]:
    """Share and average price, level by level."""
    left, base = amount, 0.0
    for price, size in side:
        part = min(left, price * size)
        left, base = left - part, base + part / price
    return 1 - left / amount, None if left > 1e-6 else amount / base


@pytest.mark.parametrize("seed", range(8))
def test_against_a_plain_loop(seed: int) -> None:
    rng = random.Random(seed)
    quotes, events = random_quotes(rng, 250), random_events(rng, 150)
    trades = random_trades(rng, 150)
    books: dict[int, tuple[Side, Side]] = {}
    for start in minutes_of(quotes):
        if rng.random() < 0.8:
            count = rng.randrange(1, 60)
            books[start] = (
                [(100 - i / 100, rng.uniform(1, 2000)) for i in range(count)],
                [(100.01 + i / 100, rng.uniform(1, 2000)) for i in range(count)],
            )
    layers: dict[str, Rows] = {
        "quote": quotes,
        "book_events": events,
        "trades": trades,
        "ladder_1m": [ladder(start, *sides) for start, sides in books.items()],
        "vwap_1m": [(start, float(start % 7)) for start in sorted(minutes_of(trades))],
    }
    rows = assert_any_windows(STAGE, layers, seed)
    present = {m: [q for q in some if q[1]] for m, some in minutes_of(quotes).items()}
    assert [row["at"] for row in rows] == [m for m, some in present.items() if some]
    points = [(q[0], 1e4 * (q[3] - q[1]) / ((q[1] + q[3]) / 2) if q[1] else None) for q in quotes]
    depths = [(e[0], (e[1] - e[2]) / (e[1] + e[2]) if e[1] or e[2] else None) for e in events]
    for row in rows:
        start = row["at"]
        assert row["spread_bps"] == pytest.approx(time_mean(points, start), abs=1e-9)
        assert row["mid"] == (present[start][-1][1] + present[start][-1][3]) / 2
        depth = time_mean(depths, start)
        assert row["depth_imbalance"] == (None if depth is None else pytest.approx(depth, abs=1e-9))
        here = minutes_of(trades).get(start, [])
        if here:
            share = 100 * sum(t[2] for t in here if t[4] > 0) / sum(t[2] for t in here)
            assert row["buy_pressure_pct"] == pytest.approx(share)
            assert row["vwap_deviation_pct"] == start % 7
        if start not in books:
            assert row["filled_buy_100k"] is None
            continue
        for amount, label in ((1e5, "100k"), (1e6, "1m")):
            for side, name, sign in zip(books[start], ("sell", "buy"), (-1, 1), strict=True):
                filled, average = walked(side, amount)
                assert row[f"filled_{name}_{label}"] == pytest.approx(filled)
                impact = None if average is None else 1e4 * sign * (average - 100.005) / 100.005
                found = row[f"impact_{name}_bps_{label}"]
                assert found == (None if impact is None else pytest.approx(impact, abs=1e-7))
