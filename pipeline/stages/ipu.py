"""How large traders took part in a bar: efficiency, flow, momentum (IPU).

A row is one closed bar of 5, 15 or 30 minutes. Large traders are taken to be at work where price
goes straight, volume, quotes and depth lean the same way, and both on more volume than usual;
momentum over four bars says whether that builds up or wears out. Impact after Kyle, "Continuous
Auctions and Insider Trading", Econometrica 53 (1985); OFI after Cont, Kukanov and Stoikov, "The
Price Impact of Order Book Events", Journal of Financial Econometrics 12 (2014). Weights and limits
are rules of thumb: on a walk without memory half of the bars come out as ACCELERATING with the
default limits; `profile = "calibrated"` has stricter ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import polars as pl

from pipeline.calc.atr import Atr
from pipeline.calc.inside import lasts, means
from pipeline.calc.momentum import agreement, direction
from pipeline.calc.participation import (
    clip01,
    direction_agreement,
    expansion,
    order_flow_quality,
    price_efficiency,
    product,
    share_not_above,
    weighted,
)
from pipeline.calc.presets import BY_PROFILE, Presets, check_numbers, settle
from pipeline.calc.timeframes import LONGEST_US, TIMEFRAMES
from pipeline.calc.tolerant import above, at_least, same, sign
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import Closed, Context, Input, Joined, Row, Stage

Count = Annotated[int, msgspec.Meta(ge=1)]

PRESETS: Presets = {
    "default": {"slope_scale": 1.0, "acc_slope": 0.4, "acc_accel": 0.1, "trend_slope": 0.5},
    "calibrated": {
        "slope_scale": 1.7320508075688772,
        "acc_slope": 0.8,
        "acc_accel": 0.35,
        "trend_slope": 0.8,
    },
}

_URGENCY = ((0.75, "AGGRESSIVE"), (0.5, "ELEVATED"), (0.3, "PATIENT"))


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[ipu]`; `profile` decides slope_scale, acc_* and trend_slope if these do not.

    Attributes:
        window, window_min: bars before this one that medians and the share of lambda look at, and
            the fewest they need.
        slope_scale: average true ranges that make a slope of 1.
        slope_bars: over how many bars.
    """

    profile: Literal["default", "calibrated"] = "default"
    atr_period: Count = 14
    window: Count = 100
    window_min: Count = 20
    flow_deadband: float = 0.05
    slope_scale: Annotated[float, msgspec.Meta(gt=0)] = BY_PROFILE
    slope_bars: Count = 3
    drift_slope: float = 0.25
    acc_slope: float = BY_PROFILE
    acc_accel: float = BY_PROFILE
    trend_slope: float = BY_PROFILE
    exh_momentum: float = 0.8
    exh_volume: float = 0.7
    exh_wick: float = 0.4
    exh_count: Count = 3
    exh_slope: float = 0.5
    exh_high: float = 0.9
    exh_step: float = 0.2
    exh_warning: float = 0.6
    x_vol: float = 0.65
    x_eff: float = 0.35
    x_flow: float = 0.6
    x_agree: float = 0.75
    x_slope: float = 0.5
    x_count: Count = 4

    def __post_init__(self) -> None:
        """Let the profile decide what the table left open; refuse what makes no sense."""
        settle(self, PRESETS, self.profile)
        check_numbers(self)


class Past(msgspec.Struct, frozen=True):
    """What the bars of one length leave to the next, oldest first.

    Attributes:
        volumes, trades, impacts: of the last `window` bars; impacts are |lambda|.
        closes: of the last `slope_bars` bars.
        slope, context: of the last bar.
    """

    volumes: list[float] = []
    trades: list[int] = []
    impacts: list[float | None] = []
    closes: list[float] = []
    atr: Atr = msgspec.field(default_factory=Atr)
    slope: float | None = None
    context: float | None = None


class Carry(msgspec.Struct):
    """What went before, by length of bar."""

    past: dict[str, Past] = {}


class Bar(NamedTuple):
    """One bar, and what its minutes say: their OFI, depth imbalance and lambda."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    buy_volume: float
    sell_volume: float
    trades: int
    ofi: float | None = None
    depth: float | None = None
    impact: float | None = None

    @property
    def delta(self) -> float | None:
        """Share of the volume that was bought less that sold."""
        return (self.buy_volume - self.sell_volume) / self.volume if self.volume else None

    @property
    def flows(self) -> tuple[float | None, float | None, float | None]:
        """What leans to a side: volume, quotes, depth."""
        return self.delta, self.ofi, self.depth

    def wick(self, slope: float) -> float:
        """How much of the range is a wick on the side that price goes to."""
        length, side = self.high - self.low, sign(slope)
        if same(length, 0.0) or not side:
            return 0.0
        ends = self.open, self.close
        return (self.high - max(ends) if side > 0 else min(ends) - self.low) / length


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Describe each bar of the window."""
    frames, past = joined.frames, dict(carry.past)
    rows: dict[str, list[Row]] = {}
    for name, span in TIMEFRAMES.items():
        before, found = past.get(name, Past()), []
        for bar in _bars(frames, name, span):
            row, before = describe(bar, before, context.params)
            found.append((bar.start, row))
        past[name], rows[f"ipu_{name}"] = before, found
    return Closed(Carry(past), rows)


def _bars(frames: dict[str, pl.DataFrame], name: str, span_us: int) -> list[Bar]:
    bars = frames[f"bars_{name}"]
    if not bars.height:
        return []
    starts = bars["ts"].to_numpy()
    inside = zip(
        bars.rows(),
        means(frames.get("flow_1m"), "ofi_norm", starts, span_us),
        means(frames.get("micro_1m"), "depth_imbalance", starts, span_us),
        lasts(frames.get("impact_1m"), "kyle_lambda", starts, span_us),
        strict=True,
    )
    return [Bar(*values, *feeds) for values, *feeds in inside]


def describe(bar: Bar, past: Past, params: Params) -> tuple[tuple[Any, ...], Past]:
    """The columns of a bar, and what it leaves to the next."""
    atr = past.atr.then(bar.high, bar.low, bar.close, params.atr_period)
    efficiency = price_efficiency(bar.open, bar.high, bar.low, bar.close)
    quality = order_flow_quality(bar.flows)
    core = product(efficiency, quality)
    volume = expansion(bar.volume, past.volumes, params.window_min)
    intensity = expansion(bar.trades, past.trades, params.window_min)
    amplifier = None if volume is None else 1 + 0.5 * volume
    boost = _boost(bar.impact, past.impacts, params.window_min)
    proxy = product(core, amplifier, boost)
    pressure, flow = _flow(bar, params)
    aligned = direction_agreement((*bar.flows, bar.close - bar.open))

    slope = _slope(bar.close, past.closes, atr.value, params)
    accel = None if slope is None or past.slope is None else slope - past.slope
    momentum = _drift(slope, params)
    agreed = agreement(momentum, flow)
    moving = _moving(bar, slope, accel, past, params)
    support = None if agreed is None else 0.6 + 0.4 * agreed
    validated = product(moving.context, support)
    urgency = weighted(
        (0.25, volume),
        (0.25, moving.strength),
        (0.2, intensity),
        (0.15, quality),
        (0.15, validated),
    )
    conditions = sum(
        (
            volume is not None and at_least(volume, params.x_vol),
            at_least(efficiency, params.x_eff),
            pressure is not None and at_least(pressure, params.x_flow),
            at_least(aligned, params.x_agree),
            moving.state == "ACCELERATING" and above(abs(slope or 0.0), params.x_slope),
        )
    )
    row = (
        efficiency,
        quality,
        core,
        amplifier,
        boost,
        None if proxy is None else clip01(proxy),
        slope,
        accel,
        moving.context,
        moving.state,
        flow,
        agreed,
        validated,
        moving.score,
        moving.signals,
        None if moving.score is None else at_least(moving.score, params.exh_warning),
        urgency,
        _urgency_class(urgency),
        conditions >= params.x_count,
        conditions,
        direction(momentum, flow),
        volume,
        intensity,
        pressure,
        aligned,
    )
    after = Past(
        [*past.volumes, bar.volume][-params.window :],
        [*past.trades, bar.trades][-params.window :],
        [*past.impacts, None if bar.impact is None else abs(bar.impact)][-params.window :],
        [*past.closes, bar.close][-params.slope_bars :],
        atr,
        slope,
        moving.context,
    )
    return row, after


def _boost(impact: float | None, prior: list[float | None], least: int) -> float:
    """1, and up to a quarter more the higher |lambda| stands among those before."""
    known = [each for each in prior if each is not None]
    if impact is None or len(known) < least:
        return 1.0
    return 1 + 0.25 * share_not_above(abs(impact), known)


def _flow(bar: Bar, params: Params) -> tuple[float | None, int | None]:
    """How hard volume and quotes lean, and to which side if hard enough."""
    lean = bar.delta if bar.ofi is None else weighted((0.5, bar.delta), (0.5, bar.ofi))
    if lean is None:
        return None, None
    return abs(lean), sign(lean) if above(abs(lean), params.flow_deadband) else 0


def _slope(close: float, closes: list[float], atr: float | None, params: Params) -> float | None:
    """How far price has come over `slope_bars` bars, in average ranges."""
    if atr is None or len(closes) < params.slope_bars:
        return None
    return 0.0 if same(atr, 0.0) else (close - closes[0]) / (atr * params.slope_scale)


def _drift(slope: float | None, params: Params) -> int | None:
    """Where momentum points, if it is there at all."""
    if slope is None:
        return None
    return sign(slope) if at_least(abs(slope), params.drift_slope) else 0


@dataclass(frozen=True, slots=True)
class _Moving:
    """What is said of a bar of which slope and acceleration are known."""

    state: str | None = None
    strength: float | None = None
    context: float | None = None
    signals: int | None = None
    score: float | None = None


def _moving(
    bar: Bar, slope: float | None, accel: float | None, past: Past, params: Params
) -> _Moving:
    if slope is None or accel is None:
        return _Moving()
    state, strength = momentum_state(slope, accel, params), clip01(abs(slope))
    context = 0.6 * strength + 0.4 * clip01(abs(accel))
    signals = sum(
        (
            past.context is not None and above(params.exh_momentum * past.context, context),
            bool(past.volumes) and above(params.exh_volume * past.volumes[-1], bar.volume),
            above(bar.wick(slope), params.exh_wick),
            state == "DECELERATING",
        )
    )
    is_high = signals >= params.exh_count and above(abs(slope), params.exh_slope)
    score = params.exh_high if is_high else params.exh_step * signals
    return _Moving(state, strength, context, signals, score)


def momentum_state(slope: float, accel: float, params: Params) -> str:
    """The first of the five states that holds."""
    steep, gain = abs(slope), accel * sign(slope)
    if above(steep, params.acc_slope) and above(gain, params.acc_accel):
        return "ACCELERATING"
    if above(steep, params.acc_slope) and above(-params.acc_accel, gain):
        return "DECELERATING"
    if above(steep, params.trend_slope):
        return "TRENDING"
    return "DRIFTING" if at_least(steep, params.drift_slope) else "FLAT"


def _urgency_class(urgency: float | None) -> str | None:
    if urgency is None:
        return None
    return next((word for limit, word in _URGENCY if at_least(urgency, limit)), "PASSIVE")


_COLUMNS = (
    Column(
        "price_efficiency",
        "float",
        "",
        "|close - open| / range x (1 - given back / range), given back: high - close of a bar that "
        "rose, close - low of one that fell; 0 if range or change is 0",
    ),
    Column(
        "order_flow_quality",
        "float",
        "",
        "geometric mean of the sizes of d = (buy - sell) / volume, f = mean flow_1m.ofi_norm and i "
        "= mean micro_1m.depth_imbalance over the bar's minutes, those that are there, x (0.5 + "
        "0.5 x |sum of their signs| / 3)",
    ),
    Column("inst_core", "float", "", "price_efficiency x order_flow_quality"),
    Column(
        "volume_amplifier", "float", "", "1 + 0.5 x vol_expansion; null under 20 bars before it"
    ),
    Column(
        "kyle_lambda_boost",
        "float",
        "",
        "1 + 0.25 x share of the |lambda| of the 100 bars before that are not above this bar's; "
        "lambda: the last impact_1m.kyle_lambda in the bar; 1 without it or under 20 before",
    ),
    Column(
        "inst_proxy",
        "float",
        "",
        "inst_core x volume_amplifier x kyle_lambda_boost, 0 to 1; null if one of them is",
    ),
    Column(
        "mms_slope",
        "float",
        "",
        "(close - close three bars before) / (ATR_14 x slope_scale), 0 if ATR is 0; null before "
        "there is an ATR",
    ),
    Column("mms_accel", "float", "", "mms_slope less that of the bar before; null without both"),
    Column(
        "momentum_context",
        "float",
        "",
        "0.6 x |mms_slope| + 0.4 x |mms_accel|, each at most 1; null without mms_accel",
    ),
    Column(
        "momentum_state",
        "string",
        "",
        "with x = mms_accel in the direction of mms_slope: ACCELERATING if |slope| > 0.4 and x > "
        "0.1, DECELERATING if |slope| > 0.4 and x < -0.1, TRENDING if |slope| > 0.5, DRIFTING if "
        "|slope| >= 0.25, else FLAT; null without mms_accel",
    ),
    Column(
        "flow_direction",
        "int",
        "",
        "sign of 0.5 d + 0.5 f (d where f is missing) if that is beyond 0.05, else 0",
    ),
    Column(
        "flow_momentum_agreement",
        "float",
        "",
        "of m (sign of mms_slope if |slope| >= 0.25, else 0) and flow_direction: 1 if equal, 0.3 "
        "if opposite, 0.65 if one is 0; null without mms_slope",
    ),
    Column(
        "validated_momentum",
        "float",
        "",
        "momentum_context x (0.6 + 0.4 x flow_momentum_agreement)",
    ),
    Column(
        "exhaustion_score",
        "float",
        "",
        "0.9 if exhaustion_signals >= 3 and |slope| > 0.5, else 0.2 x exhaustion_signals",
    ),
    Column(
        "exhaustion_signals",
        "int",
        "",
        "how many hold: momentum_context < 0.8 x that of the bar before, volume < 0.7 x that of "
        "the bar before, wick on the side of the slope > 0.4 of the range, DECELERATING; null "
        "without mms_accel",
    ),
    Column("exhaustion_warning", "bool", "", "exhaustion_score >= 0.6"),
    Column(
        "urgency",
        "float",
        "",
        "0.25 x vol_expansion + 0.25 x |mms_slope| (at most 1) + 0.2 x tick_intensity + 0.15 x "
        "order_flow_quality + 0.15 x validated_momentum; null if one is",
    ),
    Column(
        "urgency_class",
        "string",
        "",
        "AGGRESSIVE if urgency >= 0.75, ELEVATED >= 0.5, PATIENT >= 0.3, else PASSIVE",
    ),
    Column("xfactor", "bool", "", "xfactor_conditions >= 4"),
    Column(
        "xfactor_conditions",
        "int",
        "",
        "how many hold: vol_expansion >= 0.65, price_efficiency >= 0.35, flow_pressure >= 0.6, "
        "direction_agreement >= 0.75, ACCELERATING with |slope| > 0.5; what is null does not",
    ),
    Column(
        "direction",
        "string",
        "",
        "BULLISH, NEUTRAL or BEARISH by the sign of m + flow_direction; null without mms_slope",
    ),
    Column(
        "vol_expansion",
        "float",
        "",
        "(volume / median of the 100 bars before - 1) / 2, 0 to 1; null under 20 bars",
    ),
    Column("tick_intensity", "float", "", "the same of the number of trades"),
    Column("flow_pressure", "float", "", "|0.5 d + 0.5 f|, |d| where f is missing"),
    Column(
        "direction_agreement",
        "float",
        "",
        "of the signs of d, f, i and close - open the larger camp / 4; what is missing is in none",
    ),
)

_BAR = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "trades")


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; the average range goes back to the first bar."""
    del tick
    found: list[Reach] = []
    for name in TIMEFRAMES:
        of = (f"ipu_{name}",)
        found += [
            Reach(f"bars_{name}", of=of, since="ever"),
            Reach("flow_1m", of=of),
            Reach("micro_1m", of=of),
            Reach("impact_1m", of=of, rows=params.window),
        ]
    return tuple(found)


STAGE = Stage(
    name="ipu",
    inputs=(
        *(Input(f"bars_{name}", _BAR) for name in TIMEFRAMES),
        Input("flow_1m", ("ofi_norm",), required=False, behind_us=LONGEST_US),
        Input("micro_1m", ("depth_imbalance",), required=False, behind_us=LONGEST_US),
        Input("impact_1m", ("kyle_lambda",), required=False, behind_us=LONGEST_US),
    ),
    layers=tuple(
        Layer(
            f"ipu_{name}",
            "ipu",
            "jsonl",
            _COLUMNS,
            f"One row per closed bar of {name}: who was at work in it, and with what momentum.",
            span_us=span,
        )
        for name, span in TIMEFRAMES.items()
    ),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
