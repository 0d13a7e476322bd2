from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from pipeline.stages.costs import STAGE

from .joined_tape import (
    Rows,
    assert_any_windows,
    at,
    minutes_of,
    random_quotes,
    random_trades,
    run,
)
from .tick_tape import MINUTE_US

NAMES = ("effective_spread_bps", "realised_spread_bps", "price_impact_bps", "trades")
NONE = (None, None, None, 0)


def quote(ts: int, mid: float | None) -> tuple[Any, ...]:
    """A quote of that mid."""
    prices = (None, None) if mid is None else (mid - 1, mid + 1)
    return ts, prices[0], 1, prices[1], 1, "quotes"


def trade(ts: int, price: float, side: int, notional: float = 1) -> tuple[Any, ...]:
    return ts, price, notional / price, notional, side


def costs(trades: Rows, quotes: Rows, cuts: tuple[int, ...] = ()) -> list[tuple[Any, ...]]:
    rows = run(STAGE, {"trades": trades, "quote": quotes}, cuts)
    return [tuple(row[name] for name in NAMES) for row in rows]


def test_by_hand() -> None:
    quotes = [quote(at(0, 1), 1000), quote(at(0, 40), 1001)]
    (row,) = costs([trade(at(0, 2), 1002, 1)], quotes)
    assert row == pytest.approx((40, 20, 20, 1))
    (row,) = costs([trade(at(0, 2), 999, -1)], quotes)
    assert row == pytest.approx((20, 40, -20, 1))


def test_the_mid_before_is_strictly_before() -> None:
    quotes = [quote(at(0, second), mid) for second, mid in ((1, 1000), (2, 1001), (2, 1003))]
    quotes.append(quote(at(0, 50), 1000))
    (row,) = costs([trade(at(0, 2), 1002, 1)], quotes)
    assert row[0] == pytest.approx(40)
    assert costs([trade(at(0, 2), 1002, 1)], quotes[1:]) == [NONE]
    (row,) = costs([trade(at(0, 2.000001), 1003, -1)], quotes)
    assert row[0] == 0


@pytest.mark.parametrize(("second", "count"), [(0, 1), (-1e-6, 0)])
def test_the_mid_before_is_at_most_sixty_seconds_old(second: float, count: int) -> None:
    quotes = [quote(at(0, second), 1000), quote(at(1, 1), 1001)]
    trades = [trade(at(1), 1002, 1)]
    for cuts in ((), (at(1),), (at(0), at(1), at(2))):
        assert costs(trades, quotes, cuts)[0][3] == count


@pytest.mark.parametrize(("second", "realised"), [(0, 20), (1e-6, 40)])
def test_the_mid_after_is_the_last_within_sixty_seconds(second: float, realised: float) -> None:
    quotes = [quote(at(0), 1000), quote(at(0, 59.999999), 1000), quote(at(1, 59 + second), 1001)]
    for cuts in ((), (at(1),), (at(1), at(2))):
        (row,) = costs([trade(at(0, 59), 1002, 1)], quotes, cuts)
        assert row[1] == pytest.approx(realised)


def test_the_mid_after_is_at_most_sixty_seconds_old_then() -> None:
    (row,) = costs([trade(at(0, 5), 1002, 1)], [quote(at(0, 4.999999), 1000)])
    assert row == NONE
    quotes = [quote(at(0, 4), 1000), quote(at(0, 5), 1002)]
    (row,) = costs([trade(at(0, 5), 1002, 1)], quotes)
    assert row == pytest.approx((40, 0, 40, 1))


def test_lost_quotes_and_no_quotes() -> None:
    lost = [quote(at(0), 1000), quote(at(0, 1), None), quote(at(0, 3), 1000)]
    assert costs([trade(at(0, 2), 1002, 1)], lost) == [NONE]
    lost = [quote(at(0), 1000), quote(at(0, 3), None)]
    assert costs([trade(at(0, 2), 1002, 1)], lost) == [NONE]
    assert costs([trade(at(0, 2), 1002, 1)], []) == [NONE]
    assert costs([], lost) == []


def test_weighted_by_notional_over_trades_with_both_mids() -> None:
    quotes = [quote(at(0, 1), 1000), quote(at(0, 50), 1000), quote(at(1, 1), 1000)]
    trades = [
        trade(at(0, 1), 1, 1, 1e9),  # no mid before
        trade(at(0, 9), 1001, 1, 3000),
        trade(at(0, 2), 1002, 1, 1000),  # in file order, not in that of time
    ]
    (row,) = costs(trades, quotes)
    assert row == pytest.approx((25, 25, 0, 2))


@pytest.mark.parametrize("seed", range(8))
def test_against_a_plain_loop(seed: int) -> None:
    rng = random.Random(seed)
    quotes, trades = random_quotes(rng, 400), random_trades(rng, 300)
    rows = assert_any_windows(STAGE, {"trades": trades, "quote": quotes}, seed)
    by_minute = minutes_of(trades)
    assert [row["at"] for row in rows] == sorted(by_minute)

    def mid(moment: int, *, strictly: bool) -> float | None:
        before = [q for q in quotes if q[0] < moment or (q[0] == moment and not strictly)]
        if not before or before[-1][1] is None or moment - before[-1][0] > MINUTE_US:
            return None
        return float((before[-1][1] + before[-1][3]) / 2)

    counted = 0
    for row in rows:
        sums = [0.0] * 4
        for ts, price, _, notional, side in by_minute[row["at"]]:
            first, later = mid(ts, strictly=True), mid(ts + MINUTE_US, strictly=False)
            if first is None or later is None:
                continue
            counted += 1
            sums[0] += notional
            sums[1] += notional * 2 * side * (price - first) / first * 1e4
            sums[2] += notional * 2 * side * (price - later) / first * 1e4
            sums[3] += 1
        assert row["trades"] == sums[3]
        if not sums[3]:
            assert tuple(row[name] for name in NAMES) == NONE
            continue
        effective, realised, impact = (row[name] for name in NAMES[:3])
        assert effective == pytest.approx(sums[1] / sums[0], abs=1e-7)
        assert realised == pytest.approx(sums[2] / sums[0], abs=1e-7)
        assert effective == pytest.approx(realised + impact, abs=1e-9)
    assert counted > len(trades) / 8


def test_turning_the_market_upside_down_changes_nothing() -> None:
    """Buyers for sellers and prices mirrored: spreads relative to a mid that is the same."""
    quotes = [quote(at(0, second), 1000) for second in (1, 30, 55)]
    trades = [trade(at(0, 20), 1000 + away, 1) for away in (1, 4)]
    mirror = [trade(at(0, 20), 1000 - away, -1) for away in (1, 4)]
    assert costs(trades, quotes) == costs(mirror, quotes)


def test_a_later_quote_matters_for_sixty_seconds_only() -> None:
    quotes = [quote(at(0, second), 1000 + second) for second in range(0, 240, 10)]
    trades = [trade(at(0, second), 1000 + second, 1) for second in range(5, 60, 9)]
    whole = costs(trades, quotes)
    for early, late in pairwise((120, 130, 230)):
        changed = [*[q for q in quotes if q[0] < at(0, early)], quote(at(0, late), 5000)]
        assert costs(trades, changed) == whole
