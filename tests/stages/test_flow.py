from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from pipeline.stages.flow import STAGE, Params

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
from .tick_tape import MINUTE_US

PUBLISHED = [
    (100, 10, 101, 12),
    (100, 15, 101, 12),
    (101, 4, 102, 20),
    (100, 11, 102, 20),
    (100, 11, 102, 16),
    (100, 11, 101, 3),
    (100, 11, 103, 9),
]
TERMS = [5, 16, -4, 4, -3, 3]


def quote(ts: int, bid: Any, bid_size: Any, ask: Any, ask_size: Any) -> tuple[Any, ...]:
    return ts, bid, bid_size, ask, ask_size, "quotes"


def sized(ts: int, bid_size: float, ask_size: float) -> tuple[Any, ...]:
    return quote(ts, 100, bid_size, 101, ask_size)


def lost(ts: int) -> tuple[Any, ...]:
    return quote(ts, None, None, None, None)


def flow(quotes: Rows, **params: Any) -> list[dict[str, Any]]:
    return run(STAGE, {"quote": quotes}, **params)


def test_terms_of_the_fixture() -> None:
    quotes = [quote(at(0, i), *state) for i, state in enumerate(PUBLISHED)]
    for count in range(2, 8):
        (row,) = flow(quotes[:count])
        assert row["ofi"] == sum(TERMS[: count - 1])
        assert row["ofi_norm"] == sum(TERMS[: count - 1]) / sum(map(abs, TERMS[: count - 1]))
    assert row["updates"] == 7
    assert row["source"] == "quotes"


def test_a_term_belongs_to_the_minute_of_the_later_quote() -> None:
    first, second = flow([sized(at(0, 59), 1, 1), sized(at(1, 1), 3, 1)])
    assert (first["ofi"], first["ofi_norm"]) == (None, None)
    assert (second["ofi"], second["ofi_norm"]) == (2, 1)


@pytest.mark.parametrize(("late", "ofi"), [(0, 2), (1e-6, None)])
def test_quotes_further_apart_than_sixty_seconds_make_no_pair(
    late: float, ofi: float | None
) -> None:
    quotes = [sized(at(0, 20), 1, 1), sized(at(1, 20 + late), 3, 1)]
    assert flow(quotes)[1]["ofi"] == ofi
    assert run(STAGE, {"quote": quotes}, [at(1)])[1]["ofi"] == ofi


def test_a_quote_that_is_lost_or_without_sizes_makes_no_pair() -> None:
    (row,) = flow([sized(at(0), 1, 1), lost(at(0, 1)), sized(at(0, 2), 5, 1)])
    assert row["ofi"] is None
    assert row["updates"] == 2
    bare = [quote(at(0, i), 100, None, 101, None) for i in range(3)]
    (row,) = flow(bare)
    assert row["updates"] == 3
    for name in ("imbalance", "imbalance_last", "ofi", "ofi_norm", "ofi_momentum"):
        assert row[name] is None
    (row,) = flow([sized(at(0), 1, 1), sized(at(0, 1), 2, 1), bare[2], sized(at(0, 3), 9, 1)])
    assert row["ofi"] == 1


def test_nothing_changed() -> None:
    (row,) = flow([sized(at(0), 1, 1), sized(at(0, 1), 1, 1)])
    assert (row["ofi"], row["ofi_norm"], row["ofi_momentum"]) == (0, None, None)


def test_what_cancels_is_zero() -> None:
    sizes = (0.1, 0.4, 0.7, 0.3, 0.1)
    assert sum(b - a for a, b in pairwise(sizes)) != 0
    (row,) = flow([sized(at(0, i), size, 1) for i, size in enumerate(sizes)])
    assert (row["ofi"], row["ofi_norm"], row["ofi_momentum"]) == (0, 0, 0)


def test_quotes_at_the_same_time_count_in_file_order() -> None:
    (row,) = flow([sized(at(0), 1, 1), sized(at(0, 5), 4, 1), sized(at(0, 5), 3, 1)])
    assert row["ofi"] == 2
    assert row["updates"] == 3
    assert row["imbalance_last"] == 0.5
    assert row["imbalance"] == pytest.approx((5 * 0 + 55 * 0.5) / 60)


def test_imbalance_is_weighted_by_time() -> None:
    rows = flow([sized(at(0, 30), 3, 1), sized(at(1, 15), 1, 3), lost(at(1, 30))])
    assert [row["imbalance"] for row in rows] == [0.5, 0]
    assert [row["imbalance_last"] for row in rows] == [0.5, -0.5]


def test_a_value_stands_sixty_seconds_at_most() -> None:
    rows = flow([sized(at(0, 30), 3, 1), sized(at(1, 45), 1, 3), sized(at(5), 1, 1)])
    assert [row["at"] for row in rows] == [at(0), at(1), at(5)]
    assert rows[1]["imbalance"] == pytest.approx((30 * 0.5 - 15 * 0.5) / 45)
    assert rows[2]["imbalance"] == 0


def test_equal_values_have_that_mean() -> None:
    rows = flow([sized(at(i // 7, 8 * (i % 7)), 0.6, 0.4) for i in range(70)])
    assert {row["imbalance"] for row in rows} == {rows[0]["imbalance_last"]}


def test_minutes_without_a_quote_have_no_row() -> None:
    rows = flow([sized(at(0), 3, 1), lost(at(0, 50)), lost(at(1)), sized(at(3), 1, 1)])
    assert [row["at"] for row in rows] == [at(0), at(3)]
    assert flow([]) == []
    assert flow([lost(at(0))]) == []


def test_a_quote_that_is_lost_at_once_stood_for_no_time() -> None:
    (row,) = flow([sized(at(0, 5), 3, 1), lost(at(0, 5))])
    assert (row["imbalance"], row["imbalance_last"]) == (None, 0.5)


def test_momentum_is_a_mean_of_five_clock_minutes() -> None:
    """A minute whose normalised OFI is 1, one of -0.5, then one without a pair, and so on."""

    def minute(i: int, *sizes: float) -> list[tuple[Any, ...]]:
        return [sized(at(i, j), size, 1) for j, size in enumerate(sizes)] + [lost(at(i, 50))]

    quotes = [*minute(0, 1, 2), *minute(1, 4, 5, 2), *minute(3, 1), *minute(4, 1, 2)]
    quotes += [*minute(5, 1, 1), *minute(9, 2, 1), *minute(14, 1)]
    rows = flow(quotes)
    assert [row["ofi_norm"] for row in rows] == [1, -0.5, None, 1, None, -1, None]
    expected = [1, 0.25, 0.25, 0.5, 0.25, -1, None]
    assert [row["ofi_momentum"] for row in rows] == pytest.approx(expected)


def test_levels_are_sums_by_rank() -> None:
    events = [
        (at(0, 1), 1, 1, None, None, None, None, None),
        (at(0, 2), 1, 1, 5, 1, -2, None, None),
        (at(0, 3), 1, 1, -1, 2, 2, None, None),
        (at(1, 3), *(None,) * 7),
        (at(2, 3), 1, 1, 0, 0, 0, 0, 0.5),
    ]
    quotes = [sized(at(i), 1, 1) for i in range(4)]
    rows = run(STAGE, {"quote": quotes, "book_events": events})
    sums = [[4, 3, 0, None, None], None, [0, 0, 0, 0, 0.5], None]
    assert [row["ofi_levels"] for row in rows] == sums
    assert {row["ofi_levels"] for row in flow(quotes)} == {None}


def test_whales() -> None:
    quotes = [sized(at(i), 1, 1) for i in range(2)]
    trades = [
        (at(0, 3), 1, 1, 100_000.0, 1),
        (at(0, 2), 1, 1, 99_999.99, 1),
        (at(0, 4), 1, 1, 2e6, 1),
        (at(0, 4), 1, 1, 100_000.5, -1),
        (at(7), 1, 1, 1e9, -1),
    ]
    rows = run(STAGE, {"quote": quotes, "trades": trades})
    assert [(r["whale_buy_trades"], r["whale_sell_trades"]) for r in rows] == [(2, 1), (0, 0)]
    rows = run(STAGE, {"quote": quotes, "trades": trades}, whale_notional=1_000_000)
    assert [(r["whale_buy_trades"], r["whale_sell_trades"]) for r in rows] == [(1, 0), (0, 0)]
    (first, _) = flow(quotes)
    assert (first["whale_buy_trades"], first["whale_sell_trades"]) == (None, None)


@pytest.mark.parametrize("value", [0, -1])
def test_a_size_that_is_none_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="whale_notional"):
        Params(whale_notional=value)  # type: ignore[arg-type]


def term(old: tuple[Any, ...], new: tuple[Any, ...]) -> float | None:
    """e of two quotes by cases."""
    if None in old[:5] or None in new[:5] or new[0] > old[0] + MINUTE_US:
        return None
    _, bid0, bid_size0, ask0, ask_size0, _ = old
    _, bid1, bid_size1, ask1, ask_size1, _ = new
    bid = bid_size1 if bid1 > bid0 else -bid_size0 if bid1 < bid0 else bid_size1 - bid_size0
    ask = ask_size1 if ask1 < ask0 else -ask_size0 if ask1 > ask0 else ask_size1 - ask_size0
    return float(bid - ask)


@pytest.mark.parametrize("seed", range(8))
def test_against_a_plain_loop(seed: int) -> None:
    rng = random.Random(seed)
    quotes, events = random_quotes(rng, 250), random_events(rng, 150)
    trades = random_trades(rng, 150)
    layers: dict[str, Rows] = {"quote": quotes, "book_events": events, "trades": trades}
    rows = assert_any_windows(STAGE, layers, seed)
    by_minute = {m: [q for q in all_ if q[1]] for m, all_ in minutes_of(quotes).items()}
    assert [row["at"] for row in rows] == [m for m, some in by_minute.items() if some]
    points = [(q[0], (q[2] - q[4]) / (q[2] + q[4]) if q[2] else None) for q in quotes]
    booked: dict[int, list[float]] = {}
    for old, new in pairwise(quotes):
        if (change := term(old, new)) is not None:
            booked.setdefault(new[0] // MINUTE_US * MINUTE_US, []).append(change)
    norms: dict[int, float] = {}
    for row in rows:
        start = row["at"]
        assert row["imbalance"] == pytest.approx(time_mean(points, start), abs=1e-12)
        assert row["updates"] == len(by_minute[start])
        changes = booked.get(start)
        assert row["ofi"] == (pytest.approx(sum(changes), abs=1e-9) if changes else None)
        size = sum(map(abs, changes or []))
        assert row["ofi_norm"] == (pytest.approx(row["ofi"] / size) if size else None)
        if size:
            norms[start] = row["ofi_norm"]
        near = [norms[start - i * MINUTE_US] for i in range(5) if start - i * MINUTE_US in norms]
        assert row["ofi_momentum"] == (pytest.approx(sum(near) / len(near)) if near else None)
        here = minutes_of(events).get(start, [])
        ranks = [[e[m] for e in here if e[m] is not None] for m in range(3, 8)]
        sums = [pytest.approx(sum(rank), abs=1e-9) if rank else None for rank in ranks]
        assert row["ofi_levels"] == (sums if any(ranks) else None)
        whales = [t[4] for t in minutes_of(trades).get(start, []) if t[3] >= 1e5]
        assert row["whale_buy_trades"] == whales.count(1)
        assert row["whale_sell_trades"] == whales.count(-1)


def test_ofi_is_linear_in_size_and_odd_under_a_mirror() -> None:
    rng = random.Random(5)
    quotes = [q for q in random_quotes(rng, 200) if q[2]]
    rows = flow(quotes)
    large = flow([(ts, b, 8 * qb, a, 8 * qa, s) for ts, b, qb, a, qa, s in quotes])
    mirror = flow([(ts, 200 - a, qa, 200 - b, qb, s) for ts, b, qb, a, qa, s in quotes])
    for row, tall, other in zip(rows, large, mirror, strict=True):
        assert tall["imbalance"] == row["imbalance"]
        assert other["imbalance"] == pytest.approx(-row["imbalance"], abs=1e-12)
        if row["ofi"] is not None:
            assert tall["ofi"] == pytest.approx(8 * row["ofi"])
            assert other["ofi"] == pytest.approx(-row["ofi"], abs=1e-9)
            assert -1 <= (row["ofi_norm"] or 0) <= 1
