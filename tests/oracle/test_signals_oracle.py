"""The signal oracle on tables worked out by hand: every limit, from both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from .cells import MINUTE_US, stamp
from .ipu import (
    Flow,
    Move,
    agreement_of,
    drift_of,
    exhaustion_columns,
    expansion,
    ipu_rows,
    lambda_boost,
    order_flow_quality,
    price_efficiency,
    urgency_class,
    wick_of,
    xfactor_columns,
)
from .layers import Row
from .signal_bars import (
    Bar,
    Feed,
    Feeds,
    IpuParams,
    MtfParams,
    SignalParams,
    VcpParams,
    above,
    at_least,
    atr,
    clip,
    clip01,
    equal,
    last,
    mean,
    median,
    params_of,
    sgn,
    spread,
)
from .signals import expected_layers, last_whole, mtf_columns, signal_row
from .vcp import (
    Book,
    Grid,
    Profile,
    cluster_of,
    figures_of,
    interest_ratio,
    open_interest_at,
    peaks_of,
    profile_of,
    shares_of,
    vcp_rows,
)

START = 1_709_640_000_000_000
"""2024-03-05 12:00 UTC."""
FIVE = 5 * MINUTE_US
HEAD = {"instId": "AAA", "exchange": "acme", "market": "spot"}
Prices = tuple[float, float, float, float]


def bar_row(number: int, prices: Prices, buy: float = 5.0, sell: float = 5.0, **more: Any) -> Row:
    """A committed 5m bar, as far as anything here reads it."""
    row: Row = {"timestamp_utc": stamp(START + number * FIVE)} | HEAD
    row |= dict(zip(("open", "high", "low", "close"), prices, strict=True))
    row |= {"volume": buy + sell, "buy_volume": buy, "sell_volume": sell}
    return row | {"vwap": prices[3], "trades": 10, "gaps": 0} | more


def bar(prices: Prices, buy: float = 5.0, sell: float = 5.0, **more: Any) -> Bar:
    """One bar."""
    return Bar(bar_row(0, prices, buy, sell, **more), START, START + FIVE)


def feeds(rows: Sequence[Row], **more: Feed) -> Feeds:
    """Feeds of 5m bars alone, and what is named."""
    return Feeds({"5m": Feed(rows), "15m": Feed([]), "30m": Feed([])}, **more)


def minute_row(minute: int, **columns: Any) -> Row:
    """A row of a layer of minutes."""
    return {"timestamp_utc": stamp(START + minute * MINUTE_US)} | HEAD | columns


# -- comparisons -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "is_above"),
    [
        (1.0, 1.0, False),
        (1.0 + 2e-12, 1.0, True),
        (1.0 + 0.5e-12, 1.0, False),
        (1.5e-12, 0.0, True),
        (0.9e-12, 0.0, False),
        (60_000.0 + 1e-7, 60_000.0, True),
        (60_000.0 + 5e-8, 60_000.0, False),
        (-1.0, -1.0 - 2e-12, True),
        (0.1 + 0.2, 0.3, False),
        (0.7 * 10, 7.0, False),
    ],
)
def test_above(a: float, b: float, is_above: bool) -> None:
    """1e-12 of the larger side, at least 1e-12."""
    assert above(a, b) == is_above
    assert at_least(b, a) == (not is_above)


def test_equal_and_sign() -> None:
    """What is neither above nor below."""
    assert equal(0.1 + 0.2, 0.3)
    assert not equal(1.0, 1.0 + 1e-11)
    assert [sgn(x) for x in (1e-13, -1e-13, 2e-12, -2e-12, 0.0)] == [0, 0, 1, -1, 0]


def test_small_things() -> None:
    """Clips, medians, means over holes, ddof 0."""
    assert [clip(x, 0.5, 1.5) for x in (0.2, 0.5, 1.1, 1.5, 9.0)] == [0.5, 0.5, 1.1, 1.5, 1.5]
    assert [clip01(x) for x in (-0.1, 0.0, 0.4, 1.0, 1.1)] == [0.0, 0.0, 0.4, 1.0, 1.0]
    assert (median([3.0, 1.0, 2.0]), median([4.0, 1.0, 3.0, 2.0])) == (2.0, 2.5)
    assert (mean([1.0, None, 2.0]), mean([None]), mean([])) == (1.5, None, None)
    assert (last([1.0, None, 2.0, None]), last([None])) == (2.0, None)
    assert spread([1.0, 3.0]) == (2.0, 1.0)


def test_average_true_range() -> None:
    """Null for thirteen bars, their mean with the fourteenth, then a fourteenth of each."""
    rows = [bar((100.0, 101.0, 100.0, 100.5)) for _ in range(13)]
    rows.append(bar((104.0, 105.0, 104.5, 104.75)))  # 4.5 from the close before
    rows.append(bar((100.0, 100.5, 99.75, 100.0)))  # 5 below the close before
    found = atr(rows, 14)
    assert found[:13] == [None] * 13
    assert found[13] == pytest.approx((13 + 4.5) / 14, rel=1e-15)
    assert found[14] == pytest.approx((13 * 1.25 + 5.0) / 14, rel=1e-15)


# -- vcp ---------------------------------------------------------------------------------


def test_bins() -> None:
    """An edge belongs to the bin above it, rounding or not; beyond the ends the outermost."""
    grid = Grid(100.0, 101.0, 10)
    prices = (99.0, 100.0, 100.0999, 100.1, 100.3, 100.95, 101.0, 102.0)
    assert [grid.bin_of(p) for p in prices] == [0, 0, 0, 1, 3, 9, 9, 9]
    assert grid.centre(0) == pytest.approx(100.05)
    assert Grid(0.0, 0.3, 3).bin_of(0.1 + 0.1) == 2


def test_the_bell() -> None:
    """Three bins of a bar that rose: weighed by distance, tilted to the top."""
    grid, params = Grid(100.0, 104.0, 4), VcpParams()
    one = bar((101.0, 103.5, 100.5, 103.0), vwap=102.0)
    half = math.exp(-0.5 * (0.5 / 0.9) ** 2)
    weights = {
        0: math.exp(-0.5 * (1.5 / 0.9) ** 2) * (1 - 0.2),
        1: half * (1 - 0.2 / 3),
        2: half * (1 + 0.2 / 3),
        3: math.exp(-0.5 * (1.5 / 0.9) ** 2) * (1 + 0.2),
    }
    assert shares_of(one, grid, params) == pytest.approx(
        {k: w / sum(weights.values()) for k, w in weights.items()}
    )
    even = shares_of(bar((102.0, 103.5, 100.5, 102.0), vwap=102.0), grid, params)
    assert even[1] == pytest.approx(even[2])
    fell = shares_of(bar((103.0, 103.5, 100.5, 101.0), vwap=102.0), grid, params)
    assert fell[1] > fell[2]


def test_the_bell_where_there_is_none() -> None:
    """No range, or no centre inside: all of it where the average price is."""
    grid, params = Grid(100.0, 104.0, 4), VcpParams()
    assert shares_of(bar((102.2, 102.2, 102.2, 102.2)), grid, params) == {2: 1.0}
    assert shares_of(bar((101.6, 102.4, 101.6, 101.7), vwap=101.9), grid, params) == {1: 1.0}
    assert shares_of(bar((101.6, 102.4, 101.6, 102.3), vwap=None), grid, params) == {2: 1.0}


def test_prints_before_bells() -> None:
    """Price rows where there are any, unless all is to be Gaussian; signed by side."""
    bars = [bar((100.0, 100.0, 100.0, 100.0)), bar((103.0, 104.0, 103.0, 103.2), 7.0, 1.0)]
    prints = [[(100.0, 2.0, 1.0), (103.9, 1.0, 3.0)], []]
    profile = profile_of(bars, prints, VcpParams(bins=4))
    assert profile is not None
    assert profile.volumes == [3.0, 0.0, 0.0, 12.0]
    assert profile.signed == [1.0, 0.0, 0.0, 4.0]
    profile = profile_of(bars, prints, VcpParams(bins=4, profile_source="gaussian"))
    assert profile is not None
    assert profile.volumes == [10.0, 0.0, 0.0, 8.0]
    assert profile_of(bars[:1], prints[:1], VcpParams()) is None


FLAT = [0.0] * 8


@pytest.mark.parametrize(
    ("volumes", "peaks"),
    [
        ([0.0, 9.0, *FLAT], [1]),
        ([9.0, 0.0, *FLAT], []),
        ([*FLAT, 0.0, 9.0], []),
        ([0.0, 9.0, 9.0, *FLAT, *FLAT], [1]),
        ([0.0, 9.0, 9.0, 9.0, *FLAT, *FLAT], [2]),
        ([0.0, 9.0, 9.0, 9.0, 9.0, *FLAT, *FLAT, *FLAT], [2]),
        ([0.0, 9.0, 9.0 + 1e-13, 9.0, *FLAT, *FLAT], [2]),
        ([9.0, 9.0, 0.0, *FLAT, *FLAT], []),
        ([0.0, 8.0, 9.0, 9.0, 8.0, *FLAT, *FLAT, *FLAT], [2]),
        ([0.0, 9.0, 9.0, 10.0, *FLAT, *FLAT, *FLAT], [3]),
        ([0.0, 9.0, 0.0, 9.0, *FLAT, *FLAT], [1, 3]),
        ([5.0] * 10, []),
    ],
)
def test_peaks(volumes: list[float], peaks: list[int]) -> None:
    """The lower middle of a plateau, no edges, above both neighbours."""
    assert peaks_of(volumes, VcpParams()) == peaks


def test_peaks_stand_out() -> None:
    """Exactly so many standard deviations over the mean are too few."""
    volumes = [0.0, 2.0, 0.0, 2.0]  # mean 1, deviation 1
    assert peaks_of(volumes, VcpParams(sigma_peak=1.0)) == []
    assert peaks_of(volumes, VcpParams(sigma_peak=1.0 - 1e-9)) == [1]


def bands(*notionals: float | None) -> list[Row]:
    """Bands whose asks are these, and whose bids are ten times that."""
    return [
        {"bps": bps, "bid_notional": n and n * 10, "ask_notional": n}
        for bps, n in zip((5, 10, 25, 50, 100), notionals, strict=True)
    ]


@pytest.mark.parametrize(
    ("away_bps", "notionals", "ratio"),
    [
        (3.0, (100.0, 50.0, 150.0, None, 0.0), 20 / 12),
        (0.0, (100.0, 50.0, 150.0, None, 0.0), 20 / 12),
        (5.0, (100.0, 50.0, 150.0, None, 0.0), 20 / 12),
        (5.001, (100.0, 50.0, 150.0, None, 0.0), 10 / 12),
        (10.0, (100.0, 50.0, 150.0, None, 0.0), 10 / 12),
        (25.0, (100.0, 50.0, 150.0, None, 0.0), 10 / 12),
        (25.001, (100.0, 50.0, 150.0, None, 0.0), None),
        (7.0, (100.0, None, 200.0, 0.0, 0.0), 0.0),
        (20.0, (100.0, None, 200.0, 0.0, 0.0), (200 / 15) / 12),
        (60.0, (0.0, 0.0, 0.0, 0.0, 100.0), 2.0),
        (40.0, (0.0, 0.0, 0.0, 0.0, 100.0), 0.0),
        (100.001, (1.0, 1.0, 1.0, 1.0, 1.0), None),
        (3.0, (0.0, None, 0.0, None, None), None),
    ],
)
def test_book_ratio(
    away_bps: float, notionals: tuple[float | None, ...], ratio: float | None
) -> None:
    """The density of a band against all up to the last that shows anything."""
    book = Book(10_000.0, bands(*notionals))
    wanted = ratio if ratio is None else pytest.approx(ratio)
    assert book.ratio(10_000.0 + away_bps) == wanted
    if away_bps:
        assert book.ratio(10_000.0 - away_bps) == wanted


def test_book_sides() -> None:
    """Below the mid it is the bids that matter, at the mid the asks."""
    book = Book(10_000.0, [{"bps": 5, "bid_notional": 0.0, "ask_notional": 7.0}])
    assert (book.ratio(9999.0), book.ratio(10_000.0), book.ratio(10_001.0)) == (None, 1.0, 1.0)


def interest(*values: tuple[int, float | None]) -> Feed:
    """Open interest by minute."""
    return Feed([minute_row(minute, open_interest=value) for minute, value in values])


def test_open_interest() -> None:
    """The latest known by the bar's end, not older than an hour."""
    params, late = VcpParams(), Bar(bar_row(24, (1, 1, 1, 1)), START + 24 * FIVE, START + 25 * FIVE)
    end = 125
    assert open_interest_at(interest((end - 61, 7.0)), late, params) == 7.0
    assert open_interest_at(interest((end - 62, 7.0)), late, params) is None
    assert open_interest_at(interest((end - 1, 8.0), (end, 9.0)), late, params) == 8.0
    assert open_interest_at(interest((end - 3, 8.0), (end - 2, None)), late, params) == 8.0
    assert open_interest_at(None, late, params) is None
    assert interest_ratio([None, 0.0, 50.0, 60.0]) == 1.2
    assert interest_ratio([50.0, 10.0]) == 0.5
    assert interest_ratio([50.0, 100.0]) == 1.5
    assert interest_ratio([50.0, None]) is None
    assert interest_ratio([0.0, None]) is None


def test_cluster() -> None:
    """One cluster in figures."""
    volumes = [0.0, 10.0, *[0.0] * 8]  # mean 1, deviation 3
    profile = Profile(Grid(100.0, 110.0, 10), volumes, [0.0, -4.0, *[0.0] * 8])
    book = Book(101.5, bands(30.0, 30.0, 0.0, 0.0, 0.0))
    row = cluster_of(profile, 1, 104.5, 2.0, book, 1.2, VcpParams())
    strength, near = 9 / 12, math.exp(-0.5)
    score = strength * 1.0 * 1.2 / 1.5 * near  # the book is half as dense again: ob .5
    assert row == pytest.approx(
        {
            "price": 101.5,
            "volume": 10.0,
            "strength": strength,
            "ofi_bias": -0.4,
            "ob_ratio": 1.0,
            "oi_adj": 1.2,
            "distance_atr": 1.5,
            "score": score * 0.75,
            "difficulty": score * 0.75 / 1.5,
        }
    )
    bare = cluster_of(profile, 1, 104.5, 2.0, None, None, VcpParams())
    assert (bare["ob_ratio"], bare["oi_adj"]) == (None, None)
    assert bare["score"] == pytest.approx(strength * 0.75 / 1.5 * near)


def test_figures() -> None:
    """Below and bought supports, overhead and sold resists; the rest only stands in the way."""

    def one(price: float, bias: float, score: float) -> Row:
        return {"price": price, "ofi_bias": bias, "score": score, "difficulty": score / 2}

    clusters = [
        *(one(98.0, 0.1, 0.4), one(99.0, -0.1, 0.2), one(99.5, 0.0, 0.1)),
        *(one(100.0, 0.5, 0.3), one(101.0, -0.2, 0.1), one(102.0, 0.2, 0.6)),
    ]
    found = figures_of(clusters, 100.0)
    assert found["support_score"] == 0.4
    assert found["resistance_score"] == 0.1
    assert found["structural_bias"] == pytest.approx(0.6)
    assert found["runway_long"] == pytest.approx(1 / 1.35)
    assert found["runway_short"] == pytest.approx(1 / 1.35)
    assert found["runway_score"] == pytest.approx(1 / 1.85)
    assert found["vcp_combined"] == pytest.approx(1 - math.exp(-1.7))
    none = figures_of([], 100.0)
    assert (none["structural_bias"], none["runway_long"], none["vcp_combined"]) == (0, 1, 0)


def waves(count: int) -> list[Row]:
    """Bars that go up and down."""
    return [
        bar_row(i, (100.0, 101.0 + i % 3, 99.0, 100.0 + i % 2), 5.0 + i % 4, 5.0)
        for i in range(count)
    ]


def test_vcp_warm_up() -> None:
    """An ATR from the fourteenth bar, all else from the twentieth."""
    rows = vcp_rows(feeds(waves(22)), "5m", VcpParams())
    assert [r["atr_14"] is None for r in rows] == [t < 13 for t in range(22)]
    for name in ("structural_bias", "runway_score", "vcp_combined", "support_score"):
        assert [r[name] is None for r in rows] == [t < 19 for t in range(22)]
    assert all(r["clusters"] == [] for r in rows[:19])
    early = vcp_rows(feeds(waves(22)), "5m", VcpParams(vcp_min_bars=2))
    assert [r["vcp_combined"] is None for r in early] == [t < 13 for t in range(22)]


def test_vcp_without_height() -> None:
    """One price for all bars: no clusters, nothing in the way, and no size to take."""
    rows = [bar_row(i, (100.0, 100.0, 100.0, 100.0)) for i in range(22)]
    layers = expected_layers(feeds(rows))
    row = layers["vcp_5m"][-1]
    assert (row["clusters"], row["structural_bias"], row["runway_score"]) == ([], 0.0, 1.0)
    assert (row["vcp_combined"], row["atr_14"]) == (0.0, 0.0)
    row = layers["ipu_5m"][-1]
    assert (row["mms_slope"], row["momentum_state"], row["price_efficiency"]) == (0.0, "FLAT", 0.0)
    row = layers["signals_5m"][-1]
    assert (row["base_size"], row["final_size"], row["stop_distance"]) == (None, 0.0, 0.0)


def test_vcp_looks_back() -> None:
    """The first bar of the window goes when a new one comes."""
    params = VcpParams(lookback=20)
    far = bar_row(0, (100.0, 200.0, 100.0, 100.0), 500.0, 500.0)
    prints = Feed([minute_row(2, price=150.0, buy_volume=500.0, sell_volume=500.0)])
    rows = [far, *waves(21)[1:]]
    with_it, without = vcp_rows(feeds(rows, footprint=prints), "5m", params)[-2:]
    assert [c["price"] for c in with_it["clusters"] if c["price"] > 110] == [150.005]
    assert all(c["price"] < 110 for c in without["clusters"])


# -- ipu ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prices", "efficiency"),
    [
        ((100.0, 104.0, 100.0, 104.0), 1.0),
        ((101.0, 104.0, 100.0, 103.0), 0.5 * 0.75),
        ((103.0, 104.0, 100.0, 101.0), 0.5 * 0.75),
        ((101.0, 104.0, 100.0, 101.0), 0.0),
        ((100.0, 100.0, 100.0, 100.0), 0.0),
        ((104.0, 104.0, 100.0, 102.0), 0.5 * 0.5),
    ],
)
def test_price_efficiency(prices: Prices, efficiency: float) -> None:
    """Body over range, less the wick that the bar ended against."""
    assert price_efficiency(bar(prices)) == pytest.approx(efficiency)


@pytest.mark.parametrize(
    ("flow", "quality"),
    [
        (Flow(0.5, None, None), 0.5 * (0.5 + 0.5 / 3)),
        (Flow(-0.5, -0.5, None), 0.5 * (0.5 + 1 / 3)),
        (Flow(-0.5, 0.5, None), 0.5 * 0.5),
        (Flow(0.2, 0.4, 0.8), 0.064 ** (1 / 3)),
        (Flow(0.2, 0.4, -0.8), 0.064 ** (1 / 3) * (0.5 + 0.5 / 3)),
        (Flow(0.2, 0.0, 0.8), 0.0),
        (Flow(0.2, 1e-13, 0.8), 0.0),
        (Flow(None, None, None), None),
    ],
)
def test_order_flow_quality(flow: Flow, quality: float | None) -> None:
    """The geometric mean of what there is, by how far the signs agree."""
    assert order_flow_quality(flow) == (None if quality is None else pytest.approx(quality))


def test_flow_blend() -> None:
    """Half and half, or trades alone."""
    assert Flow(0.2, -0.6, 0.9).blend == pytest.approx(-0.2)
    assert Flow(0.2, None, 0.9).blend == 0.2
    assert Flow(None, 0.3, None).blend is None


def test_expansion() -> None:
    """Nothing at the median, all at three times that, null under twenty bars."""
    prior, params = [10.0, 20.0] * 10, IpuParams()
    found = [expansion(x, prior, params) for x in (10.0, 15.0, 30.0, 45.0, 90.0)]
    assert found == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert expansion(30.0, prior[1:], params) is None
    assert expansion(30.0, [0.0] * 20, params) is None


def test_lambda_boost() -> None:
    """The share of known sizes that are not above; one without enough of them."""
    prior, params = [*(float(x) for x in range(-10, 10)), None, None], IpuParams()
    assert lambda_boost(-5.0, prior, params) == 1 + 0.25 * 11 / 20
    assert lambda_boost(99.0, prior, params) == 1.25
    assert lambda_boost(None, prior, params) == 1.0
    assert lambda_boost(5.0, prior[1:], params) == 1.0


@pytest.mark.parametrize(
    ("slope", "before", "state"),
    [
        (0.7, 0.5, "ACCELERATING"),
        (-0.7, -0.5, "ACCELERATING"),
        (0.7, 0.9, "DECELERATING"),
        (-0.7, -0.9, "DECELERATING"),
        (0.7, 0.6, "TRENDING"),  # changed by just a tenth
        (0.7, 0.8, "TRENDING"),
        (0.7, 0.6 - 1e-9, "ACCELERATING"),
        (0.7, 0.8 + 1e-9, "DECELERATING"),
        (0.4, 0.1, "DRIFTING"),
        (0.4 + 1e-9, 0.1, "ACCELERATING"),
        (0.5, 0.5, "DRIFTING"),
        (0.5 + 1e-9, 0.5, "TRENDING"),
        (0.25, 0.25, "DRIFTING"),
        (-0.25, 0.9, "DRIFTING"),
        (0.25 - 1e-9, 0.9, "FLAT"),
        (0.0, 0.9, "FLAT"),
        (0.7, None, None),
        (None, None, None),
    ],
)
def test_momentum_state(slope: float | None, before: float | None, state: str | None) -> None:
    """The first that holds."""
    assert Move(slope, before, IpuParams()).state == state


def test_momentum_state_calibrated() -> None:
    """Other limits, the same words."""
    params = params_of({"ipu": {"profile": "calibrated", "exh_count": 2}}).ipu
    assert (params.slope_scale, params.exh_count) == (1.7320508075688772, 2)
    found = [Move(s, b, params).state for s, b in ((0.81, 0.4), (0.8, 0.4), (0.81, 0.8))]
    assert found == ["ACCELERATING", "DRIFTING", "TRENDING"]
    assert params_of({"ipu": {"profile": "calibrated", "acc_slope": 0.6}}).ipu.acc_slope == 0.6
    signals = params_of({"signals": {"profile": "calibrated"}}).signals
    assert (signals.require_flow, signals.strong_min_inst, signals.high_inst) == (True, 0.15, 0.15)


def test_drift_and_agreement() -> None:
    """Equal, opposite, or one of them nothing."""
    assert [drift_of(s, 0.25) for s in (0.25, 0.2499, -0.25, 0.0, None)] == [1, 0, -1, 0, None]
    table = {(1, 1): 1.0, (-1, -1): 1.0, (1, -1): 0.3, (0, 1): 0.65, (1, 0): 0.65, (0, 0): 0.65}
    assert {pair: agreement_of(*pair) for pair in table} == table
    assert agreement_of(None, 1) is None


def test_momentum_context() -> None:
    """Six tenths of the slope, four of its change, both at most one."""
    assert Move(0.5, 0.2, IpuParams()).context == pytest.approx(0.42)
    assert Move(-3.0, 2.0, IpuParams()).context == 1.0
    assert Move(0.5, None, IpuParams()).context is None


@pytest.mark.parametrize(
    ("slope", "before", "volume", "high", "contexts", "count", "score"),
    [
        (0.7, 0.7, 10.0, 101.0, (0.42, 0.42), 0, 0.0),
        (0.7, 0.7, 10.0, 101.0, (0.525, 0.42), 0, 0.0),  # just eight tenths
        (0.7, 0.7, 10.0, 101.0, (0.526, 0.42), 1, 0.2),
        (0.7, 0.7, 10.0, 101.0, (None, 0.42), 0, 0.0),
        (0.7, 0.7, 7.0, 101.0, (0.42, 0.42), 0, 0.0),
        (0.7, 0.7, 6.99, 101.0, (0.42, 0.42), 1, 0.2),
        (0.7, 0.7, 10.0, 102.0, (0.42, 0.42), 0, 0.0),  # a wick of two fifths
        (0.7, 0.7, 10.0, 102.1, (0.42, 0.42), 1, 0.2),
        (0.7, 0.9, 10.0, 101.0, (0.42, 0.5), 1, 0.2),
        (0.7, 0.9, 6.0, 101.0, (0.9, 0.5), 3, 0.9),
        (0.5, 0.9, 6.0, 101.0, (0.9, 0.46), 3, 0.6),
        (0.7, 0.9, 6.0, 103.0, (0.9, 0.5), 4, 0.9),
        (0.0, 0.0, 6.0, 103.0, (0.9, 0.0), 2, 0.4),  # without a slope no wick counts
    ],
)
def test_exhaustion(
    slope: float,
    before: float,
    volume: float,
    high: float,
    contexts: tuple[float | None, float],
    count: int,
    score: float,
) -> None:
    """Each sign by itself, and together; a warning from three."""
    bars = [bar((97.0, 100.0, 97.0, 99.0)), bar((97.0, high, 97.0, 100.0), volume, 0.0)]
    move = Move(slope, before, IpuParams())
    found = exhaustion_columns(bars, 1, move, contexts, IpuParams())
    assert found["exhaustion_signals"] == count
    assert found["exhaustion_score"] == pytest.approx(score)
    assert found["exhaustion_warning"] == (count >= 3)


def test_wicks() -> None:
    """On the side the slope points to."""
    one = bar((100.0, 104.0, 99.0, 102.0))
    assert [wick_of(one, way) for way in (1, -1, 0)] == [2.0, 1.0, 0.0]
    one = bar((103.0, 104.0, 99.0, 102.0))
    assert [wick_of(one, way) for way in (1, -1, 0)] == [1.0, 3.0, 0.0]


def test_urgency_classes() -> None:
    """From each limit on, however it was rounded."""
    values = (0.75, 0.75 - 1e-13, 0.7499, 0.5, 0.4999, 0.3, 0.2999, 0.1 * 3)
    assert [urgency_class(x) for x in values] == [
        *("AGGRESSIVE", "AGGRESSIVE", "ELEVATED", "ELEVATED", "PATIENT", "PATIENT", "PASSIVE"),
        "PATIENT",
    ]


def test_xfactor() -> None:
    """Four of five; what is unknown does not count."""
    full: Row = {"vol_expansion": 0.65, "price_efficiency": 0.35}
    full |= {"flow_pressure": 0.6, "direction_agreement": 0.75}
    fast, params = Move(0.6, 0.2, IpuParams()), IpuParams()
    assert xfactor_columns(fast, full, params) == {"xfactor": True, "xfactor_conditions": 5}
    slow = Move(0.5, 0.2, IpuParams())
    assert xfactor_columns(slow, full, params) == {"xfactor": True, "xfactor_conditions": 4}
    unknown = full | {"vol_expansion": None}
    assert xfactor_columns(slow, unknown, params) == {"xfactor": False, "xfactor_conditions": 3}
    for name in full:
        found = xfactor_columns(fast, full | {name: full[name] - 1e-9}, params)
        assert found["xfactor_conditions"] == 4


def test_ipu_warm_up() -> None:
    """What is known from the first bar, the 14th, the 15th, the 21st."""
    rows = ipu_rows(feeds(waves(24)), "5m", IpuParams())
    since = {
        0: (
            *("price_efficiency", "order_flow_quality", "inst_core", "kyle_lambda_boost"),
            *("flow_pressure", "flow_direction", "direction_agreement"),
            *("xfactor", "xfactor_conditions"),
        ),
        13: ("mms_slope", "flow_momentum_agreement", "direction"),
        14: (
            *("mms_accel", "momentum_state", "momentum_context", "validated_momentum"),
            *("exhaustion_signals", "exhaustion_score", "exhaustion_warning"),
        ),
        20: (
            *("vol_expansion", "tick_intensity", "volume_amplifier", "inst_proxy"),
            *("urgency", "urgency_class"),
        ),
    }
    for first, names in since.items():
        for name in names:
            assert [r[name] is None for r in rows] == [t < first for t in range(24)], name
    assert sorted(n for names in since.values() for n in names) == sorted(
        name for name in rows[0] if name not in ("timestamp_utc", *HEAD)
    )


def test_ipu_window() -> None:
    """The median is of a hundred bars before, not of the 101st."""
    rows = [bar_row(0, (1.0, 2.0, 1.0, 2.0), 1e6, 0.0), *waves(101)[1:]]
    for row in rows[1:]:
        row["volume"] = 10.0
    rows[51]["volume"], rows[-1]["volume"] = 12.0, 20.0
    found = [ipu_rows(feeds(each), "5m", IpuParams())[-1] for each in (rows, rows[:-1])]
    assert found[0]["vol_expansion"] == 0.5
    tight = ipu_rows(feeds(rows), "5m", IpuParams(window=20))[-1]
    assert tight["vol_expansion"] == 0.5
    rows = [bar_row(i, (1.0, 2.0, 1.0, 2.0), 1.0 if i <= 50 else 3.0, 0.0) for i in range(102)]
    last_two = [r["vol_expansion"] for r in ipu_rows(feeds(rows), "5m", IpuParams())[-2:]]
    # of the hundred before: 51 ones and 49 threes, then half and half
    assert last_two == [1.0, 0.25]


def test_minutes_of_a_bar() -> None:
    """Means over what is there, the last λ, nothing from the next bar."""
    rows = waves(3)
    flow = Feed([minute_row(i, ofi_norm=x) for i, x in ((0, 0.2), (3, None), (4, 0.6), (5, 1.0))])
    micro = Feed([minute_row(i, depth_imbalance=None) for i in (0, 1)])
    found = ipu_rows(feeds(rows, flow=flow, micro=micro), "5m", IpuParams())
    assert found[0]["flow_pressure"] == pytest.approx(0.2)
    assert found[0]["order_flow_quality"] == 0.0
    assert found[1]["flow_pressure"] == pytest.approx(0.5 * 1 / 11 + 0.5)
    assert found[2]["flow_pressure"] == pytest.approx(2 / 12)


def test_rows_wait() -> None:
    """A row is there once each of its inputs is complete to the bar's end, and not before."""
    end = START + 20 * FIVE
    for at, count in ((end, 20), (end - 1, 19), (end + FIVE - 1, 20)):
        behind = Feed([], at)
        layers = expected_layers(feeds(waves(24), flow=behind))
        counts = [len(layers[name]) for name in ("vcp_5m", "ipu_5m", "signals_5m", "signals_mtf")]
        assert counts == [24, count, count, count]
        layers = expected_layers(feeds(waves(24), open_interest=behind))
        assert [len(layers[name]) for name in ("vcp_5m", "ipu_5m", "signals_5m")] == [
            *(count, 24, count),
        ]


# -- signals -----------------------------------------------------------------------------

PRICE = 100.0


def level(price: float, bias: float, distance: float) -> Row:
    """A cluster, as far as a rule reads it."""
    return {"price": price, "ofi_bias": bias, "distance_atr": distance}


SUPPORT, RESISTANCE = level(99.0, 0.2, 0.5), level(101.0, -0.2, 0.5)
VCP: Row = {
    "clusters": [],
    "structural_bias": 0.4,
    "support_score": 0.7,
    "resistance_score": 0.3,
    "runway_long": 0.8,
    "runway_short": 0.8,
    "runway_score": 0.7,
    "vcp_combined": 0.5,
    "atr_14": 2.0,
}
IPU: Row = {
    "inst_proxy": 0.3,
    "mms_slope": 0.8,
    "mms_accel": 0.3,
    "momentum_state": "ACCELERATING",
    "flow_direction": 1,
    "flow_momentum_agreement": 1.0,
    "validated_momentum": 0.6,
    "exhaustion_score": 0.2,
    "exhaustion_warning": False,
    "direction": "BULLISH",
}


def judged(vcp: Row | None = None, ipu: Row | None = None, **params: Any) -> Row:
    """The signal of some changes to a strong long."""
    one = bar((99.0, 101.0, 98.0, PRICE))
    given = replace(SignalParams(), **params)
    return signal_row(one, VCP | (vcp or {}), IPU | (ipu or {}), given)


DOWN = {"direction": "BEARISH", "mms_slope": -0.8, "mms_accel": -0.3, "flow_direction": -1}
TIRED = {"exhaustion_score": 0.9, "exhaustion_warning": True}
SLOWER = {"momentum_state": "DECELERATING", "flow_momentum_agreement": 0.3}
AGAINST = SLOWER | {"flow_direction": -1, "direction": "NEUTRAL"}
TREND = {"momentum_state": "TRENDING", "mms_accel": 0.0}
STANDS = {"momentum_state": "FLAT", "mms_slope": 0.1, "flow_momentum_agreement": 0.65}
STANDS |= {"inst_proxy": 0.5}
HELD, CAPPED = {"clusters": [SUPPORT]}, {"clusters": [RESISTANCE]}
LEANS_DOWN = {"structural_bias": -0.4}


@pytest.mark.parametrize(
    ("vcp", "ipu", "signal", "direction"),
    [
        ({}, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        (LEANS_DOWN, DOWN, "STRONG_MOMENTUM_SHORT", "SHORT"),
        ({}, DOWN, "NO_SIGNAL", "NONE"),
        ({"runway_long": 0.7}, {}, "NO_SIGNAL", "NONE"),
        ({"runway_short": 0.1}, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({"structural_bias": 0.3}, {}, "NO_SIGNAL", "NONE"),
        ({}, {"inst_proxy": 0.0}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({}, {"direction": "NEUTRAL"}, "NO_SIGNAL", "NONE"),
        ({}, {"flow_direction": 0}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({}, {"mms_slope": 0.2}, "NO_SIGNAL", "NONE"),
        ({"structural_bias": None}, {}, "NO_SIGNAL", "NONE"),
        ({}, {"momentum_state": None}, "NO_SIGNAL", "NONE"),
        ({}, {"inst_proxy": None}, "NO_SIGNAL", "NONE"),
        # bounces go before strong momentum, from the side behind, with the right flow
        (HELD, {}, "CONFIRMED_BOUNCE_LONG", "LONG"),
        (CAPPED | LEANS_DOWN, DOWN, "CONFIRMED_BOUNCE_SHORT", "SHORT"),
        (CAPPED, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({"clusters": [level(99.0, 0.2, 0.501)]}, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({"clusters": [level(99.0, -0.2, 0.1)]}, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({"clusters": [level(99.0, 0.0, 0.1)]}, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        ({"clusters": [level(100.0, 0.2, 0.0)]}, {}, "STRONG_MOMENTUM_LONG", "LONG"),
        (HELD, {"momentum_state": "DRIFTING"}, "NO_SIGNAL", "NONE"),
        # fades go before all
        (CAPPED, TIRED, "FADE_EXHAUSTION_SHORT", "SHORT"),
        (HELD, DOWN | TIRED, "FADE_EXHAUSTION_LONG", "LONG"),
        (HELD, TIRED, "CONFIRMED_BOUNCE_LONG", "LONG"),
        (CAPPED, TIRED | {"exhaustion_score": 0.6}, "STRONG_MOMENTUM_LONG", "LONG"),
        (CAPPED, TIRED | AGAINST, "FADE_EXHAUSTION_SHORT", "SHORT"),
        ({"clusters": [SUPPORT, RESISTANCE]}, TIRED, "FADE_EXHAUSTION_SHORT", "SHORT"),
        (CAPPED, TIRED | {"mms_slope": 0.2}, "NO_SIGNAL", "NONE"),
        # warnings
        ({}, AGAINST, "DIVERGENCE_WARNING", "NONE"),
        ({}, AGAINST | {"flow_momentum_agreement": 0.65}, "NO_SIGNAL", "NONE"),
        ({}, AGAINST | {"momentum_state": "TRENDING"}, "NO_SIGNAL", "NONE"),
        # trends
        ({"vcp_combined": 0.29}, TREND, "CLEAN_TREND_ENTRY", "LONG"),
        ({"vcp_combined": 0.29}, TREND | DOWN, "CLEAN_TREND_ENTRY", "SHORT"),
        ({"vcp_combined": 0.3}, TREND, "NO_SIGNAL", "NONE"),
        ({"vcp_combined": 0.29}, TREND | TIRED, "NO_SIGNAL", "NONE"),
        # standing
        ({}, STANDS, "ACCUMULATION", "LONG"),
        ({}, STANDS | {"direction": "BEARISH"}, "DISTRIBUTION", "SHORT"),
        ({}, STANDS | {"direction": "NEUTRAL"}, "NO_SIGNAL", "NONE"),
        ({}, STANDS | {"inst_proxy": 0.4999}, "NO_SIGNAL", "NONE"),
    ],
)
def test_rules(vcp: Row, ipu: Row, signal: str, direction: str) -> None:
    """The first that holds."""
    row = judged(vcp, ipu)
    assert (row["signal"], row["direction"]) == (signal, direction)


def test_rules_under_parameters() -> None:
    """Flow may be asked for, institutions as well."""
    assert judged(None, {"flow_direction": 0}, require_flow=True)["signal"] == "NO_SIGNAL"
    assert judged(None, None, require_flow=True)["signal"] == "STRONG_MOMENTUM_LONG"
    assert judged(None, None, strong_min_inst=0.3)["signal"] == "STRONG_MOMENTUM_LONG"
    assert judged(None, None, strong_min_inst=0.301)["signal"] == "NO_SIGNAL"
    assert judged(HELD, {"inst_proxy": 0.0}, strong_min_inst=0.3)["direction"] == "LONG"


@pytest.mark.parametrize(
    ("vcp", "ipu", "reasons"),
    [
        (
            {"clusters": [RESISTANCE, level(100.5, -0.1, 0.25)]},
            TIRED,
            ["resistance=100.500", "slope=0.800", "exhaustion=0.900"],
        ),
        (HELD, DOWN | TIRED, ["support=99.000", "slope=-0.800", "exhaustion=0.900"]),
        ({}, AGAINST, ["slope=0.800", "accel=0.300", "agreement=0.300"]),
        (HELD, {}, ["support=99.000", "direction=BULLISH", "accel=0.300"]),
        (CAPPED, DOWN, ["resistance=101.000", "direction=BEARISH", "accel=-0.300"]),
        ({}, {}, ["runway=0.800", "bias=0.400", "direction=BULLISH", "accel=0.300"]),
        (
            {"structural_bias": -0.4, "runway_short": 0.9},
            DOWN,
            ["runway=0.900", "bias=-0.400", "direction=BEARISH", "accel=-0.300"],
        ),
        (
            {"vcp_combined": 0.12345},
            TREND,
            ["structure=0.123", "slope=0.800", "direction=BULLISH"],
        ),
        ({}, STANDS, ["inst=0.500", "slope=0.100"]),
        ({}, {"direction": "NEUTRAL"}, []),
    ],
)
def test_reasons(vcp: Row, ipu: Row, reasons: list[str]) -> None:
    """What the rule looked at, with three decimals."""
    assert judged(vcp, ipu)["reasons"] == reasons


@pytest.mark.parametrize(
    ("vcp", "ipu", "confidence"),
    [
        ({}, {}, 0.4 * 0.3 + 0.3 * 0.6 + 0.3 * 0.4),
        (LEANS_DOWN, DOWN, 0.4 * 0.3 + 0.3 * 0.6 + 0.3 * 0.4),
        (LEANS_DOWN | HELD, {}, 0.4 * 0.3 + 0.3 * 0.6),
        (CAPPED, TIRED, 0.4 * 0.3 + 0.3 * 0.9),
        (CAPPED | LEANS_DOWN, TIRED, 0.4 * 0.3 + 0.3 * 0.9 + 0.3 * 0.4),
        (LEANS_DOWN, AGAINST, 0.4 * 0.3 + 0.3 * 0.6 + 0.3 * 0.4),
        ({}, {"direction": "NEUTRAL"}, 0.0),
        ({"structural_bias": 1.0}, {"inst_proxy": 1.0, "validated_momentum": 1.0}, 1.0),
    ],
)
def test_confidence(vcp: Row, ipu: Row, confidence: float) -> None:
    """Institutions, momentum (exhaustion for a fade), and structure on the signal's side."""
    assert judged(vcp, ipu)["confidence"] == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("ipu", "trail", "momentum", "agreement", "final"),
    [
        ({}, 1.5, 1.2, 1.1, 100 / 3 * 1.32),
        (TIRED, 0.7, 1.2, 1.1, 100 / 3 * 1.32),
        (TREND | {"flow_momentum_agreement": 0.65}, 1.2, 1.0, 1.0, 100 / 3),
        (AGAINST, 0.8, 0.7, 0.8, 0.0),
        (AGAINST | TIRED, 0.7, 0.7, 0.8, 0.0),
        (STANDS, 1.0, 0.5, 1.0, 100 / 3 * 0.5),
        ({"momentum_state": "DRIFTING"}, 1.0, 0.7, 1.1, 0.0),
        ({"flow_momentum_agreement": 0.8}, 1.5, 1.2, 1.0, 100 / 3 * 1.2),
        ({"flow_momentum_agreement": 0.5}, 1.5, 1.2, 1.0, 100 / 3 * 1.2),
    ],
)
def test_sizes(ipu: Row, trail: float, momentum: float, agreement: float, final: float) -> None:
    """With an ATR of 2: a hundred at risk over three."""
    row = judged({"vcp_combined": 0.1}, ipu)
    found = [row[n] for n in ("trail_multiplier", "momentum_modifier", "agreement_modifier")]
    assert found == [trail, momentum, agreement]
    assert row["stop_distance"] == pytest.approx(2 * trail)
    assert row["base_size"] == pytest.approx(100 / 3)
    assert row["final_size"] == pytest.approx(final)
    assert (row["price"], row["atr"]) == (PRICE, 2.0)


def test_sizes_of_the_unknown() -> None:
    """Null in, null out; but no signal has no size."""
    row = judged({"atr_14": None, "structural_bias": None}, {"momentum_state": None})
    names = ("atr", "stop_distance", "trail_multiplier", "base_size", "momentum_modifier")
    assert [row[name] for name in names] == [None] * 5
    assert (row["signal"], row["final_size"], row["filtered"]) == ("NO_SIGNAL", 0.0, False)
    row = judged({"atr_14": 0.0})
    assert (row["base_size"], row["stop_distance"], row["final_size"]) == (None, 0.0, None)
    row = judged({"atr_14": 4.0}, None, risk_per_trade=30.0, atr_multiplier=2.5)
    assert row["base_size"] == 3.0


@pytest.mark.parametrize(
    ("ipu", "gaps", "least", "reason"),
    [
        ({}, 0, 0.42, None),
        ({}, 0, 0.42 + 1e-9, "confidence"),
        ({}, 1, 0.0, "gap"),
        ({}, 2, 0.6, "gap;confidence"),
        (AGAINST, 2, 0.6, None),
        ({"direction": "NEUTRAL"}, 2, 0.6, None),
    ],
)
def test_filters(ipu: Row, gaps: int, least: float, reason: str | None) -> None:
    """Only what has a direction is filtered."""
    one = bar((99.0, 101.0, 98.0, PRICE), gaps=gaps)
    row = signal_row(one, VCP, IPU | ipu, SignalParams(min_confidence=least))
    assert (row["filter_reason"], row["filtered"]) == (reason, reason is not None)
    if reason is not None:
        assert row["final_size"] > 0


# -- several timeframes ------------------------------------------------------------------

UP, EVEN, DN = "BULLISH", "NEUTRAL", "BEARISH"


def momentum(direction: str | None, warned: bool | None = False) -> Row:
    """An ipu row, as far as it is read here."""
    return {"direction": direction, "exhaustion_warning": warned}


def combined(signal: str, way: str, *rows: Row | None, reason: str | None = None) -> Row:
    """The columns of one signal under three momenta."""
    row = {"signal": signal, "direction": way, "confidence": 0.5, "filter_reason": reason}
    return mtf_columns(row, rows, MtfParams())


@pytest.mark.parametrize(
    ("ways", "name", "score"),
    [
        ((UP, UP, UP), "STRONG_BULLISH", 1.0),
        ((UP, UP, DN), "LEAN_BULLISH", 0.5),
        ((EVEN, UP, UP), "LEAN_BULLISH", 0.6),
        ((UP, EVEN, DN), "MIXED", 0.15),
        ((UP, EVEN, EVEN), "MIXED", 0.4),
        ((DN, EVEN, DN), "LEAN_BEARISH", -0.65),
        ((UP, DN, DN), "LEAN_BEARISH", -0.2),
        ((DN, DN, DN), "STRONG_BEARISH", -1.0),
        ((None, UP, UP), "LEAN_BULLISH", 0.6),
    ],
)
def test_mtf_direction(ways: tuple[str | None, ...], name: str, score: float) -> None:
    """Three, two, or no majority; weights as they are."""
    row = combined("NO_SIGNAL", "NONE", *(momentum(way) for way in ways))
    assert row["mtf_direction"] == name
    assert row["mtf_score"] == pytest.approx(score)
    assert (row["size_multiplier"], row["filtered"], row["filter_reason"]) == (0.0, False, None)


def test_mtf_without_longer_rows() -> None:
    """What is not there has no direction and warns of nothing."""
    row = combined("STRONG_MOMENTUM_LONG", "LONG", momentum(UP), None, None)
    assert (row["mtf_direction"], row["mtf_score"], row["mtf_exhaustion"]) == ("MIXED", 0.4, "NONE")
    assert row["size_multiplier"] == 0.5


@pytest.mark.parametrize(
    ("warned", "name"),
    [
        ((True, False, False), "NONE"),
        ((False, True, False), "WARNING"),
        ((True, False, True), "WARNING"),
        ((False, True, True), "CONFIRMED"),
        ((True, None, True), "WARNING"),
    ],
)
def test_mtf_exhaustion(warned: tuple[bool | None, ...], name: str) -> None:
    """The longer two count."""
    row = combined("ACCUMULATION", "LONG", *(momentum(UP, each) for each in warned))
    assert row["mtf_exhaustion"] == name
    assert (row["filter_reason"], row["size_multiplier"]) == (None, 1.0)


@pytest.mark.parametrize("signal", ["STRONG_MOMENTUM_LONG", "CONFIRMED_BOUNCE_LONG"])
@pytest.mark.parametrize(
    ("ways", "is_warned", "before", "reason", "size"),
    [
        ((UP, UP, UP), False, None, None, 1.0),
        ((UP, UP, DN), False, None, None, 1.0),
        ((UP, EVEN, DN), False, None, None, 0.5),
        ((UP, DN, DN), False, None, "against_mtf", 0.0),
        ((UP, UP, UP), True, None, "exhaustion_30m", 0.0),
        ((DN, DN, DN), True, "gap;confidence", "gap;confidence;exhaustion_30m;against_mtf", 0.0),
        ((UP, UP, UP), False, "confidence", "confidence", 0.0),
    ],
)
def test_mtf_filters(
    signal: str,
    ways: tuple[str, ...],
    is_warned: bool,
    before: str | None,
    reason: str | None,
    size: float,
) -> None:
    """Against most, or when the longest is exhausted; its own reasons come first."""
    rows = [momentum(ways[0], True), momentum(ways[1], True), momentum(ways[2], is_warned)]
    row = combined(signal, "LONG", *rows, reason=before)
    assert (row["filter_reason"], row["size_multiplier"]) == (reason, size)
    assert row["filtered"] == (reason is not None)


@pytest.mark.parametrize(
    ("signal", "way", "reason", "size"),
    [
        ("CLEAN_TREND_ENTRY", "LONG", "exhaustion_30m;against_mtf", 0.0),
        ("CLEAN_TREND_ENTRY", "SHORT", "exhaustion_30m", 0.0),
        ("STRONG_MOMENTUM_SHORT", "SHORT", "exhaustion_30m", 0.0),
        ("FADE_EXHAUSTION_LONG", "LONG", None, 0.5),
        ("FADE_EXHAUSTION_SHORT", "SHORT", None, 1.0),
        ("ACCUMULATION", "LONG", None, 0.5),
        ("DISTRIBUTION", "SHORT", None, 1.0),
        ("DIVERGENCE_WARNING", "NONE", None, 0.0),
    ],
)
def test_mtf_by_class(signal: str, way: str, reason: str | None, size: float) -> None:
    """Only what follows a trend is filtered; the rest is made smaller against it."""
    rows = [momentum(UP), momentum(DN, True), momentum(DN, True)]
    row = combined(signal, way, *rows)
    assert (row["filter_reason"], row["size_multiplier"]) == (reason, size)


def test_whole_periods() -> None:
    """At 12:25 the quarter from 12:00 is over, at 12:30 that from 12:15; the half hours alike."""
    at = {minute: START + minute * MINUTE_US for minute in (0, 15, 25, 30)}
    half_before = START - 30 * MINUTE_US
    assert last_whole(at[25], "15m") == at[0]
    assert last_whole(at[30], "15m") == at[15]
    assert last_whole(at[25], "30m") == half_before
    assert last_whole(at[30], "30m") == at[0]
