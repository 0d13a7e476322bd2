from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest

from pipeline.calc.fusion import SIGNALS, Cluster, Participation, Scene, Structure
from pipeline.calc.timeframes import TIMEFRAMES
from pipeline.stages.signals import STAGE, Params, judge

from .joined_tape import at
from .signal_tape import Table, assert_any_windows, run

COLUMNS = [column.name for column in STAGE.layers[0].columns]
P = Params()
E = 1e-9

SUPPORT = {"price": 99.0, "ofi_bias": 0.2, "distance_atr": 0.5}
RESISTANCE = {"price": 101.0, "ofi_bias": -0.2, "distance_atr": 0.5}
VCP: dict[str, Any] = {
    "clusters": [SUPPORT, RESISTANCE],
    "structural_bias": 0.0,
    "runway_long": 0.5,
    "runway_short": 0.5,
    "vcp_combined": 0.5,
    "atr_14": 2.0,
}
IPU: dict[str, Any] = {
    "inst_proxy": 0.4,
    "mms_slope": 0.6,
    "mms_accel": 0.0,
    "momentum_state": "DRIFTING",
    "flow_direction": 1,
    "flow_momentum_agreement": 1.0,
    "validated_momentum": 0.5,
    "exhaustion_score": 0.0,
    "exhaustion_warning": False,
    "direction": "BULLISH",
}
DOWN = {"mms_slope": -0.6, "flow_direction": -1, "direction": "BEARISH"}
AGAINST = {"flow_direction": -1, "flow_momentum_agreement": 0.3, "direction": "NEUTRAL"}
NO_FLOW = {"flow_direction": 0, "flow_momentum_agreement": 0.65}
FAST = {"momentum_state": "ACCELERATING", "mms_accel": 0.2}
TIRED = {"exhaustion_score": 0.9, "exhaustion_warning": True}
SLOWER = {"momentum_state": "DECELERATING", "mms_accel": -0.2}
STEADY = {"momentum_state": "TRENDING"}
STILL = {"momentum_state": "FLAT", "mms_slope": 0.1, "flow_momentum_agreement": 0.65}
ALONE: dict[str, Any] = {"clusters": []}
FREE_UP = {"runway_long": 0.8, "structural_bias": 0.4}
FREE_DOWN = {"runway_short": 0.8, "structural_bias": -0.4}


def judged(
    *changes: dict[str, Any], close: float = 100.0, gaps: int = 0, **params: Any
) -> dict[str, Any]:
    """A bar between a support and a resistance that drifts up with its flow, changed."""
    values = {**VCP, **IPU}
    for change in changes:
        values |= change
    clusters = [msgspec.convert(each, Cluster) for each in values["clusters"]]
    vcp = Structure(clusters, *(values[n] for n in Structure.__struct_fields__[1:]))
    ipu = Participation(*(values[n] for n in Participation.__struct_fields__))
    settings = msgspec.convert(params, Params)
    row = judge(Scene(close, vcp, ipu, settings), gaps, settings)
    return dict(zip(COLUMNS, row, strict=True))


def name_of(*changes: dict[str, Any], **options: Any) -> str:
    name: str = judged(*changes, **options)["signal"]
    assert name in SIGNALS
    return name


def test_a_bar_that_drifts_says_nothing() -> None:
    row = judged()
    assert (row["signal"], row["direction"], row["confidence"]) == ("NO_SIGNAL", "NONE", 0)
    assert (row["reasons"], row["filtered"], row["filter_reason"]) == ([], False, None)
    assert (row["price"], row["atr"], row["final_size"]) == (100.0, 2.0, 0.0)


def test_fade() -> None:
    assert name_of(TIRED) == "FADE_EXHAUSTION_SHORT"
    assert name_of(TIRED, DOWN) == "FADE_EXHAUSTION_LONG"
    assert name_of(TIRED, AGAINST) == "FADE_EXHAUSTION_SHORT"  # momentum counts, not direction
    assert name_of(TIRED, NO_FLOW) == "FADE_EXHAUSTION_SHORT"
    assert name_of(TIRED | {"exhaustion_score": 0.9 - E}) == "NO_SIGNAL"
    assert name_of(TIRED | {"exhaustion_score": 0.9 - 1e-13}) == "FADE_EXHAUSTION_SHORT"
    # without momentum, though flow points up
    still = {"flow_momentum_agreement": 0.65}
    assert name_of(TIRED, still) == "NO_SIGNAL"
    assert name_of(TIRED, {"clusters": [SUPPORT]}) == "NO_SIGNAL"
    assert name_of(TIRED, DOWN, {"clusters": [RESISTANCE]}) == "NO_SIGNAL"


@pytest.mark.parametrize(
    ("change", "is_near"),
    [
        ({}, True),
        ({"distance_atr": 0.5 + E}, False),
        ({"distance_atr": 0.5 + 1e-13}, True),
        ({"distance_atr": None}, False),
        ({"ofi_bias": 0.0}, False),
        ({"ofi_bias": -1e-13}, False),
        ({"ofi_bias": 0.2}, False),
        ({"ofi_bias": None}, False),
        ({"price": 100.0}, False),
        ({"price": 100.0 + 1e-11}, False),
        ({"price": 99.9}, False),
    ],
)
def test_what_is_a_resistance_at_hand(change: dict[str, Any], is_near: bool) -> None:
    name = name_of(TIRED, {"clusters": [RESISTANCE | change]})
    assert (name == "FADE_EXHAUSTION_SHORT") == is_near


def test_divergence() -> None:
    against = {"flow_momentum_agreement": 0.3}
    assert name_of(SLOWER, AGAINST) == "DIVERGENCE_WARNING"
    assert name_of(SLOWER, AGAINST, {"clusters": []}) == "DIVERGENCE_WARNING"
    assert name_of(SLOWER, NO_FLOW) == name_of(SLOWER) == "NO_SIGNAL"
    assert name_of(FAST, AGAINST) == name_of(STEADY, AGAINST) == "NO_SIGNAL"
    assert name_of(SLOWER, against, low_agreement=0.3) == "NO_SIGNAL"
    assert name_of(SLOWER, against, low_agreement=0.3 + E) == "DIVERGENCE_WARNING"
    assert name_of(SLOWER, {"flow_momentum_agreement": None}) == "NO_SIGNAL"


def test_bounce() -> None:
    assert name_of(FAST) == "CONFIRMED_BOUNCE_LONG"
    assert name_of(FAST, DOWN) == "CONFIRMED_BOUNCE_SHORT"
    assert name_of(FAST, NO_FLOW) == "CONFIRMED_BOUNCE_LONG"
    assert name_of(FAST, NO_FLOW, require_flow=True) == "NO_SIGNAL"
    assert name_of(FAST, require_flow=True) == "CONFIRMED_BOUNCE_LONG"
    assert name_of(FAST, DOWN, require_flow=True) == "CONFIRMED_BOUNCE_SHORT"
    assert name_of(FAST, {"clusters": [RESISTANCE]}) == "NO_SIGNAL"
    assert name_of(FAST, DOWN, {"clusters": [SUPPORT]}) == "NO_SIGNAL"
    assert name_of(FAST, AGAINST) == "NO_SIGNAL"
    # flow alone points up: direction is bullish without momentum
    assert name_of(FAST, {"flow_momentum_agreement": 0.65}) == "NO_SIGNAL"


@pytest.mark.parametrize("side", [1, -1])
def test_strong_momentum(side: int) -> None:
    word = "LONG" if side > 0 else "SHORT"
    runway = f"runway_{word.lower()}"
    base: list[dict[str, Any]] = [
        FAST,
        ALONE,
        FREE_UP if side > 0 else FREE_DOWN,
        {} if side > 0 else DOWN,
    ]
    name = f"STRONG_MOMENTUM_{word}"
    assert name_of(*base) == name
    other = "runway_short" if side > 0 else "runway_long"
    assert name_of(*base, {other: 0.0}) == name
    assert name_of(*base, {runway: 0.7}) == "NO_SIGNAL"
    assert name_of(*base, {runway: 0.7 + E}) == name
    assert name_of(*base, {runway: None}) == "NO_SIGNAL"
    assert name_of(*base, {"structural_bias": side * 0.3}) == "NO_SIGNAL"
    assert name_of(*base, {"structural_bias": side * (0.1 + 0.2)}) == "NO_SIGNAL"
    assert name_of(*base, {"structural_bias": side * (0.3 + E)}) == name
    assert name_of(*base, {"structural_bias": -side * 0.9}) == "NO_SIGNAL"
    assert name_of(*base, {"inst_proxy": 0.0}) == name
    assert name_of(*base, {"inst_proxy": 0.15}, strong_min_inst=0.15) == name
    assert name_of(*base, {"inst_proxy": 0.15 - E}, strong_min_inst=0.15) == "NO_SIGNAL"
    assert name_of(*base, STEADY) == "NO_SIGNAL"
    no_flow: dict[str, Any] = NO_FLOW | {"direction": "BULLISH" if side > 0 else "BEARISH"}
    assert name_of(*base, no_flow) == name
    assert name_of(*base, no_flow, require_flow=True) == "NO_SIGNAL"


def test_clean_trend() -> None:
    thin = {"vcp_combined": 0.3 - E}
    assert name_of(STEADY, thin) == "CLEAN_TREND_ENTRY"
    assert judged(STEADY, thin)["direction"] == "LONG"
    assert judged(STEADY, thin, DOWN)["signal"] == "CLEAN_TREND_ENTRY"
    assert judged(STEADY, thin, DOWN)["direction"] == "SHORT"
    assert name_of(STEADY, {"vcp_combined": 0.3}) == "NO_SIGNAL"
    assert name_of(STEADY, {"vcp_combined": None}) == "NO_SIGNAL"
    assert name_of(STEADY, thin, {"exhaustion_warning": True}) == "NO_SIGNAL"
    assert name_of(STEADY, thin, AGAINST) == "NO_SIGNAL"
    assert name_of(thin) == "NO_SIGNAL"


def test_accumulation_and_distribution() -> None:
    busy = {"inst_proxy": 0.5}
    assert name_of(STILL, busy) == "ACCUMULATION"
    row = judged(STILL, busy, {"flow_direction": -1, "direction": "BEARISH"})
    assert (row["signal"], row["direction"]) == ("DISTRIBUTION", "SHORT")
    assert judged(STILL, busy)["direction"] == "LONG"
    assert name_of(STILL, {"inst_proxy": 0.5 - E}) == "NO_SIGNAL"
    assert name_of(STILL, busy, {"flow_direction": 0, "direction": "NEUTRAL"}) == "NO_SIGNAL"
    assert name_of(busy) == "NO_SIGNAL"


def test_the_first_rule_that_holds_decides() -> None:
    all_of: list[dict[str, Any]] = [TIRED, SLOWER, AGAINST]
    assert name_of(*all_of) == "FADE_EXHAUSTION_SHORT"
    assert name_of(*all_of, ALONE) == "DIVERGENCE_WARNING"
    assert name_of(TIRED, FAST, FREE_UP) == "FADE_EXHAUSTION_SHORT"
    assert name_of(FAST, FREE_UP) == "CONFIRMED_BOUNCE_LONG"
    assert name_of(FAST, FREE_UP, ALONE) == "STRONG_MOMENTUM_LONG"
    assert name_of(FAST, FREE_UP, ALONE, {"vcp_combined": 0.1}) == "STRONG_MOMENTUM_LONG"


@pytest.mark.parametrize("name", ["structural_bias", "momentum_state", "inst_proxy"])
def test_nothing_is_said_before_enough_is_known(name: str) -> None:
    for changes in ((TIRED,), (SLOWER, AGAINST), (FAST,), (FAST, ALONE, FREE_UP)):
        assert name_of(*changes) != "NO_SIGNAL"
        row = judged(*changes, {name: None})
        assert (row["signal"], row["confidence"], row["final_size"]) == ("NO_SIGNAL", 0, 0)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ((TIRED,), ["resistance=101.000", "slope=0.600", "exhaustion=0.900"]),
        ((TIRED, DOWN), ["support=99.000", "slope=-0.600", "exhaustion=0.900"]),
        ((SLOWER, AGAINST), ["slope=0.600", "accel=-0.200", "agreement=0.300"]),
        ((FAST,), ["support=99.000", "direction=BULLISH", "accel=0.200"]),
        ((FAST, DOWN), ["resistance=101.000", "direction=BEARISH", "accel=0.200"]),
        (
            (FAST, ALONE, FREE_UP),
            ["runway=0.800", "bias=0.400", "direction=BULLISH", "accel=0.200"],
        ),
        (
            (FAST, ALONE, FREE_DOWN, DOWN),
            ["runway=0.800", "bias=-0.400", "direction=BEARISH", "accel=0.200"],
        ),
        (
            (STEADY, {"vcp_combined": 0.12345}),
            ["structure=0.123", "slope=0.600", "direction=BULLISH"],
        ),
        ((STILL, {"inst_proxy": 0.7}), ["inst=0.700", "slope=0.100"]),
    ],
)
def test_reasons(changes: tuple[dict[str, Any], ...], reasons: list[str]) -> None:
    assert judged(*changes)["reasons"] == reasons


def test_the_nearest_level_is_named() -> None:
    levels = [RESISTANCE | {"price": p, "distance_atr": 0.1} for p in (102.5, 100.5, 101.0)]
    row = judged(TIRED, {"clusters": [SUPPORT | {"price": 99.9}, *levels]})
    assert row["reasons"][0] == "resistance=100.500"


def test_confidence() -> None:
    fade = judged(TIRED, {"structural_bias": -0.5})
    assert fade["confidence"] == pytest.approx(0.4 * 0.4 + 0.3 * 0.9 + 0.3 * 0.5)
    assert judged(TIRED, {"structural_bias": 0.5})["confidence"] == pytest.approx(0.43)
    up = judged(FAST, ALONE, FREE_UP)
    assert up["confidence"] == pytest.approx(0.16 + 0.15 + 0.12)
    down = judged(FAST, ALONE, FREE_DOWN, DOWN)
    assert down["confidence"] == pytest.approx(0.16 + 0.15 + 0.12)
    for bias in (0.5, -0.5):
        warned = judged(SLOWER, AGAINST, {"structural_bias": bias})
        assert warned["confidence"] == pytest.approx(0.16 + 0.15 + 0.15)
    sure = {"inst_proxy": 1.0, "validated_momentum": 1.0, "structural_bias": 1.0}
    assert judged(FAST, sure)["confidence"] == 1


@pytest.mark.parametrize(
    ("state", "trail", "size"),
    [
        ("ACCELERATING", 1.5, 1.2),
        ("TRENDING", 1.2, 1.0),
        ("DECELERATING", 0.8, 0.7),
        ("DRIFTING", 1.0, 0.7),
        ("FLAT", 1.0, 0.5),
        (None, None, None),
    ],
)
def test_stops_and_sizes_by_momentum(
    state: str | None, trail: float | None, size: float | None
) -> None:
    row = judged({"momentum_state": state})
    assert (row["trail_multiplier"], row["momentum_modifier"]) == (trail, size)
    assert row["stop_distance"] == (None if trail is None else trail * 2)
    tired = judged({"momentum_state": state, "exhaustion_warning": True})
    assert tired["trail_multiplier"] == (None if trail is None else 0.7)


@pytest.mark.parametrize(
    ("agreed", "size"),
    [(0.8, 1.0), (0.8 + E, 1.1), (0.5, 1.0), (0.5 - E, 0.8), (0.65, 1.0), (None, None)],
)
def test_sizes_by_agreement(agreed: float | None, size: float | None) -> None:
    assert judged({"flow_momentum_agreement": agreed})["agreement_modifier"] == size


def test_sizes() -> None:
    row = judged(FAST)
    base = 100 / (2.0 * 1.5)
    assert row["base_size"] == base
    assert row["final_size"] == pytest.approx(base * 1.2 * 1.1)
    assert judged(FAST, risk_per_trade=30, atr_multiplier=5)["base_size"] == 3
    for atr in (None, 0.0):
        row = judged(FAST, {"atr_14": atr})
        assert (row["base_size"], row["final_size"]) == (None, None)
        assert row["stop_distance"] == atr
    row = judged(SLOWER, AGAINST)
    assert (row["base_size"], row["final_size"]) == (base, 0)


def test_filters() -> None:
    sure = {"inst_proxy": 1.0, "validated_momentum": 0.5, "structural_bias": 0.0}
    row = judged(FAST, sure)
    assert row["confidence"] == pytest.approx(0.55)
    assert (row["filtered"], row["filter_reason"]) == (True, "confidence")
    assert row["final_size"] > 0
    exact = sure | {"validated_momentum": 2 / 3}
    assert judged(FAST, exact)["confidence"] == pytest.approx(0.6)
    row = judged(FAST, exact)
    assert (row["filtered"], row["filter_reason"]) == (False, None)
    assert judged(FAST, exact, gaps=1)["filter_reason"] == "gap"
    assert judged(FAST, sure, gaps=3)["filter_reason"] == "gap;confidence"
    assert judged(FAST, sure, min_confidence=0.5)["filter_reason"] is None
    for quiet in ((), (SLOWER, AGAINST)):
        row = judged(*quiet, gaps=5)
        assert (row["filtered"], row["filter_reason"]) == (False, None)


def test_a_profile_decides_what_the_table_leaves_open() -> None:
    assert (P.require_flow, P.strong_min_inst, P.high_inst) == (False, 0.0, 0.5)
    chosen = Params(profile="calibrated")
    assert (chosen.require_flow, chosen.strong_min_inst, chosen.high_inst) == (True, 0.15, 0.15)
    own = msgspec.convert({"profile": "calibrated", "require_flow": False}, Params)
    assert (own.require_flow, own.high_inst) == (False, 0.15)
    shown = msgspec.json.decode(msgspec.json.encode(own))
    assert (shown["require_flow"], shown["strong_min_inst"]) == (False, 0.15)
    assert msgspec.convert(shown, Params) == own
    for wrong in ({"risk_per_trade": 0}, {"atr_multiplier": 0}, {"near_atr": math.nan}, {"x": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Params)


# -- over bars ---------------------------------------------------------------------


def tables_of(rows: dict[int, tuple[Any, Any, Any]], name: str = "5m") -> dict[str, Table]:
    """One timeframe with these rows of bars, vcp and ipu; the others empty."""
    found: dict[str, Table] = {}
    for index, layer in enumerate(("bars", "vcp", "ipu")):
        for tf in TIMEFRAMES:
            found[f"{layer}_{tf}"] = {
                ts: each[index]
                for ts, each in rows.items()
                if tf == name and each[index] is not None
            }
    return found


def test_rows_of_one_time_belong_together() -> None:
    bar = {"close": 100.0, "gaps": 1}
    rows = run(STAGE, tables_of({at(0): (bar, VCP, IPU | FAST), at(5): (bar, VCP, IPU | TIRED)}))
    assert [row["signal"] for row in rows["signals_5m"]] == [
        "CONFIRMED_BOUNCE_LONG",
        "FADE_EXHAUSTION_SHORT",
    ]
    assert rows["signals_5m"][0]["filter_reason"] == "gap;confidence"
    assert rows["signals_15m"] == rows["signals_30m"] == []


def test_a_bar_of_which_a_layer_went_missing() -> None:
    """As when the run was told to go on without it."""
    bar = {"close": 100.0, "gaps": 0}
    rows = {at(0): (bar, None, IPU | FAST), at(5): (bar, VCP, None), at(10): (bar, {}, {})}
    first, second, third = run(STAGE, tables_of(rows))["signals_5m"]
    for row in (first, second, third):
        assert (row["signal"], row["price"], row["final_size"]) == ("NO_SIGNAL", 100.0, 0)
    assert (first["atr"], first["trail_multiplier"], first["stop_distance"]) == (None, 1.5, None)
    assert (second["atr"], second["trail_multiplier"], second["base_size"]) == (2, None, 100 / 3)
    assert third["momentum_modifier"] is third["agreement_modifier"] is None


# -- beside a plain loop -----------------------------------------------------------


def gt(a: float, b: float) -> bool:
    return a - b > 1e-12 * max(1, abs(a), abs(b))


def oracle(bar: Any, vcp: Any, ipu: Any, p: Params, m: int) -> dict[str, Any]:  # noqa: C901, PLR0912, PLR0915
    """A row by the page alone; m is what the momentum was drawn as."""
    c, bias, inst = bar["close"], vcp["structural_bias"], ipu["inst_proxy"]
    state, s, a = ipu["momentum_state"], ipu["mms_slope"], ipu["mms_accel"]
    score, agreed = ipu["exhaustion_score"], ipu["flow_momentum_agreement"]
    word = ipu["direction"]
    d = {"BULLISH": 1, "BEARISH": -1}.get(word, 0)
    near = [k for k in vcp["clusters"] if not gt(k["distance_atr"], p.near_atr)]
    support = [k["price"] for k in near if gt(c, k["price"]) and gt(k["ofi_bias"], 0)]
    resistance = [k["price"] for k in near if gt(k["price"], c) and gt(0, k["ofi_bias"])]
    low, high = max(support, default=None), min(resistance, default=None)
    level = {1: low, -1: high}
    go = d != 0 and d == m and (not p.require_flow or ipu["flow_direction"] == m)
    runway = vcp["runway_long"] if d == 1 else vcp["runway_short"]
    name, side, why = "NO_SIGNAL", 0, []
    if bias is None or state is None or inst is None:
        pass
    elif m == 1 and not gt(p.exhausted, score) and high is not None:
        name, side = "FADE_EXHAUSTION_SHORT", -1
        why = [f"resistance={high:.3f}", f"slope={s:.3f}", f"exhaustion={score:.3f}"]
    elif m == -1 and not gt(p.exhausted, score) and low is not None:
        name, side = "FADE_EXHAUSTION_LONG", 1
        why = [f"support={low:.3f}", f"slope={s:.3f}", f"exhaustion={score:.3f}"]
    elif state == "DECELERATING" and gt(p.low_agreement, agreed):
        name = "DIVERGENCE_WARNING"
        why = [f"slope={s:.3f}", f"accel={a:.3f}", f"agreement={agreed:.3f}"]
    elif go and state == "ACCELERATING" and level[d] is not None:
        name, side = ("CONFIRMED_BOUNCE_LONG" if d == 1 else "CONFIRMED_BOUNCE_SHORT"), d
        kind = "support" if d == 1 else "resistance"
        why = [f"{kind}={level[d]:.3f}", f"direction={word}", f"accel={a:.3f}"]
    elif (
        go
        and state == "ACCELERATING"
        and gt(runway, p.runway_min)
        and gt(d * bias, p.bias_min)
        and not gt(p.strong_min_inst, inst)
    ):
        name, side = ("STRONG_MOMENTUM_LONG" if d == 1 else "STRONG_MOMENTUM_SHORT"), d
        why = [f"runway={runway:.3f}", f"bias={bias:.3f}", f"direction={word}", f"accel={a:.3f}"]
    elif (
        go
        and state == "TRENDING"
        and not ipu["exhaustion_warning"]
        and gt(p.low_structure, vcp["vcp_combined"])
    ):
        name, side = "CLEAN_TREND_ENTRY", d
        why = [f"structure={vcp['vcp_combined']:.3f}", f"slope={s:.3f}", f"direction={word}"]
    elif d and state == "FLAT" and not gt(p.high_inst, inst):
        name, side = ("ACCUMULATION" if d == 1 else "DISTRIBUTION"), d
        why = [f"inst={inst:.3f}", f"slope={s:.3f}"]
    atr = vcp["atr_14"]
    confidence = 0.0
    if name != "NO_SIGNAL":
        strength = score if name.startswith("FADE") else ipu["validated_momentum"]
        backing = max(0, side * bias) if side else abs(bias)
        confidence = max(0, min(1, 0.4 * inst + 0.3 * strength + 0.3 * backing))
    trail = by_state = by_agreement = None
    if state is not None:
        trail = {"ACCELERATING": 1.5, "TRENDING": 1.2, "DECELERATING": 0.8}.get(state, 1.0)
        trail = min(trail, 0.7) if ipu["exhaustion_warning"] else trail
        by_state = {"ACCELERATING": 1.2, "TRENDING": 1.0, "FLAT": 0.5}.get(state, 0.7)
    if agreed is not None:
        by_agreement = 1.1 if agreed > 0.8 else 0.8 if agreed < 0.5 else 1.0
    base = p.risk_per_trade / (atr * p.atr_multiplier) if atr else None
    size: float | None = 0.0
    if side:
        assert by_state is not None
        assert by_agreement is not None
        size = None if base is None else base * by_state * by_agreement
    filters = []
    if side and bar["gaps"] > 0:
        filters.append("gap")
    if side and gt(p.min_confidence, confidence):
        filters.append("confidence")
    return {
        "signal": name,
        "direction": {1: "LONG", 0: "NONE", -1: "SHORT"}[side],
        "confidence": confidence,
        "reasons": why,
        "price": c,
        "atr": atr,
        "stop_distance": None if trail is None or atr is None else trail * atr,
        "trail_multiplier": trail,
        "base_size": base,
        "momentum_modifier": by_state,
        "agreement_modifier": by_agreement,
        "final_size": size,
        "filtered": bool(filters),
        "filter_reason": ";".join(filters) or None,
    }


def drawn(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], int]:
    """Bar, structure, participation and momentum, half of them so that a rule is near."""
    state = rng.choice(("ACCELERATING", "DECELERATING", "TRENDING", "DRIFTING", "FLAT"))
    m = 0 if state == "FLAT" else rng.choice((1, -1))
    flow = rng.choice((1, 0, -1, m))
    agreed = 0.65 if not m or not flow else 1.0 if m == flow else 0.3
    word = ("NEUTRAL", "BULLISH", "BEARISH")[(m + flow > 0) - (m + flow < 0)]
    score = rng.choice((0.0, 0.2, 0.2 * 3, 0.9))
    ipu = {
        "inst_proxy": rng.choice((rng.random(), 0.15, 0.5, 0.0)),
        "mms_slope": (m or rng.choice((0.1, -0.1))) * rng.random(),
        "mms_accel": rng.uniform(-1, 1),
        "momentum_state": state,
        "flow_direction": flow,
        "flow_momentum_agreement": agreed,
        "validated_momentum": rng.random(),
        "exhaustion_score": score,
        "exhaustion_warning": score > 0.5,
        "direction": word,
    }
    clusters = [
        {
            "price": rng.choice((rng.uniform(99, 101), 99.5, 100.5, 100.0)),
            "volume": 1.0,
            "ofi_bias": rng.choice((-0.5, 0.0, 0.5)),
            "distance_atr": rng.choice((0.2, 0.5, 0.9)),
        }
        for _ in range(rng.randrange(4))
    ]
    vcp = {
        "clusters": clusters,
        "structural_bias": rng.choice((rng.uniform(-1, 1), 0.3, -0.3, 0.8 * m)),
        "runway_long": rng.choice((0.7, 0.9)),
        "runway_short": rng.choice((0.7, 0.9)),
        "vcp_combined": rng.choice((0.1, 0.3, 0.5)),
        "atr_14": rng.choice((0.0, 2.0, 2.0, rng.uniform(0.1, 3))),
    }
    if rng.random() < 0.1:
        for name in rng.choice((("structural_bias",), ("atr_14",))):
            vcp[name] = None
    if rng.random() < 0.1:
        ipu |= dict.fromkeys(("inst_proxy", "momentum_state", "validated_momentum"))
    return {"close": 100.0, "gaps": rng.choice((0, 0, 2))}, vcp, ipu, m


@pytest.mark.parametrize("params", [{}, {"profile": "calibrated", "min_confidence": 0.3}])
@pytest.mark.parametrize("seed", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
def test_beside_a_plain_loop_in_any_windows(seed: int, params: dict[str, Any]) -> None:
    rng = random.Random(seed)
    settings = msgspec.convert(params, Params)
    tables: dict[str, Table] = {}
    wanted: dict[str, list[dict[str, Any]]] = {}
    for name, span in TIMEFRAMES.items():
        start = at(0) // span * span
        rows = {start + i * span: drawn(rng) for i in range(300) if rng.random() < 0.9}
        three = {ts: (bar, vcp, ipu) for ts, (bar, vcp, ipu, _) in rows.items()}
        some = tables_of(three, name)
        tables |= {layer: table for layer, table in some.items() if layer.endswith(f"_{name}")}
        wanted[f"signals_{name}"] = [
            {"at": ts} | oracle(bar, vcp, ipu, settings, m)
            for ts, (bar, vcp, ipu, m) in rows.items()
        ]
    found = assert_any_windows(STAGE, tables, seed, **params)
    seen = set()
    for layer, rows_wanted in wanted.items():
        assert len(found[layer]) == len(rows_wanted)
        for row, other in zip(found[layer], rows_wanted, strict=True):
            seen.add(row["signal"])
            for column, value in other.items():
                near = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
                assert row[column] == near, column
    assert seen == set(SIGNALS)
