"""Least squares beside statsmodels, weighted moments beside numpy and statsmodels.

`impact` is held against `OLS` with a constant: slope, r2 and the classical standard error of every
window, from bars that are summed here in plain Python. `vwap` is held against `DescrStatsW`
(weights as frequencies, ddof 0), which knows the weighted mean and standard deviation.
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.stats.weightstats import DescrStatsW

from pipeline.stages import impact, vwap
from tests.stages.tick_tape import MINUTE_US, Trade, at, run, table, ticks_of

WINDOW, LEAST = 60, 30


def market(seed: int, minutes: int, *, push: float) -> list[Trade]:
    """Some trades a minute, a few minutes without any; flow moves the price by `push`."""
    rng = random.Random(seed)
    price, found = rng.uniform(50, 90_000), []
    for minute in range(minutes):
        if rng.random() < 0.05:
            continue
        for second in sorted(rng.uniform(0, 59.9) for _ in range(rng.randrange(1, 12))):
            size, sign = round(rng.lognormvariate(0, 1.5) + 0.001, 3), rng.choice((-1, 1))
            price *= 1 + 1e-5 * (push * sign * size + rng.gauss(0, 5))
            found.append((at(0, minute, second), f"{price:.3f}", f"{sign * size:.3f}"))
    return found


def bars_of(trades: list[Trade]) -> pd.DataFrame:
    """Close, notional and signed notional by minute."""
    frame = pd.DataFrame(
        {
            "minute": [ts // MINUTE_US * MINUTE_US for ts, _, _ in trades],
            "price": [float(price) for _, price, _ in trades],
            "size": [float(size) for _, _, size in trades],
        }
    )
    frame["signed"] = frame["price"] * frame["size"]
    frame["notional"] = frame["signed"].abs()
    grouped = frame.groupby("minute")
    return grouped.agg(
        close=("price", "last"), notional=("notional", "sum"), signed=("signed", "sum")
    )


@pytest.mark.parametrize(("seed", "push"), [(1, 0.0), (2, 1.0), (3, 20.0), (4, -5.0)])
def test_impact(seed: int, push: float) -> None:
    """Every row with a regression: lambda, r2 and error are statsmodels' own."""
    trades = market(seed, 200, push=push)
    bars = bars_of(trades)
    y = (1e4 * np.log(bars["close"] / bars["close"].shift())).iloc[1:]
    x = (bars["signed"] / 1e6).iloc[1:]
    cost = y.abs() / (bars["notional"] / 1e6).iloc[1:]
    rows = table(impact.STAGE, run(impact.STAGE, ticks_of(trades), cuts=[77], until_us=at(4)))
    assert [row["at"] for row in rows] == bars.index.tolist()
    compared = 0
    for index, row in enumerate(rows):
        window = slice(max(0, index - WINDOW), index)
        assert row["n"] == len(y.iloc[window])
        if row["n"] < LEAST:
            assert row["kyle_lambda"] is row["amihud"] is None
            continue
        fit: Any = sm.OLS(y.iloc[window].to_numpy(), sm.add_constant(x.iloc[window].to_numpy()))
        result = fit.fit(cov_type="nonrobust")
        assert row["kyle_lambda"] == pytest.approx(float(result.params[1]), rel=1e-7)
        # statsmodels has 1 - SSE/SST, whose rounding is absolute
        assert row["kyle_r2"] == pytest.approx(float(result.rsquared), rel=1e-7, abs=1e-13)
        assert row["kyle_se"] == pytest.approx(float(result.bse[1]), rel=1e-8)
        assert row["amihud"] == pytest.approx(float(cost.iloc[window].mean()), rel=1e-8)
        compared += 1
    assert compared > 130


def weighted(trades: list[Trade]) -> DescrStatsW:
    """The weighted moments of these trades' prices."""
    prices = np.array([float(price) for _, price, _ in trades])
    return DescrStatsW(prices, [abs(float(size)) for _, _, size in trades], ddof=0)


@pytest.mark.parametrize("seed", [5, 6])
def test_vwap(seed: int) -> None:
    """Session and rolling averages, deviation and bands of every minute over five hours."""
    trades = market(seed, 300, push=2.0)
    rows = table(vwap.STAGE, run(vwap.STAGE, ticks_of(trades), cuts=[50, 500], until_us=at(6)))
    assert len(rows) > 250
    for row in rows:
        end = row["at"] + MINUTE_US
        so_far = [trade for trade in trades if trade[0] < end]
        session = weighted(so_far)
        assert row["session_vwap"] == pytest.approx(float(session.mean), rel=1e-12)
        assert row["session_sd"] == pytest.approx(float(session.std), rel=1e-7, abs=1e-12)
        for k in (1, 2, 3):
            for name, sign in (("upper", 1), ("lower", -1)):
                edge = float(session.mean + sign * k * session.std)
                assert row[f"{name}_{k}"] == pytest.approx(edge, rel=1e-10)
        for hours in (1, 4, 24):
            window = [trade for trade in so_far if trade[0] >= end - hours * 60 * MINUTE_US]
            mean = float(np.average(weighted(window).data, weights=weighted(window).weights))
            assert row[f"rolling_vwap_{hours}h"] == pytest.approx(mean, rel=1e-12)
        close = float(so_far[-1][1])
        off = (close / float(session.mean) - 1) * 100
        assert row["deviation_pct"] == pytest.approx(off, rel=1e-6, abs=1e-9)
        if row["deviation_sd"] is not None:
            apart = (close - float(session.mean)) / float(session.std)
            assert row["deviation_sd"] == pytest.approx(apart, rel=1e-6, abs=1e-7)
        assert math.isfinite(row["session_sd"])
