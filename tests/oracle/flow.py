"""Rows of `cvd`, `vwap`, `vpin` and `impact`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

from .cells import DAY_US, HOUR_US, MINUTE_US, Cell, closed_cells, stamp_ms
from .fold import Judge
from .layers import Row, head
from .raw import EXACT, Instrument, Trade

# -- cumulative volume delta -------------------------------------------------


def cvd_rows(judge: Judge) -> list[Row]:
    """Rows of `cvd_1m.jsonl`."""
    rows = []
    with localcontext(EXACT):
        cvd = session = cvd_notional = Decimal(0)
        day = None
        for cell in closed_cells(judge, 1):
            if cell.day_us != day:
                day, session = cell.day_us, Decimal(0)
            path = [cvd]
            for trade in cell.trades:
                path.append(path[-1] + trade.side * trade.size)
            delta = path[-1] - cvd
            delta_notional = total(trade.side * trade.notional for trade in cell.trades)
            cvd, session, cvd_notional = path[-1], session + delta, cvd_notional + delta_notional
            rows.append(
                head(cell.bar, judge.instrument)
                | {
                    "delta": float(delta),
                    "cvd": float(cvd),
                    "session_cvd": float(session),
                    "delta_notional": float(delta_notional),
                    "cvd_notional": float(cvd_notional),
                    "cvd_high": float(max(path)),
                    "cvd_low": float(min(path)),
                }
            )
    return rows


# -- volume-weighted average price -------------------------------------------


def vwap_rows(judge: Judge) -> list[Row]:
    """Rows of `vwap_1m.jsonl`."""
    with localcontext(EXACT):
        cells = closed_cells(judge, 1)
        sums = [minute_sums(cell.trades) for cell in cells]
        return [vwap_row(cells, sums, i, judge.instrument) for i in range(len(cells))]


Sums = tuple[Decimal, Decimal, Decimal, Decimal]
"""Base volume, notional, price times size, and squared price times size.

The notional of an inverse contract is not price times size to the last digit, because its size is
rounded; a spread about the mean must come from one and the same weights, or it can turn negative.
"""


def minute_sums(trades: Iterable[Trade]) -> Sums:
    """The three sums of some trades."""
    return added((t.size, t.notional, t.price * t.size, t.price * t.price * t.size) for t in trades)


def added(parts: Iterable[Sums]) -> Sums:
    """Column by column."""
    volume = notional = firsts = squares = Decimal(0)
    for v, money, pv, ppv in parts:
        volume, notional = volume + v, notional + money
        firsts, squares = firsts + pv, squares + ppv
    return volume, notional, firsts, squares


def since(cells: Sequence[Cell], last: int, first_us: int) -> int:
    """The first cell, up to `last`, that opens at `first_us` or later."""
    while last > 0 and cells[last - 1].start_us >= first_us:
        last -= 1
    return last


def vwap_row(cells: Sequence[Cell], sums: Sequence[Sums], i: int, instrument: Instrument) -> Row:
    """One minute against its session and its windows."""
    cell = cells[i]
    session = added(sums[since(cells, i, cell.day_us) : i + 1])
    vwap, variance = mean_and_variance(session)
    sd = math.sqrt(variance)
    away = Fraction(cell.bar.close) - vwap
    bands = {}
    for k in (1, 2, 3):
        bands[f"upper_{k}"] = float(vwap) + k * sd
        bands[f"lower_{k}"] = float(vwap) - k * sd
    rolling = {}
    for hours in (1, 4, 24):
        window = added(sums[since(cells, i, cell.end_us - hours * HOUR_US) : i + 1])
        rolling[f"rolling_vwap_{hours}h"] = float(mean_and_variance(window)[0])
    return (
        head(cell.bar, instrument)
        | {"session_vwap": float(vwap), "session_sd": sd}
        | bands
        | rolling
        | {
            "deviation_pct": float(100 * away / vwap),
            "deviation_sd": float(away) / sd if sd else None,
        }
    )


def mean_and_variance(sums: Sums) -> tuple[Fraction, Fraction]:
    """VWAP, and the variance of price weighted by size."""
    volume, notional, firsts, squares = (Fraction(value) for value in sums)
    mean_price = firsts / volume
    return notional / volume, squares / volume - mean_price * mean_price


# -- volume-synchronised probability of informed trading ----------------------

BUCKETS_A_DAY = 50
VPIN_BUCKETS = 50
CDF_MOST, CDF_LEAST = 500, 50
OPENING_US = 30 * MINUTE_US


@dataclass
class Bucket:
    """A volume bucket; `end_us` is the stamp of the trade that filled it."""

    size: Fraction
    start_us: int
    end_us: int
    buy: Fraction = Fraction(0)
    sell: Fraction = Fraction(0)

    @property
    def room(self) -> Fraction:
        """What still fits in."""
        return self.size - self.buy - self.sell

    def add(self, amount: Fraction, trade: Trade) -> None:
        """Take in a part of a trade."""
        self.end_us = trade.ts_us
        if trade.side > 0:
            self.buy += amount
        else:
            self.sell += amount


def filled_buckets(trades: Sequence[Trade]) -> list[Bucket]:
    """The full buckets, in the order in which they filled."""
    full: list[Bucket] = []
    current: Bucket | None = None
    size: Fraction | None = None
    clock = 0
    for seen, trade in enumerate(trades):
        before, clock = clock, max(clock, trade.ts_us)
        if seen and clock // DAY_US > before // DAY_US:
            size = size_from_day(trades[:seen], clock // DAY_US)
        elif size is None and clock >= trades[0].ts_us + OPENING_US:
            size = size_from_opening(trades[:seen])
        if size is None:
            continue
        rest = Fraction(trade.size)
        while rest > 0:
            current = current or Bucket(size, trade.ts_us, trade.ts_us)
            part = min(rest, current.room)
            current.add(part, trade)
            rest -= part
            if not current.room:
                full.append(current)
                current = None
    return full


def size_from_day(earlier: Sequence[Trade], today: int) -> Fraction:
    """A fiftieth of a day's volume at the pace of the last day before `today` with trades."""
    day = max(t.ts_us // DAY_US for t in earlier if t.ts_us // DAY_US < today)
    trades = [t for t in earlier if t.ts_us // DAY_US == day]
    hours = len({t.ts_us // HOUR_US for t in trades})
    return base_volume(trades) * 24 / hours / BUCKETS_A_DAY


def size_from_opening(earlier: Sequence[Trade]) -> Fraction:
    """A fiftieth of a day's volume at the pace of the first half hour."""
    first = earlier[0].ts_us
    opening = [t for t in earlier if t.ts_us < first + OPENING_US]
    return base_volume(opening) * 48 / BUCKETS_A_DAY


def base_volume(trades: Iterable[Trade]) -> Fraction:
    """The exact sum of sizes."""
    with localcontext(EXACT):
        return Fraction(sum((t.size for t in trades), Decimal(0)))


def vpin_rows(judge: Judge) -> list[Row]:
    """Rows of `vpin.jsonl`."""
    buckets = filled_buckets([row.trade for row in judge.accepted])
    values: list[Fraction] = []
    rows = []
    for i, bucket in enumerate(buckets):
        vpin = cdf = None
        if i + 1 >= VPIN_BUCKETS:
            last = buckets[i + 1 - VPIN_BUCKETS : i + 1]
            imbalance = sum((abs(b.buy - b.sell) for b in last), Fraction(0))
            vpin = imbalance / sum((b.size for b in last), Fraction(0))
            cdf = share_not_above(values[-CDF_MOST:], vpin)
            values.append(vpin)
        rows.append(vpin_row(i + 1, bucket, vpin, cdf, judge.instrument))
    return rows


def vpin_row(
    number: int, bucket: Bucket, vpin: Fraction | None, cdf: Fraction | None, where: Instrument
) -> Row:
    """One full bucket."""
    return {
        "timestamp_utc": stamp_ms(bucket.end_us),
        "instId": where.inst_id,
        "exchange": where.exchange,
        "market": where.row_market,
        "bucket": number,
        "start_utc": stamp_ms(bucket.start_us),
        "bucket_volume": float(bucket.size),
        "buy_volume": float(bucket.buy),
        "sell_volume": float(bucket.sell),
        "vpin": None if vpin is None else float(vpin),
        "vpin_cdf": None if cdf is None else float(cdf),
        "level": None if vpin is None else toxicity(vpin),
    }


def share_not_above(values: Sequence[Fraction], value: Fraction) -> Fraction | None:
    """The share of values that are at most `value`; None for too few."""
    if len(values) < CDF_LEAST:
        return None
    return Fraction(sum(v <= value for v in values), len(values))


def toxicity(vpin: Fraction) -> str:
    """Below 0.3, below 0.5, up to 0.7 inclusive, above."""
    if vpin < Fraction(3, 10):
        return "normal"
    if vpin < Fraction(1, 2):
        return "elevated"
    return "high" if vpin <= Fraction(7, 10) else "extreme"


# -- price impact --------------------------------------------------------------

IMPACT_BARS, IMPACT_ENOUGH = 60, 30
FINE = Context(prec=60)
"""Far more digits than a double: what cancels in sums of squares leaves enough."""


@dataclass(frozen=True)
class Move:
    """One bar after another: how far the close moved, and on what flow."""

    ratio: Fraction
    bps: Decimal
    signed_millions: Decimal
    millions: Decimal


def impact_rows(judge: Judge) -> list[Row]:
    """Rows of `impact_1m.jsonl`."""
    with localcontext(EXACT):
        cells = closed_cells(judge, 1)
    with localcontext(FINE):
        moves = [move(a, b) for a, b in pairwise(cells)]
        rows = []
        for i, cell in enumerate(cells):
            window = moves[max(0, i - IMPACT_BARS) : i]
            rows.append(head(cell.bar, judge.instrument) | impact(window))
    return rows


def move(prior: Cell, cell: Cell) -> Move:
    """From the close of one existing bar to that of the next."""
    million = Decimal(1_000_000)
    return Move(
        ratio=Fraction(cell.bar.close) / Fraction(prior.bar.close),
        bps=10_000 * (cell.bar.close / prior.bar.close).ln(),
        signed_millions=cell.bar.delta / million,
        millions=cell.bar.total / million,
    )


def impact(window: Sequence[Move]) -> Row:
    """Ordinary least squares with an intercept, and Amihud's ratio, over the window."""
    n = len(window)
    empty: Row = dict.fromkeys(("kyle_lambda", "kyle_r2", "kyle_se", "amihud"))
    if n < IMPACT_ENOUGH:
        return empty | {"n": n}
    amihud = mean(abs(m.bps) / m.millions for m in window)
    if len({m.signed_millions for m in window}) == 1:
        return empty | {"n": n}
    mean_x = mean(m.signed_millions for m in window)
    mean_y = mean(m.bps for m in window)
    sxx = total((m.signed_millions - mean_x) ** 2 for m in window)
    sxy = total((m.signed_millions - mean_x) * (m.bps - mean_y) for m in window)
    slope = sxy / sxx
    fitted = [mean_y + slope * (m.signed_millions - mean_x) for m in window]
    sse = total((m.bps - f) ** 2 for m, f in zip(window, fitted, strict=True))
    sst = total((m.bps - mean_y) ** 2 for m in window)
    is_flat = len({m.ratio for m in window}) == 1  # nothing to explain: 0/0
    return {
        "kyle_lambda": float(slope),
        "kyle_r2": None if is_flat else float(1 - sse / sst),
        "kyle_se": float((sse / (n - 2) / sxx).sqrt()),
        "amihud": float(amihud),
        "n": n,
    }


def total(values: Iterable[Decimal]) -> Decimal:
    """The sum in the context's digits."""
    return sum(values, Decimal(0))


def mean(values: Iterable[Decimal]) -> Decimal:
    """The arithmetic mean."""
    listed = list(values)
    return total(listed) / len(listed)
