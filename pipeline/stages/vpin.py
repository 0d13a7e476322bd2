"""Order-flow toxicity by volume buckets (VPIN).

A row is one bucket: trades in layer order until they make up the volume V; a trade that reaches
over the edge is split there, exactly, and a large one may fill several buckets. VPIN is the sum
of |bought - sold| over the sum of V of the last 50 buckets, after Easley, Lopez de Prado and
O'Hara, "Flow Toxicity and Liquidity in a High-Frequency World", Review of Financial Studies 25
(2012), with the takers' true sides in place of bulk classification. Rows are events: a bucket is
written as soon as it is full.

V is a fiftieth of a day's volume. It follows the running clock (the newest event time so far in
layer order): when the clock first shows a new UTC day, buckets that begin from that trade on take
V from the volume of the day before, put up to 24 hours by the number of its hours with trades.
On the first day V comes from the 30 minutes from the first trade, and the first bucket begins
when they have passed, or at midnight if that comes sooner. A trade behind the clock's day
(possible only with lateness) fills buckets but belongs to no day's volume.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.calc.integers import summable
from pipeline.calc.stamps import ms_text
from pipeline.calc.ticks import Ticks
from pipeline.exact import ZERO, add, nearest, scaled
from pipeline.layers import Column, Layer
from pipeline.stage import Closed, Context, Row, Stage

_MINUTE_US = 60_000_000
_HOUR_US = 60 * _MINUTE_US
_DAY_US = 24 * _HOUR_US

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[vpin]`.

    `bucket_volume` (base units) takes the place of the daily rule, and buckets then begin with
    the first trade; `window` and `cdf_window` count buckets.
    """

    bucket_volume: Decimal | None = None
    buckets_per_day: AtLeastOne = 50
    first_minutes: AtLeastOne = 30
    window: AtLeastOne = 50
    cdf_window: AtLeastOne = 500
    cdf_min: AtLeastOne = 50
    level_edges: tuple[Decimal, Decimal, Decimal] = (Decimal("0.3"), Decimal("0.5"), Decimal("0.7"))

    def __post_init__(self) -> None:
        """Refuse buckets that never fill or never end.

        Raises:
            ValueError: `bucket_volume` is not a positive number.
        """
        volume = self.bucket_volume
        if volume is not None and not (volume.is_finite() and volume > 0):
            raise ValueError("bucket_volume must be above 0")


class Bucket(msgspec.Struct):
    """The bucket being filled: V, what is in it and what of that was bought, as "a/b"."""

    start: int
    volume: str
    filled: str
    bought: str


class Carry(msgspec.Struct):
    """What outlives a run. Fractions of base units are texts such as "7/3".

    `clock` is the newest event time, `first` the first trade's; `day_volume` and `hours` belong to
    the clock's day; buckets that begin now get `volume`. `window` has |bought - sold| and V of
    the last buckets, `vpins` the last values, oldest first.
    """

    clock: int | None = None
    first: int | None = None
    day_volume: Decimal = ZERO
    hours: list[int] = []
    volume: str | None = None
    bucket: Bucket | None = None
    number: int = 0
    window: list[tuple[str, str]] = []
    vpins: list[float] = []


@dataclass(slots=True)
class _Tape:
    """Trades of a batch: times, sizes and cumulative sizes in units of 1/`unit` base units."""

    ts: NDArray[np.int64]
    size: NDArray[Any]
    volume: NDArray[Any]
    bought: NDArray[Any]
    scale: int

    @property
    def unit(self) -> int:
        return int(10**self.scale)

    def bought_at(self, row: int, edge: Fraction) -> Fraction:
        """Volume bought up to `edge` (units of volume), which lies within trade `row`."""
        beyond = int(self.volume[row]) - edge
        is_buy = self.bought[row] > (self.bought[row - 1] if row else 0)
        return Fraction(int(self.bought[row])) - (beyond if is_buy else 0)


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Fill buckets with new trades."""
    # an inverse contract's base size may round to nothing, which no bucket can hold
    frame = ticks.frame.filter(pl.col("sz") > 0)
    if not frame.height:
        return Closed(carry, {"vpin": []})
    size = summable(frame["sz"])
    is_buy = frame["side"].to_numpy() > 0
    tape = _Tape(
        frame["ts"].to_numpy(),
        size,
        np.cumsum(size),
        np.cumsum(size * is_buy.astype(np.int64)),
        ticks.sz_scale,
    )
    carry = msgspec.structs.replace(carry, window=list(carry.window), vpins=list(carry.vpins))
    volumes = _volumes(tape, carry, context.params)
    rows = _fill(tape, volumes, carry, context.params) if volumes else []
    return Closed(carry, {"vpin": rows})


def _volumes(tape: _Tape, carry: Carry, params: Params) -> list[tuple[int, Fraction]]:
    """V of buckets that begin in this batch, as (first row it holds for, V).

    Brings the part of `carry` that counts days up to date.
    """
    if params.bucket_volume is not None:
        return [(0, Fraction(params.bucket_volume))]
    found = [] if carry.volume is None else [(0, Fraction(carry.volume))]
    before = tape.ts[0] if carry.clock is None else carry.clock
    clock = np.maximum(np.maximum.accumulate(tape.ts), before)
    first = int(tape.ts[0]) if carry.first is None else carry.first
    days, today = clock // _DAY_US, int(before) // _DAY_US
    turns = [0, *(np.flatnonzero(days[1:] > days[:-1]) + 1).tolist(), len(days)]
    for start, end in pairwise(turns):
        if days[start] > today:
            per_hour = Fraction(carry.day_volume) / len(carry.hours)
            found.append((start, per_hour * 24 / params.buckets_per_day))
            today, carry.day_volume, carry.hours = int(days[start]), ZERO, []
        is_own = tape.ts[start:end] // _DAY_US == today
        own = tape.size[start:end] * is_own.astype(np.int64)
        if not found:
            opening = first + params.first_minutes * _MINUTE_US
            ready = int(np.searchsorted(clock[start:end], opening))
            if ready < end - start:
                volume = add(carry.day_volume, scaled(int(own[:ready].sum()), tape.scale))
                whole_day = Fraction(volume) * _DAY_US / (params.first_minutes * _MINUTE_US)
                found.append((start + ready, whole_day / params.buckets_per_day))
        carry.day_volume = add(carry.day_volume, scaled(int(own.sum()), tape.scale))
        hours = np.unique(tape.ts[start:end][is_own] % _DAY_US // _HOUR_US).tolist()
        carry.hours = sorted({*carry.hours, *hours})
    carry.clock, carry.first = int(clock[-1]), first
    carry.volume = str(found[-1][1]) if found else None
    return found


def _fill(
    tape: _Tape, volumes: list[tuple[int, Fraction]], carry: Carry, params: Params
) -> list[Row]:
    """Complete buckets; leaves the one that stays open in `carry`."""
    unit, total = tape.unit, int(tape.volume[-1])
    begins = [row for row, _ in volumes]
    rows: list[Row] = []
    index = _Index(carry, params)
    # where the buckets before end, in units of the batch's volume, and what was bought by then
    edge, bought = Fraction(0), Fraction(0)
    if begins[0]:
        edge = Fraction(int(tape.volume[begins[0] - 1]))
        bought = Fraction(int(tape.bought[begins[0] - 1]))
    bucket, carry.bucket = carry.bucket, None
    while True:
        if bucket is None:
            row = int(np.searchsorted(tape.volume, floor(edge), "right"))
            if row == len(tape.volume):
                break
            volume = volumes[bisect_right(begins, row) - 1][1]
            start, filled, bought_before = int(tape.ts[row]), Fraction(0), Fraction(0)
        else:
            volume, filled = Fraction(bucket.volume), Fraction(bucket.filled)
            start, bought_before, bucket = bucket.start, Fraction(bucket.bought), None
        end = edge + (volume - filled) * unit
        if end > total:
            filled += (total - edge) / unit
            bought_before += (int(tape.bought[-1]) - bought) / unit
            carry.bucket = Bucket(start, str(volume), str(filled), str(bought_before))
            break
        row = int(np.searchsorted(tape.volume, ceil(end)))
        bought_by_end = tape.bought_at(row, end)
        buys = bought_before + (bought_by_end - bought) / unit
        edge, bought = end, bought_by_end
        carry.number += 1
        values = (carry.number, ms_text(start), nearest(volume), nearest(buys))
        sells = volume - buys
        result = index.after(abs(buys - sells), volume)
        rows.append((int(tape.ts[row]), (*values, nearest(sells), *result)))
    return rows


class _Index:
    """VPIN after each bucket. The window's sums are exact, so they may run on."""

    def __init__(self, carry: Carry, params: Params) -> None:
        self._window, self._vpins, self._params = carry.window, carry.vpins, params
        self._imbalance = sum((Fraction(pair[0]) for pair in self._window), Fraction(0))
        self._volume = sum((Fraction(pair[1]) for pair in self._window), Fraction(0))

    def after(
        self, imbalance: Fraction, volume: Fraction
    ) -> tuple[float | None, float | None, str | None]:
        """VPIN, its rank among the values before, and its level, with one more bucket."""
        params = self._params
        self._window.append((str(imbalance), str(volume)))
        self._imbalance += imbalance
        self._volume += volume
        if len(self._window) > params.window:
            old_imbalance, old_volume = self._window.pop(0)
            self._imbalance -= Fraction(old_imbalance)
            self._volume -= Fraction(old_volume)
        if len(self._window) < params.window:
            return None, None, None
        exact = self._imbalance / self._volume
        vpin = nearest(exact)
        share = None
        if len(self._vpins) >= params.cdf_min:
            share = sum(value <= vpin for value in self._vpins) / len(self._vpins)
        self._vpins.append(vpin)
        del self._vpins[: -params.cdf_window]
        return vpin, share, level(exact, params)


def level(vpin: Fraction, params: Params) -> str:
    """The name for a VPIN: normal, elevated, high or extreme."""
    low, middle, high = params.level_edges
    if vpin < low:
        return "normal"
    if vpin < middle:
        return "elevated"
    return "high" if vpin <= high else "extreme"


VPIN = Layer(
    "vpin",
    "vpin",
    "jsonl",
    (
        Column("bucket", "int", "", "number of the bucket, from 1; midnight does not reset it"),
        Column("start_utc", "string", "UTC", "time of the bucket's first trade, with milliseconds"),
        Column(
            "bucket_volume",
            "float",
            "base",
            "V: volume of the UTC day before x (24 / its hours with trades) / 50; on the first day "
            "of the 30 minutes from the first trade x 48 / 50; fixed when the bucket begins",
        ),
        Column("buy_volume", "float", "base", "the part of V that takers bought"),
        Column("sell_volume", "float", "base", "the part of V that takers sold"),
        Column(
            "vpin",
            "float",
            "",
            "sum of |buy_volume - sell_volume| / sum of bucket_volume over the last 50 buckets; "
            "null before",
        ),
        Column(
            "vpin_cdf",
            "float",
            "",
            "share of the 500 VPINs before this one that are <= it; null before 50 of them",
        ),
        Column(
            "level",
            "string",
            "",
            '"normal" < 0.3 <= "elevated" < 0.5 <= "high" <= 0.7 < "extreme"; null as vpin',
        ),
    ),
    "One row per full bucket of volume, at the time of the trade that filled it.",
    stamp="ms",
)

STAGE = Stage(
    name="vpin",
    source="trades",
    layers=(VPIN,),
    params=Params,
    carry=Carry,
    fold=fold,
)
