from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from pipeline.calc import price_volume
from pipeline.calc.price_volume import (
    Bar,
    Bins,
    Held,
    PriceRows,
    Profile,
    RollingProfile,
    Shape,
    spread,
)
from pipeline.calc.volume_clusters import (
    Band,
    Book,
    Cluster,
    Scoring,
    oi_adjustment,
    peaks,
)
from pipeline.instrument import BASE, Instrument
from pipeline.stage import Context, Input, Joined
from pipeline.stages.vcp import STAGE, Params, describe

from .tick_tape import MIDNIGHT, MINUTE_US
from .vcp_plain import NULLS, plain_rows
from .vcp_tape import (
    BANDS_BPS,
    LENGTHS,
    Layers,
    assert_any_windows,
    at,
    bands,
    books,
    frame,
    interest,
    run,
    tape,
)

SHAPE = Shape(0.3, 0.2)
WITH_INTEREST = replace(
    STAGE,
    inputs=(*STAGE.inputs, Input("open_interest_1m", ("open_interest",), required=False)),
)
SMALL: dict[str, Any] = {
    "lookback": 12,
    "vcp_min_bars": 5,
    "atr_period": 4,
    "bins": 20,
    "sigma_peak": 0.5,
}


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [
        ([], []),
        ([5], []),
        ([1, 3, 1], [1]),
        ([3, 1, 1], []),
        ([1, 1, 3], []),
        ([3, 3, 1, 2, 2], []),
        ([1, 3, 3, 1], [1]),
        ([1, 3, 3, 3, 1], [2]),
        ([1, 3, 3, 3, 3, 1], [2]),
        ([1, 3, 3, 4, 3, 3, 1], [3]),
        ([1, 3, 2, 2, 3, 1], [1, 4]),
        ([0, 1, 2, 2, 3, 0, 9], [4]),
        ([2, 2, 2], []),
        ([1, 0.1 + 0.2 + 3, 3.3, 1], [1]),
        ([1, 3 + 1e-13, 3, 3 + 1e-13, 1], [2]),
    ],
)
def test_peaks(volumes: list[float], expected: list[int]) -> None:
    assert peaks(volumes) == expected


def test_bins() -> None:
    bins = Bins(100.0, 110.0, 10)
    prices = np.array([99.0, 100.0, 100.999, 101.0, 101 - 1e-12, 109.999, 110.0, 111.0])
    assert bins.holding(prices).tolist() == [0, 0, 0, 1, 1, 9, 9, 9]
    assert [bins.centre(k) for k in (0, 9)] == [100.5, 109.5]
    assert bins.centred_in(100.5, 102.5) == [0, 1, 2]
    assert bins.centred_in(100.6, 102.4) == [1]
    assert bins.centred_in(100.6, 101.4) == []
    assert bins.centred_in(100.0, 110.0) == list(range(10))


def bar(
    low: float, high: float, *, rise: int = 0, vwap: float | None = None, start: int = 0
) -> Bar:
    """A bar of ten units, seven of them bought."""
    opened, closed = (low, high)[:: -1 if rise < 0 else 1] if rise else (low, low)
    return Bar(start, opened, high, low, closed, 10.0, 7.0, 3.0, vwap)


def test_a_bar_is_spread_as_a_bell() -> None:
    shares = spread(bar(102, 106, vwap=104.0), Bins(100.0, 110.0, 10), SHAPE)
    assert [k for k, _ in shares] == [2, 3, 4, 5]
    outer, inner = (math.exp(-0.5 * (each / 1.2) ** 2) for each in (1.5, 0.5))
    total = 2 * (outer + inner)
    expected = [outer / total, inner / total, inner / total, outer / total]
    assert [share for _, share in shares] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("rise", [1, -1])
def test_the_bell_leans_to_the_side_of_the_close(rise: int) -> None:
    shares = dict(spread(bar(102, 106, rise=rise, vwap=104.0), Bins(100.0, 110.0, 10), SHAPE))
    assert math.fsum(shares.values()) == pytest.approx(1, abs=1e-15)
    assert shares[4] / shares[3] == pytest.approx((1 + 0.05 * rise) / (1 - 0.05 * rise), rel=1e-13)
    assert shares[5] / shares[2] == pytest.approx((1 + 0.15 * rise) / (1 - 0.15 * rise), rel=1e-13)


def test_the_lean_has_a_limit() -> None:
    """Around a price at the edge of the bar, half of it is farther away than half a range."""
    shares = dict(spread(bar(102, 106, rise=1, vwap=102.0), Bins(100.0, 110.0, 10), SHAPE))
    bell = [math.exp(-0.5 * (each / 1.2) ** 2) for each in (0.5, 1.5, 2.5, 3.5)]
    leaning = [b * f for b, f in zip(bell, (1.05, 1.15, 1.2, 1.2), strict=True)]
    expected = [each / math.fsum(leaning) for each in leaning]
    assert list(shares.values()) == pytest.approx(expected, rel=1e-14)


def test_without_an_average_price_the_middle_of_high_low_and_close() -> None:
    bins = Bins(100.0, 110.0, 10)
    given = bar(102, 106, rise=1)._replace(vwap=(106 + 102 + 106) / 3)
    assert spread(bar(102, 106, rise=1), bins, SHAPE) == spread(given, bins, SHAPE)
    assert spread(bar(103.2, 103.2), bins, SHAPE) == [(3, 1.0)]


@pytest.mark.parametrize(
    ("low", "high", "vwap", "expected"),
    [
        (104.5, 104.5, 104.5, 4),
        (101.6, 102.4, 101.9, 1),
        (101.6, 102.4, 102.1, 2),
        (110.0, 110.0, 110.0, 9),
        (101.6, 102.4, None, 1),
    ],
)
def test_all_in_one_bin(low: float, high: float, vwap: float | None, expected: int) -> None:
    assert spread(bar(low, high, vwap=vwap), Bins(100.0, 110.0, 10), SHAPE) == [(expected, 1.0)]


def test_a_bell_too_narrow_for_any_bin_does_not_vanish() -> None:
    shares = spread(bar(100, 110, vwap=103.1), Bins(100.0, 110.0, 10), Shape(1e-3, 0.2))
    assert math.fsum(share for _, share in shares) == 1
    assert dict(shares)[3] == max(share for _, share in shares)


def test_bins_are_sums_of_doubles_rounded_once() -> None:
    rng = random.Random(4)
    count = 3000
    prices = [rng.randrange(1000, 1100) / 10 for _ in range(count)]
    sizes = [
        [rng.choice((0.0, 1e-18, 0.1, 1e9, 123.456, rng.random())) for _ in prices] for _ in "bs"
    ]
    rows = PriceRows.of(
        np.zeros(count, np.int64), np.array(prices), np.array(sizes[0]), np.array(sizes[1])
    )
    whole = bar(100, 110)
    bins = Bins(100.0, 110.0, 7)
    found = RollingProfile([whole], MINUTE_US, rows, 1, SHAPE).at(0, bins)
    places = bins.holding(np.array(prices)).tolist()
    for k in range(7):
        bought, sold = ([s for s, p in zip(side, places, strict=True) if p == k] for side in sizes)
        assert found.volume[k] == math.fsum(bought + sold)
        assert found.signed[k] == math.fsum(bought + [-each for each in sold])


def test_rows_and_spread_bars_add_up_exactly() -> None:
    bars = [bar(100, 110, vwap=105.0, start=i * MINUTE_US) for i in range(3)]
    ts = np.array([0, 0, 2 * MINUTE_US], np.int64)
    rows = PriceRows.of(ts, np.array([100.0, 104.9, 104.9]), np.full(3, 0.1), np.full(3, 0.3))
    bins = Bins(100.0, 110.0, 10)
    profile = RollingProfile(bars, MINUTE_US, rows, 3, SHAPE).at(2, bins)
    shares = dict(spread(bars[1], bins, SHAPE))
    assert profile.volume[0] == math.fsum((0.1, 0.3, 10 * shares[0]))
    assert profile.volume[4] == math.fsum((0.1, 0.3, 0.1, 0.3, 10 * shares[4]))
    assert profile.signed[4] == math.fsum((0.1, -0.3, 0.1, -0.3, 4 * shares[4]))
    assert profile.signed[9] == 4 * shares[9]


@pytest.mark.parametrize("long_axis", [5, 50_000])
def test_a_profile_that_goes_on_is_as_one_made_anew(
    long_axis: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bar after bar, over volumes that do and that do not go together; some bars are bare."""
    monkeypatch.setattr(price_volume, "_LONG_AXIS", long_axis)
    rng, lookback, went_on = random.Random(long_axis), 7, 0
    bars = [bar(100, 110, vwap=105.0, start=i * MINUTE_US) for i in range(120)]
    spread_out = [1e-18, 0.1, 1e9, 123.456, 7.0]
    ts, price, sizes = [], [], []
    for i in range(len(bars)):
        kinds = spread_out if i % 20 == 19 else [0.25, 0.1, 9.75]
        for _ in range(5 if i % 20 == 19 else rng.choice((0, 1, 5))):
            ts.append(i * MINUTE_US)
            price.append(rng.randrange(1000 + i, 1050 + i) / 10)
            sizes.append((rng.choice(kinds), rng.choice(kinds)))
    columns = [np.array(ts, np.int64), np.array(price), *np.array(sizes).T]
    held: Held | None = None
    for last in range(len(bars)):
        first = max(0, last + 1 - lookback)
        bins = Bins(100.0 + last / 10, 113.0 + last / 10, 9)
        minutes = columns[0] // MINUTE_US
        at_hand = (minutes >= first) & (minutes <= last)
        anew = RollingProfile(
            bars, MINUTE_US, PriceRows.of(*(each[at_hand] for each in columns)), lookback, SHAPE
        )
        moving = (minutes == last) | (minutes == last - lookback)
        more = None if held is None else PriceRows.behind(held, *(each[moving] for each in columns))
        if more is not None:
            went_on += 1
            going = RollingProfile(bars, MINUTE_US, more, lookback, SHAPE, held)
            assert going.at(last, bins) == anew.at(last, bins)
            held = going.held()
        else:
            anew.hold(last)
            held = anew.held()
    assert 60 < went_on < len(bars) - 1


def book(*notional: float | None, other: float | None = 1.0) -> Book:
    """A book around 1000 whose bids are given."""
    return Book(
        1000.0, [Band(bps, bid, other) for bps, bid in zip(BANDS_BPS, notional, strict=True)]
    )


@pytest.mark.parametrize(
    ("bps", "notional", "expected"),
    [
        # 100 in all to 100 bps: 1 a bps
        (3, (20, 20, 20, 20, 20), 4),
        (5, (20, 20, 20, 20, 20), 4),
        (5.000001, (30, 10, 20, 20, 20), 2),
        (10, (30, 10, 20, 20, 20), 2),
        (10.1, (30, 10, 30, 20, 10), 2),
        (50, (30, 10, 20, 25, 15), 1),
        (100, (30, 10, 20, 25, 15), 0.3),
        (100.001, (30, 10, 20, 25, 15), None),
        # nulls and zeros at the end lie beyond the feed, here at 25 bps
        (3, (20, 20, 10, None, 0), 2),
        (25, (20, 20, 10, 0, None), 1 / 3),
        (25.001, (20, 20, 10, 0, None), None),
        # those in between count 0
        (7, (25, None, 25, None, None), 0),
        (3, (25, None, 25, None, None), 2.5),
        (30, (50, 0, None, 0, 50), 0),
        (3, (None, None, None, None, None), None),
        (3, (0, 0, 0, 0, 0), None),
    ],
)
def test_density_of_orders(
    bps: float, notional: tuple[float | None, ...], expected: float | None
) -> None:
    found = book(*notional).ob_ratio(1000 * (1 - bps / 1e4))
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-9))


def test_which_side_of_the_book() -> None:
    sides = Book(1000.0, [Band(5, 10.0, 20.0), Band(10, 10.0, 0.0)])
    assert sides.ob_ratio(999.3) == 1
    assert sides.ob_ratio(1000.3) == 1
    assert sides.ob_ratio(1000.7) is None
    # at the mid itself it is the asks
    assert Book(1000.0, [Band(5, 0.0, 20.0)]).ob_ratio(1000.0) == 1
    assert Book(1000.0, [Band(5, 20.0, 0.0)]).ob_ratio(1000.0) is None


@pytest.mark.parametrize(
    ("now", "first", "expected"),
    [
        (None, 100.0, None),
        (100.0, None, None),
        (100.0, 100.0, 1),
        (120.0, 100.0, 1.2),
        (200.0, 100.0, 1.5),
        (10.0, 100.0, 0.5),
        (0.0, 100.0, 0.5),
    ],
)
def test_open_interest(now: float | None, first: float | None, expected: float | None) -> None:
    assert oi_adjustment(now, first) == expected


def test_a_cluster_by_hand() -> None:
    volume = [0.0, 0.0, 10.0, 0.0, 0.0]
    profile = Profile(Bins(100.0, 105.0, 5), volume, [0.0, 0.0, -4.0, 0.0, 0.0])
    # mean 2, sd 4; 10 is 2 sd above
    scoring = Scoring(sigma_peak=1.5, strength_sigmas=4, proximity_k=3)
    density = Book(103.0, [Band(100.0, 30.0, 0.0)])
    (found,) = scoring.clusters(profile, 105.5, 2.0, density, 1.2)
    away = 1.5
    score = 0.5 * (0.5 + 0.25) * 1.2 / 1.5 * math.exp(-away / 3)
    assert found == pytest.approx(
        Cluster(102.5, 10, 0.5, -0.4, 1, 1.2, away, score, score / 1.5), rel=1e-14
    )
    (bare,) = scoring.clusters(profile, 105.5, 2.0, None, None)
    score = 0.5 * 0.75 / 1.5 * math.exp(-0.5)
    assert bare[4:6] == (None, None)
    assert bare[7:] == pytest.approx((score, score / 1.5), rel=1e-14)
    assert not replace(scoring, sigma_peak=2).clusters(profile, 105.5, 2.0, None, None)
    flat = Profile(profile.bins, [0.3] * 5, [0.0] * 5)
    assert not replace(scoring, sigma_peak=0).clusters(flat, 105.5, 2.0, None, None)


def cluster(price: float, bias: float, score: float, difficulty: float) -> Cluster:
    """A cluster of which only this matters."""
    return Cluster(price, 1.0, 1.0, bias, None, None, 1.0, score, difficulty)


def test_sums_by_hand() -> None:
    found = describe(
        [
            cluster(98, 0.5, 0.4, 0.2),
            cluster(99, -0.5, 0.3, 0.1),
            cluster(100, 0.5, 0.2, 0.4),
            cluster(101, -0.1, 0.1, 0.5),
            cluster(102, 0.1, 0.5, 0.5),
            cluster(103, 0.0, 0.1, 0.0),
        ],
        100.0,
    )
    expected = (0.3 / (0.5 + 1e-12), 0.4, 0.1, 1 / 2, 1 / 1.3, 1 / 2.7, 1 - math.exp(-1.6))
    assert found[1:] == pytest.approx(expected, rel=1e-14)
    assert [each["price"] for each in found[0]] == [98, 99, 100, 101, 102, 103]
    names = "price volume strength ofi_bias ob_ratio oi_adj distance_atr score difficulty"
    assert " ".join(found[0][0]) == names
    assert describe([], 100.0) == ([], 0, 0, 0, 1, 1, 1, 0)


# the stage


def flat(count: int, price: float = 100.0) -> Layers:
    """Minutes of one trade each at one price, every five minutes."""
    rows = [(at(5 * i), price, 1.0, 0.5) for i in range(count)]
    bars = {}
    for length in LENGTHS:
        starts = sorted({ts // (length * MINUTE_US) * length * MINUTE_US for ts, *_ in rows})
        bars[f"bars_{length}m"] = [(start, *(price,) * 4, 1.5, 1.0, 0.5, price) for start in starts]
    return {"footprint": rows, **bars}


def test_price_never_moved() -> None:
    rows = run(STAGE, flat(25))["vcp_5m"]
    for i, row in enumerate(rows):
        assert row["clusters"] == []
        assert row["atr_14"] == (None if i < 13 else 0)
        if i < 19:
            assert {key: row[key] for key in NULLS} == NULLS
        else:
            assert [row[key] for key in NULLS] == [0, 0, 0, 1, 1, 1, 0]


def test_warm_up() -> None:
    rows = run(STAGE, tape(1, 400, quiet=0))["vcp_5m"]
    assert len(rows) == 80
    for i, row in enumerate(rows):
        assert (row["atr_14"] is None) == (i < 13)
        assert (row["vcp_combined"] is None) == (i < 19)
        assert i >= 19 or row["clusters"] == []
    late = run(STAGE, tape(1, 400, quiet=0), vcp_min_bars=3)["vcp_5m"]
    assert [row["vcp_combined"] is None for row in late] == [True] * 13 + [False] * 67
    assert late[30:] == rows[30:]


def test_a_profile_by_hand() -> None:
    """Three bars from 100 to 105 with one price that stands out, bought, 1.5 below the close."""
    bars = [
        (at(0), 100.0, 104.0, 100.0, 104.0, 9.0, 6.0, 3.0, 102.0),
        (at(5), 104.0, 105.0, 101.0, 105.0, 9.0, 6.0, 3.0, 102.0),
        (at(25), 105.0, 105.0, 104.0, 104.0, 2.0, 2.0, 0.0, 104.5),
    ]
    rows = [
        (at(0), 100.0, 1.0, 1.0),
        (at(1), 102.0, 5.0, 2.0),
        (at(9), 102.1, 6.0, 3.0),
        (at(29), 104.0, 2.0, 0.0),
    ]
    layers: Layers = {"footprint": rows, "bars_5m": bars, "bars_15m": [], "bars_30m": []}
    params: dict[str, Any] = {"lookback": 3, "vcp_min_bars": 3, "atr_period": 3, "bins": 5}
    found = run(STAGE, layers, **params)["vcp_5m"]
    assert [row["clusters"] for row in found[:2]] == [[], []]
    # volumes 2 0 16 0 2, mean 4, sd 6.066
    (only,) = found[2]["clusters"]
    atr = (4 + 4 + 1) / 3
    strength = 12 / (4 * math.sqrt((4 + 16 + 144 + 16 + 4) / 5))
    score = strength * 0.75 / 1.5 * math.exp(-0.5 / 3)
    assert_close(
        only,
        {
            "price": 102.5,
            "volume": 16.0,
            "strength": strength,
            "ofi_bias": 6 / 16,
            "ob_ratio": None,
            "oi_adj": None,
            "distance_atr": 1.5 / atr,
            "score": score,
            "difficulty": score / 1.5,
        },
    )
    assert found[2]["atr_14"] == atr
    assert found[2]["support_score"] == only["score"]
    assert found[2]["runway_short"] == found[2]["runway_score"] < 1
    assert found[2]["runway_long"] == 1


def test_the_book_of_a_bar_is_that_of_its_latest_minute_with_bands() -> None:
    layers = tape(3, 200, quiet=0)
    orders = bands((1e6, 1e6, 1e6, 1e6, 1e6), (1e6, 1e6, 1e6, 1e6, 1e6))
    last = max(row[0] for row in layers["bars_5m"])

    def ratios(micro: list[tuple[Any, ...]], buckets: list[tuple[Any, ...]]) -> set[bool]:
        found = run(STAGE, {**layers, "micro_1m": micro, "buckets_1m": buckets}, **SMALL)["vcp_5m"]
        assert found[-1]["clusters"]
        for row in found[:-1]:
            assert all(each["ob_ratio"] is None for each in row["clusters"])
        return {each["ob_ratio"] is not None for each in found[-1]["clusters"]}

    mid = layers["bars_5m"][-1][4]
    assert ratios([(last, mid)], [(last, orders)]) == {True}
    assert ratios([(last + 4 * MINUTE_US, mid)], [(last + 4 * MINUTE_US, orders)]) == {True}
    assert ratios([(last, mid)], [(last, orders), (last + MINUTE_US, orders)]) == {False}
    assert ratios([(last, None)], [(last, orders)]) == {False}
    assert ratios([(last + 5 * MINUTE_US, mid)], [(last + 5 * MINUTE_US, orders)]) == {False}
    empty = bands((None,) * 5, (None,) * 5)
    assert ratios([(last, mid)], [(last, empty)]) == {False}


def test_how_old_open_interest_may_be() -> None:
    layers = tape(3, 200, quiet=0)
    end = max(row[0] for row in layers["bars_5m"]) + 5 * MINUTE_US

    def known(minutes: int, **params: Any) -> bool:
        amounts = [(at(19), 100.0), (end - (minutes + 1) * MINUTE_US, 110.0)]
        given = {**layers, "open_interest_1m": amounts}
        row = run(WITH_INTEREST, given, **SMALL | params)["vcp_5m"][-1]
        (found,) = {each["oi_adj"] for each in row["clusters"]}
        return found is not None

    assert known(0)
    assert not known(-1, oi_max_age_s=60)
    assert known(60)
    assert not known(61)
    assert known(2, oi_max_age_s=120)
    assert not known(2, oi_max_age_s=119)


# everything at once, against a plain reading of the rules


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same keys, nulls at the same places, numbers up to rounding."""
    assert list(found) == list(expected)
    for key, value in expected.items():
        ours = found[key]
        assert (ours is None) == (value is None), key
        if value is not None:
            assert ours == pytest.approx(value, rel=1e-9, abs=1e-12), key


def assert_as_plain(found: dict[str, list[dict[str, Any]]], layers: Layers, params: Params) -> int:
    """Compare all rows; gives the number of clusters."""
    clusters = 0
    for length in LENGTHS:
        expected = plain_rows(layers, length, params)
        for row, other in zip(found[f"vcp_{length}m"], expected, strict=True):
            ours, theirs = row.pop("clusters"), other.pop("clusters")
            assert_close(row, other)
            for one, another in zip(ours, theirs, strict=True):
                assert_close(one, another)
            clusters += len(ours)
    return clusters


def lossy(layers: Layers, seed: int) -> Layers:
    """Some half hours without price rows."""
    rng = random.Random(seed)
    gone = {cell for cell in range(MIDNIGHT // (30 * MINUTE_US), 10**6) if rng.random() < 0.3}
    rows = [row for row in layers["footprint"] if row[0] // (30 * MINUTE_US) not in gone]
    return {**layers, "footprint": rows}


@pytest.mark.parametrize("source", ["auto", "gaussian"])
@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_any_windows_give_the_rows_of_a_plain_loop(seed: int, source: str) -> None:
    layers = {**tape(seed, 700), **books(seed, 700), **interest(seed, 700)}
    if seed:
        layers = lossy(layers, seed)
    params = {**SMALL, "profile_source": source}
    found = assert_any_windows(WITH_INTEREST, layers, seed, **params)
    assert assert_as_plain(found, layers, Params(**params)) > 100


def test_windows_that_end_before_the_look_back_is_full() -> None:
    layers = tape(5, 500, tick=Decimal("0.5"))
    params = {**SMALL, "lookback": 1000, "sigma_peak": 1.0}
    found = assert_any_windows(STAGE, layers, 5, **params)
    assert_as_plain(found, layers, Params(**params))


@pytest.mark.parametrize("lookback", [1, 2])
def test_the_shortest_look_backs(lookback: int) -> None:
    layers = tape(6, 400)
    params = {**SMALL, "lookback": lookback, "vcp_min_bars": 1, "atr_period": 2}
    found = assert_any_windows(STAGE, layers, 6, **params)
    assert assert_as_plain(found, layers, Params(**params)) > 10


def test_defaults_over_full_look_backs() -> None:
    layers = {**tape(7, 1600, quiet=0.02), **books(7, 1600), **interest(7, 1600)}
    found = run(WITH_INTEREST, layers, [at(5 * i) for i in range(310, 330)])
    assert len(found["vcp_5m"]) > 220
    assert assert_as_plain(found, layers, Params()) > 20


def test_an_atr_of_nothing_leaves_no_distances() -> None:
    layers = tape(6, 200, quiet=0)
    start = layers["bars_5m"][-1][0]
    still = (start, *(1000.0,) * 4, 1.0, 1.0, 0.0, 1000.0)
    layers["bars_5m"] = [*layers["bars_5m"][:-2], still]
    layers["bars_5m"] = [*layers["bars_5m"][:-1], (start - 5 * MINUTE_US, *still[1:]), still]
    row = run(STAGE, layers, **{**SMALL, "atr_period": 1})["vcp_5m"][-1]
    assert row == {"at": start, "clusters": [], **NULLS, "atr_14": 0}


@pytest.mark.parametrize(
    "values",
    [
        {"lookback": 0},
        {"vcp_min_bars": 0},
        {"bins": 0},
        {"profile_source": "bell"},
        {"gauss_width": 0},
        {"direction_tilt": 1},
        {"direction_tilt": -0.1},
        {"sigma_peak": -1},
        {"sigma_peak": math.inf},
        {"strength_sigmas": 0},
        {"proximity_k": math.nan},
        {"oi_max_age_s": -1},
        {"atr_period": 0},
        {"window": 5},
    ],
)
def test_parameters_that_make_no_sense(values: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, Params, strict=False)


def test_parameters_of_a_settings_file() -> None:
    given = {"gauss_width": Decimal("0.25"), "bins": 50, "profile_source": "gaussian"}
    params = msgspec.convert(given, Params, strict=False)
    assert params == Params(gauss_width=0.25, bins=50, profile_source="gaussian")


def test_state_stays_small() -> None:
    minutes = 30 * 210
    rows = [(at(5 * i), 100.0 + i % 7, 1.0, 0.5) for i in range(minutes // 5)]
    layers: Layers = {"footprint": rows}
    for length in LENGTHS:
        layers[f"bars_{length}m"] = [
            (at(minute), 100.0, 106.0, 100.0, 103.0, 1.5, 1.0, 0.5, 103.0)
            for minute in range(0, minutes, length)
        ]
    layers["open_interest_1m"] = [
        (at(minute), 81_234.5678901 + minute) for minute in range(0, minutes, 5)
    ]
    sizes: list[int] = []
    run(WITH_INTEREST, layers, sizes=sizes)
    assert sizes[-1] < 30_000
    del layers["open_interest_1m"]
    run(STAGE, layers, sizes=sizes)
    assert sizes[-1] < 500


def test_one_more_bar_is_quick() -> None:
    """A bar of each length at once behind full look-backs with 60 price rows a minute."""
    rng = np.random.default_rng(1)
    minutes = 200 * 30
    price = 60_000 + np.repeat(np.cumsum(rng.normal(0, 8, minutes)).round(), 60)
    price += np.tile(np.arange(60), minutes) / 10
    footprint = pl.DataFrame(
        {
            "ts": np.repeat(MIDNIGHT + np.arange(minutes) * MINUTE_US, 60),
            "price": price.round(1),
            "buy_volume": rng.integers(0, 5000, minutes * 60) / 1000,
            "sell_volume": rng.integers(0, 5000, minutes * 60) / 1000,
        }
    )
    frames = {"footprint": footprint}
    for length in LENGTHS:
        rows = []
        for minute in range(minutes - 200 * length, minutes, length):
            part = price[minute * 60 : (minute + length) * 60]
            ends = float(part[0]), float(part.max()), float(part.min()), float(part[-1])
            rows.append((at(minute), *ends, 500.0, 300.0, 200.0, ends[0]))
        frames[f"bars_{length}m"] = frame(f"bars_{length}m", rows)
    context = Context(Instrument("okx", "perps", "X"), BASE, Params(atr_period=1), at(minutes))
    joined = Joined(frames, at(minutes - 5), at(minutes))
    took = []
    for _ in range(5):
        began = time.perf_counter()
        closed = STAGE.fold(joined, STAGE.carry(), context)
        took.append(time.perf_counter() - began)
    assert all(len(rows) == 1 and rows[0][1][0] for rows in closed.rows.values())
    assert min(took) < 0.2
