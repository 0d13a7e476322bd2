"""Rows of `ipu_{5m,15m,30m}`: how institutional a bar looks, and where its momentum stands.

Null in, null out; only the counts take a condition on null as false.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .layers import Row
from .signal_bars import (
    IPU_FEEDS,
    Bar,
    Feeds,
    IpuParams,
    Numbers,
    above,
    at_least,
    atr,
    bars_of,
    clip01,
    equal,
    last,
    mean,
    median,
    minute_values,
    sgn,
)

BY_SIGN = {1: "BULLISH", 0: "NEUTRAL", -1: "BEARISH"}
URGENCY = ((0.75, "AGGRESSIVE"), (0.5, "ELEVATED"), (0.3, "PATIENT"))
COLUMNS = (
    *("price_efficiency", "order_flow_quality", "inst_core", "volume_amplifier"),
    *("kyle_lambda_boost", "inst_proxy", "mms_slope", "mms_accel", "momentum_context"),
    *("momentum_state", "flow_direction", "flow_momentum_agreement", "validated_momentum"),
    *("exhaustion_score", "exhaustion_signals", "exhaustion_warning", "urgency"),
    *("urgency_class", "xfactor", "xfactor_conditions", "direction", "vol_expansion"),
    *("tick_intensity", "flow_pressure", "direction_agreement"),
)


def ipu_rows(feeds: Feeds, tf: str, params: IpuParams) -> list[Row]:
    """A row at each bar that trades, quotes and book have passed."""
    bars = bars_of(feeds, tf, IPU_FEEDS)
    averages = atr(bars, params.atr_period)
    slopes = [slope_at(bars, t, averages[t], params) for t in range(len(bars))]
    lambdas = [last(minute_values(feeds.impact, bar, "kyle_lambda")) for bar in bars]
    rows: list[Row] = []
    contexts: list[float | None] = []
    for t, bar in enumerate(bars):
        prior = slice(max(0, t - params.window), t)
        move = Move(slopes[t], slopes[t - 1] if t else None, params)
        contexts.append(move.context)
        flow = Flow(
            None if equal(bar.volume, 0.0) else bar.delta / bar.volume,
            mean(minute_values(feeds.flow, bar, "ofi_norm")),
            mean(minute_values(feeds.micro, bar, "depth_imbalance")),
        )
        columns = quality_columns(bar, flow)
        columns |= {
            "vol_expansion": expansion(bar.volume, [b.volume for b in bars[prior]], params),
            "tick_intensity": expansion(
                float(bar.row["trades"]), [float(b.row["trades"]) for b in bars[prior]], params
            ),
            "kyle_lambda_boost": lambda_boost(lambdas[t], lambdas[prior], params),
        }
        columns |= proxy_columns(columns)
        columns |= flow_columns(bar, flow, params)
        columns |= momentum_columns(move, columns["flow_direction"])
        columns |= exhaustion_columns(bars, t, move, contexts, params)
        columns |= urgency_columns(move, columns)
        columns |= xfactor_columns(move, columns, params)
        rows.append(bar.head() | {name: columns[name] for name in COLUMNS})
    return rows


# -- what a bar is -----------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """Bought less sold over volume, OFI and depth imbalance of a bar; None where missing."""

    d: float | None
    ofi: float | None
    depth: float | None

    @property
    def present(self) -> list[float]:
        """Those there are."""
        return [x for x in (self.d, self.ofi, self.depth) if x is not None]

    @property
    def blend(self) -> float | None:
        """Half trades, half quotes; trades alone without quotes."""
        if self.d is None or self.ofi is None:
            return self.d
        return 0.5 * self.d + 0.5 * self.ofi


def expansion(value: float, prior: Sequence[float], params: IpuParams) -> float | None:
    """How far a value is above the median of those before it."""
    if len(prior) < params.window_min:
        return None
    middle = median(prior)
    return None if equal(middle, 0.0) else clip01((value / middle - 1) / 2)


def price_efficiency(bar: Bar) -> float:
    """The body's share of the range, less what went against it."""
    if bar.is_flat or not bar.way:
        return 0.0
    adverse = bar.high - bar.close if bar.way > 0 else bar.close - bar.low
    return abs(bar.close - bar.open) / bar.range * (1 - adverse / bar.range)


def order_flow_quality(flow: Flow) -> float | None:
    """The geometric mean of the sizes of what is there, less where the signs differ."""
    present = flow.present
    if not present:
        return None
    if any(sgn(x) == 0 for x in present):
        return 0.0
    size = math.prod(abs(x) for x in present) ** (1 / len(present))
    return size * (0.5 + 0.5 * abs(sum(sgn(x) for x in present)) / 3)


def quality_columns(bar: Bar, flow: Flow) -> Row:
    """Price against flow."""
    efficiency, quality = price_efficiency(bar), order_flow_quality(flow)
    return {
        "price_efficiency": efficiency,
        "order_flow_quality": quality,
        "inst_core": None if quality is None else efficiency * quality,
    }


def lambda_boost(value: float | None, prior: Numbers, params: IpuParams) -> float:
    """One, and up to a quarter more by the rank of the price impact."""
    known = [abs(x) for x in prior if x is not None]
    if value is None or len(known) < params.window_min:
        return 1.0
    not_above = sum(at_least(abs(value), x) for x in known)
    return 1 + 0.25 * not_above / len(known)


def proxy_columns(columns: Row) -> Row:
    """The core, amplified."""
    core, more = columns["inst_core"], columns["vol_expansion"]
    amplifier = None if more is None else 1 + 0.5 * more
    proxy = None
    if core is not None and amplifier is not None:
        proxy = clip01(core * amplifier * columns["kyle_lambda_boost"])
    return {"volume_amplifier": amplifier, "inst_proxy": proxy}


def flow_columns(bar: Bar, flow: Flow, params: IpuParams) -> Row:
    """Which way the flow goes, how strongly, and how far all agree."""
    blend = flow.blend
    signs = [*(sgn(x) for x in flow.present), bar.way]
    pressure = None if blend is None else abs(blend)
    return {
        "flow_pressure": pressure,
        "flow_direction": (
            None
            if blend is None or pressure is None
            else sgn(blend)
            if above(pressure, params.flow_deadband)
            else 0
        ),
        "direction_agreement": max(signs.count(1), signs.count(-1)) / 4,
    }


# -- momentum ----------------------------------------------------------------------------


def slope_at(bars: Sequence[Bar], t: int, average: float | None, params: IpuParams) -> float | None:
    """How many ATR the close went over the last bars."""
    if average is None or t < params.slope_bars:
        return None
    if equal(average, 0.0):
        return 0.0
    moved = bars[t].close - bars[t - params.slope_bars].close
    return moved / (average * params.slope_scale)


@dataclass(frozen=True)
class Move:
    """Slope and what it was a bar before."""

    slope: float | None
    before: float | None
    params: IpuParams

    @property
    def accel(self) -> float | None:
        """How the slope changed."""
        return None if self.slope is None or self.before is None else self.slope - self.before

    @property
    def drift(self) -> int | None:
        """The sign of a slope that is not flat."""
        return drift_of(self.slope, self.params.drift_slope)

    @property
    def context(self) -> float | None:
        """Size of slope and of its change."""
        if self.slope is None or self.accel is None:
            return None
        return 0.6 * clip01(abs(self.slope)) + 0.4 * clip01(abs(self.accel))

    @property
    def state(self) -> str | None:
        """The first name that fits."""
        if self.slope is None or self.accel is None:
            return None
        p, size, along = self.params, abs(self.slope), self.accel * sgn(self.slope)
        named = (
            ("ACCELERATING", above(size, p.acc_slope) and above(along, p.acc_accel)),
            ("DECELERATING", above(size, p.acc_slope) and above(-p.acc_accel, along)),
            ("TRENDING", above(size, p.trend_slope)),
            ("DRIFTING", at_least(size, p.drift_slope)),
        )
        return next((name for name, holds in named if holds), "FLAT")


def drift_of(slope: float | None, least: float) -> int | None:
    """The sign of a slope of at least that size, else 0."""
    if slope is None:
        return None
    return sgn(slope) if at_least(abs(slope), least) else 0


def agreement_of(drift: int | None, flow: int | None) -> float | None:
    """Whether momentum and flow go the same way."""
    if drift is None or flow is None:
        return None
    if not drift or not flow:
        return 0.65
    return 1.0 if drift == flow else 0.3


def momentum_columns(move: Move, flow: int | None) -> Row:
    """Momentum, and what flow says to it."""
    drift, context = move.drift, move.context
    agreement = agreement_of(drift, flow)
    unknown = drift is None or flow is None
    validated = None
    if context is not None and agreement is not None:
        validated = context * (0.6 + 0.4 * agreement)
    return {
        "mms_slope": move.slope,
        "mms_accel": move.accel,
        "momentum_context": context,
        "momentum_state": move.state,
        "flow_momentum_agreement": agreement,
        "validated_momentum": validated,
        "direction": None if unknown else BY_SIGN[sgn(float((drift or 0) + (flow or 0)))],
    }


def exhaustion_columns(
    bars: Sequence[Bar], t: int, move: Move, contexts: Numbers, params: IpuParams
) -> Row:
    """How many signs of exhaustion there are."""
    context = contexts[t]
    if context is None or move.slope is None:
        names = ("exhaustion_signals", "exhaustion_score", "exhaustion_warning")
        return dict.fromkeys(names)
    before = contexts[t - 1] if t else None
    bar = bars[t]
    count = sum(
        (
            before is not None and above(params.exh_momentum * before, context),
            t > 0 and above(params.exh_volume * bars[t - 1].volume, bar.volume),
            not bar.is_flat and above(wick_of(bar, sgn(move.slope)) / bar.range, params.exh_wick),
            move.state == "DECELERATING",
        )
    )
    is_high = count >= params.exh_count and above(abs(move.slope), params.exh_slope)
    score = params.exh_high if is_high else params.exh_step * count
    return {
        "exhaustion_signals": count,
        "exhaustion_score": score,
        "exhaustion_warning": at_least(score, params.exh_warning),
    }


def wick_of(bar: Bar, way: int) -> float:
    """The wick on the side the slope points to."""
    if way > 0:
        return bar.high - max(bar.open, bar.close)
    return min(bar.open, bar.close) - bar.low if way < 0 else 0.0


def urgency_columns(move: Move, columns: Row) -> Row:
    """How pressing it looks."""
    slope = None if move.slope is None else clip01(abs(move.slope))
    weighted: list[float] = []
    for weight, value in (
        (0.25, columns["vol_expansion"]),
        (0.25, slope),
        (0.2, columns["tick_intensity"]),
        (0.15, columns["order_flow_quality"]),
        (0.15, columns["validated_momentum"]),
    ):
        if value is None:
            return {"urgency": None, "urgency_class": None}
        weighted.append(weight * value)
    urgency = math.fsum(weighted)
    return {"urgency": urgency, "urgency_class": urgency_class(urgency)}


def urgency_class(urgency: float) -> str:
    """From 0.75, from 0.5, from 0.3, below."""
    return next((name for limit, name in URGENCY if at_least(urgency, limit)), "PASSIVE")


def xfactor_columns(move: Move, columns: Row, params: IpuParams) -> Row:
    """How many of five conditions hold."""
    limits = (
        ("vol_expansion", params.x_vol),
        ("price_efficiency", params.x_eff),
        ("flow_pressure", params.x_flow),
        ("direction_agreement", params.x_agree),
    )
    count = sum(columns[n] is not None and at_least(columns[n], limit) for n, limit in limits)
    is_fast = move.slope is not None and above(abs(move.slope), params.x_slope)
    count += move.state == "ACCELERATING" and is_fast
    return {"xfactor": count >= params.x_count, "xfactor_conditions": count}
