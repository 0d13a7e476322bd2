"""What other libraries can do too: each on its own part, from the same prepared rows.

A part has both sides as functions without arguments, and a check of their answers.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import wickra
from market_profile import MarketProfile
from statsmodels.regression.rolling import RollingOLS

from scripts.benchkit.compare import compare_numbers
from scripts.benchkit.lines import millions
from scripts.benchkit.tape import Floats, Rows, Tape, by_minute, by_price

WINDOW, LEAST = 60, 30
BUCKETS, BUCKET_WINDOW = 500, 50
BINS = 50
_BPS, _MILLION = 1e4, 1e6


@dataclass(frozen=True, slots=True)
class Part:
    """One part: what it is, the library, both sides, and what refuses different values."""

    name: str
    peer: str
    ours: Callable[[], Rows]
    theirs: Callable[[], Any]
    check: Callable[[Rows, Any], None]


def parts(tape: Tape) -> Iterator[Part]:
    """All parts, prepared one at a time."""
    yield _cvd(tape)
    yield _vwap(tape)
    yield _vpin(tape)
    yield _impact_wickra(tape)
    yield _impact_statsmodels(tape)
    yield _value_area(tape)


def _cvd(tape: Tape) -> Part:
    trades, minutes = tape.trades, tape.minutes

    def theirs() -> array[float]:
        indicator = wickra.CumulativeVolumeDelta()
        return indicator.batch(trades.price, trades.size, trades.is_buy)

    def check(rows: Rows, found: array[float]) -> None:
        running = np.asarray(found)
        # buys and sells cancel, so what matters is the error beside what was added up
        traded = np.cumsum(np.asarray(trades.size))[minutes.last]
        opened = np.concatenate(([0.0], running[minutes.last][:-1]))
        stop = minutes.last[-1] + 1
        highest = np.maximum(np.maximum.reduceat(running[:stop], minutes.first), opened)
        lowest = np.minimum(np.minimum.reduceat(running[:stop], minutes.first), opened)
        for place, values in ((1, running[minutes.last]), (5, highest), (6, lowest)):
            ours = column(rows["cvd_1m"], place)
            compare_numbers("CVD", ours, values.tolist(), traded.tolist())

    what = f"CVD, {millions(len(trades.price))} trades"
    return Part(what, "wickra", lambda: tape.fold("cvd", tape.ticks, {}), theirs, check)


def _vwap(tape: Tape) -> Part:
    trades, last = tape.trades, tape.minutes.last
    price, size = trades.price, trades.size

    def theirs() -> tuple[array[float], Any]:
        mean = wickra.SessionVwap().batch(price, price, price, price, size, trades.stamp_ms)
        return mean, wickra.VwapStdDevBands(1.0).batch(price, price, price, size)

    def check(rows: Rows, found: tuple[array[float], Any]) -> None:
        mean, bands = found
        deviations = [bands[int(place), 3] for place in last]
        compare_numbers("VWAP", column(rows["vwap_1m"], 0), [mean[int(each)] for each in last])
        compare_numbers("its deviation", column(rows["vwap_1m"], 1), deviations)

    what = f"session VWAP, {millions(len(price))} trades"
    return Part(what, "wickra", lambda: tape.fold("vwap", tape.ticks, {}), theirs, check)


def _vpin(tape: Tape) -> Part:
    trades = tape.trades
    sizes = tape.ticks.frame["sz"].to_numpy()
    bucket = int(sizes.sum()) // BUCKETS
    volume = Decimal(bucket).scaleb(-tape.ticks.sz_scale)
    settings = {"bucket_volume": volume, "window": BUCKET_WINDOW}

    def theirs() -> array[float]:
        indicator = wickra.Vpin(float(volume), BUCKET_WINDOW)
        return indicator.batch(trades.price, trades.size, trades.is_buy)

    def check(rows: Rows, found: array[float]) -> None:
        ours = column(rows["vpin"], 5)
        filled = np.arange(1, len(ours) + 1) * bucket
        completing = np.searchsorted(np.cumsum(sizes), filled)
        # a bucket's value stands until the trade that completes the next one
        standing = [
            number
            for number in range(BUCKET_WINDOW - 1, len(ours) - 1)
            if completing[number] < completing[number + 1]
        ]
        values = [found[int(completing[number + 1]) - 1] for number in standing]
        compare_numbers("VPIN", [ours[number] for number in standing], values)

    what = f"VPIN, {millions(len(trades.price))} trades"
    return Part(what, "wickra", lambda: tape.fold("vpin", tape.ticks, settings), theirs, check)


def _impact_wickra(tape: Tape) -> Part:
    minutes, ticks = tape.minutes, by_minute(tape.ticks)
    close = minutes.close.tolist()
    bps = (_BPS * np.log(minutes.close)).tolist()
    signed = minutes.signed / _MILLION
    flow, is_buy = np.abs(signed).tolist(), (signed > 0).tolist()
    # its traded value is price x size
    size = (minutes.notional / _MILLION / minutes.close).tolist()

    def theirs() -> tuple[array[float], array[float]]:
        slope = wickra.KylesLambda(WINDOW).batch(close, flow, is_buy, bps)
        return slope, wickra.AmihudIlliquidity(WINDOW).batch(close, size, is_buy)

    def check(rows: Rows, found: tuple[array[float], array[float]]) -> None:
        own = rows["impact_1m"][WINDOW:]
        slope, cost = (np.asarray(each)[WINDOW:] for each in found)
        compare_numbers("Kyle's lambda", column(own, 0), slope.tolist(), _sizes(own))
        compare_numbers("Amihud", column(own, 3), (cost * _BPS).tolist())

    what = f"λ, Amihud, {len(close):,} minutes"
    return Part(what, "wickra", lambda: tape.fold("impact", ticks, {}), theirs, check)


def _impact_statsmodels(tape: Tape) -> Part:
    minutes, ticks = tape.minutes, by_minute(tape.ticks)
    change = _BPS * np.diff(np.log(minutes.close))
    signed = minutes.signed[1:] / _MILLION
    regressors = np.column_stack((np.ones(len(signed)), signed))

    def theirs() -> tuple[Floats, Floats, Floats]:
        model = RollingOLS(change, regressors, window=WINDOW, min_nobs=LEAST, expanding=True)
        line = model.fit()
        return line.params[:, 1], line.rsquared, line.bse[:, 1]

    def check(rows: Rows, found: tuple[Floats, Floats, Floats]) -> None:
        own = rows["impact_1m"][LEAST:]
        slope, share, error = (each[LEAST - 1 :].tolist() for each in found)
        compare_numbers("Kyle's lambda", column(own, 0), slope, _sizes(own))
        compare_numbers("r2", column(own, 1), share, [1.0] * len(share))
        compare_numbers("the standard error", column(own, 2), error)

    what = f"λ, r², error, {len(minutes.close):,} minutes"
    return Part(what, "statsmodels", lambda: tape.fold("impact", ticks, {}), theirs, check)


def _value_area(tape: Tape) -> Part:
    ticks = by_price(tape.ticks)
    prices = ticks.frame["px"].to_numpy()
    low, width = int(prices[0]), int(prices[-1] - prices[0])
    bins = np.minimum(np.floor((prices - low) * BINS / width + 1e-9), BINS - 1)
    sizes = ticks.frame["sz"].to_numpy() / 10**ticks.sz_scale
    table = pd.DataFrame({"Close": bins, "Volume": sizes})

    def theirs() -> Any:
        return MarketProfile(table, row_size=1)[0 : len(table)]

    def check(rows: Rows, found: Any) -> None:
        centres = [
            (low + (place + 0.5) * width / BINS) / 10**ticks.px_scale for place in range(BINS)
        ]
        names = (found.poc_price, found.value_area[1], found.value_area[0])
        values = [float(found.total_volume), *(centres[int(name)] for name in names)]
        ours = rows["profile_session"][-1][1][3:7]
        compare_numbers("total volume, POC, VAH, VAL", ours, values)

    def ours() -> Rows:
        return tape.fold("profile", ticks, {"value_area": "one_row"})

    return Part(f"value area, {len(table):,} prices", "MarketProfile", ours, theirs, check)


def column(rows: Sequence[tuple[int, tuple[Any, ...]]], place: int) -> list[Any]:
    """One value of every row."""
    return [values[place] for _, values in rows]


def _sizes(rows: Sequence[tuple[int, tuple[Any, ...]]]) -> list[float]:
    """How large a slope is: itself or its standard error, as it may be all but zero."""
    return [max(abs(values[0]), values[2]) for _, values in rows]
