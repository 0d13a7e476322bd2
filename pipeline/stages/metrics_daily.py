"""Daily VPIN, Kyle's lambda, spreads and blocks of a tape (US equities).

A row is one day with counted trades, written when its session, 09:30 to 16:00 New York time, has
closed. On days of an early close the session still ends at 16:00: the last quote stands until then,
the bars behind the close hold no trades and no change, and they lower `data_completeness`.

VPIN, lambda and the rest are statistics of signed volume: they describe, they identify nobody.

    VPIN    V = ADV / 50, ADV the mean volume of the last 20 days with trades; the classified tape
            is walked backwards until 50 buckets of V are full: mean |B - S| / V
    lambda  r = a + lambda x over the five-minute bars of the last 30 days: r the change of the log
            mid in bps, x the sum of side x price x shares in millions of dollars; from 100 bars on
            both are clipped at their quantiles of 1 % and 99 %
    spreads in bps of the mid; quoted weighted by time, the others by notional over the trades that
            have a side and met a valid quote: effective 2d(p - m)/m, realized 2d(p - m')/m with m'
            the last valid mid before five minutes later, price impact the difference

After A. Kyle, "Continuous Auctions and Insider Trading", Econometrica 53 (1985), and R. Huang and
H. Stoll, "Dealer versus auction markets", Journal of Financial Economics 41 (1996).
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.bucket_walk import effective_trades, walk
from pipeline.calc.day_measures import persistence, slope, spreads
from pipeline.calc.frames import frame_of
from pipeline.calc.lee_ready import imbalance, is_lee_ready
from pipeline.calc.new_york import BAR_US, BARS, Session, days_of, session_of
from pipeline.calc.session_bars import (
    Bar,
    Block,
    Feed,
    LastQuote,
    Prints,
    bars,
    realized,
)
from pipeline.calc.shares import PARTS, parts_of, shares_of
from pipeline.instrument import TAPES
from pipeline.layers import Column, Layer
from pipeline.reach import Reach
from pipeline.stage import Closed, Context, Input, Joined, Stage

AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]

_MILLION, _BPS = 1e6, 1e4
_HIGH, _MEDIUM, _LOW = "HIGH", "MEDIUM", "LOW"
_VPIN_HIGH_DAYS, _VPIN_MEDIUM_DAYS, _VPIN_HIGH_TRADES = 15, 8, 10
_LAMBDA_HIGH, _LAMBDA_MEDIUM = (20, 0.3), (10, 0.2)
_NOTHING = pl.DataFrame(schema={"ts": pl.Int64, "bid": pl.Float64, "ask": pl.Float64})


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[metrics_daily]`.

    `buckets`: of a mean day's volume, and in VPIN; `vpin_days`: for that mean; `vpin_min_days`:
    with fewer there is no VPIN; `lambda_days`, `lambda_min_bars`: for lambda; a trade of
    `block_shares` or of `block_notional` dollars or more is a block.
    """

    buckets: AtLeastOne = 50
    vpin_days: Annotated[int, msgspec.Meta(ge=1, le=250)] = 20
    vpin_min_days: AtLeastOne = 5
    lambda_days: Annotated[int, msgspec.Meta(ge=1, le=120)] = 30
    lambda_min_bars: Annotated[int, msgspec.Meta(ge=3)] = 30
    block_shares: Annotated[float, msgspec.Meta(gt=0)] = 10_000
    block_notional: Annotated[float, msgspec.Meta(gt=0)] = 200_000


class Total(msgspec.Struct, array_like=True):
    """A closed day: when its session began, and its volume in parts of a share."""

    open_us: int
    parts: int


class Impact(msgspec.Struct, array_like=True):
    """A closed day's bars that have both: net dollars in millions, and change of the mid in bps."""

    flow: list[float]
    change: list[float]


class Open(msgspec.Struct):
    """A day that has not closed, with the bars of its session that are over."""

    day: int
    bars: list[Bar] = []


class Carry(msgspec.Struct):
    """What outlives a run: the last quotes, the open day, volumes and bars of days before."""

    quote: LastQuote | None = None
    day: Open | None = None
    totals: list[Total] = []
    impacts: list[Impact] = []


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Add the bars that are over to their days, and write down the days that have closed."""
    work = _Work(joined, carry, context)
    rows = {"micro_metrics_daily": frame_of(METRICS, work.days())}
    return Closed(work.carry, rows, needs={"classified": work.needs_from()})


class _Work:
    """The way through the days of a window."""

    def __init__(self, joined: Joined, carry: Carry, context: Context[Params]) -> None:
        self.carry = msgspec.structs.replace(carry)
        self._start_us, self._end_us = joined.start_us, joined.end_us
        self._params, self._symbol = context.params, context.instrument.inst_id
        self._prints = Prints.of(joined.frames["classified"])
        shown, before = joined.known.get("bbo"), carry.quote
        self._is_quoted = shown is not None
        if shown is None and before is not None:
            before = msgspec.structs.replace(before, ts=joined.start_us, bid=None, ask=None)
        self._feed = Feed(_NOTHING if shown is None else shown, before)

    def days(self) -> list[tuple[Any, ...]]:
        """Go through all days that have a part in the window; the rows of those that closed."""
        rows = []
        for session in map(session_of, sorted(self._shown())):
            low = max(session.open_us, self._start_us)
            high = min(session.close_us, self._end_us)
            if low < high:
                self._add(session, low, high)
            day = self.carry.day
            if day is not None and day.day == session.day and session.close_us <= self._end_us:
                if any(bar.trades for bar in day.bars):
                    rows.append(self._close(session, day.bars))
                self.carry.day = None
        self.carry.quote = self._feed.last()
        return rows

    def needs_from(self) -> int:
        """From when on trades must be shown again: as far as the next day's VPIN may reach back."""
        day, past = self.carry.day, self.carry.totals[1 - self._params.vpin_days :]
        found = [self._end_us - BAR_US]
        if day is not None:
            found.append(session_of(day.day).open_us)
        if past and self._params.vpin_days > 1:
            # the less the next day trades, the further back: it cannot trade less than nothing
            found.append(_reach(past, Fraction(sum(each.parts for each in past), len(past) + 1)))
        return min(found)

    def _shown(self) -> set[int]:
        """The days of the window's trades and quotes, and the one that is open."""
        own = self._prints.between(self._start_us, self._end_us)
        days = {*self._feed.days, *np.unique(days_of(own.ts)).tolist()}
        return days if self.carry.day is None else days | {self.carry.day.day}

    def _add(self, session: Session, low: int, high: int) -> None:
        """Add the bars of [low, high) to a day, and what they tell about the ones before."""
        day = self.carry.day
        known = day.bars if day is not None and day.day == session.day else []
        empty = (low - session.open_us) // BAR_US - len(known)
        quotes = self._feed.of_day(session.day)
        block = Block(self._params.block_shares, self._params.block_notional)
        new = bars(self._prints, quotes, low, high, block, is_quoted=self._is_quoted)
        together = [*known, *(Bar() for _ in range(empty)), *new]
        first = max(low - BAR_US, session.open_us)
        last = high if high == session.close_us else high - BAR_US
        if first < last:
            place = (first - session.open_us) // BAR_US
            sums = realized(self._prints, quotes, session, first, last)
            for index, kept in enumerate(sums, place):
                together[index] = msgspec.structs.replace(together[index], realized=kept)
        self.carry.day = Open(session.day, together)

    def _close(self, session: Session, found: list[Bar]) -> tuple[Any, ...]:
        total = sum(bar.total for bar in found)
        bought, sold = sum(bar.bought for bar in found), sum(bar.sold for bar in found)
        blocks = sum(bar.blocks for bar in found)
        lee_ready = is_lee_ready(sum(bar.quoted for bar in found), total)
        vpin = self._vpin(session, total, is_lee_ready=lee_ready)
        return (
            *(session.open_us, self._symbol, session.date),
            *vpin,
            *self._lambda(found),
            *(imbalance(bought, sold), persistence(found)),
            *spreads(found),
            vpin[0],
            *(shares_of(total), shares_of(blocks), blocks / total),
            sum(bar.trades > 0 and bar.mid is not None for bar in found) / BARS,
            session.date,
        )

    def _vpin(
        self, session: Session, total: int, *, is_lee_ready: bool
    ) -> tuple[float | None, int, str | None]:
        """VPIN, its full buckets and its quality."""
        params = self._params
        totals = [*self.carry.totals, Total(session.open_us, total)][-params.vpin_days :]
        self.carry.totals = totals
        mean = Fraction(sum(each.parts for each in totals), len(totals))
        own = self._prints.between(_reach(totals, mean), session.close_us)
        volume = mean / params.buckets
        found = walk(parts_of(own.size), own.side, volume, params.buckets)
        if found.vpin is None or len(totals) < params.vpin_min_days:
            return None, found.buckets, None
        trades = effective_trades(own.size[found.first :], float(volume / PARTS))
        quality = _LOW
        if len(totals) >= _VPIN_MEDIUM_DAYS:
            quality = _MEDIUM
        if len(totals) >= _VPIN_HIGH_DAYS and is_lee_ready and trades >= _VPIN_HIGH_TRADES:
            quality = _HIGH
        return found.vpin, found.buckets, quality

    def _lambda(
        self, found: list[Bar]
    ) -> tuple[float | None, float | None, float | None, str | None]:
        """Lambda, its error, r squared and quality."""
        params = self._params
        pairs = [
            (after.flow / _MILLION, _BPS * (math.log(after.mid) - math.log(before.mid)))
            for before, after in pairwise(found)
            if before.mid is not None and after.mid is not None
        ]
        own = Impact([flow for flow, _ in pairs], [change for _, change in pairs])
        impacts = [*self.carry.impacts, own][-params.lambda_days :]
        self.carry.impacts = impacts
        line = slope(
            [each for day in impacts for each in day.flow],
            [each for day in impacts for each in day.change],
            params.lambda_min_bars,
        )
        if line is None:
            return None, None, None, None
        days, r2 = sum(bool(day.flow) for day in impacts), line.r2 or 0
        quality = _LOW
        for name, (least, above) in ((_MEDIUM, _LAMBDA_MEDIUM), (_HIGH, _LAMBDA_HIGH)):
            quality = name if days >= least and r2 > above else quality
        return line.slope, line.se, line.r2, quality


def _reach(totals: list[Total], volume: Fraction) -> int:
    """When the session began from which on the days traded that volume; the first one's at most."""
    done = 0
    for each in reversed(totals):
        done += each.parts
        if done >= volume:
            return each.open_us
    return totals[0].open_us


METRICS = Layer(
    "micro_metrics_daily",
    "micro_metrics_daily",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "the session's first moment, 09:30 in New York"),
        Column("symbol", "string", "", "the symbol"),
        Column("trade_date", "date", "", "the day in New York"),
        Column(
            "vpin",
            "float64",
            "",
            "mean |B - S| / V over the last 50 buckets of V = ADV / 50, walking backwards from the "
            "day's last trade, ADV the mean volume of the last 20 days with trades; null before "
            "the fifth of them",
        ),
        Column("vpin_window_bars", "int64", "", "full buckets that the walk found, 50 at most"),
        Column(
            "vpin_quality_flag",
            "string",
            "",
            "HIGH: 15 days or more, LEE_READY and trades worth 10 equal ones or more in a bucket; "
            "MEDIUM: 8 days or more; LOW; null without VPIN",
        ),
        Column(
            "kyles_lambda",
            "float64",
            "bps/$1M",
            "slope of the change of the log mid on net dollars bought, in millions, over the "
            "five-minute bars of the last 30 days; null below 30 bars or without a varying flow",
        ),
        Column("kyles_lambda_se", "float64", "bps/$1M", "its classical standard error"),
        Column("kyles_lambda_r2", "float64", "", "its r squared; null where the mid never moved"),
        Column(
            "kyles_lambda_quality_flag",
            "string",
            "",
            "HIGH: 20 days or more and r squared above 0.3; MEDIUM: 10 and 0.2; LOW; null without "
            "lambda",
        ),
        Column("daily_order_imbalance", "float64", "", "(B - S) / (B + S); null if both are 0"),
        Column(
            "imbalance_persistence",
            "float64",
            "",
            "correlation of the imbalances of five-minute bars that follow each other; null below "
            "ten pairs",
        ),
        Column(
            "quoted_spread_bps",
            "float64",
            "bps",
            "1e4 x (ask - bid) / mid, weighted by the time that a valid quote was in force; null "
            "if there was none",
        ),
        Column(
            "effective_spread_bps",
            "float64",
            "bps",
            "2e4 x side x (price - m) / m, m the mid in force, weighted by notional over trades "
            "with a side and a valid quote; null if there are none",
        ),
        Column(
            "realized_spread_bps",
            "float64",
            "bps",
            "2e4 x side x (price - m') / m over the same trades, m' the last valid mid strictly "
            "before five minutes later, or before 16:00 if that is sooner",
        ),
        Column("price_impact_bps", "float64", "bps", "effective less realized"),
        Column(
            "adverse_selection_component",
            "float64",
            "",
            "price impact / effective, cut to 0 and 1; null unless effective is above 0",
        ),
        Column(
            "informed_trading_probability",
            "float64",
            "",
            "vpin, as a proxy: nobody knows who is informed",
        ),
        Column("total_volume", "float64", "shares", "of all counted trades, auctions included"),
        Column(
            "block_trade_volume",
            "float64",
            "shares",
            "of trades of 10 000 shares or $200 000 or more",
        ),
        Column("block_trade_ratio", "float64", "", "block_trade_volume / total_volume"),
        Column(
            "data_completeness",
            "float64",
            "",
            "share of the 78 five-minute bars with a trade and with a valid quote before their end",
        ),
        Column("available_date", "date", "", "from when on it could be known: the same day"),
    ),
    "One row per symbol and day with counted trades: VPIN, Kyle's lambda, spreads, blocks.",
    span_us=BARS * BAR_US,
)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`; volumes and impacts are those of the last days that have a row."""
    del tick
    back = max(params.vpin_days, params.lambda_days) - 1
    return (Reach("classified", rows=back), Reach("bbo", rows=back, since="day"))


STAGE = Stage(
    name="metrics_daily",
    inputs=(
        Input("classified", ("price", "size", "side", "mid"), behind_us=BAR_US),
        Input("bbo", ("bid", "ask"), required=False),
    ),
    grid_us=BAR_US,
    layers=(METRICS,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
    markets=TAPES,
)
