from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from itertools import product as combinations
from typing import Any

import msgspec
import pytest

from pipeline.calc.momentum import agreement, direction, momentum_of
from pipeline.calc.participation import (
    direction_agreement,
    expansion,
    order_flow_quality,
    price_efficiency,
    share_not_above,
)
from pipeline.calc.timeframes import TIMEFRAMES
from pipeline.stages.ipu import STAGE, Bar, Params, Past, describe, momentum_state

from .joined_tape import at
from .signal_tape import Made, Table, assert_any_windows, drawn_bars, drawn_minutes, run
from .tick_tape import MINUTE_US

COLUMNS = [column.name for column in STAGE.layers[0].columns]
SPAN = 5 * MINUTE_US
P = Params()
AFTER_STATE = (
    "mms_accel",
    "momentum_context",
    "momentum_state",
    "validated_momentum",
    "exhaustion_score",
    "exhaustion_signals",
    "exhaustion_warning",
    "urgency",
    "urgency_class",
)


def ends(close: float, **values: Any) -> dict[str, Any]:
    """A bar of one unit that closes there."""
    bar = {"open": close, "high": close + 1, "low": close - 1, "close": close, "trades": 4}
    return bar | {"volume": 10.0, "buy_volume": 7.0, "sell_volume": 3.0, "gaps": 0} | values


def made(bars: Table, feeds: dict[str, Table] | None = None, **params: Any) -> Made:
    tables = {f"bars_{name}": bars if name == "5m" else {} for name in TIMEFRAMES}
    return run(STAGE, tables | (feeds or {}), **params)


def rows_of(bars: list[dict[str, Any]], **params: Any) -> list[dict[str, Any]]:
    return made({at(5 * i): bar for i, bar in enumerate(bars)}, **params)["ipu_5m"]


def described(bar: Bar, past: Past, **params: Any) -> dict[str, Any]:
    row, _ = describe(bar, past, msgspec.convert(params, Params))
    return dict(zip(COLUMNS, row, strict=True))


# -- the parts ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "wanted"),
    [
        ((10, 12, 10, 12), 1.0),
        ((10, 14, 10, 12), 0.5 * 0.5),
        ((10, 12, 8, 12), 0.5),  # what lies behind the open was not given back
        ((12, 12, 8, 10), 0.5 * 0.5),
        ((10, 10, 10, 10), 0.0),
        ((10, 12, 8, 10), 0.0),
        ((0.3, 0.4, 0.2, 0.1 + 0.2), 0.0),
    ],
)
def test_price_efficiency(bar: tuple[float, float, float, float], wanted: float) -> None:
    assert price_efficiency(*bar) == pytest.approx(wanted, abs=1e-15)


@pytest.mark.parametrize(
    ("flows", "wanted"),
    [
        ((0.5, 0.5, 0.5), 0.5),
        ((0.5, 0.5, -0.5), 0.5 * (0.5 + 0.5 / 3)),
        ((-0.5, -0.5, -0.5), 0.5),
        ((0.9, None, 0.4), 0.6 * (0.5 + 0.5 * 2 / 3)),
        ((None, -0.25, None), 0.25 * (0.5 + 0.5 / 3)),
        ((0.5, 0.0, 0.5), 0.0),
        ((0.5, 1e-13, 0.5), 0.0),
        ((None, None, None), None),
    ],
)
def test_order_flow_quality(flows: tuple[float | None, ...], wanted: float | None) -> None:
    assert order_flow_quality(flows) == (None if wanted is None else pytest.approx(wanted))


def test_expansion() -> None:
    prior = [2.0] * 19
    assert expansion(4.0, prior, 20) is None
    assert expansion(4.0, [*prior, 2.0], 20) == 0.5
    for value, wanted in ((6.0, 1.0), (60.0, 1.0), (2.0, 0.0), (1.0, 0.0)):
        assert expansion(value, [*prior, 2.0], 20) == wanted
    assert expansion(6.0, [1.0, 2.0, 4.0, 100.0], 4) == 0.5  # the middle two are 2 and 4
    assert expansion(1.0, [0.0, 0.0, 0.0], 1) is None


def test_share_not_above_counts_equals() -> None:
    assert share_not_above(0.3, [0.1 + 0.2, 0.3, 0.1, 0.4]) == 0.75


def test_direction_agreement() -> None:
    assert direction_agreement((0.1, 0.2, 0.3, 5.0)) == 1
    assert direction_agreement((0.1, -0.2, -0.3, -5.0)) == 0.75
    assert direction_agreement((None, None, -0.3, 0.0)) == 0.25
    assert direction_agreement((None, 0.0, None, 1e-13)) == 0


def test_agreement_and_direction() -> None:
    for m, f in combinations((1, 0, -1), repeat=2):
        assert agreement(m, f) == (0.65 if 0 in (m, f) else 1.0 if m == f else 0.3)
        word = direction(m, f)
        assert word == ("BEARISH", "NEUTRAL", "BULLISH")[(m + f > 0) - (m + f < 0) + 1]
        assert momentum_of(word, f, agreement(m, f)) == m
    for unknown in ((None, 1), (1, None), (None, None)):
        assert agreement(*unknown) is None
        assert direction(*unknown) is None
    assert momentum_of(None, 1, 1.0) is momentum_of("BULLISH", None, None) is None


E = 1e-9


@pytest.mark.parametrize(
    ("slope", "accel", "wanted"),
    [
        (0.4, 1.0, "DRIFTING"),
        (0.4 + E, 0.1, "DRIFTING"),
        (0.4 + E, 0.1 + E, "ACCELERATING"),
        (0.4 + E, -0.1, "DRIFTING"),
        (0.4 + E, -0.1 - E, "DECELERATING"),
        (0.5, 0.1, "DRIFTING"),
        (0.5 + E, 0.1, "TRENDING"),
        (0.5 + E, 0.1 + E, "ACCELERATING"),
        (0.25, 0.0, "DRIFTING"),
        (0.25 - E, 0.0, "FLAT"),
        (0.25 - 1e-13, 5.0, "DRIFTING"),
        (0.0, 5.0, "FLAT"),
        (0.1 + 0.3, 1.0, "DRIFTING"),
    ],
)
def test_momentum_states(slope: float, accel: float, wanted: str) -> None:
    assert momentum_state(slope, accel, P) == wanted
    assert momentum_state(-slope, -accel, P) == wanted


# -- a bar among its past ------------------------------------------------------

CALM = Past([10.0] * 20, [4] * 20, [], [100.0] * 3, slope=0.0, context=0.0)


def settled(atr: float, past: Past = CALM, **values: Any) -> Past:
    """A past in which the average range comes out as `atr` with a bar of that range at 100."""
    known = msgspec.structs.replace(past.atr, value=atr, close=100.0)
    return msgspec.structs.replace(past, atr=known, **values)


def bar(close: float = 100.0, **values: Any) -> Bar:
    """A bar of a true range of 2 that opens at 100."""
    fields: dict[str, Any] = {"open": 100.0, "high": 101.0, "low": 99.0, "close": close}
    fields |= {"volume": 10.0, "buy_volume": 7.0, "sell_volume": 3.0, "trades": 4}
    return Bar(0, **(fields | values))


def test_a_bar_by_hand() -> None:
    past = settled(2.0, slope=0.1, context=0.5, impacts=[1.0, None, *[3.0] * 19])
    row = described(
        bar(101.0, volume=20.0, buy_volume=15.0, sell_volume=5.0, ofi=0.5, depth=0.5, impact=-2.0),
        past,
    )
    assert row == {
        "price_efficiency": 0.5,
        "order_flow_quality": pytest.approx(0.5),
        "inst_core": pytest.approx(0.25),
        "volume_amplifier": 1.25,
        "kyle_lambda_boost": 1 + 0.25 / 20,
        "inst_proxy": pytest.approx(0.25 * 1.25 * (1 + 0.25 / 20)),
        "mms_slope": 0.5,
        "mms_accel": 0.4,
        "momentum_context": pytest.approx(0.46),
        "momentum_state": "ACCELERATING",
        "flow_direction": 1,
        "flow_momentum_agreement": 1.0,
        "validated_momentum": pytest.approx(0.46),
        "exhaustion_score": 0.0,
        "exhaustion_signals": 0,
        "exhaustion_warning": False,
        "urgency": pytest.approx(0.25 * 0.5 + 0.25 * 0.5 + 0 + 0.15 * 0.5 + 0.15 * 0.46),
        "urgency_class": "PATIENT",
        "xfactor": False,
        "xfactor_conditions": 2,  # efficiency and agreement of directions
        "direction": "BULLISH",
        "vol_expansion": 0.5,
        "tick_intensity": 0.0,
        "flow_pressure": 0.5,
        "direction_agreement": 1.0,
    }


@pytest.mark.parametrize(
    ("bought", "ofi", "pressure", "side"),
    [
        (5.25, None, 0.05, 0),
        (5.26, None, 0.052, 1),
        (4.74, None, 0.052, -1),
        (7.0, -0.4, 0.0, 0),
        (7.0, -0.5, 0.05, 0),
        (7.0, -0.51, 0.055, -1),
        (5.0, 1.0, 0.5, 1),
    ],
)
def test_flow(bought: float, ofi: float | None, pressure: float, side: int) -> None:
    row = described(bar(buy_volume=bought, sell_volume=10 - bought, ofi=ofi), CALM)
    assert row["flow_pressure"] == pytest.approx(pressure)
    assert row["flow_direction"] == side


def test_lambda_boosts_only_against_enough_of_its_own() -> None:
    def boost(impact: float | None, impacts: Sequence[float | None]) -> Any:
        past = msgspec.structs.replace(CALM, impacts=list(impacts))
        return described(bar(impact=impact), past)["kyle_lambda_boost"]

    assert boost(5.0, [1.0] * 19 + [None] * 50) == 1.0
    assert boost(5.0, [1.0] * 20 + [None] * 50) == 1.25
    assert boost(-5.0, [1.0] * 15 + [6.0] * 5) == 1.1875
    assert boost(1.0, [1.0] * 20) == 1.25
    assert boost(None, [1.0] * 20) == 1.0


def counted(values: dict[str, Any], past: Past) -> tuple[Any, ...]:
    row = described(bar(**values), past)
    keys = ("exhaustion_signals", "exhaustion_score", "exhaustion_warning", "momentum_state")
    return tuple(row[key] for key in keys)


def test_signs_of_exhaustion_one_by_one() -> None:
    up: dict[str, Any] = {"close": 101.0, "open": 100.0, "high": 101.0}
    past = settled(2.0, slope=0.5, context=0.3)  # slope 0.5, no acceleration, context 0.3
    assert counted(up, past) == (0, 0.0, False, "DRIFTING")
    fading = msgspec.structs.replace(past, context=0.3 / 0.8)
    assert counted(up, fading)[0] == 0
    assert counted(up, msgspec.structs.replace(past, context=0.3 / 0.8 + E))[0] == 1
    assert counted(up, msgspec.structs.replace(past, context=None))[0] == 0
    assert counted(up | {"volume": 7.0}, past)[0] == 0
    assert counted(up | {"volume": 7.0 - E}, past)[0] == 1
    wick = {"close": 101.0, "high": 101.8, "low": 99.8}  # 0.8 of a range of 2
    assert counted(wick, past)[0] == 0
    assert counted(wick | {"low": 99.81}, settled(2.0, slope=0.5, context=0.3))[0] == 1
    # a lower wick counts where price falls, and only there
    low: dict[str, Any] = {"close": 99.0, "open": 99.0, "high": 99.0, "low": 97.0}
    assert counted(low, settled(2.0, slope=-0.5, context=0.3))[0] == 1
    upper = low | {"high": 101.0, "low": 99.0}
    assert counted(upper, settled(2.0, slope=-0.5, context=0.3))[0] == 0


def test_three_signs_exhaust_a_steep_slope_and_warn_of_any() -> None:
    tired: dict[str, Any] = {"close": 101.0, "high": 102.0, "low": 100.0, "volume": 5.0}
    # at a slope of 0.5 the three signs warn, above it they are the high score
    assert counted(tired, settled(2.0, slope=0.5, context=0.9))[1:3] == (pytest.approx(0.6), True)
    steep = settled(1.9, slope=0.5, context=0.9)
    assert counted(tired | {"high": 101.9, "low": 100.0}, steep)[:3] == (3, 0.9, True)
    fall: dict[str, Any] = {"close": 99.0, "high": 100.0, "low": 98.1, "volume": 5.0}
    steep = settled(1.9, slope=-0.5, context=0.9)
    assert counted(fall, steep)[:3] == (3, 0.9, True)
    slower = settled(2.0, slope=0.9, context=0.9)
    assert counted(tired, slower) == (4, pytest.approx(0.8), True, "DECELERATING")
    two = {"close": 101.0, "high": 102.0, "low": 100.0}
    assert counted(two, settled(2.0, slope=0.5, context=0.9))[:3] == (2, 0.4, False)


@pytest.mark.parametrize(
    ("urgency", "wanted"),
    [
        (0.75, "AGGRESSIVE"),
        (0.75 - E, "ELEVATED"),
        (0.5, "ELEVATED"),
        (0.5 - E, "PATIENT"),
        (0.1 + 0.2, "PATIENT"),
        (0.3 - E, "PASSIVE"),
        (0.0, "PASSIVE"),
    ],
)
def test_classes_of_urgency(urgency: float, wanted: str) -> None:
    from pipeline.stages.ipu import _urgency_class

    assert _urgency_class(urgency) == wanted
    assert _urgency_class(None) is None


def test_the_x_factor_takes_four_of_five() -> None:
    past = settled(2.0, slope=0.2, context=0.1)
    all_five = bar(
        102.0, open=100.0, high=102.0, low=100.0, volume=23.0, buy_volume=20.7, sell_volume=2.3
    )
    row = described(all_five, past)
    assert (row["xfactor_conditions"], row["xfactor"]) == (4, True)  # d and close: 2 of 4 signs
    row = described(all_five._replace(depth=0.1), past)
    assert (row["direction_agreement"], row["xfactor_conditions"]) == (0.75, 5)
    row = described(all_five._replace(volume=22.9, buy_volume=20.0, sell_volume=2.9), past)
    assert (row["xfactor_conditions"], row["xfactor"]) == (3, False)
    young = described(all_five._replace(depth=0.1), Past())
    assert (young["xfactor_conditions"], young["xfactor"]) == (3, False)


# -- over bars -------------------------------------------------------------------


def test_what_is_known_from_which_bar_on() -> None:
    rows = rows_of([ends(100.0 + i % 3) for i in range(30)])
    for t, row in enumerate(rows):
        known = {name for name, value in row.items() if value is not None}
        early = {"mms_slope", "flow_momentum_agreement", "direction"}
        needs_median = {
            "volume_amplifier",
            "inst_proxy",
            "vol_expansion",
            "tick_intensity",
            "urgency",
            "urgency_class",
        }
        for name in early:
            assert (name in known) == (t >= 13), (t, name)
        for name in set(AFTER_STATE) - needs_median:
            assert (name in known) == (t >= 14), (t, name)
        for name in needs_median:
            assert (name in known) == (t >= 20), (t, name)
        rest = set(COLUMNS) - early - needs_median - set(AFTER_STATE)
        assert rest <= known


def test_the_first_context_has_none_before_it() -> None:
    rows = rows_of([ends(100.0)] * 13 + [ends(109.0)] + [ends(100.0)] * 2)
    assert rows[14]["exhaustion_signals"] == 0
    assert rows[14]["momentum_context"] > 0


def test_a_slope_spans_three_bars_whatever_they_did() -> None:
    """With a range of 2 in each bar the ATR moves with the last step alone."""
    closes = [100.0] * 20 + [100.5, 101.0, 101.5, 101.5, 101.5, 101.0]
    rows = rows_of([ends(close) for close in closes])
    assert {row["mms_slope"] for row in rows[13:20]} == {0.0}
    assert [row["mms_slope"] for row in rows[20:]] == [0.25, 0.5, 0.75, 0.5, 0.25, -0.25]
    assert [row["mms_accel"] for row in rows[21:24]] == [0.25, 0.25, -0.25]
    scaled = rows_of([ends(close) for close in closes], slope_scale=2, slope_bars=1)
    assert [row["mms_slope"] for row in scaled[20:]] == [0.125, 0.125, 0.125, 0, 0, -0.125]


def test_slope_and_acceleration_count_up_to_one() -> None:
    row = described(bar(106.0, high=106.0), settled(2.0, slope=-2.0, context=0.0))
    assert row["mms_slope"] > 1
    assert row["mms_accel"] > 3
    assert row["momentum_context"] == 1


def test_windows_of_medians_hold_the_bars_before_and_no_more() -> None:
    bars = [ends(100.0, volume=1.0, buy_volume=0.5, sell_volume=0.5) for _ in range(5)]
    bars += [ends(100.0, volume=4.0, buy_volume=2.0, sell_volume=2.0) for _ in range(4)]
    rows = rows_of(bars, window=4, window_min=2)
    expected = [None, None, 0, 0, 0, 1, 1, (4 / 2.5 - 1) / 2, 0]
    assert [row["vol_expansion"] for row in rows] == expected


def test_without_a_range_there_is_no_slope_but_zero() -> None:
    flat = {"open": 100.0, "high": 100.0, "low": 100.0}
    rows = rows_of([ends(100.0, **flat)] * 30)
    assert {row["mms_slope"] for row in rows[13:]} == {0.0}
    assert {row["momentum_state"] for row in rows[14:]} == {"FLAT"}
    assert {row["inst_proxy"] for row in rows[20:]} == {0.0}


def test_a_bar_without_volume_has_no_flow() -> None:
    bars = [ends(100.0)] * 25 + [ends(104.0, volume=0.0, buy_volume=0.0, sell_volume=0.0)]
    row = rows_of(bars)[-1]
    nulls = {name for name, value in row.items() if value is None}
    assert nulls == {
        "order_flow_quality",
        "inst_core",
        "inst_proxy",
        "flow_pressure",
        "flow_direction",
        "flow_momentum_agreement",
        "validated_momentum",
        "urgency",
        "urgency_class",
        "direction",
    }
    assert row["momentum_state"] == "ACCELERATING"


def test_the_minutes_of_a_bar() -> None:
    """Those that begin in it; null ones are left out of means, and of what came last."""
    bars = {at(5): ends(100.0), at(10): ends(100.0), at(20): ends(100.0)}
    feeds: dict[str, Table] = {
        "flow_1m": {
            at(4): {"ofi_norm": 0.9},
            at(5): {"ofi_norm": 0.1},
            at(7): {"ofi_norm": None},
            at(9): {"ofi_norm": 0.3},
            at(10): {"ofi_norm": -0.7},
            at(15): {"ofi_norm": 0.9},
        },
        "micro_1m": {at(9): {"depth_imbalance": 0.5}, at(14): {"depth_imbalance": None}},
        "impact_1m": {
            at(6): {"kyle_lambda": -2.0},
            at(8): {"kyle_lambda": None},
            at(12): {"kyle_lambda": 1.0},
        },
    }
    for cuts in ((), range(at(0), at(30), MINUTE_US)):
        tables = {"bars_5m": bars, "bars_15m": {}, "bars_30m": {}} | feeds
        rows = run(STAGE, tables, cuts, window_min=1)["ipu_5m"]
        # d is 0.4
        assert [row["flow_pressure"] for row in rows] == pytest.approx([0.3, 0.15, 0.4])
        quality = [row["order_flow_quality"] for row in rows]
        signed = [(0.4 * 0.2 * 0.5) ** (1 / 3), (0.4 * 0.7) ** 0.5 * 0.5, 0.4 * (0.5 + 0.5 / 3)]
        assert quality == pytest.approx(signed)
        assert [row["kyle_lambda_boost"] for row in rows] == [1.0, 1.0, 1.0]
        assert rows[0]["direction_agreement"] == 0.75


def test_a_long_bar_sees_its_first_minute_in_any_windows() -> None:
    tables: dict[str, Table] = {f"bars_{name}": {} for name in TIMEFRAMES}
    tables["bars_30m"] = {at(30): ends(100.0)}
    tables["flow_1m"] = {at(30): {"ofi_norm": 0.2}, at(29): {"ofi_norm": 1.0}}
    tables["micro_1m"] = {at(30): {"depth_imbalance": 0.8}, at(60): {"depth_imbalance": 0.1}}
    tables["impact_1m"] = {at(30): {"kyle_lambda": 1.0}}
    for cuts in ((), range(at(0), at(70), MINUTE_US)):
        (row,) = run(STAGE, tables, cuts)["ipu_30m"]
        assert row["flow_pressure"] == pytest.approx(0.3)
        assert row["order_flow_quality"] == pytest.approx((0.4 * 0.2 * 0.8) ** (1 / 3))


def test_each_feed_can_be_missing() -> None:
    rng = random.Random(3)
    bars = drawn_bars(rng, SPAN, 40)
    last = max(bars) + SPAN
    feeds: dict[str, Table] = {
        "flow_1m": drawn_minutes(rng, last, ("ofi_norm",)),
        "micro_1m": drawn_minutes(rng, last, ("depth_imbalance",)),
        "impact_1m": drawn_minutes(rng, last, ("kyle_lambda",)),
    }
    for lacking in feeds:
        there = {name: table for name, table in feeds.items() if name != lacking}
        empty = feeds | {lacking: {}}
        assert made(bars, there) == made(bars, empty)
    assert {row["kyle_lambda_boost"] for row in made(bars)["ipu_5m"]} == {1.0}


def test_no_bars() -> None:
    assert made({}) == {f"ipu_{name}": [] for name in TIMEFRAMES}


def test_a_profile_decides_what_the_table_leaves_open() -> None:
    assert (P.slope_scale, P.acc_slope, P.acc_accel, P.trend_slope) == (1.0, 0.4, 0.1, 0.5)
    chosen = Params(profile="calibrated")
    assert chosen.slope_scale == pytest.approx(math.sqrt(3), rel=1e-15)
    assert (chosen.acc_slope, chosen.acc_accel, chosen.trend_slope) == (0.8, 0.35, 0.8)
    own = Params(profile="calibrated", acc_slope=0.4)
    assert (own.acc_slope, own.acc_accel) == (0.4, 0.35)
    shown = msgspec.json.decode(msgspec.json.encode(own))
    assert (shown["acc_slope"], shown["trend_slope"]) == (0.4, 0.8)
    assert msgspec.convert(shown, Params) == own
    assert momentum_state(0.7, 0.3, chosen) == "DRIFTING"


@pytest.mark.parametrize(
    "wrong",
    [
        {"profile": "other"},
        {"slope_scale": 0},
        {"acc_slope": math.nan},
        {"drift_slope": math.inf},
        {"window": 0},
        {"atr_period": 0},
        {"slope": 1},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Params)


# -- beside a plain loop ---------------------------------------------------------


def gt(a: float, b: float) -> bool:
    return a - b > 1e-12 * max(1, abs(a), abs(b))


def sg(a: float | None) -> int:
    return 0 if a is None else gt(a, 0) - gt(0, a)


def clip(value: float) -> float:
    return max(0.0, min(1.0, value))


def ex(values: list[float], t: int, window: int, least: int) -> float | None:
    prior = values[max(0, t - window) : t]
    return clip((values[t] / statistics.median(prior) - 1) / 2) if len(prior) >= least else None


def oracle(  # noqa: C901, PLR0912, PLR0915
    bars: Table, span: int, feeds: dict[str, Table], p: Params
) -> list[dict[str, Any]]:
    """The rows by the page alone, each bar looking back over all the bars before it."""
    starts = sorted(bars)
    column = {n: [bars[s][n] for s in starts] for n in next(iter(bars.values()))}
    o, h, l, c = (column[n] for n in ("open", "high", "low", "close"))  # noqa: E741
    v = column["volume"]

    def of_minutes(layer: str, name: str, start: int) -> list[float]:
        minutes = feeds.get(layer, {})
        inside = [minutes[m][name] for m in sorted(minutes) if start <= m < start + span]
        return [value for value in inside if value is not None]

    tr = [
        h[t] - l[t] if t == 0 else max(h[t] - l[t], abs(h[t] - c[t - 1]), abs(l[t] - c[t - 1]))
        for t in range(len(starts))
    ]
    n = p.atr_period
    atr: list[float | None] = [None] * len(starts)
    for t in range(n - 1, len(starts)):
        before = atr[t - 1] if t else None
        atr[t] = math.fsum(tr[:n]) / n if before is None else ((n - 1) * before + tr[t]) / n
    slopes: list[float | None] = []
    contexts: list[float | None] = []
    impacts: list[float | None] = []
    found = []
    for t, start in enumerate(starts):
        d = (column["buy_volume"][t] - column["sell_volume"][t]) / v[t]
        ofi, depth = (
            math.fsum(each) / len(each) if each else None
            for each in (
                of_minutes("flow_1m", "ofi_norm", start),
                of_minutes("micro_1m", "depth_imbalance", start),
            )
        )
        lam = (of_minutes("impact_1m", "kyle_lambda", start) or [None])[-1]  # type: ignore[list-item]
        r = h[t] - l[t]
        eff = 0.0
        if gt(r, 0) and (gt(c[t], o[t]) or gt(o[t], c[t])):
            adverse = h[t] - c[t] if gt(c[t], o[t]) else c[t] - l[t]
            eff = abs(c[t] - o[t]) / r * (1 - adverse / r)
        there = [x for x in (d, ofi, depth) if x is not None]
        size = 1.0
        for x in there:
            size *= abs(x) if sg(x) else 0.0
        quality = size ** (1 / len(there)) * (0.5 + 0.5 * abs(sg(d) + sg(ofi) + sg(depth)) / 3)
        vol = ex(v, t, p.window, p.window_min)
        ticks = ex(column["trades"], t, p.window, p.window_min)
        prior = [x for x in impacts[max(0, t - p.window) : t] if x is not None]
        impacts.append(None if lam is None else abs(lam))
        boost = 1.0
        if lam is not None and len(prior) >= p.window_min:
            boost += 0.25 * sum(not gt(x, abs(lam)) for x in prior) / len(prior)
        f = d if ofi is None else 0.5 * d + 0.5 * ofi
        flow = sg(f) if gt(abs(f), p.flow_deadband) else 0
        camps = [sg(x) for x in (d, ofi, depth, c[t] - o[t])]
        a_t, s = atr[t], None
        if a_t is not None and t >= p.slope_bars:
            s = (c[t] - c[t - p.slope_bars]) / (a_t * p.slope_scale) if gt(a_t, 0) else 0.0
        previous = slopes[-1] if slopes else None
        slopes.append(s)
        a = None if s is None or previous is None else s - previous
        m = None if s is None else 0 if gt(p.drift_slope, abs(s)) else sg(s)
        agree = None
        if m is not None:
            agree = 0.65 if not m or not flow else 1.0 if m == flow else 0.3
        row: dict[str, Any] = {
            "at": start,
            "price_efficiency": eff,
            "order_flow_quality": quality,
            "inst_core": eff * quality,
            "volume_amplifier": None if vol is None else 1 + 0.5 * vol,
            "kyle_lambda_boost": boost,
            "inst_proxy": None if vol is None else clip(eff * quality * (1 + 0.5 * vol) * boost),
            "mms_slope": s,
            "mms_accel": a,
            "flow_direction": flow,
            "flow_momentum_agreement": agree,
            "direction": None
            if m is None
            else {0: "NEUTRAL", 1: "BULLISH", 2: "BULLISH"}.get(m + flow, "BEARISH"),
            "vol_expansion": vol,
            "tick_intensity": ticks,
            "flow_pressure": abs(f),
            "direction_agreement": max(camps.count(1), camps.count(-1)) / 4,
        }
        late = dict.fromkeys(AFTER_STATE[1:])
        state = None
        if s is not None and a is not None and agree is not None:
            x = a * sg(s)
            if gt(abs(s), p.acc_slope) and gt(x, p.acc_accel):
                state = "ACCELERATING"
            elif gt(abs(s), p.acc_slope) and gt(-p.acc_accel, x):
                state = "DECELERATING"
            elif gt(abs(s), p.trend_slope):
                state = "TRENDING"
            else:
                state = "FLAT" if gt(p.drift_slope, abs(s)) else "DRIFTING"
            context = 0.6 * clip(abs(s)) + 0.4 * clip(abs(a))
            wick = 0.0
            if gt(r, 0) and sg(s):
                wick = (h[t] - max(o[t], c[t]) if sg(s) > 0 else min(o[t], c[t]) - l[t]) / r
            before = contexts[-1]
            signs = [before is not None and gt(p.exh_momentum * before, context)]
            signs += [gt(p.exh_volume * v[t - 1], v[t]), gt(wick, p.exh_wick)]
            count = sum([*signs, state == "DECELERATING"])
            score = p.exh_step * count
            if count >= p.exh_count and gt(abs(s), p.exh_slope):
                score = p.exh_high
            validated = context * (0.6 + 0.4 * agree)
            urgency = None
            if vol is not None and ticks is not None:
                urgency = math.fsum(
                    (
                        0.25 * vol,
                        0.25 * clip(abs(s)),
                        0.2 * ticks,
                        0.15 * quality,
                        0.15 * validated,
                    )
                )
            limits = (("AGGRESSIVE", 0.75), ("ELEVATED", 0.5), ("PATIENT", 0.3), ("PASSIVE", -1))
            word = None
            if urgency is not None:
                word = next(name for name, limit in limits if not gt(limit, urgency))
            late = {
                "momentum_context": context,
                "momentum_state": state,
                "validated_momentum": validated,
                "exhaustion_score": score,
                "exhaustion_signals": count,
                "exhaustion_warning": not gt(p.exh_warning, score),
                "urgency": urgency,
                "urgency_class": word,
            }
        contexts.append(late["momentum_context"])
        five = [vol is not None and not gt(p.x_vol, vol), not gt(p.x_eff, eff)]
        five += [not gt(p.x_flow, abs(f)), not gt(p.x_agree, row["direction_agreement"])]
        five += [state == "ACCELERATING" and s is not None and gt(abs(s), p.x_slope)]
        late |= {"xfactor_conditions": sum(five), "xfactor": sum(five) >= p.x_count}
        found.append(row | late)
    return found


def assert_like(rows: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert len(rows) == len(wanted)
    for row, other in zip(rows, wanted, strict=True):
        assert set(row) == set(other)
        for name, value in other.items():
            if isinstance(value, float):
                assert row[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name
            else:
                assert row[name] == value, name


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"profile": "calibrated"},
        {"window": 30, "window_min": 5, "atr_period": 3, "slope_bars": 6, "drift_slope": 0.6},
    ],
)
@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 3))]
)
def test_beside_a_plain_loop_in_any_windows(seed: int, params: dict[str, Any]) -> None:
    rng = random.Random(seed)
    bars = {f"bars_{n}": drawn_bars(rng, s, 900 * MINUTE_US // s) for n, s in TIMEFRAMES.items()}
    last = max(max(table) for table in bars.values()) + max(TIMEFRAMES.values())
    feeds: dict[str, Table] = {}
    for layer, name in (
        ("flow_1m", "ofi_norm"),
        ("micro_1m", "depth_imbalance"),
        ("impact_1m", "kyle_lambda"),
    ):
        if rng.random() < 0.8:
            feeds[layer] = drawn_minutes(rng, last, (name,), share=rng.choice((0.1, 0.8)))
    rows = assert_any_windows(STAGE, bars | feeds, seed, **params)
    settings = msgspec.convert(params, Params)
    for name, span in TIMEFRAMES.items():
        assert_like(rows[f"ipu_{name}"], oracle(bars[f"bars_{name}"], span, feeds, settings))
    states = {row["momentum_state"] for row in rows["ipu_5m"]}
    assert params or {"ACCELERATING", "DECELERATING", "FLAT"} <= states
