"""Clusters of volume by price, and how free the way is past them, by bar.

A row is one closed bar of 5, 15 or 30 minutes. The volume of the last 200 bars is laid out by price
in 100 bins; peaks far above the mean are clusters: prices where much changed hands, and where price
is likely to stop (support below, resistance above) or, where there is none, to run. Whether a
cluster was bought or sold, how dense the book is there, how far away it is in ATR and how much open
interest has grown decide how much it counts.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.atr import Atr
from pipeline.calc.price_volume import Bar, Bins, Held, PriceRows, RollingProfile, Shape
from pipeline.calc.tolerant import above, same
from pipeline.calc.volume_clusters import Band, Book, Cluster, Scoring, oi_adjustment
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import MINUTE_US, Closed, Context, Input, Joined, Row, Stage

MINUTES = (5, 15, 30)
_BARS = {length: f"bars_{length}m" for length in MINUTES}
OPEN_INTEREST = "open_interest_1m"
_SECOND_US = 1_000_000
_EPSILON = 1e-12
_start = attrgetter("start")

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[vcp]`.

    `lookback` bars make a profile of so many `bins`, and `vcp_min_bars` are the fewest. With
    `profile_source` "gaussian" each bar is spread around its average price instead of summing what
    was traded at each: `gauss_width` is the sd of that bell in ranges of the bar, `direction_tilt`
    how far it leans to the side the bar closed on. A cluster is a peak `sigma_peak` sd above the
    mean; at `strength_sigmas` sd it has its full strength, at a distance of `proximity_k` ATR it
    counts 1 / e. Open interest older than `oi_max_age_s` seconds is not used.
    """

    lookback: AtLeastOne = 200
    vcp_min_bars: AtLeastOne = 20
    bins: AtLeastOne = 100
    profile_source: Literal["auto", "gaussian"] = "auto"
    gauss_width: Positive = 0.3
    direction_tilt: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.2
    sigma_peak: NotNegative = 1.5
    strength_sigmas: Positive = 4.0
    proximity_k: Positive = 3.0
    oi_max_age_s: NotNegative = 3600.0
    atr_period: AtLeastOne = 14

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number")


class Interest(msgspec.Struct, array_like=True, frozen=True):
    """Open interest above 0 at the end of a bar, by the bar's beginning."""

    start: int
    amount: float


class Memory(msgspec.Struct, frozen=True):
    """What is left of past bars of one length: the ATR, and open interest over the look-back."""

    atr: Atr = msgspec.field(default_factory=Atr)
    interest: list[Interest] = []


class Carry(msgspec.Struct):
    """By length of bars in minutes what is left of them; all else is read again."""

    memory: dict[str, Memory] = {}


@dataclass(frozen=True, slots=True)
class Feeds:
    """What is known besides the bars, by time.

    Attributes:
        mids: by minute.
        bands: JSON of the bands by minute, in order of time.
        interest: values of open interest, and `known` the end of the minute of each.
        max_age_us: how old it may be.
    """

    mids: dict[int, float | None]
    minutes: list[int]
    bands: list[str | None]
    known: list[int]
    interest: list[float]
    max_age_us: int

    @classmethod
    def of(cls, frames: dict[str, pl.DataFrame], max_age_us: int) -> Self:
        """Those that the instrument has."""
        mids, bands = (_columns(frames.get(name)) for name in ("micro_1m", "buckets_1m"))
        frame = frames.get(OPEN_INTEREST)
        known = _columns(None if frame is None else frame.drop_nulls())
        ends = [start + MINUTE_US for start in known[0]]
        return cls(dict(zip(*mids, strict=True)), *bands, ends, known[1], max_age_us)

    def book(self, start: int, end: int) -> Book | None:
        """The book at the end of the latest minute of a bar that has bands."""
        at = bisect_left(self.minutes, end) - 1
        if at < 0 or self.minutes[at] < start:
            return None
        mid, bands = self.mids.get(self.minutes[at]), self.bands[at]
        if mid is None or bands is None:
            return None
        return Book(mid, msgspec.json.decode(bands, type=list[Band]))

    def interest_at(self, end: int) -> float | None:
        """Open interest at a time."""
        at = bisect_right(self.known, end) - 1
        if at < 0 or self.known[at] < end - self.max_age_us:
            return None
        return self.interest[at]


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Find the clusters at the end of each bar that closed in the window."""
    params = context.params
    bars = {length: _bars(joined.frames[name], name, context) for length, name in _BARS.items()}
    feeds = Feeds.of(joined.frames, round(params.oi_max_age_s * _SECOND_US))
    new = {
        length: range(_first_new(known, length * MINUTE_US, joined.start_us), len(known))
        for length, known in bars.items()
    }
    prices = Prices(joined.frames["footprint"], bars, new, params.lookback)
    shape = Shape(params.gauss_width, params.direction_tilt)
    memory: dict[str, Memory] = {}
    rows: dict[str, list[Row]] = {}
    needs: dict[str, int] = {}
    for length, known in bars.items():
        span_us = length * MINUTE_US
        before = carry.memory.get(str(length), Memory())
        rows[f"vcp_{length}m"], memory[str(length)] = [], before
        if new[length]:
            found, held = None, None
            if params.profile_source != "gaussian":
                found, held = prices.of(length, context.memo.get(f"{length}m"))
            profile = RollingProfile(known, span_us, found, params.lookback, shape, held)
            rows[f"vcp_{length}m"], memory[str(length)] = _rows(
                profile, new[length], span_us, before, feeds, params
            )
            profile.hold(new[length][-1])
            context.memo[f"{length}m"] = profile.held()
        needs[f"bars_{length}m"] = _oldest(known, span_us, joined.end_us, params.lookback)
    needs["footprint"] = (
        joined.end_us if params.profile_source == "gaussian" else min(needs.values())
    )
    if OPEN_INTEREST in joined.frames:
        needs[OPEN_INTEREST] = joined.end_us - feeds.max_age_us
    return Closed(Carry(memory), rows, needs=needs)


def _first_new(bars: Sequence[Bar], span_us: int, start_us: int) -> int:
    """Index of the first bar that closed in the window; those before it are shown again."""
    return bisect_left(bars, start_us - span_us + 1, key=_start)


def _oldest(bars: Sequence[Bar], span_us: int, end_us: int, lookback: int) -> int:
    """When the bar opened that the next one's profile will let go of."""
    kept = bars[max(0, len(bars) - lookback) :]
    return kept[0].start if kept else end_us // span_us * span_us


@dataclass
class Prices:
    """The price rows that the profiles of a window need.

    A profile that goes on from the one before needs those of the bars that come and of those that
    leave, any other one those of all bars that it is to hold.
    """

    frame: pl.DataFrame
    bars: dict[int, list[Bar]]
    new: dict[int, range]
    lookback: int
    _whole: PriceRows | None = None

    def of(self, length: int, held: Held | None) -> tuple[PriceRows, Held | None]:
        """Rows for bars of one length, and what is held if the profile can go on from it."""
        known, new = self.bars[length], self.new[length]
        behind = known[max(0, new.start - self.lookback) : new.start]
        follows = held is not None and [bar.start for bar in behind] == held.starts
        if held is not None and follows and len(new) < self.lookback:
            leaving = known[new.start - len(behind) : max(0, new.stop - self.lookback)]
            parts = (leaving, known[new.start : new.stop])
            rows = self._rows([part for part in parts if part], length * MINUTE_US)
            held = held.with_prices(rows[1])
            further = PriceRows.behind(held, *rows)
            if further is not None:
                return further, held
        return self.whole(), None

    def whole(self) -> PriceRows:
        """The rows of all bars that any profile of the window holds."""
        if self._whole is None:
            since = min(
                self.bars[length][max(0, new.start + 1 - self.lookback)].start
                for length, new in self.new.items()
                if new
            )
            first = bisect_left(self.frame["ts"], since)
            self._whole = PriceRows.of(*_arrays(self.frame.slice(first)))
        return self._whole

    def _rows(self, parts: Sequence[Sequence[Bar]], span_us: int) -> list[Any]:
        """The rows of some stretches of bars, behind each other."""
        # not by numpy, for which the whole column would have to be in one piece of memory
        ts = self.frame["ts"]
        found = []
        for part in parts:
            first = bisect_left(ts, part[0].start)
            end = bisect_left(ts, part[-1].start + span_us, first)
            found.append(_arrays(self.frame.slice(first, end - first)))
        return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]


def _arrays(frame: pl.DataFrame) -> list[Any]:
    return [frame[name].to_numpy() for name in ("ts", "price", "buy_volume", "sell_volume")]


def _rows(
    profile: RollingProfile,
    new: range,
    span_us: int,
    memory: Memory,
    feeds: Feeds,
    params: Params,
) -> tuple[list[Row], Memory]:
    """The rows of new bars, and what is left to remember behind them."""
    atr, known = memory.atr, memory.interest
    scoring = Scoring(params.sigma_peak, params.strength_sigmas, params.proximity_k)
    rows: list[Row] = []
    for index in new:
        window = profile.window(index)
        bar = window[-1]
        end = bar.start + span_us
        atr = atr.then(bar.high, bar.low, bar.close, params.atr_period)
        interest = feeds.interest_at(end)
        if interest is not None and above(interest, 0.0):
            known = [*known, Interest(bar.start, interest)]
        known = [each for each in known if each.start >= window[0].start]
        bins = Bins(
            min(each.low for each in window), max(each.high for each in window), params.bins
        )
        is_flat = same(bins.low, bins.high)
        # only an ATR of one bar can be 0 where price has moved
        if len(window) < params.vcp_min_bars or atr.value is None or not (is_flat or atr.value):
            rows.append((bar.start, ([], *(None,) * 7, atr.value)))
            continue
        clusters: list[Cluster] = []
        if not is_flat:
            grown = oi_adjustment(interest, known[0].amount if known else None)
            book = feeds.book(bar.start, end)
            clusters = scoring.clusters(profile.at(index, bins), bar.close, atr.value, book, grown)
        rows.append((bar.start, (*describe(clusters, bar.close), atr.value)))
    return rows, Memory(atr, known)


def describe(clusters: Sequence[Cluster], close: float) -> tuple[Any, ...]:
    """The columns of a row but for the ATR."""
    over = [each for each in clusters if above(each.price, close)]
    under = [each for each in clusters if above(close, each.price)]
    support = math.fsum(each.score for each in under if above(each.ofi_bias, 0.0))
    resistance = math.fsum(each.score for each in over if above(0.0, each.ofi_bias))
    return (
        [each._asdict() for each in clusters],
        (support - resistance) / (support + resistance + _EPSILON),
        support,
        resistance,
        *(
            1 / (1 + math.fsum(each.difficulty for each in group))
            for group in (over, under, clusters)
        ),
        -math.expm1(-math.fsum(each.score for each in clusters)),
    )


def _bars(frame: pl.DataFrame, name: str, context: Context[Params]) -> list[Bar]:
    """The bars of a frame; most of them have been shown with the window before."""
    before: list[Bar] = context.memo.get(name, [])
    ts = frame["ts"]
    known = before[bisect_left(before, ts[0], key=_start) :] if len(ts) else []
    shown = ts[: len(known)]
    if known and (len(shown), known[0].start, known[-1].start) != (len(known), shown[0], shown[-1]):
        known = []
    found = context.memo[name] = [*known, *starmap(Bar, frame.slice(len(known)).rows())]
    return found


def _columns(frame: pl.DataFrame | None) -> tuple[list[Any], list[Any]]:
    """Times and values of a layer of one column; empty if it is not there."""
    if frame is None:
        return [], []
    ts, values = frame.iter_columns()
    return ts.to_list(), values.to_list()


_COLUMNS = (
    Column(
        "clusters",
        "list",
        "quote, base",
        "peaks of volume by price over the last 200 bars in 100 bins, above both neighbours and > "
        "mean + 1.5 sd, in order of price [{price, volume, strength, ofi_bias, ob_ratio, oi_adj, "
        "distance_atr, score, difficulty}]: price: centre of the bin; strength = clip01((volume - "
        "mean) / (4 sd)); ofi_bias = (bought - sold) / volume; ob_ratio: notional per bps of the "
        "band of buckets_1m that price is in over that of its side up to the last band with "
        "orders, null beyond it or without a book; oi_adj = clip(open interest / that of the "
        "first bar of the 200 with any, 0.5, 1.5), null if missing, then used as 1; distance_atr "
        "= |price - close| / ATR; score = clip01(strength x (0.5 + 0.5 ob) x oi_adj / 1.5 x "
        "e^(-distance_atr / 3)), ob = clip(ob_ratio, 0, 2) / 2, 0.5 if null; difficulty = score x "
        "(0.5 + ob) / 1.5; empty in the first 19 bars",
    ),
    Column(
        "structural_bias",
        "float",
        "",
        "(support_score - resistance_score) / (support_score + resistance_score + 1e-12); null, as "
        "all but the ATR, in the first 19 bars",
    ),
    Column(
        "support_score",
        "float",
        "",
        "sum of score of the clusters below the close that were bought (ofi_bias > 0)",
    ),
    Column(
        "resistance_score",
        "float",
        "",
        "sum of score of the clusters above the close that were sold (ofi_bias < 0)",
    ),
    Column(
        "runway_long",
        "float",
        "",
        "1 / (1 + sum of difficulty of the clusters above the close); 1: nothing in the way up",
    ),
    Column("runway_short", "float", "", "the same of the clusters below the close"),
    Column("runway_score", "float", "", "the same of all clusters"),
    Column("vcp_combined", "float", "", "1 - e^(-sum of score of all clusters)"),
    Column(
        "atr_14",
        "float",
        "quote",
        "average true range, Wilder's: the mean of the first 14, then (13 x the one before + true "
        "range) / 14; null before",
    ),
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; the average range goes back to the first bar."""
    del tick
    found: list[Reach] = []
    for length in MINUTES:
        of, back = (f"vcp_{length}m",), params.lookback - 1
        # open interest of the oldest bar of the look-back may have been told before its end
        aged = round(params.oi_max_age_s * _SECOND_US) - length * MINUTE_US + 1
        found += [
            Reach(f"bars_{length}m", of=of, since="ever"),
            Reach("micro_1m", of=of),
            Reach("buckets_1m", of=of),
            Reach(OPEN_INTEREST, of=of, rows=back, behind_us=aged),
        ]
        if params.profile_source != "gaussian":
            found.append(Reach("footprint", of=of, rows=back))
    return tuple(found)


STAGE = Stage(
    name="vcp",
    inputs=(
        *(Input(f"bars_{length}m", Bar._fields[1:]) for length in MINUTES),
        Input("footprint", ("price", "buy_volume", "sell_volume")),
        Input("micro_1m", ("mid",), required=False, behind_us=max(MINUTES) * MINUTE_US),
        Input("buckets_1m", ("bands",), required=False, behind_us=max(MINUTES) * MINUTE_US),
        Input(OPEN_INTEREST, ("open_interest",), required=False),
    ),
    layers=tuple(
        Layer(
            f"vcp_{length}m",
            "vcp",
            "jsonl",
            _COLUMNS,
            f"One row per {length}-minute bar: where much was traded, and how free the way is.",
            span_us=length * MINUTE_US,
        )
        for length in MINUTES
    ),
    params=Params,
    carry=Carry,
    fold=fold,
    grid_us=min(MINUTES) * MINUTE_US,
    reach=reach,
)
