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

Where V came from a few dust trades, a single trade may fill millions of buckets. Behind the first
10 000 it fills whole (`trade_limit`) the rest are numbered but not written: they would repeat the
last row, with the same times, one side only and VPIN 1.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from math import lcm
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.calc.integers import summable
from pipeline.calc.stamps import ms_text
from pipeline.calc.ticks import Ticks
from pipeline.exact import ZERO, add, scaled
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import DAY_US, HOUR_US, MINUTE_US, Closed, Context, Row, Stage

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[vpin]`.

    `bucket_volume` (base units) takes the place of the daily rule, and buckets then begin with
    the first trade; `window` and `cdf_window` count buckets. One trade has at most `trade_limit`
    rows (or as many as both windows hold, if that is more).
    """

    bucket_volume: Decimal | None = None
    buckets_per_day: AtLeastOne = 50
    first_minutes: AtLeastOne = 30
    window: AtLeastOne = 50
    cdf_window: AtLeastOne = 500
    cdf_min: AtLeastOne = 50
    trade_limit: AtLeastOne = 10_000
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
    """Trades of a batch: times, sizes and cumulative sizes as integers of `scale` decimals."""

    ts: NDArray[np.int64]
    size: NDArray[Any]
    volume: NDArray[Any]
    bought: NDArray[Any]
    scale: int

    def is_buy(self, row: int) -> bool:
        """Whether the taker of that trade bought."""
        return bool(self.bought[row] > (self.bought[row - 1] if row else 0))


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
    carry = msgspec.structs.replace(carry)
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
    days, today = clock // DAY_US, int(before) // DAY_US
    turns = [0, *(np.flatnonzero(days[1:] > days[:-1]) + 1).tolist(), len(days)]
    for start, end in pairwise(turns):
        if days[start] > today:
            per_hour = Fraction(carry.day_volume) / len(carry.hours)
            found.append((start, per_hour * 24 / params.buckets_per_day))
            today, carry.day_volume, carry.hours = int(days[start]), ZERO, []
        is_own = tape.ts[start:end] // DAY_US == today
        own = tape.size[start:end] * is_own.astype(np.int64)
        if not found:
            opening = first + params.first_minutes * MINUTE_US
            ready = int(np.searchsorted(clock[start:end], opening))
            if ready < end - start:
                volume = add(carry.day_volume, scaled(int(own[:ready].sum()), tape.scale))
                whole_day = Fraction(volume) * DAY_US / (params.first_minutes * MINUTE_US)
                found.append((start + ready, whole_day / params.buckets_per_day))
        carry.day_volume = add(carry.day_volume, scaled(int(own.sum()), tape.scale))
        hours = np.unique(tape.ts[start:end][is_own] % DAY_US // HOUR_US).tolist()
        carry.hours = sorted({*carry.hours, *hours})
    carry.clock, carry.first = int(clock[-1]), first
    carry.volume = str(found[-1][1]) if found else None
    return found


def _fill(
    tape: _Tape, volumes: list[tuple[int, Fraction]], carry: Carry, params: Params
) -> list[Row]:
    """Complete buckets; leaves the one that stays open in `carry`."""
    grain = _grain(tape.scale, volumes, carry)
    bucket, carry.bucket = carry.bucket, None
    step = grain // 10**tape.scale

    def grains(value: Fraction | str) -> int:
        return int(Fraction(value) * grain)

    index = _Index(carry, params, grain)
    begins, sizes = [row for row, _ in volumes], [grains(volume) for _, volume in volumes]
    rows: list[Row] = []
    # where the bucket before ended, counted from the batch's first trade, and what was bought then
    edge = bought = 0
    if begins[0]:
        edge, bought = (int(sums[begins[0] - 1]) * step for sums in (tape.volume, tape.bought))
    # behind so many buckets of one trade all that is carried stays the same but for the number
    most = max(params.trade_limit, params.window + params.cdf_window)
    in_row, row_before = 0, -1
    total, all_bought = int(tape.volume[-1]) * step, int(tape.bought[-1]) * step
    while True:
        if bucket is None:
            row = int(np.searchsorted(tape.volume, edge // step, "right"))
            if row == len(tape.volume):
                break
            volume = sizes[bisect_right(begins, row) - 1]
            in_row, row_before = (in_row + 1 if row == row_before else 0), row
            if in_row == most:
                whole = (int(tape.volume[row]) * step - edge) // volume
                edge += whole * volume
                bought += whole * volume if tape.is_buy(row) else 0
                carry.number += whole
                continue
            start, filled, buys = int(tape.ts[row]), 0, 0
        else:
            start, volume = bucket.start, grains(bucket.volume)
            filled, buys = grains(bucket.filled), grains(bucket.bought)
            bucket = None
        end = edge + volume - filled
        if end > total:
            parts = (volume, filled + total - edge, buys + all_bought - bought)
            carry.bucket = Bucket(start, *(str(Fraction(part, grain)) for part in parts))
            break
        row = int(np.searchsorted(tape.volume, -(-end // step)))
        bought_by_end = int(tape.bought[row]) * step
        if tape.is_buy(row):
            bought_by_end -= int(tape.volume[row]) * step - end
        buys += bought_by_end - bought
        edge, bought = end, bought_by_end
        carry.number += 1
        sides = (volume / grain, buys / grain, (volume - buys) / grain)
        result = index.after(abs(2 * buys - volume), volume)
        rows.append((int(tape.ts[row]), (carry.number, ms_text(start), *sides, *result)))
    index.keep(carry)
    return rows


def _grain(scale: int, volumes: list[tuple[int, Fraction]], carry: Carry) -> int:
    """Grains in a base unit, so that every volume in play is a whole number of grains.

    Integers are much quicker than fractions.
    """
    texts = [each for pair in carry.window for each in pair]
    if carry.bucket is not None:
        texts += [carry.bucket.volume, carry.bucket.filled, carry.bucket.bought]
    exact = [volume for _, volume in volumes] + [Fraction(each) for each in texts]
    return lcm(10**scale, *(each.denominator for each in exact))


class _Index:
    """VPIN after each bucket. The window's sums are exact, so they may run on."""

    def __init__(self, carry: Carry, params: Params, grain: int) -> None:
        self._params, self._grain = params, grain
        self._window = deque(
            (int(Fraction(imbalance) * grain), int(Fraction(volume) * grain))
            for imbalance, volume in carry.window
        )
        self._imbalance = sum(imbalance for imbalance, _ in self._window)
        self._volume = sum(volume for _, volume in self._window)
        self._vpins, self._ordered = deque(carry.vpins), sorted(carry.vpins)

    def after(self, imbalance: int, volume: int) -> tuple[float | None, float | None, str | None]:
        """VPIN, its rank among the values before, and its level, with one more bucket."""
        params = self._params
        self._window.append((imbalance, volume))
        self._imbalance += imbalance
        self._volume += volume
        if len(self._window) > params.window:
            old_imbalance, old_volume = self._window.popleft()
            self._imbalance -= old_imbalance
            self._volume -= old_volume
        if len(self._window) < params.window:
            return None, None, None
        vpin = self._imbalance / self._volume
        place = bisect_right(self._ordered, vpin)
        share = place / len(self._ordered) if len(self._ordered) >= params.cdf_min else None
        self._ordered.insert(place, vpin)
        self._vpins.append(vpin)
        if len(self._vpins) > params.cdf_window:
            del self._ordered[bisect_left(self._ordered, self._vpins.popleft())]
        return vpin, share, level(self._imbalance, self._volume, params)

    def keep(self, carry: Carry) -> None:
        """Leave the last buckets and values in `carry`."""
        carry.window = [
            (str(Fraction(imbalance, self._grain)), str(Fraction(volume, self._grain)))
            for imbalance, volume in self._window
        ]
        carry.vpins = list(self._vpins)


def level(imbalance: int, volume: int, params: Params) -> str:
    """The name for a VPIN of imbalance / volume: normal, elevated, high or extreme."""
    low, middle, high = (edge.as_integer_ratio() for edge in params.level_edges)
    if imbalance * low[1] < low[0] * volume:
        return "normal"
    if imbalance * middle[1] < middle[0] * volume:
        return "elevated"
    return "high" if imbalance * high[1] <= high[0] * volume else "extreme"


VPIN = Layer(
    "vpin",
    "vpin",
    "jsonl",
    (
        Column(
            "bucket",
            "int",
            "",
            "number of the bucket, from 1, midnight does not reset it; jumps over buckets left out "
            "where one trade fills more than 10 000",
        ),
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


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`.

    A bucket begins where the one before has ended, so all of them depend on the first; trades of a
    minute may stand in front of one that is older.
    """
    del params, tick
    return (Reach("trades", since="ever", ahead_us=MINUTE_US),)


STAGE = Stage(
    name="vpin",
    source="trades",
    layers=(VPIN,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
