"""One signal a bar: what volume clusters and participation say together.

A row is one closed bar of 5, 15 or 30 minutes. Where the clusters of `vcp` stand tells whether
there is something to lean on or to run into, `ipu` tells who is at work and with what momentum;
six rules, of which the first that holds decides, put the two together, and a stop and a size go
with it. The rules are rules of thumb: scripts/base_rates.py shows how often each of them speaks on
a walk without memory.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
import polars as pl

from pipeline.calc.fusion import (
    LONG,
    NO_SIGNAL,
    NONE,
    Cluster,
    Limits,
    Participation,
    Scene,
    Signal,
    Structure,
    signal_of,
)
from pipeline.calc.participation import clip01, product
from pipeline.calc.presets import Presets, check_numbers, settle
from pipeline.calc.timeframes import TIMEFRAMES
from pipeline.calc.tolerant import above, same
from pipeline.layers import Column, Layer
from pipeline.stage import Closed, Context, Input, Joined, Row, Stage

PRESETS: Presets = {
    "default": {"require_flow": False, "strong_min_inst": 0.0, "high_inst": 0.5},
    "calibrated": {"require_flow": True, "strong_min_inst": 0.15, "high_inst": 0.15},
}

_CLUSTERS = msgspec.json.Decoder(list[Cluster])

_TRAIL = {"ACCELERATING": 1.5, "TRENDING": 1.2, "DECELERATING": 0.8}
_TIRED_TRAIL = 0.7
_MOMENTUM_SIZE = {
    "ACCELERATING": 1.2,
    "TRENDING": 1.0,
    "DECELERATING": 0.7,
    "DRIFTING": 0.7,
    "FLAT": 0.5,
}
_HIGH_AGREEMENT, _LOW_AGREEMENT = 0.8, 0.5


class Params(Limits, frozen=True, forbid_unknown_fields=True):
    """Settings of `[signals]`; `profile` decides require_flow, strong_min_inst and high_inst.

    Attributes:
        risk_per_trade: what a stop of `atr_multiplier` average ranges may cost, quote currency.
    """

    profile: Literal["default", "calibrated"] = "default"
    risk_per_trade: Annotated[float, msgspec.Meta(gt=0)] = 100.0
    atr_multiplier: Annotated[float, msgspec.Meta(gt=0)] = 1.5
    min_confidence: float = 0.6

    def __post_init__(self) -> None:
        """Let the profile decide what the table left open; refuse what makes no sense."""
        settle(self, PRESETS, self.profile)
        check_numbers(self)


class Carry(msgspec.Struct):
    """Nothing: a bar is judged by its own rows."""


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Judge each bar of the window."""
    rows: dict[str, list[Row]] = {}
    for name in TIMEFRAMES:
        bars, found = joined.frames[f"bars_{name}"], list[Row]()
        structures = _structures(joined.frames[f"vcp_{name}"]) if bars.height else {}
        participations = _participations(joined.frames[f"ipu_{name}"]) if bars.height else {}
        for start, close, gaps in bars.rows():
            vcp = structures.get(start) or Structure()
            ipu = participations.get(start) or Participation()
            scene = Scene(close, vcp, ipu, context.params)
            found.append((start, judge(scene, gaps, context.params)))
        rows[f"signals_{name}"] = found
    return Closed(carry, rows)


def judge(scene: Scene, gaps: int, params: Params) -> tuple[Any, ...]:
    """The columns of a bar."""
    ipu, atr = scene.ipu, scene.vcp.atr_14
    signal = signal_of(scene)
    confidence = _confidence(signal, scene)
    trail = _trail(ipu)
    base = _base_size(atr, params)
    state, agreed = ipu.momentum_state, ipu.flow_momentum_agreement
    by_momentum = None if state is None else _MOMENTUM_SIZE[state]
    by_agreement = None if agreed is None else _agreement_size(agreed)
    size = 0.0 if signal.direction == NONE else product(base, by_momentum, by_agreement)
    reason = None if signal.direction == NONE else _filter(confidence, gaps, params)
    return (
        signal.name,
        signal.direction,
        confidence,
        list(signal.reasons),
        scene.close,
        atr,
        product(trail, atr),
        trail,
        base,
        by_momentum,
        by_agreement,
        size,
        reason is not None,
        reason,
    )


def _confidence(signal: Signal, scene: Scene) -> float | None:
    """How much speaks for it: participation, momentum (or its exhaustion), structure."""
    ipu, bias = scene.ipu, scene.vcp.structural_bias
    if signal.name == NO_SIGNAL:
        return 0.0
    strength = ipu.exhaustion_score if signal.is_fade else ipu.validated_momentum
    if ipu.inst_proxy is None or strength is None or bias is None:
        return None
    if signal.direction == NONE:
        backing = abs(bias)
    else:
        backing = max(0.0, bias if signal.direction == LONG else -bias)
    return clip01(math.fsum((0.4 * ipu.inst_proxy, 0.3 * strength, 0.3 * backing)))


def _trail(ipu: Participation) -> float | None:
    """How many average ranges a stop stays behind."""
    if ipu.momentum_state is None:
        return None
    trail = _TRAIL.get(ipu.momentum_state, 1.0)
    return min(_TIRED_TRAIL, trail) if ipu.exhaustion_warning else trail


def _base_size(atr: float | None, params: Params) -> float | None:
    if atr is None or same(atr, 0.0):
        return None
    return params.risk_per_trade / (atr * params.atr_multiplier)


def _agreement_size(agreed: float) -> float:
    if above(agreed, _HIGH_AGREEMENT):
        return 1.1
    return 0.8 if above(_LOW_AGREEMENT, agreed) else 1.0


def _filter(confidence: float | None, gaps: int, params: Params) -> str | None:
    """Why the signal had better be left alone."""
    found = ["gap"] if gaps > 0 else []
    if confidence is not None and above(params.min_confidence, confidence):
        found.append("confidence")
    return ";".join(found) or None


def _structures(frame: pl.DataFrame) -> dict[int, Structure]:
    rows = frame.rows()
    return {
        start: Structure(_CLUSTERS.decode(clusters or "[]"), *values)
        for start, clusters, *values in rows
    }


def _participations(frame: pl.DataFrame) -> dict[int, Participation]:
    return {start: Participation(*values) for start, *values in frame.rows()}


_COLUMNS = (
    Column(
        "signal",
        "string",
        "",
        "the first that holds of FADE_EXHAUSTION_SHORT (momentum up, exhaustion_score >= 0.9, "
        "resistance within 0.5 ATR; LONG: down, support), DIVERGENCE_WARNING (DECELERATING, "
        "agreement < 0.5), CONFIRMED_BOUNCE_LONG (goes up, ACCELERATING, support within 0.5 ATR; "
        "SHORT: down, resistance), STRONG_MOMENTUM_LONG or _SHORT (goes, ACCELERATING, runway > "
        "0.7 and structural_bias > 0.3 that way, inst_proxy >= 0), CLEAN_TREND_ENTRY (goes, "
        "TRENDING, no exhaustion_warning, vcp_combined < 0.3), ACCUMULATION (BULLISH, FLAT, "
        "inst_proxy >= 0.5), DISTRIBUTION (BEARISH); NO_SIGNAL else, and while structural_bias, "
        "momentum_state or inst_proxy is null. Support: a cluster below close with ofi_bias > 0, "
        "resistance: above it with < 0. Goes: direction is that of momentum (require_flow: and of "
        "flow)",
    ),
    Column("direction", "string", "", "LONG, SHORT, or NONE (DIVERGENCE_WARNING, NO_SIGNAL)"),
    Column(
        "confidence",
        "float",
        "",
        "0.4 x inst_proxy + 0.3 x validated_momentum (FADE: exhaustion_score) + 0.3 x "
        "structural_bias in the signal's direction (its size if NONE), 0 to 1; 0 for NO_SIGNAL",
    ),
    Column("reasons", "list", "", "the values that decided, as name=value"),
    Column("price", "float", "quote", "the bar's close"),
    Column("atr", "float", "quote", "atr_14 of vcp"),
    Column("stop_distance", "float", "quote", "trail_multiplier x atr"),
    Column(
        "trail_multiplier",
        "float",
        "",
        "1.5 if ACCELERATING, 1.2 if TRENDING, 0.8 if DECELERATING, else 1; at most 0.7 with "
        "exhaustion_warning; null without momentum_state",
    ),
    Column(
        "base_size", "float", "base", "risk_per_trade (100) / (atr x 1.5); null without atr or at 0"
    ),
    Column(
        "momentum_modifier",
        "float",
        "",
        "1.2 if ACCELERATING, 1 if TRENDING, 0.7 if DECELERATING or DRIFTING, 0.5 if FLAT",
    ),
    Column(
        "agreement_modifier",
        "float",
        "",
        "1.1 if flow_momentum_agreement > 0.8, 0.8 if < 0.5, else 1",
    ),
    Column(
        "final_size",
        "float",
        "base",
        "base_size x both modifiers, 0 if direction is NONE; filters leave it",
    ),
    Column("filtered", "bool", "", "whether there is a filter_reason"),
    Column(
        "filter_reason",
        "string",
        "",
        "why a LONG or SHORT had better be left alone, ; between: gap (trades are missing in the "
        "bar), confidence (< 0.6); else null",
    ),
)

STAGE = Stage(
    name="signals",
    inputs=tuple(
        Input(f"{layer}_{name}", columns)
        for name in TIMEFRAMES
        for layer, columns in (
            ("vcp", Structure.__struct_fields__),
            ("ipu", Participation.__struct_fields__),
            ("bars", ("close", "gaps")),
        )
    ),
    layers=tuple(
        Layer(
            f"signals_{name}",
            "signals",
            "jsonl",
            _COLUMNS,
            f"One row per closed bar of {name}: its signal, with reasons, stop and size.",
            span_us=span,
        )
        for name, span in TIMEFRAMES.items()
    ),
    params=Params,
    carry=Carry,
    fold=fold,
)
