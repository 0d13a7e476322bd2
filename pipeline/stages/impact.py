"""Price impact by minute: Kyle's lambda and Amihud's illiquidity.

A row is one minute with trades. Over the last 60 minutes that have a close before them, however
long ago that was, the return y = 1e4*ln(close / prior close) is regressed on the signed notional
x in millions: the slope is how many bps a million of net buying went with. Lambda after Kyle,
"Continuous Auctions and Insider Trading", Econometrica 53 (1985), by ordinary least squares;
illiquidity is the mean of |y| per million traded after Amihud, "Illiquidity and Stock Returns",
Journal of Financial Markets 5 (2002), eq. 1.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Annotated

import msgspec

from pipeline.calc.by_time import ByTime
from pipeline.calc.minutes import settle
from pipeline.calc.ols import fit
from pipeline.calc.ticks import Ticks
from pipeline.exact import add, nearest, ratio, scaled, subtract
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage

_BPS = 1e4
_MILLION = Decimal(1_000_000)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[impact]`: bars in a regression, and the fewest it needs."""

    window: Annotated[int, msgspec.Meta(ge=1)] = 60
    min_window: Annotated[int, msgspec.Meta(ge=1)] = 30


class Minute(msgspec.Struct):
    """One minute: its last price, notional, and notional bought less sold."""

    start: int
    close: Decimal
    notional: Decimal
    signed: Decimal

    def then(self, later: Minute) -> Minute:
        """This minute with more of its trades."""
        notional = add(self.notional, later.notional)
        return Minute(self.start, later.close, notional, add(self.signed, later.signed))


class Point(msgspec.Struct, array_like=True, frozen=True):
    """What one bar brings: signed notional in millions, return in bps, |return| per million."""

    x: float
    y: float
    cost: float


class Carry(msgspec.Struct):
    """Open minutes, the last close, and the points of the last `window` bars, oldest first."""

    minutes: list[Minute] = []
    close: Decimal | None = None
    points: list[Point] = []


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open minutes and regress over those that closed."""
    params = context.params
    closed, still_open = settle(carry.minutes, minutes_of(ticks), context.watermark_us)
    close, points = carry.close, list(carry.points)
    rows: list[Row] = []
    for minute in closed:
        if close is not None:
            points = [*points, _point(minute, close)][-params.window :]
        close = minute.close
        rows.append((minute.start, estimate(points, params.min_window)))
    return Closed(Carry(still_open, close, points), {"impact_1m": rows})


def minutes_of(ticks: Ticks) -> list[Minute]:
    """Last price and notional of each minute."""
    if not ticks.height:
        return []
    minutes = ByTime.of(ticks.frame["ts"], MINUTE_US)
    price, notional = (minutes.values(ticks.frame[name]) for name in ("px", "nt"))
    is_sold = minutes.flags(ticks.frame["side"]) < 0
    found = zip(
        minutes.starts.tolist(),
        price[minutes.lasts].tolist(),
        minutes.sums(notional),
        minutes.sums_where(notional, is_sold),
        strict=True,
    )
    return [
        Minute(
            start,
            scaled(close, ticks.px_scale),
            scaled(total, ticks.nt_scale),
            scaled(total - 2 * sold, ticks.nt_scale),
        )
        for start, close, total, sold in found
    ]


def _point(minute: Minute, prior: Decimal) -> Point:
    # log1p of the exact change: near 1 the quotient itself would lose the digits that matter
    change = nearest(ratio(subtract(minute.close, prior), prior))
    bps = _BPS * math.log1p(change)
    millions = nearest(ratio(minute.notional, _MILLION))
    return Point(nearest(ratio(minute.signed, _MILLION)), bps, abs(bps) / millions)


def estimate(
    points: list[Point], least: int
) -> tuple[float | None, float | None, float | None, float | None, int]:
    """Lambda, its r2 and standard error, Amihud's mean, and the number of bars."""
    count = len(points)
    line = fit([p.x for p in points], [p.y for p in points]) if count >= least else None
    if line is None:
        return None, None, None, None, count
    return line.slope, line.r2, line.se, math.fsum(p.cost for p in points) / count, count


IMPACT = Layer(
    "impact_1m",
    "impact",
    "jsonl",
    (
        Column(
            "kyle_lambda",
            "float",
            "bps per 1e6 quote",
            "OLS slope (with intercept) of 1e4 x ln(close / prior close) on signed notional / 1e6 "
            "over the last 60 bars; null before 30, or where signed notional does not vary",
        ),
        Column(
            "kyle_r2",
            "float",
            "",
            "1 - SSE/SST of that regression; null as kyle_lambda, or where no return varies",
        ),
        Column(
            "kyle_se",
            "float",
            "bps per 1e6 quote",
            "classical standard error of the slope (n - 2); null as kyle_lambda, or if n <= 2",
        ),
        Column(
            "amihud",
            "float",
            "bps per 1e6 quote",
            "mean over the same bars of 1e4 x |ln(close / prior close)| / (notional / 1e6); null "
            "as kyle_lambda",
        ),
        Column("n", "int", "", "bars in the window: those with a close before them, at most 60"),
    ),
    "One row per minute with trades: what net buying did to the price over the last hour of bars.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; the oldest bar of a regression needs the close of the one before."""
    del tick
    return (Reach("trades", rows=params.window),)


STAGE = Stage(
    name="impact",
    source="trades",
    layers=(IMPACT,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
