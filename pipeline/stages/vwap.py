"""Volume-weighted average price of the session with bands, and over 1, 4 and 24 hours.

A row is one minute with trades. VWAP is notional / volume; the bands are VWAP plus and minus one,
two and three standard deviations of the traded prices, weighted by size at trade level,
sd = sqrt(sum of v*p^2 / sum of v - (sum of v*p / sum of v)^2). That difference cancels nearly all
digits of doubles, so it is formed of exact sums and rounded once.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from decimal import Decimal
from fractions import Fraction

import msgspec
import polars as pl

from pipeline.calc.minutes import per_minute, settle
from pipeline.calc.ticks import Ticks
from pipeline.exact import ZERO, add, nearest, ratio, scaled, subtract
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import DAY_US, HOUR_US, MINUTE_US, Closed, Context, Row, Stage

_HOURS = (1, 4, 24)
_BANDS = (1, 2, 3)
_INT128_SAFE = 2**126


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[vwap]` has no settings: the windows are in the columns' names."""


class Sums(msgspec.Struct, frozen=True):
    """Sums over trades: v, notional, v*p and v*p^2.

    v*p is the notional except for inverse contracts, whose base sizes are rounded: there only
    v*p belongs to v*p^2, or the rounding would pass for variance.
    """

    volume: Decimal = ZERO
    notional: Decimal = ZERO
    first: Decimal = ZERO
    second: Decimal = ZERO

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            add(self.volume, other.volume),
            add(self.notional, other.notional),
            add(self.first, other.first),
            add(self.second, other.second),
        )


class Minute(msgspec.Struct):
    """One minute: its last price and its sums."""

    start: int
    close: Decimal
    sums: Sums

    def then(self, later: Minute) -> Minute:
        """This minute with more of its trades."""
        return Minute(self.start, later.close, self.sums.plus(later.sums))


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """A closed minute, with volume and notional of all minutes before it."""

    start: int
    volume: Decimal
    notional: Decimal


class Carry(msgspec.Struct):
    """Open minutes, the session's sums up to the last closed minute, and the last 24 hours.

    `volume` and `notional` count from the layer's first row: a window is what they are now less
    what they were at its first mark.
    """

    minutes: list[Minute] = []
    day: int | None = None
    session: Sums = msgspec.field(default_factory=Sums)
    volume: Decimal = ZERO
    notional: Decimal = ZERO
    marks: list[Mark] = []


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open minutes and average up to the end of those that closed."""
    closed, still_open = settle(carry.minutes, minutes_of(ticks), context.watermark_us)
    session, day = carry.session, carry.day
    volume, notional = carry.volume, carry.notional
    marks = list(carry.marks)
    rows: list[Row] = []
    for minute in closed:
        if minute.start // DAY_US != day:
            session, day = Sums(), minute.start // DAY_US
        session = session.plus(minute.sums)
        marks.append(Mark(minute.start, volume, notional))
        volume = add(volume, minute.sums.volume)
        notional = add(notional, minute.sums.notional)
        rolling: list[float | None] = []
        for hours in _HOURS:
            mark = marks[_first_mark(marks, hours)]
            traded, paid = subtract(volume, mark.volume), subtract(notional, mark.notional)
            rolling.append(nearest(ratio(paid, traded)) if traded else None)
        bands, apart = _bands(minute.close, session)
        rows.append((minute.start, (*bands, *rolling, *apart)))
    if marks:
        del marks[: _first_mark(marks, max(_HOURS))]
    return Closed(Carry(still_open, day, session, volume, notional, marks), {"vwap_1m": rows})


def minutes_of(ticks: Ticks) -> list[Minute]:
    """Last price and sums of each minute."""
    if not ticks.height:
        return []
    frame = ticks.frame
    close, notional = pl.col("px").last().alias("close"), pl.col("nt").cast(pl.Int128).sum()
    price, size = pl.col("px").cast(pl.Int128), pl.col("sz").cast(pl.Int128)
    tops = [int(frame[name].max()) for name in ("px", "sz")]  # type: ignore[arg-type]
    if tops[0] ** 2 * tops[1] * ticks.height < _INT128_SAFE:
        sums = (size.sum(), (price * size).sum().alias("first"))
        found = per_minute(
            ticks, close, notional, *sums, (price * price * size).sum().alias("second")
        ).rows()
    else:
        # prices of so many digits that even 128 bits are too few
        lists = per_minute(ticks, close, notional, pl.col("px"), pl.col("sz")).rows()
        found = [
            (
                start,
                last,
                paid,
                sum(sizes),
                sum(p * v for p, v in zip(prices, sizes, strict=True)),
                sum(p * p * v for p, v in zip(prices, sizes, strict=True)),
            )
            for start, last, paid, prices, sizes in lists
        ]
    px_scale, sz_scale = ticks.px_scale, ticks.sz_scale
    return [
        Minute(
            start,
            scaled(last, px_scale),
            Sums(
                scaled(volume, sz_scale),
                scaled(paid, ticks.nt_scale),
                scaled(first, px_scale + sz_scale),
                scaled(second, 2 * px_scale + sz_scale),
            ),
        )
        for start, last, paid, volume, first, second in found
    ]


def _first_mark(marks: list[Mark], hours: int) -> int:
    """Index of the first minute of the window that ends with the last one."""
    since = marks[-1].start + MINUTE_US - hours * HOUR_US
    return bisect_left(marks, since, key=lambda mark: mark.start)


def deviation(sums: Sums) -> float:
    """Standard deviation of price, weighted by size; some volume is needed."""
    volume = Fraction(sums.volume)
    variance = Fraction(sums.second) / volume - (Fraction(sums.first) / volume) ** 2
    return math.sqrt(nearest(variance))


def _bands(
    close: Decimal, session: Sums
) -> tuple[tuple[float | None, ...], tuple[float | None, float | None]]:
    """The session's VWAP, sd and bands, and how far the close is away in per cent and in sd."""
    if not session.volume:
        return (None,) * (2 + 2 * len(_BANDS)), (None, None)
    exact = ratio(session.notional, session.volume)
    vwap, sd = nearest(exact), deviation(session)
    apart = Fraction(close) - exact
    edges = [edge for k in _BANDS for edge in (vwap + k * sd, vwap - k * sd)]
    return (vwap, sd, *edges), (nearest(apart / exact * 100), nearest(apart) / sd if sd else None)


def _band_columns() -> list[Column]:
    return [
        Column(f"{name}_{k}", "float", "quote", f"session_vwap {sign} {k} x session_sd")
        for k in _BANDS
        for name, sign in (("upper", "+"), ("lower", "-"))
    ]


VWAP = Layer(
    "vwap_1m",
    "vwap",
    "jsonl",
    (
        Column(
            "session_vwap",
            "float",
            "quote",
            "notional / volume of all trades from 00:00 UTC of the bar's day to its end",
        ),
        Column(
            "session_sd",
            "float",
            "quote",
            "sqrt(sum of v x (p - mean)^2 / sum of v) over the same trades, mean weighted by size",
        ),
        *_band_columns(),
        *(
            Column(
                f"rolling_vwap_{hours}h",
                "float",
                "quote",
                f"notional / volume of the {hours} h up to the bar's end, with what there is",
            )
            for hours in _HOURS
        ),
        Column("deviation_pct", "float", "%", "(close / session_vwap - 1) x 100"),
        Column(
            "deviation_sd",
            "float",
            "",
            "(close - session_vwap) / session_sd; null where session_sd is 0",
        ),
    ),
    "One row per minute with trades: the average price paid, and how far the close is from it.",
    span_us=MINUTE_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; the session is never longer than the longest window."""
    del params, tick
    return (Reach("trades", behind_us=max(_HOURS) * HOUR_US - MINUTE_US),)


STAGE = Stage(
    name="vwap",
    source="trades",
    layers=(VWAP,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
