"""Rows of `signals_{5m,15m,30m}` and `signals_mtf`, and all four stages in one call.

A rule that asks for something unknown does not hold; sizes of something unknown are unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .cells import MINUTE_US
from .ipu import drift_of, ipu_rows
from .layers import Row
from .signal_bars import (
    HEADER,
    TIMEFRAMES,
    Bar,
    Feeds,
    MtfParams,
    Params,
    SignalParams,
    above,
    at_least,
    bars_of,
    clip01,
    equal,
    params_of,
    stamp_us,
)
from .vcp import resistances, supports, vcp_rows

WAY = {"BULLISH": 1, "NEUTRAL": 0, "BEARISH": -1, "LONG": 1, "NONE": 0, "SHORT": -1}
SIDE = {1: "LONG", 0: "NONE", -1: "SHORT"}
TRAIL = {"ACCELERATING": 1.5, "TRENDING": 1.2, "DECELERATING": 0.8, "DRIFTING": 1.0, "FLAT": 1.0}
EXHAUSTED_TRAIL = 0.7
SIZE = {"ACCELERATING": 1.2, "TRENDING": 1.0, "DECELERATING": 0.7, "DRIFTING": 0.7, "FLAT": 0.5}
FILES = {
    **{f"vcp_{tf}": "vcp" for tf in TIMEFRAMES},
    **{f"ipu_{tf}": "ipu" for tf in TIMEFRAMES},
    **{f"signals_{tf}": "signals" for tf in TIMEFRAMES},
    "signals_mtf": "signals_mtf",
}
"""{layer: its folder}."""


def expected_layers(
    feeds: Feeds, tables: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, list[Row]]:
    """The rows of every layer, by layer; `tables` as in flowvault.toml."""
    return layers_with(feeds, params_of(tables))


def layers_with(feeds: Feeds, params: Params) -> dict[str, list[Row]]:
    """The rows of every layer under parameters."""
    layers: dict[str, list[Row]] = {}
    for tf in TIMEFRAMES:
        layers[f"vcp_{tf}"] = vcp_rows(feeds, tf, params.vcp)
    for tf in TIMEFRAMES:
        layers[f"ipu_{tf}"] = ipu_rows(feeds, tf, params.ipu)
    for tf in TIMEFRAMES:
        both = zip(bars_of(feeds, tf, ()), layers[f"vcp_{tf}"], layers[f"ipu_{tf}"], strict=False)
        layers[f"signals_{tf}"] = [signal_row(*each, params.signals) for each in both]
    layers["signals_mtf"] = mtf_rows(layers, params.mtf)
    return layers


# -- one timeframe -----------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A signal, which way, what its confidence rests on, and why."""

    signal: str
    way: int
    momentum: float | None
    reasons: list[str]


@dataclass(frozen=True)
class Scene:
    """A bar with its structure and its momentum."""

    bar: Bar
    vcp: Row
    ipu: Row
    params: SignalParams

    @property
    def is_known(self) -> bool:
        """Whether there is enough to judge."""
        wanted = (
            self.vcp["structural_bias"],
            self.ipu["momentum_state"],
            self.ipu["inst_proxy"],
        )
        return all(value is not None for value in wanted)

    @cached_property
    def way(self) -> int:
        """1, 0, -1 by the direction of momentum and flow."""
        return WAY.get(self.ipu["direction"], 0)

    @cached_property
    def drift(self) -> int:
        """The sign of a slope that is not flat."""
        return drift_of(self.ipu["mms_slope"], self.params.drift_slope) or 0

    @cached_property
    def go(self) -> bool:
        """Direction and momentum agree, and flow where that is asked for."""
        flows = not self.params.require_flow or self.ipu["flow_direction"] == self.drift
        return self.way != 0 and self.way == self.drift and flows

    def near(self, clusters: Sequence[Row]) -> Row | None:
        """The nearest of some clusters, if it is near enough."""
        if not clusters:
            return None
        best = min(clusters, key=lambda c: (c["distance_atr"], c["price"]))
        return best if at_least(self.params.near_atr, best["distance_atr"]) else None

    @cached_property
    def support(self) -> Row | None:
        """The near one below."""
        return self.near(supports(self.vcp["clusters"], self.bar.close))

    @cached_property
    def resistance(self) -> Row | None:
        """The near one overhead."""
        return self.near(resistances(self.vcp["clusters"], self.bar.close))

    def texts(self, *named: tuple[str, Any]) -> list[str]:
        """`name=value`; numbers with three decimals."""
        return [f"{n}={v}" if isinstance(v, str) else f"{n}={v:.3f}" for n, v in named]


Rule = Callable[[Scene], Verdict | None]


def fade(scene: Scene) -> Verdict | None:
    """Exhausted right at a level that stands in the way."""
    ipu = scene.ipu
    name, level = (
        ("resistance", scene.resistance) if scene.drift > 0 else ("support", scene.support)
    )
    if not scene.drift or level is None:
        return None
    if not at_least(ipu["exhaustion_score"], scene.params.exhausted):
        return None
    reasons = scene.texts(
        (name, level["price"]),
        ("slope", ipu["mms_slope"]),
        ("exhaustion", ipu["exhaustion_score"]),
    )
    side = SIDE[-scene.drift]
    return Verdict(f"FADE_EXHAUSTION_{side}", -scene.drift, ipu["exhaustion_score"], reasons)


def divergence(scene: Scene) -> Verdict | None:
    """Momentum fades while flow goes the other way."""
    ipu = scene.ipu
    agreement = ipu["flow_momentum_agreement"]
    if ipu["momentum_state"] != "DECELERATING" or agreement is None:
        return None
    if not above(scene.params.low_agreement, agreement):
        return None
    reasons = scene.texts(
        ("slope", ipu["mms_slope"]), ("accel", ipu["mms_accel"]), ("agreement", agreement)
    )
    return Verdict("DIVERGENCE_WARNING", 0, ipu["validated_momentum"], reasons)


def bounce(scene: Scene) -> Verdict | None:
    """Off a level behind, faster and faster."""
    ipu = scene.ipu
    name, level = ("support", scene.support) if scene.way > 0 else ("resistance", scene.resistance)
    if not scene.go or ipu["momentum_state"] != "ACCELERATING" or level is None:
        return None
    reasons = scene.texts(
        (name, level["price"]), ("direction", ipu["direction"]), ("accel", ipu["mms_accel"])
    )
    side = SIDE[scene.way]
    return Verdict(f"CONFIRMED_BOUNCE_{side}", scene.way, ipu["validated_momentum"], reasons)


def strong(scene: Scene) -> Verdict | None:
    """Faster and faster with nothing in the way and structure behind."""
    ipu, vcp, params = scene.ipu, scene.vcp, scene.params
    runway = vcp["runway_long" if scene.way > 0 else "runway_short"]
    bias = vcp["structural_bias"]
    holds = (
        scene.go
        and ipu["momentum_state"] == "ACCELERATING"
        and above(runway, params.runway_min)
        and above(scene.way * bias, params.bias_min)
        and at_least(ipu["inst_proxy"], params.strong_min_inst)
    )
    if not holds:
        return None
    reasons = scene.texts(
        ("runway", runway),
        ("bias", bias),
        ("direction", ipu["direction"]),
        ("accel", ipu["mms_accel"]),
    )
    side = SIDE[scene.way]
    return Verdict(f"STRONG_MOMENTUM_{side}", scene.way, ipu["validated_momentum"], reasons)


def clean(scene: Scene) -> Verdict | None:
    """A trend through thin structure."""
    ipu, vcp = scene.ipu, scene.vcp
    holds = (
        scene.go
        and ipu["momentum_state"] == "TRENDING"
        and not ipu["exhaustion_warning"]
        and above(scene.params.low_structure, vcp["vcp_combined"])
    )
    if not holds:
        return None
    reasons = scene.texts(
        ("structure", vcp["vcp_combined"]),
        ("slope", ipu["mms_slope"]),
        ("direction", ipu["direction"]),
    )
    return Verdict("CLEAN_TREND_ENTRY", scene.way, ipu["validated_momentum"], reasons)


def gathering(scene: Scene) -> Verdict | None:
    """Large hands in a price that stands."""
    ipu = scene.ipu
    if not scene.way or ipu["momentum_state"] != "FLAT":
        return None
    if not at_least(ipu["inst_proxy"], scene.params.high_inst):
        return None
    reasons = scene.texts(("inst", ipu["inst_proxy"]), ("slope", ipu["mms_slope"]))
    name = "ACCUMULATION" if scene.way > 0 else "DISTRIBUTION"
    return Verdict(name, scene.way, ipu["validated_momentum"], reasons)


RULES: tuple[Rule, ...] = (fade, divergence, bounce, strong, clean, gathering)


def judged(scene: Scene) -> Verdict | None:
    """The first rule that holds."""
    if not scene.is_known:
        return None
    return next((found for rule in RULES if (found := rule(scene)) is not None), None)


def confidence_of(scene: Scene, verdict: Verdict | None) -> float:
    """From institutions, momentum and structure."""
    if verdict is None:
        return 0.0
    bias = scene.vcp["structural_bias"]
    lean = max(0.0, verdict.way * bias) if verdict.way else abs(bias)
    momentum = verdict.momentum or 0.0
    return clip01(math.fsum((0.4 * scene.ipu["inst_proxy"], 0.3 * momentum, 0.3 * lean)))


def signal_row(bar: Bar, vcp: Row, ipu: Row, params: SignalParams) -> Row:
    """One verdict with what it would risk."""
    scene = Scene(bar, vcp, ipu, params)
    verdict = judged(scene)
    way = verdict.way if verdict is not None else 0
    confidence = confidence_of(scene, verdict)
    filters = []
    if way and bar.row["gaps"] > 0:
        filters.append("gap")
    if way and above(params.min_confidence, confidence):
        filters.append("confidence")
    return (
        bar.head()
        | {
            "signal": "NO_SIGNAL" if verdict is None else verdict.signal,
            "direction": SIDE[way],
            "confidence": confidence,
            "reasons": [] if verdict is None else verdict.reasons,
            "price": bar.close,
            "atr": vcp["atr_14"],
        }
        | sizing(vcp["atr_14"], ipu, way, params)
        | {"filtered": bool(filters), "filter_reason": ";".join(filters) or None}
    )


def sizing(average: float | None, ipu: Row, way: int, params: SignalParams) -> Row:
    """Stop and size."""
    state, agreement = ipu["momentum_state"], ipu["flow_momentum_agreement"]
    trail = None if state is None else TRAIL[state]
    if trail is not None and ipu["exhaustion_warning"]:
        trail = min(trail, EXHAUSTED_TRAIL)
    base = None
    if average is not None and not equal(average, 0.0):
        base = params.risk_per_trade / (average * params.atr_multiplier)
    momentum = None if state is None else SIZE[state]
    agreed = None if agreement is None else agreement_modifier(agreement)
    final: float | None = 0.0
    if way:
        known = base is not None and momentum is not None and agreed is not None
        final = base * momentum * agreed if known else None  # type: ignore[operator]
    return {
        "stop_distance": None if trail is None or average is None else trail * average,
        "trail_multiplier": trail,
        "base_size": base,
        "momentum_modifier": momentum,
        "agreement_modifier": agreed,
        "final_size": final,
    }


def agreement_modifier(agreement: float) -> float:
    """More where momentum and flow agree, less where they do not."""
    if above(agreement, 0.8):
        return 1.1
    return 0.8 if above(0.5, agreement) else 1.0


# -- several timeframes ------------------------------------------------------------------

FILTERED_BY_MTF = ("STRONG_MOMENTUM", "CONFIRMED_BOUNCE", "CLEAN_TREND_ENTRY")


def mtf_rows(layers: Mapping[str, Sequence[Row]], params: MtfParams) -> list[Row]:
    """A row at each 5m signal, with what the last whole longer periods say."""
    by_start = {tf: {stamp_us(r): r for r in layers[f"ipu_{tf}"]} for tf in TIMEFRAMES}
    rows = []
    for signal in layers["signals_5m"]:
        start = stamp_us(signal)
        end = start + TIMEFRAMES["5m"] * MINUTE_US
        own = by_start["5m"][start]
        longer = [by_start[tf].get(last_whole(end, tf)) for tf in ("15m", "30m")]
        columns = mtf_columns(signal, [own, *longer], params)
        rows.append({name: signal[name] for name in HEADER} | columns)
    return rows


def last_whole(end: int, tf: str) -> int:
    """When the last period that is over began."""
    length = TIMEFRAMES[tf] * MINUTE_US
    return end // length * length - length


def mtf_columns(signal: Row, momenta: Sequence[Row | None], params: MtfParams) -> Row:
    """One 5m signal under three momenta, shortest first; what is unknown counts as nothing."""
    ways = [0 if row is None else WAY.get(row["direction"], 0) for row in momenta]
    warned = [row is not None and bool(row["exhaustion_warning"]) for row in momenta[1:]]
    way, name = WAY[signal["direction"]], signal["signal"]
    overall, overall_name = mtf_direction(ways)
    is_against = way * overall < 0
    filters = [] if signal["filter_reason"] is None else [signal["filter_reason"]]
    if name.startswith(FILTERED_BY_MTF):
        filters += ["exhaustion_30m"] if warned[1] else []
        filters += ["against_mtf"] if is_against else []
    multiplier = 1.0
    if not way or filters:
        multiplier = 0.0
    elif is_against or not overall:
        multiplier = params.mixed_size
    return {
        "mtf_direction": overall_name,
        "mtf_score": math.fsum(w * x for w, x in zip(params.weights, ways, strict=True)),
        "mtf_exhaustion": ("NONE", "WARNING", "CONFIRMED")[sum(warned)],
        "signal": name,
        "direction": signal["direction"],
        "confidence": signal["confidence"],
        "size_multiplier": multiplier,
        "filtered": bool(filters),
        "filter_reason": ";".join(filters) or None,
    }


def mtf_direction(ways: Sequence[int]) -> tuple[int, str]:
    """Which way most of three go, and its name."""
    for way, name in ((1, "BULLISH"), (-1, "BEARISH")):
        count = ways.count(way)
        if count >= 2:
            return way, f"{'STRONG' if count == 3 else 'LEAN'}_{name}"
    return 0, "MIXED"
