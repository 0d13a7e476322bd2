"""Stages beside wickra 2.0.0 (PyPI, MIT or Apache-2.0), a library of streaming indicators.

The same, and compared here: `SessionVwap` and `VwapStdDevBands` (fed one flat candle a trade),
`CumulativeVolumeDelta`, `Footprint`, `Vpin`, `KylesLambda` and `AmihudIlliquidity` (fed one trade a
bar), `ValueArea` and `VolumeProfile` (fed one flat candle a trade, `one_row`).

Its conventions, and what the cases do about them: `VwapStdDevBands` never begins anew, so its
trades are of one day; `Footprint` rounds to the nearest price row where the stage takes the one
below, so prices are whole rows; `Vpin` shows one value for a trade that fills several buckets, the
last; `KylesLambda` takes differences of the mid, so the mid it is given is 1e4 ln(close); it and
`AmihudIlliquidity` want a full window, so the rows with less are left out; `ValueArea` names the
value area by its outer edges, the stage by the centres of its outer bins.

Not comparable: `RollingVWAP`, `VWAP` and `AnchoredVWAP` count bars or never begin anew, and know no
hours; `HighLowVolumeNodes` knows one bin of each kind where the stage has runs of bins;
`TickAggregator`, `VolumeBars` and the like know no sides; `TradeImbalance` and `SignedVolume` count
trades, not minutes; `TpoProfile`, `CompositeProfile` and `NakedPoc` spread candles over their
range. It has nothing like volume tiers, absorption, untouched wicks or poor highs and lows, and no
standard error beside its lambda.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import pytest
import wickra

from pipeline.stages import cvd, footprint, impact, profile, vpin, vwap
from tests.stages import row_tape
from tests.stages.tick_tape import (
    MINUTE_US,
    Trade,
    at,
    run,
    table,
    ticks_of,
)

T = TypeVar("T")


def market(seed: int, minutes: int, *, start: int = at(0)) -> list[Trade]:
    """Trades at prices of two decimals, sizes in eighths, some minutes empty."""
    rng = random.Random(seed)
    price, found = rng.randrange(20_000, 9_000_000), []
    for minute in range(minutes):
        if rng.random() < 0.05:
            continue
        for second in sorted(rng.uniform(0, 59.9) for _ in range(rng.randrange(1, 12))):
            price = max(1000, price + round(rng.gauss(0, price * 1e-4)))
            size = rng.choice(("", "-")) + str(rng.randrange(1, 2 ** rng.randrange(1, 10)) / 8)
            ts = start + minute * MINUTE_US + round(second * 1e6)
            found.append((ts, str(Decimal(price).scaleb(-2)), size))
    return found


def parts(trade: Trade) -> tuple[float, float, bool]:
    """Price, size, and whether the taker bought."""
    return float(trade[1]), abs(float(trade[2])), not trade[2].startswith("-")


def flat(trade: Trade) -> tuple[float, float, float, float, float, int]:
    """A candle of one trade; its typical price is the price."""
    price, size, _ = parts(trade)
    return price, price, price, price, size, trade[0] // 1000


def last_of_minutes(trades: list[Trade], value: Callable[[Trade], T]) -> dict[int, T]:
    """What a streaming function gave for the last trade of each minute."""
    return {trade[0] // MINUTE_US * MINUTE_US: value(trade) for trade in trades}


def test_session_vwap() -> None:
    """Over a midnight, where both begin anew."""
    trades = market(1, 200, start=at(22, 30))
    peer = wickra.SessionVwap(0)
    wanted = last_of_minutes(trades, lambda trade: peer.update(flat(trade)))
    rows = table(vwap.STAGE, run(vwap.STAGE, ticks_of(trades), cuts=[99], until_us=at(5, day=1)))
    assert [row["at"] for row in rows] == list(wanted)
    for row in rows:
        assert row["session_vwap"] == pytest.approx(wanted[row["at"]], rel=1e-12)
    assert rows[0]["at"] // MINUTE_US < at(0, day=1) // MINUTE_US < rows[-1]["at"] // MINUTE_US


@pytest.mark.parametrize("k", [1, 2, 3])
def test_vwap_bands(k: int) -> None:
    trades = market(2, 150)
    peer = wickra.VwapStdDevBands(k)
    wanted = last_of_minutes(trades, lambda trade: peer.update(flat(trade)))
    rows = table(vwap.STAGE, run(vwap.STAGE, ticks_of(trades), until_us=at(5)))
    assert [row["at"] for row in rows] == list(wanted)
    for row in rows:
        found = wanted[row["at"]]
        assert found is not None
        mine = [row[f"upper_{k}"], row["session_vwap"], row[f"lower_{k}"]]
        assert mine == pytest.approx(found[:3], rel=1e-9)
        assert row["session_sd"] == pytest.approx(found[3], rel=1e-6, abs=1e-5)


def test_cvd() -> None:
    """Sizes are eighths, so its doubles are exact; high and low follow its value at each trade."""
    trades = market(3, 200)
    peer = wickra.CumulativeVolumeDelta()
    running = [0.0]
    minutes: dict[int, list[float]] = {}
    for trade in trades:
        value = peer.update(*parts(trade))
        assert value is not None
        minutes.setdefault(trade[0] // MINUTE_US * MINUTE_US, [running[-1]]).append(value)
        running.append(value)
    rows = table(cvd.STAGE, run(cvd.STAGE, ticks_of(trades), cuts=[50, 51], until_us=at(5)))
    assert [row["at"] for row in rows] == list(minutes)
    for row in rows:
        path = minutes[row["at"]]
        assert (row["cvd"], row["delta"]) == (path[-1], path[-1] - path[0])
        assert (row["cvd_high"], row["cvd_low"]) == (max(path), min(path))


@pytest.mark.parametrize("tick", ["0.5", "1", "0.125"])
def test_footprint(tick: str) -> None:
    rng = random.Random(tick)
    trades: list[row_tape.Trade] = [
        (
            i * 3 * row_tape.SECOND,
            str(Decimal(tick) * rng.randrange(900, 920)),
            str(rng.randrange(1, 500) / 8),
            rng.choice(("buy", "sell")),
        )
        for i in range(600)
    ]
    wanted = []
    for start in range(0, trades[-1][0], row_tape.MINUTE):
        peer = wickra.Footprint(float(tick))
        levels: Any = []  # the stub names one level, it is a list of them
        for ts, price, size, side in trades:
            if start <= ts < start + row_tape.MINUTE:
                levels = peer.update(float(price), float(size), side == "buy")
        wanted += [(start, price, buy, sell) for price, sell, buy in levels]
    ended = [*trades, (row_tape.HOUR, "1", "1", "buy")]
    found = run_rows(ended, tick)
    assert [row[:4] for row in found] == wanted
    assert len(wanted) > 300


def run_rows(trades: list[row_tape.Trade], tick: str) -> list[tuple[float, ...]]:
    """The rows of the footprint."""
    return row_tape.run(footprint.STAGE, trades, cuts=[100, 101], tick=tick)["footprint"]


@pytest.mark.parametrize(("bucket", "window"), [("40", 50), ("9.125", 50), ("200", 7)])
def test_vpin(bucket: str, window: int) -> None:
    """Volumes in eighths: buckets end at the same places, many inside a trade."""
    trades = market(4, 250)
    peer = wickra.Vpin(float(bucket), window)
    wanted, spans = {}, 0
    for index, trade in enumerate(trades):
        value = peer.update(*parts(trade))
        if value is not None:
            wanted[trade[0]] = value
        assert index == 0 or trade[0] > trades[index - 1][0]
    params: dict[str, Any] = {"bucket_volume": Decimal(bucket), "window": window}
    found = {}
    for row in table(vpin.STAGE, run(vpin.STAGE, ticks_of(trades), cuts=[333], **params)):
        spans += row["at"] in found
        if row["vpin"] is not None:
            found[row["at"]] = row["vpin"]
    assert min(found) == min(wanted)
    assert len(found) > 40
    assert spans > 0 or bucket == "200"
    # between two buckets the peer repeats itself
    value = 0.0
    for ts in sorted(wanted):
        value = found.get(ts, value)
        assert wanted[ts] == pytest.approx(value, rel=1e-9), ts


def test_impact() -> None:
    """Bars are given to both; only the peer's windows are all full."""
    trades = market(5, 260)
    minutes = last_of_minutes(trades, lambda trade: float(trade[1]))
    signed, notional = dict.fromkeys(minutes, 0.0), dict.fromkeys(minutes, 0.0)
    for trade in trades:
        price, size, is_buy = parts(trade)
        signed[trade[0] // MINUTE_US * MINUTE_US] += price * size * (1 if is_buy else -1)
        notional[trade[0] // MINUTE_US * MINUTE_US] += price * size
    kyle, amihud = wickra.KylesLambda(60), wickra.AmihudIlliquidity(60)
    rows = table(impact.STAGE, run(impact.STAGE, ticks_of(trades), cuts=[400], until_us=at(9)))
    assert [row["at"] for row in rows] == list(minutes)
    compared = 0
    for row in rows:
        ts, close = row["at"], minutes[row["at"]]
        flow, mid = signed[ts] / 1e6, 1e4 * float(np.log(close))
        slope = kyle.update(close, abs(flow), flow > 0, mid)
        cost = amihud.update(close, notional[ts] / close, True)
        if slope is None:
            assert row["n"] < 60
            assert cost is None
            continue
        assert cost is not None
        assert row["kyle_lambda"] == pytest.approx(slope, rel=1e-6)
        assert row["amihud"] == pytest.approx(cost * 1e10, rel=1e-7)
        compared += 1
    assert compared > 150


WIDTH = 97
"""A prime: no price but the first and the last lies on the edge of a bin."""


@pytest.mark.parametrize("seed", range(20))
def test_profile(seed: int) -> None:
    """One row of the stage over all trades so far; the peer's period is their number."""
    rng = random.Random(seed)
    prices = [0, WIDTH, *(min(WIDTH, int(abs(rng.gauss(40, 25)))) for _ in range(200))]
    trades: list[row_tape.Trade] = [
        (i, str(3000 + p), str(rng.randrange(1, 10**6)), rng.choice(("buy", "sell")))
        for i, p in enumerate(prices)
    ]
    area = wickra.ValueArea(len(trades), 50, 0.70)
    whole = wickra.VolumeProfile(len(trades), 50)
    value, histogram = None, None
    for ts, price, size, _ in trades:
        candle = (*[float(price)] * 4, float(size), ts)
        value, histogram = area.update(candle), whole.update(candle)
    assert value is not None
    assert histogram is not None
    ended = [*trades, (row_tape.DAY * 5, "1", "1", "buy")]
    found = row_tape.run(profile.STAGE, ended, tick="1", value_area="one_row")
    row = row_tape.named(profile.STAGE, "profile_24h", found["profile_24h"][0])
    half = row["bin_size"] / 2
    mine = (row["poc"], row["vah"] + half, row["val"] - half)
    assert mine == pytest.approx(value, rel=1e-12)
    low, high, bins = histogram
    assert (row["low"], row["high"]) == (low, high)
    assert row["total_volume"] == pytest.approx(sum(bins), rel=1e-12)
    nodes = [*row["hvn"], *row["lvn"]]
    assert len(nodes) > 4
    for node in nodes:
        place = round((node["price"] - low) / row["bin_size"] - 0.5)
        assert node["volume"] == bins[place]
    inside = sum(bins[round((value[2] - low) / (2 * half)) : round((value[1] - low) / (2 * half))])
    assert row["value_area_pct"] == pytest.approx(100 * inside / sum(bins), rel=1e-12)
