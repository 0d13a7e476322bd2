"""One verdict a minute from seven order-flow factors, with its reasons.

A row is one minute with a trade or a quote. Each factor speaks for one side or for none, and the
points of those that speak are added up:

    imbalance > 0.20 20, ofi_momentum > 0.05 15, more whale buys than sells 10,
    close more than 0.1 % below the session's VWAP 15, depth_imbalance > 0.15 10,
    buyers' volume > 65 % 10, session profile BULLISH 30;

the bearish side mirrors them. LONG above 40 points of difference, SHORT below -40, else HOLD. The
points are a rule of thumb that nobody has fitted. Points are added as whole hundredths, since 0.15
+ 0.15 + 0.10 of doubles is more than 0.40.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.limits import exceeds
from pipeline.calc.whales import WhaleTrades, whale_trades
from pipeline.exact import check_positive
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Input, Joined, Row, Stage

PROFILE_US = 300_000_000
LONGEST_US = 600_000_000
_DECIDES = 40
_HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Factor:
    """Something that can speak for a side.

    Attributes:
        points: hundredths it counts.
        limit: how far above (below) `centre` its value has to be.
        sign: 1 if a large value is bullish, -1 if it is bearish.
    """

    name: str
    points: int
    limit: float
    sign: int = 1
    centre: float = 0.0

    def side(self, value: float | str) -> str | None:
        """The side a value speaks for."""
        if isinstance(value, str):
            return {"BULLISH": "bullish", "BEARISH": "bearish"}.get(value)
        if exceeds(self.sign * (value - self.centre), self.limit):
            return "bullish"
        if exceeds(self.sign * (self.centre - value), self.limit):
            return "bearish"
        return None


FACTORS = (
    Factor("imbalance", 20, 0.20),
    Factor("ofi_momentum", 15, 0.05),
    Factor("whale_trades", 10, 0),
    Factor("vwap_deviation", 15, 0.1, sign=-1),
    Factor("depth_imbalance", 10, 0.15),
    Factor("buy_pressure", 10, 15, centre=50),
    Factor("profile_bias", 30, 0),
)

Values = tuple[float | str | None, ...]
"""What each of the factors is in a minute; None where its input was not there."""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[orderflow]`; `whale_notional` (quote currency) where there is no flow row."""

    whale_notional: Decimal = Decimal(100_000)

    def __post_init__(self) -> None:
        """Refuse a size that is none."""
        check_positive(whale_notional=self.whale_notional)


class Carry(msgspec.Struct):
    """Nothing: a minute is judged by its own rows and a profile that is read again."""


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Judge each minute of the window."""
    frames = joined.known
    trades = whale_trades(frames.get("trades"), context.params.whale_notional)
    flows = _by_minute(frames.get("flow_1m"))
    depths = _by_minute(frames.get("micro_1m"))
    pressures = {
        start: _HUNDRED * bought / volume
        for start, (volume, bought) in _by_minute(frames.get("bars_1m")).items()
        if volume
    }
    deviations = _by_minute(frames.get("vwap_1m"))
    minutes = _minutes(joined)
    biases = _biases(frames.get("profile_session"), minutes)
    rows: list[Row] = []
    for start, bias in zip(minutes, biases, strict=True):
        imbalance, momentum, *counted = flows.get(start, (None,) * 4)
        values: Values = (
            imbalance,
            momentum,
            _whales(counted, trades, start),
            *deviations.get(start, (None,)),
            *depths.get(start, (None,)),
            pressures.get(start),
            bias,
        )
        rows.append((start, judge(values)))
    return Closed(carry, {"orderflow_1m": rows})


def judge(values: Values) -> tuple[Any, ...]:
    """The columns of a minute in which the factors have these values."""
    points = {"bullish": 0, "bearish": 0}
    reasons, missing = [], []
    for factor, value in zip(FACTORS, values, strict=True):
        if value is None:
            missing.append(factor.name)
        elif side := factor.side(value):
            points[side] += factor.points
            share = factor.points / _HUNDRED
            reasons.append({"factor": factor.name, "side": side, "points": share, "value": value})
    score = points["bullish"] - points["bearish"]
    direction = "LONG" if score > _DECIDES else "SHORT" if score < -_DECIDES else "HOLD"
    strength = 0 if direction == "HOLD" else min(_HUNDRED, abs(score))
    found = (score, points["bullish"], points["bearish"], strength)
    return direction, *(each / _HUNDRED for each in found), reasons, missing


def _minutes(joined: Joined) -> list[int]:
    """The minutes with a trade or a quote, in order."""
    start = pl.col("ts") // MINUTE_US * MINUTE_US
    found: set[int] = set()
    for name in ("trades", "quote"):
        if name in joined.known:
            frame = joined.known[name]
            rows = frame.filter(pl.col("bid").is_not_null()) if name == "quote" else frame
            found.update(rows.select(start)["ts"].unique().to_list())
    return sorted(found)


def _by_minute(frame: pl.DataFrame | None) -> dict[int, tuple[Any, ...]]:
    """The values of a layer of minutes by their beginnings."""
    if frame is None:
        return {}
    return {start: tuple(values) for start, *values in frame.iter_rows()}


def _whales(counted: list[int | None], trades: WhaleTrades, start: int) -> int | None:
    """Whale buys less whale sells: those that the flow row counted, else counted here."""
    buys, sells = counted if None not in counted else trades.of(start)
    return None if buys is None or sells is None else buys - sells


def _biases(profiles: pl.DataFrame | None, minutes: Iterable[int]) -> list[str | None]:
    """For each minute the bias of the latest profile that had closed, at most 10 minutes old."""
    closed = [] if profiles is None else list(profiles.select("ts", "bias").iter_rows())
    found: list[str | None] = []
    at, bias, known = 0, None, 0
    for start in minutes:
        end = start + MINUTE_US
        while at < len(closed) and closed[at][0] + PROFILE_US <= end:
            known, bias = closed[at][0] + PROFILE_US, closed[at][1]
            at += 1
        found.append(bias if at and end - known <= LONGEST_US else None)
    return found


ORDERFLOW = Layer(
    "orderflow_1m",
    "orderflow",
    "jsonl",
    (
        Column("direction", "string", "", "LONG if score > 0.40, SHORT if < -0.40, else HOLD"),
        Column("score", "float", "", "bullish_score - bearish_score"),
        Column(
            "bullish_score",
            "float",
            "",
            "sum of points: imbalance > 0.20 0.20, ofi_momentum > 0.05 0.15, more whale buy trades "
            "than sell trades 0.10, close > 0.1 % below the session's VWAP 0.15, depth_imbalance > "
            "0.15 0.10, buyers' volume > 65 % 0.10, profile bias BULLISH 0.30",
        ),
        Column("bearish_score", "float", "", "sum of points of the same factors, mirrored"),
        Column("strength", "float", "", "min(1, |score|), 0 for HOLD"),
        Column(
            "reasons",
            "list",
            "",
            "the factors that spoke [{factor, side, points, value}], side bullish or bearish, "
            "value what was compared (whale_trades: buys - sells; profile_bias: its name); "
            "factors: imbalance ofi_momentum whale_trades vwap_deviation depth_imbalance "
            "buy_pressure profile_bias, in this order",
        ),
        Column(
            "missing",
            "list",
            "",
            "the factors that could not speak since their input was not there in this minute",
        ),
    ),
    "One row per minute with a trade or a quote: which way order flow points, and why.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del params, tick
    own = ("flow_1m", "micro_1m", "bars_1m", "vwap_1m", "trades", "quote")
    # a profile that ended so long before the minute's end, and not a moment earlier
    oldest = LONGEST_US - MINUTE_US + 1
    return (
        *(Reach(layer) for layer in own),
        Reach("profile_session", behind_us=oldest, which="last"),
    )


STAGE = Stage(
    name="orderflow",
    inputs=(
        Input(
            "flow_1m",
            ("imbalance", "ofi_momentum", "whale_buy_trades", "whale_sell_trades"),
            required=False,
        ),
        Input("micro_1m", ("depth_imbalance",), required=False),
        Input("bars_1m", ("volume", "buy_volume"), required=False),
        Input("vwap_1m", ("deviation_pct",), required=False),
        Input("trades", ("notional", "side"), required=False),
        Input("quote", ("bid",), required=False),
        Input("profile_session", ("bias",), required=False, behind_us=LONGEST_US),
    ),
    layers=(ORDERFLOW,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
