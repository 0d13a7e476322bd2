"""Volume profiles of the session and of the last 24 hours: value area, nodes, bias.

A row is a closed five-minute bar with trades, and describes the volume by price of the UTC day up
to the bar's end, or of the 24 hours before it. The price rows are those of the layer `footprint`;
50 equal bins between the lowest and the highest make the profile. A price it names is the centre
of its bin. Point of control and value area follow J. P. Steidlmayer's Market Profile (CBOT, 1984);
nodes are bins far above or far below the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any, Literal

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.cells import price_text
from pipeline.calc.histogram import (
    bin_sums,
    high_nodes,
    low_nodes,
    point_of_control,
    value_area,
)
from pipeline.calc.integers import summable
from pipeline.calc.packed import pack, unpack
from pipeline.calc.price_rows import (
    CellRows,
    RowSums,
    from_carry,
    split_closed,
    to_carry,
    with_trades,
)
from pipeline.calc.scale import INT64_SAFE
from pipeline.calc.tick_size import TickSize, check_step, looked_up, settle
from pipeline.calc.ticks import Ticks
from pipeline.exact import nearest
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import DAY_US, HOUR_US, Closed, Context, Row, Stage

BAR_US = 300_000_000
NODES = 5
_NEAR_POC = Fraction(1, 10)
_HUNDRED = 100
_DENSE = 65_536


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[profile]`.

    `row` is the height of a price row in quote currency (the tick), `bins` their number,
    `value_area_pct` the share of the volume that the value area holds at least.
    """

    row: Decimal | None = None
    bins: int = 50
    value_area_pct: Decimal = Decimal(70)
    value_area: Literal["two_row", "one_row"] = "two_row"

    def __post_init__(self) -> None:
        check_step(self.row)
        if self.bins < 1:
            raise ValueError("bins must be at least 1")
        share = self.value_area_pct
        if not (share.is_finite() and 0 < share <= _HUNDRED):
            raise ValueError("value_area_pct must be above 0 and at most 100")


class PackedBars(msgspec.Struct):
    """Volume by price of the closed bars of one clock hour.

    Attributes:
        first: start of its first bar.
        last: start of its last bar.
        packed: `pipeline.calc.packed` of, per bar, start, scale, number of rows and lowest row,
            and, of all bars behind each other, the steps from row to row less 1 and the volumes.
    """

    first: int
    last: int
    packed: str


class Carry(msgspec.Struct):
    """The height of a row, open bars with their last prices by start, and the last 24 hours.

    The bars of the last 24 hours are kept apart, because each has to leave the window some day;
    they are packed by the hour, because one code for many bars is shorter than many.
    """

    tick: TickSize = msgspec.field(default_factory=TickSize)
    bars: list[CellRows] = []
    closes: dict[str, str] = {}
    day: list[PackedBars] = []


@dataclass(frozen=True, slots=True)
class _Bar:
    """Volume by price of a closed bar: rising row numbers, volumes over 10**scale."""

    start: int
    scale: int
    numbers: np.ndarray
    volumes: np.ndarray


@dataclass(frozen=True, slots=True)
class _Scales:
    """What turns integers into prices and volumes."""

    step: Fraction
    unit: int


def fold(ticks: Ticks, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add new trades to the open bars and draw the profiles at the end of those that closed."""
    params = context.params
    settled = settle(ticks, carry.tick, context, params.row)
    if isinstance(settled, TickSize):
        nothing: dict[str, Any] = {"profile_session": [], "profile_24h": []}
        return Closed(Carry(settled), nothing, holds_back=True)
    ticks, step, tick = settled
    sums = with_trades(from_carry(carry.bars), ticks, step, BAR_US)
    closes = {**carry.closes, **_closes(ticks)}
    closed, still_open = split_closed(sums, BAR_US, context.watermark_us)
    rows: dict[str, list[Row]] = {"profile_session": [], "profile_24h": []}
    day = carry.day
    if closed.frame.height:
        new = _bars(closed)
        prices = [Decimal(closes.pop(str(bar.start))) for bar in new]
        old = [bar for hour in day for bar in _unpacked(hour)]
        rows = _rows(old, new, prices, Fraction(step), params)
        oldest = new[-1].start + 2 * BAR_US - DAY_US
        day = _packed([bar for bar in (*old, *new) if bar.start >= oldest], day)
    return Closed(Carry(tick, to_carry(still_open), closes, day), rows)


def _closes(ticks: Ticks) -> dict[str, str]:
    """The last price of each bar in file order, the exchange's text."""
    start = (pl.col("ts") // BAR_US * BAR_US).alias("start")
    grouped = ticks.frame.group_by(start, maintain_order=True)
    last = grouped.agg(pl.col("px").last(), pl.col("px_dp").last())
    return {str(at): price_text(px, ticks.px_scale, dp) for at, px, dp in last.iter_rows()}


def _bars(sums: RowSums) -> list[_Bar]:
    bars = []
    for frame in sums.frame.partition_by("start", maintain_order=True):
        sides = [frame[name].cast(pl.Int128) for name in ("buy", "sell")]
        volumes, scale = summable(sides[0] + sides[1]), sums.scale
        shared = int(np.gcd.reduce(volumes))
        while scale and shared and shared % 10 == 0:
            volumes, shared, scale = volumes // 10, shared // 10, scale - 1
        bars.append(_Bar(int(frame["start"][0]), scale, summable(frame["row"]), volumes))
    return bars


def _packed(bars: list[_Bar], known: list[PackedBars]) -> list[PackedBars]:
    """The bars by the hour; `known` are hours that need not be packed again if nothing changed.

    Bars leave at the front and come at the end, so an hour with the same ends is the same.
    """
    ready = {(hour.first, hour.last): hour for hour in known}
    packed = []
    for _, group in groupby(bars, key=lambda bar: bar.start // HOUR_US):
        hour = list(group)
        ends = hour[0].start, hour[-1].start
        packed.append(ready.get(ends) or PackedBars(*ends, _pack_hour(hour)))
    return packed


def _pack_hour(bars: list[_Bar]) -> str:
    heads = zip(
        *((bar.start, bar.scale, len(bar.numbers), bar.numbers[0]) for bar in bars), strict=True
    )
    kind = object if any(object in (b.numbers.dtype, b.volumes.dtype) for b in bars) else np.int64
    steps = np.concatenate([np.diff(bar.numbers) - 1 for bar in bars])
    volumes = np.concatenate([bar.volumes for bar in bars])
    return pack([np.array(each, kind) for each in (*heads, steps, volumes)])


def _unpacked(hour: PackedBars) -> list[_Bar]:
    starts, scales, counts, lowest, steps, volumes = unpack(hour.packed)
    bars, at = [], 0
    for i, (start, scale, count) in enumerate(zip(starts, scales, counts, strict=True)):
        # each bar has one step less than rows, and so had all the bars before it
        numbers = np.concatenate((lowest[i : i + 1], steps[at - i : at - i + count - 1] + 1))
        part = volumes[at : at + count]
        bars.append(_Bar(int(start), int(scale), numbers.cumsum(), part))
        at += count
    return bars


def _rows(
    old: list[_Bar], new: list[_Bar], prices: list[Decimal], step: Fraction, params: Params
) -> dict[str, list[Row]]:
    """Slide both windows over the bars and describe them at the end of each new one."""
    bars = [*old, *new]
    volumes, scales = _volumes(bars), _Scales(step, 10 ** max(bar.scale for bar in bars))
    axis, places = _axis(bars)
    lows, highs = [int(b.numbers[0]) for b in bars], [int(b.numbers[-1]) for b in bars]
    day, session = (np.zeros(len(axis), volumes[0].dtype) for _ in range(2))
    first_of_day = first_of_session = 0
    rows: dict[str, list[Row]] = {"profile_session": [], "profile_24h": []}
    for last, bar in enumerate(bars):
        while bars[first_of_day].start < bar.start + BAR_US - DAY_US:
            day[places[first_of_day]] -= volumes[first_of_day]
            first_of_day += 1
        if bars[first_of_session].start // DAY_US != bar.start // DAY_US:
            session[:] = 0
            first_of_session = last
        day[places[last]] += volumes[last]
        if last >= len(old) or bar.start // DAY_US == new[0].start // DAY_US:
            session[places[last]] += volumes[last]
        if last < len(old):
            continue
        close = Fraction(prices[last - len(old)])
        for name, window, first in (
            ("profile_session", session, first_of_session),
            ("profile_24h", day, first_of_day),
        ):
            low, high = min(lows[first : last + 1]), max(highs[first : last + 1])
            left, right = np.searchsorted(axis, np.array([low, high], dtype=axis.dtype))
            part = slice(int(left), int(right) + 1)
            row = _describe(axis[part], window[part], close, scales, params)
            rows[name].append((bar.start, row))
    return rows


def _volumes(bars: list[_Bar]) -> list[np.ndarray]:
    """The volumes of all bars at one scale, in integers that hold the sum of them all."""
    scale = max(bar.scale for bar in bars)
    factors = [10 ** (scale - bar.scale) for bar in bars]
    bound = sum(
        int(bar.volumes.max()) * len(bar.volumes) * factor
        for bar, factor in zip(bars, factors, strict=True)
    )
    kind = np.int64 if bound < INT64_SAFE else object
    exact = [bar.volumes.astype(kind, copy=False) for bar in bars]
    return [
        each * factor if factor > 1 else each for each, factor in zip(exact, factors, strict=True)
    ]


def _axis(bars: list[_Bar]) -> tuple[np.ndarray, list[Any]]:
    """Row numbers that cover all bars, and where on them each bar's rows lie.

    Every row between the lowest and the highest; only those that were traded where a stray price
    would make that too many.
    """
    low, high = min(int(b.numbers[0]) for b in bars), max(int(b.numbers[-1]) for b in bars)
    if high - low < _DENSE + 4 * sum(len(bar.numbers) for bar in bars):
        kind = object if high >= INT64_SAFE else np.int64
        axis = np.arange(high - low + 1).astype(kind) + low
        return axis, [(bar.numbers - low).astype(np.int64, copy=False) for bar in bars]
    axis = np.unique(np.concatenate([bar.numbers for bar in bars]))
    return axis, [np.searchsorted(axis, bar.numbers) for bar in bars]


def _describe(
    numbers: np.ndarray, volumes: np.ndarray, close: Fraction, scales: _Scales, params: Params
) -> tuple[Any, ...]:
    """The columns of one row.

    Args:
        numbers: rising row numbers, the profile's lowest and highest at the ends.
        volumes: their volumes over `scales.unit`, 0 where nothing traded.
        close: last price of the bar.
        scales: see there.
        params: settings of the stage.
    """
    low, width, bins = int(numbers[0]), int(numbers[-1] - numbers[0]), params.bins
    # prices are whole multiples of half a bin over the height of a row: integers up to the end
    half = 2 * bins
    top_of_half, bottom_of_half = (scales.step / half).as_integer_ratio()

    def price(halves: int) -> float:
        return halves * top_of_half / bottom_of_half

    def node(i: int) -> dict[str, float]:
        return {"price": price(half * low + width * (2 * i + 1)), "volume": sums[i] / scales.unit}

    sums = bin_sums(numbers, volumes, bins) if width else [int(volumes[0])]
    total = sum(sums)
    middle = point_of_control(sums)
    share = Fraction(params.value_area_pct) / _HUNDRED
    at_once = 2 if params.value_area == "two_row" else 1
    bottom, top, inside = value_area(sums, middle, share, at_once)
    poc, vah, val = (half * low + width * (2 * i + 1) for i in (middle, top, bottom))
    return (
        price(half * low),
        price(half * (low + width)),
        price(2 * width),
        total / scales.unit,
        price(poc),
        price(vah),
        price(val),
        nearest(Fraction(_HUNDRED * inside, total)) if total else None,
        [node(i) for i in high_nodes(sums, NODES)] if width else [],
        [node(i) for i in low_nodes(sums, NODES)] if width else [],
        *_bias(close * half / scales.step, poc, vah, val),
    )


def _bias(close: Fraction, poc: int, vah: int, val: int) -> tuple[str, str, str]:
    """Where the close lies: bias, its strength, position."""
    if close > vah:
        return "BULLISH", "strong", "above_value"
    if close < val:
        return "BEARISH", "strong", "below_value"
    if abs(close - poc) <= _NEAR_POC * (vah - val):
        return "NEUTRAL", "strong", "in_value"
    return ("BULLISH" if close > poc else "BEARISH"), "weak", "in_value"


_COLUMNS = (
    Column("low", "float", "quote", "lowest traded price row of the window"),
    Column("high", "float", "quote", "highest traded price row of the window"),
    Column("bin_size", "float", "quote", "(high - low) / bins (50); 0 if high = low"),
    Column("total_volume", "float", "base", "sum of size in the window"),
    Column(
        "poc",
        "float",
        "quote",
        "point of control: centre of the bin with most volume; of equals the one nearest the "
        "middle, then the lower; the price itself if high = low (also vah and val)",
    ),
    Column("vah", "float", "quote", "centre of the value area's highest bin"),
    Column("val", "float", "quote", "centre of the value area's lowest bin"),
    Column(
        "value_area_pct",
        "float",
        "%",
        "volume of the value area / total_volume x 100: grown from the POC by the heavier two bins "
        "above or below (above if equal; one bin with value_area = one_row) to >= 70 %",
    ),
    Column(
        "hvn",
        "list",
        "quote, base",
        "high volume nodes [{price, volume}]: peaks of runs of bins > 1.5 x mean of all bins, the "
        "five largest, largest first; of equals the lower price first",
    ),
    Column(
        "lvn",
        "list",
        "quote, base",
        "low volume nodes [{price, volume}]: troughs of runs of bins < 0.5 x mean, first and last "
        "bin left out, the five smallest, smallest first; of equals the lower price first",
    ),
    Column(
        "bias",
        "string",
        "",
        "BULLISH above the value area or, inside, above the POC; BEARISH below; NEUTRAL within "
        "0.1 x (vah - val) of the POC",
    ),
    Column(
        "bias_strength",
        "string",
        "",
        '"weak" for BULLISH and BEARISH inside the value area, else "strong"',
    ),
    Column(
        "position",
        "string",
        "",
        "above_value, in_value (edges too) or below_value: the bar's last price against vah, val",
    ),
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    return (
        Reach("trades", of=("profile_session",), since="day"),
        Reach("trades", of=("profile_24h",), behind_us=DAY_US - BAR_US),
        *looked_up(params.row, tick),
    )


STAGE = Stage(
    name="profile",
    source="trades",
    layers=tuple(
        Layer(name, "profile", "jsonl", _COLUMNS, text, span_us=BAR_US)
        for name, text in (
            ("profile_session", "Volume profile from 00:00 UTC of the bar's day to its end."),
            ("profile_24h", "Volume profile of the 24 hours before the bar's end."),
        )
    ),
    params=Params,
    carry=Carry,
    fold=fold,
    version=2,
    uses_tick=True,
    reach=reach,
)
