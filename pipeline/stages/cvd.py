"""Cumulative volume delta by minute, whole and since midnight.

A row is one minute with trades. Delta is what takers bought less what takers sold, exact at every
trade; its running sum is CVD = sum of s*v with s = +1 or -1 by the taker's side. High and low
follow the running sum trade by trade in file order, from the end of the minute before.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipeline.calc.integers import summable
from pipeline.calc.minutes import settle
from pipeline.calc.ticks import Ticks
from pipeline.exact import ZERO, add, nearest, scaled
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import DAY_US, MINUTE_US, Closed, Context, Row, Stage


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[cvd]` has no settings."""


class Minute(msgspec.Struct):
    """Signed sums of one minute, and how far the base sum went on the way (0 counts)."""

    start: int
    delta: Decimal
    delta_notional: Decimal
    highest: Decimal
    lowest: Decimal

    def then(self, later: Minute) -> Minute:
        """This minute with more of its trades."""
        return Minute(
            self.start,
            add(self.delta, later.delta),
            add(self.delta_notional, later.delta_notional),
            max(self.highest, add(self.delta, later.highest)),
            min(self.lowest, add(self.delta, later.lowest)),
        )


class Carry(msgspec.Struct):
    """Open minutes, and the sums up to the last closed one, which lay in `day` (since 1970)."""

    minutes: list[Minute] = []
    cvd: Decimal = ZERO
    cvd_notional: Decimal = ZERO
    session_cvd: Decimal = ZERO
    day: int | None = None


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open minutes and run the sums on through those that closed."""
    closed, still_open = settle(carry.minutes, minutes_of(ticks), context.watermark_us)
    cvd, cvd_notional = carry.cvd, carry.cvd_notional
    session, day = carry.session_cvd, carry.day
    rows: list[Row] = []
    for minute in closed:
        if minute.start // DAY_US != day:
            session, day = ZERO, minute.start // DAY_US
        high, low = add(cvd, minute.highest), add(cvd, minute.lowest)
        cvd = add(cvd, minute.delta)
        session = add(session, minute.delta)
        cvd_notional = add(cvd_notional, minute.delta_notional)
        sums = (minute.delta, cvd, session, minute.delta_notional, cvd_notional, high, low)
        rows.append((minute.start, tuple(map(nearest, sums))))
    return Closed(Carry(still_open, cvd, cvd_notional, session, day), {"cvd_1m": rows})


def minutes_of(ticks: Ticks) -> list[Minute]:
    """Signed sums of each minute, with the extremes of the running base sum."""
    if not ticks.height:
        return []
    frame = ticks.frame
    starts = frame["ts"].to_numpy() // MINUTE_US * MINUTE_US
    side = frame["side"].to_numpy().astype(np.int64)
    size, notional = summable(frame["sz"]) * side, summable(frame["nt"]) * side
    if (starts[1:] < starts[:-1]).any():
        # minutes that are open together interleave; the sort keeps file order inside each
        order = np.argsort(starts, kind="stable")
        starts, size, notional = starts[order], size[order], notional[order]
    first = np.flatnonzero(np.concatenate(([True], starts[1:] != starts[:-1])))
    running = np.cumsum(size)
    before = running[first] - size[first]

    def exact(values: NDArray[Any], scale: int) -> list[Decimal]:
        return [scaled(value, scale) for value in values.tolist()]

    return [
        Minute(start, delta, delta_notional, max(ZERO, highest), min(ZERO, lowest))
        for start, delta, delta_notional, highest, lowest in zip(
            starts[first].tolist(),
            exact(np.add.reduceat(size, first), ticks.sz_scale),
            exact(np.add.reduceat(notional, first), ticks.nt_scale),
            exact(np.maximum.reduceat(running, first) - before, ticks.sz_scale),
            exact(np.minimum.reduceat(running, first) - before, ticks.sz_scale),
            strict=True,
        )
    ]


CVD = Layer(
    "cvd_1m",
    "cvd",
    "jsonl",
    (
        Column("delta", "float", "base", "size bought by takers - size sold by takers"),
        Column("cvd", "float", "base", "sum of delta since the layer's first row"),
        Column("session_cvd", "float", "base", "sum of delta since 00:00 UTC of the bar's day"),
        Column("delta_notional", "float", "quote", "as delta, of notional"),
        Column("cvd_notional", "float", "quote", "sum of delta_notional since the first row"),
        Column(
            "cvd_high",
            "float",
            "base",
            "highest running cvd inside the bar, trade by trade; where it opened counts",
        ),
        Column(
            "cvd_low",
            "float",
            "base",
            "lowest running cvd inside the bar, trade by trade; where it opened counts",
        ),
    ),
    "One row per minute with trades: who pushed, and what it came to.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del params, tick
    return (Reach("trades", since="ever"),)


STAGE = Stage(
    name="cvd",
    source="trades",
    layers=(CVD,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
