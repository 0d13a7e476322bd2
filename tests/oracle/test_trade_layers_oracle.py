"""The trade-layer oracles on cases small enough to work out by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from .cells import finest_place, stamp, stamp_ms
from .flow import (
    Move,
    cvd_rows,
    filled_buckets,
    impact,
    impact_rows,
    share_not_above,
    toxicity,
    vpin_rows,
    vwap_rows,
)
from .fold import Accepted, Judge
from .layers import Row
from .levels import extremes_rows, wicks_rows
from .profile import (
    Value,
    binned,
    footprint_rows,
    high_nodes,
    low_nodes,
    point_of_control,
    profile_24h_rows,
    profile_of,
    profile_session_rows,
    value_area,
)
from .raw import Instrument, Trade

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
TEN = datetime(2024, 3, 5, 10, tzinfo=UTC)
LAST_MINUTE = datetime(2024, 3, 5, 23, 59, tzinfo=UTC)
Tick = tuple[float, str, str, str]
"""Seconds after the start, price, size, side."""


def judged(ticks: list[Tick], start: datetime = NOON) -> Judge:
    """A judge that has accepted these trades in this order."""
    judge = Judge(Instrument("acme", "spot", "HAND"))
    for number, (second, price, size, side) in enumerate(ticks):
        ts_us = (start + timedelta(seconds=second) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
            microseconds=1
        )
        px, sz = Decimal(price), Decimal(size)
        trade = Trade(ts_us, str(number), px, sz, px * sz, 1 if side == "buy" else -1)
        judge.accepted.append(Accepted(trade, gap_before=False))
        judge.newest_us = max(ts_us, judge.newest_us or ts_us)
    return judge


def part(row: Row, *names: str) -> list[Any]:
    """Some columns of a row."""
    return [row[name] for name in names]


def test_stamps() -> None:
    """Seconds for bars; milliseconds, cut off, for buckets."""
    assert stamp(1_765_748_040_000_000) == "2025-12-14T21:34:00Z"
    assert stamp_ms(1_765_748_096_123_999) == "2025-12-14T21:34:56.123Z"


def test_finest_place() -> None:
    """Trailing zeros do not make a price finer; whole prices have rows of 1."""
    assert finest_place([Decimal(5), Decimal("1.250000")]) == Decimal("0.01")
    assert finest_place([Decimal(60000), Decimal("6e4")]) == 1
    assert finest_place([Decimal("1.20e-5")]) == Decimal("0.000001")


# -- cvd -----------------------------------------------------------------------


def test_cvd_over_midnight() -> None:
    """+2 -5 +1 before midnight, -1 +4 after it; the session begins anew, the cvd does not."""
    judge = judged(
        [
            (10, "10", "2", "buy"),
            (20, "10", "5", "sell"),
            (40, "10", "1", "buy"),
            (65, "11", "1", "sell"),
            (110, "11", "4", "buy"),
            (120, "11", "9", "buy"),
        ],
        LAST_MINUTE,
    )
    names = ("delta", "cvd", "session_cvd", "delta_notional", "cvd_notional", "cvd_high")
    first, second = cvd_rows(judge)
    assert [first["timestamp_utc"], *part(first, *names, "cvd_low")] == [
        "2024-03-05T23:59:00Z",
        *(-2, -2, -2, -20, -20, 2, -3),
    ]
    assert [second["timestamp_utc"], *part(second, *names, "cvd_low")] == [
        "2024-03-06T00:00:00Z",
        *(3, 1, 3, 33, 13, 1, -3),
    ]


# -- vwap ----------------------------------------------------------------------


def test_vwap_of_two_trades() -> None:
    """1 at 100 and 3 at 104: mean 103, variance (9 + 3) / 4."""
    judge = judged([(0, "100", "1", "buy"), (1, "104", "3", "buy"), (60, "1", "1", "buy")])
    (row,) = vwap_rows(judge)
    root = math.sqrt(3)
    assert part(row, "session_vwap", "session_sd", "rolling_vwap_1h") == [103, root, 103]
    assert part(row, "upper_2", "lower_3") == [103 + 2 * root, 103 - 3 * root]
    assert row["deviation_pct"] == pytest.approx(100 / 103, rel=1e-15)
    assert row["deviation_sd"] == pytest.approx(1 / root, rel=1e-15)


def test_vwap_windows() -> None:
    """The minute at 10:00 is in the hour that ends at 11:00 and not in that ending 11:01."""
    judge = judged(
        [
            (0, "100", "1", "buy"),
            (3540, "200", "1", "buy"),
            (3600, "300", "1", "buy"),
            (3660, "1", "1", "buy"),
        ],
        TEN,
    )
    assert [row["rolling_vwap_1h"] for row in vwap_rows(judge)] == [100, 150, 250]
    assert [row["rolling_vwap_4h"] for row in vwap_rows(judge)] == [100, 150, 200]
    assert [row["session_vwap"] for row in vwap_rows(judge)] == [100, 150, 200]


def test_vwap_new_day() -> None:
    """At midnight the session starts over: one price, no deviation in units of nothing."""
    judge = judged(
        [(0, "100", "1", "buy"), (60, "200", "2", "sell"), (120, "1", "1", "buy")], LAST_MINUTE
    )
    row = vwap_rows(judge)[1]
    assert part(row, "session_vwap", "session_sd", "deviation_pct", "deviation_sd") == [
        *(200, 0, 0),
        None,
    ]
    assert row["rolling_vwap_24h"] == pytest.approx(500 / 3, rel=1e-15)


# -- footprint and profile -----------------------------------------------------


def test_footprint() -> None:
    """Prices fall to their row of a half; minutes are apart; the open minute is missing."""
    judge = judged(
        [
            (0, "100.99", "1", "buy"),
            (1, "100.49", "2", "sell"),
            (2, "100.5", "4", "sell"),
            (60, "100.4", "8", "buy"),
            (120, "100", "1", "buy"),
        ]
    )
    rows = footprint_rows(judge, Decimal("0.5"))
    assert [part(r, "price", "buy_volume", "sell_volume", "trades") for r in rows] == [
        [100.0, 0.0, 2.0, 1],
        [100.5, 1.0, 4.0, 2],
        [100.0, 8.0, 0.0, 1],
    ]
    assert [r["ts"] - NOON for r in rows] == [timedelta(0), timedelta(0), timedelta(minutes=1)]
    assert footprint_rows(judge, None) == []


FIXTURE = [Fraction(v) for v in (10, 30, 60, 100, 80, 40, 20, 5)]
"""Volumes at 100..107 (linnsoft's and MarketProfile's example)."""


def test_value_area_fixture() -> None:
    """POC 103; by two rows 101-105 holds 310 of 345, by one 102-105 holds 280."""
    assert point_of_control(FIXTURE) == 3
    assert value_area(FIXTURE, 3) == (1, 5)
    assert value_area(FIXTURE, 3, at_once=1) == (2, 5)
    assert sum(FIXTURE[1:6]) == 310
    assert sum(FIXTURE[2:6]) == 280


def fractions(*values: int) -> list[Fraction]:
    """Exact bins."""
    return [Fraction(v) for v in values]


def test_value_area_edges() -> None:
    """Equal sums: up. At an edge what remains: one row, or nothing on that side."""
    assert value_area(fractions(0, 1, 10, 1, 0), 2) == (2, 2)
    assert value_area(fractions(5, 5, 10, 5, 5), 2) == (0, 4)
    assert value_area(fractions(0, 3, 10, 3, 0), 2) == (2, 4)
    # one row above (6) against two below (5)
    assert value_area(fractions(2, 3, 10, 6), 2) == (2, 3)
    # nothing above: down, over empty rows
    assert value_area(fractions(9, 0, 0, 0, 10), 4) == (0, 4)
    # exactly seven tenths is enough
    assert value_area(fractions(3, 7), 1) == (1, 1)


def test_point_of_control_ties() -> None:
    """Nearest the middle, then the lower."""
    assert point_of_control(fractions(9, 0, 9, 0, 0, 0)) == 2
    assert point_of_control(fractions(0, 9, 0, 0, 9, 0)) == 1
    assert point_of_control(fractions(0, 0, 9, 9, 0, 0)) == 2


def test_nodes() -> None:
    """Mean 2.1: peaks above 3.15; valleys below 1.05 but not at the edges; ties go down."""
    bins = fractions(0, 4, 5, 5, 1, 0, 0, 4, 2, 0)
    assert high_nodes(bins) == [2, 7]
    assert low_nodes(bins) == [5]
    many = fractions(*(9, 0) * 7)
    assert high_nodes(many) == [0, 2, 4, 6, 8]
    assert low_nodes(many) == [1, 3, 5, 7, 9]


def test_bins() -> None:
    """61 rows in 50 bins of 1.2: row 6 is the first of bin 5, and the last row is in bin 49."""
    bins = binned({100 + i: Decimal(1) for i in range(61)}, 100, 160)
    assert bins[:6] == [2, 1, 1, 1, 1, 2]
    assert bins[49] == 2
    assert sum(bins) == 61


def test_profile_of_three_prices() -> None:
    """10 at 100, 5 at 125, 20 at 150, bins of 1: worked out by hand."""
    volumes = {100: Decimal(10), 125: Decimal(5), 150: Decimal(20)}
    row = profile_of(volumes, Decimal(1), Decimal(140))
    assert part(row, "low", "high", "bin_size", "total_volume") == [100, 150, 1, 35]
    assert part(row, "poc", "vah", "val") == [149.5, 149.5, 125.5]
    assert row["value_area_pct"] == pytest.approx(100 * 25 / 35, rel=1e-15)
    assert row["hvn"] == [
        {"price": 149.5, "volume": 20.0},
        {"price": 100.5, "volume": 10.0},
        {"price": 125.5, "volume": 5.0},
    ]
    assert row["lvn"] == [{"price": 101.5, "volume": 0.0}, {"price": 126.5, "volume": 0.0}]
    assert part(row, "bias", "bias_strength", "position") == ["BEARISH", "weak", "in_value"]


@pytest.mark.parametrize(
    ("close", "verdict"),
    [
        ("111", ["BULLISH", "strong", "above_value"]),
        ("110", ["BULLISH", "weak", "in_value"]),
        ("106.01", ["BULLISH", "weak", "in_value"]),
        ("106", ["NEUTRAL", "strong", "in_value"]),
        ("104", ["NEUTRAL", "strong", "in_value"]),
        ("103.99", ["BEARISH", "weak", "in_value"]),
        ("100", ["BEARISH", "weak", "in_value"]),
        ("99.99", ["BEARISH", "strong", "below_value"]),
    ],
)
def test_verdicts(close: str, verdict: list[str]) -> None:
    """Value area 100 to 110 about 105: edges are inside, a tenth of it is neutral."""
    value = Value(Fraction(105), Fraction(110), Fraction(100))
    found = value.verdict(Fraction(close))
    assert part(found, "bias", "bias_strength", "position") == verdict


def test_profile_windows() -> None:
    """One price before midnight: a profile without width; after it the session forgets it."""
    judge = judged(
        [
            (0, "100", "2", "buy"),
            (300, "101", "3", "sell"),
            (86400, "102", "1", "buy"),
            (86700, "0.1", "1", "buy"),
        ],
        datetime(2024, 3, 5, 23, 55, tzinfo=UTC),
    )
    session = profile_session_rows(judge, Decimal(1))
    assert [part(r, "low", "high", "total_volume", "bin_size") for r in session] == [
        [100, 100, 2, 0],
        [101, 101, 3, 0],
        [101, 102, 4, 0.02],
    ]
    assert part(session[0], "poc", "vah", "val", "value_area_pct") == [100, 100, 100, 100]
    assert part(session[0], "bias", "bias_strength", "hvn") == ["NEUTRAL", "strong", []]
    day = profile_24h_rows(judge, Decimal(1))
    assert [r["total_volume"] for r in day] == [2, 5, 4]
    assert [r["low"] for r in day] == [100, 100, 101]


# -- wicks and extremes --------------------------------------------------------


def bar(second: float, *prices: str) -> list[Tick]:
    """A few trades of 1 in a row."""
    return [(second + i, price, "1", "buy") for i, price in enumerate(prices)]


def test_wicks() -> None:
    """A high wick at 110, a low one at 95, each reached again by a touch."""
    judge = judged(
        bar(0, "100", "110", "99", "101")  # 9 of 11 above, 1 of 11 below
        + bar(300, "102", "105", "95", "104")  # 1 of 10 above, 7 of 10 below
        + bar(600, "104", "109.9", "95.1", "100")  # comes near, and leaves 5.9 and 4.9 of 14.8
        + bar(900, "100", "110", "95", "95")
        + bar(1200, "100")
    )
    one, two, three, four = wicks_rows(judge)
    assert part(one, "wick_high", "wick_low", "nearest_untouched_high") == [110, None, 110]
    assert part(two, "wick_high", "wick_low", "touched") == [None, 95, []]
    assert part(three, "wick_high", "wick_low") == [109.9, 95.1]
    assert [level["price"] for level in three["untouched_highs"]] == [109.9, 110]
    assert [level["price"] for level in three["untouched_lows"]] == [95.1, 95]
    assert [(t["side"], t["price"], t["created_utc"][11:16]) for t in four["touched"]] == [
        ("high", 109.9, "12:10"),
        ("high", 110.0, "12:00"),
        ("low", 95.0, "12:05"),
        ("low", 95.1, "12:10"),
    ]
    assert part(four, "wick_high", "untouched_lows") == [110, []]
    assert four["untouched_highs"] == [{"price": 110.0, "created_utc": "2024-03-05T12:15:00Z"}]


def test_wick_share() -> None:
    """Exactly three tenths is a wick; nothing at all is none, even of a bar without range."""
    judge = judged(
        bar(0, "100", "110", "107")
        + bar(300, "100", "110", "107.01")
        + bar(600, "5", "5")
        + bar(900, "5")
    )
    assert [row["wick_high"] for row in wicks_rows(judge)] == [110, None, None]


@pytest.mark.parametrize(("days_later", "lives"), [(7 * 86400 - 300, True), (7 * 86400, False)])
def test_wick_expiry(days_later: int, lives: bool) -> None:
    """A bar that opens seven days after the wick's own finds it gone, touched or not."""
    judge = judged(
        bar(0, "100", "110", "100") + bar(days_later, "100", "120") + bar(days_later + 300, "1")
    )
    row = wicks_rows(judge)[1]
    assert [level["price"] for level in row["touched"]] == ([110] if lives else [])
    assert row["untouched_highs"] == []


def test_nearest_wicks() -> None:
    """At equal distance the lower price comes first; ten are named at most."""
    ticks = [t for i in range(12) for t in bar(300 * i, "50", str(200 - i), "50")]
    rows = wicks_rows(judged(ticks + bar(3600, "50")))
    assert [len(r["untouched_highs"]) for r in rows] == [*range(1, 11), 10, 10]
    assert [lv["price"] for lv in rows[-1]["untouched_highs"]] == [*range(189, 199)]
    assert rows[-1]["nearest_untouched_low"] is None


def test_extremes() -> None:
    """Three half hours: the second comes within a tick of the first high, the third does not."""
    judge = judged(
        [
            (0, "100", "1", "buy"),
            (1, "90", "1", "sell"),
            (1800, "99.5", "1", "sell"),
            (1801, "91", "1", "sell"),
            (3600, "100.3", "1", "sell"),
            (3601, "89.9", "1", "buy"),
            (5400, "1", "1", "buy"),
        ]
    )
    names = ("high_tpo", "low_tpo", "poor_high", "poor_low", "unfinished_high", "unfinished_low")
    rows = extremes_rows(judge, Decimal("0.5"))
    assert [part(r, "session_high", "session_low") for r in rows] == [
        [100, 90],
        [100, 90],
        [100.3, 89.9],
    ]
    assert [part(r, *names) for r in rows] == [
        [1, 1, False, False, False, False],
        [2, 1, True, False, False, False],
        [2, 2, True, True, True, False],  # 100.3 and 100 share a row; 89.9 and 90 do not
    ]


def test_extremes_new_day() -> None:
    """Midnight ends the session."""
    ticks = [(0.0, "100", "1", "buy"), (1800.0, "50", "1", "sell"), (3600.0, "60", "1", "buy")]
    rows = extremes_rows(judged(ticks, datetime(2024, 3, 5, 23, 30, tzinfo=UTC)), Decimal(1))
    assert [part(r, "session_high", "high_tpo") for r in rows] == [[100, 1], [50, 1]]


# -- vpin ----------------------------------------------------------------------


def test_buckets_of_the_first_day() -> None:
    """50 in the first half hour: buckets of 48, from the trade at its end on, split exactly."""
    judge = judged(
        [
            (0, "1", "20", "buy"),
            (1799.999, "1", "30", "sell"),
            (1800.001, "1", "100", "buy"),
            (1801.0, "1", "44", "sell"),
        ]
    )
    rows = vpin_rows(judge)
    assert [part(r, "bucket", "bucket_volume", "buy_volume", "sell_volume") for r in rows] == [
        [1, 48, 48, 0],
        [2, 48, 48, 0],
        [3, 48, 4, 44],
    ]
    assert [part(r, "start_utc", "timestamp_utc") for r in rows] == [
        ["2024-03-05T12:30:00.001Z", "2024-03-05T12:30:00.001Z"],
        ["2024-03-05T12:30:00.001Z", "2024-03-05T12:30:00.001Z"],
        ["2024-03-05T12:30:00.001Z", "2024-03-05T12:30:01.000Z"],
    ]
    assert part(rows[0], "vpin", "vpin_cdf", "level") == [None, None, None]


def test_bucket_over_midnight() -> None:
    """The bucket under way keeps its 48; the next has 24 hours of two hours' 300, by 50."""
    judge = judged(
        [
            (0, "1", "50", "buy"),
            (1800, "1", "48", "buy"),
            (3600, "1", "202", "sell"),
            (7200, "1", "20", "sell"),
            (7201, "1", "50", "buy"),
            (7202, "1", "40", "buy"),
        ],
        datetime(2024, 3, 5, 22, tzinfo=UTC),
    )
    buckets = filled_buckets([row.trade for row in judge.accepted])
    # 202 fill four buckets of 48 and begin a sixth with 10: the next day's 20 and 18 end it
    assert [b.size for b in buckets] == [48] * 6 + [72]
    assert [buckets[5].buy, buckets[5].sell] == [18, 30]
    assert [buckets[6].buy, buckets[6].sell] == [72, 0]


def test_day_with_one_trade() -> None:
    """A day's only trade, of 5: one hour of 5 makes 24 times 5 by 50."""
    day = 86400.0
    judge = judged([(0, "1", "1", "buy"), (day, "1", "5", "buy"), (2 * day, "1", "3", "buy")])
    buckets = filled_buckets([row.trade for row in judge.accepted])
    # day two: 0.48 each, ten of them and 0.2 begun; day three: 0.28 fill it, then one of 2.4
    assert [b.size for b in buckets] == [Fraction(48, 100)] * 11 + [Fraction(24, 10)]
    assert buckets[10].start_us < buckets[10].end_us


def test_vpin_of_one_sided_buckets() -> None:
    """Buckets with one trade each have an imbalance of 1; the 50th is the first with a figure."""
    opening: list[Tick] = [(0.0, "1", "50", "buy")]
    each = [(1800.0 + i, "1", "48", "buy" if i % 3 else "sell") for i in range(101)]
    rows = vpin_rows(judged(opening + each))
    assert [r["vpin"] for r in rows] == [None] * 49 + [1.0] * 52
    assert [r["vpin_cdf"] for r in rows] == [None] * 99 + [1.0] * 2
    assert [r["level"] for r in rows] == [None] * 49 + ["extreme"] * 52


def test_share_and_levels() -> None:
    """Fifty values are enough; equal ones count."""
    values = [Fraction(i, 100) for i in range(50)]
    assert share_not_above(values, Fraction(9, 100)) == Fraction(1, 5)
    assert share_not_above(values[1:], Fraction(1)) is None
    edges = ("0.299", "0.3", "0.499", "0.5", "0.7", "0.7001")
    assert [toxicity(Fraction(v)) for v in edges] == [
        *("normal", "elevated", "elevated", "high", "high", "extreme")
    ]


# -- impact --------------------------------------------------------------------


def moves(*points: tuple[str, str], times: int) -> list[Move]:
    """Moves of (x, y), each so many times, on a notional of two million."""
    return [
        Move(Fraction(y), Decimal(y), Decimal(x), Decimal(2))
        for x, y in points
        for _ in range(times)
    ]


def test_impact_by_hand() -> None:
    """Residuals of 1 about a slope of 2 at x of 1 and -1: R2 = 1 - 32/160, se = sqrt(1/30)."""
    window = moves(("1", "3"), ("1", "1"), ("-1", "-1"), ("-1", "-3"), times=8)
    row = impact(window)
    assert part(row, "kyle_lambda", "amihud", "n") == [2, 1, 32]
    assert row["kyle_r2"] == pytest.approx(0.8, rel=1e-15)
    assert row["kyle_se"] == pytest.approx(math.sqrt(1 / 30), rel=1e-15)


def test_impact_without_figures() -> None:
    """Too few bars, or flow that never varies."""
    few = impact(moves(("1", "3"), times=29))
    assert list(few.values()) == [None, None, None, None, 29]
    flat = impact(moves(("1", "3"), times=30))
    assert list(flat.values()) == [None, None, None, None, 30]
    still = impact(moves(("1", "0"), ("-1", "0"), times=15))
    assert list(still.values()) == [0, None, 0, 0, 30]


def test_impact_windows() -> None:
    """The first bar has none before it; the window stops growing at sixty."""
    ticks = [(60.0 * i, "100", str(1 + i % 7), "buy") for i in range(70)]
    assert [row["n"] for row in impact_rows(judged(ticks))] == [*range(60), *[60] * 9]
