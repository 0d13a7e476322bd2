"""Daily bars classified in bulk, against plain Python."""

from __future__ import annotations

import math
import random
from datetime import date, timedelta
from itertools import pairwise
from statistics import NormalDist, linear_regression, stdev
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.equities import bars
from pipeline.equities.bars import Params, classify_bars


def prices(symbol: str, count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    level, rows = 50.0, []
    for number in range(count):
        level *= 1 + rng.choice((0.0, rng.gauss(0, 0.02)))
        rows.append(
            {
                "symbol": symbol,
                "date": date(2023, 1, 2) + timedelta(days=number),
                "close": level * 2,
                "adj_close": level,
                "volume": float(rng.randrange(5)) * 1e5,
            }
        )
    return rows


def plain(rows: list[dict[str, Any]]) -> dict[date, dict[str, Any]]:
    found: dict[date, dict[str, Any]] = {}
    closes = [row["adj_close"] for row in rows]
    moves = [b - a for a, b in pairwise(closes)]
    for n in range(20, len(rows)):
        sigma = stdev(moves[n - 20 : n])
        volume = rows[n]["volume"]
        bought = volume * NormalDist().cdf(moves[n - 1] / sigma)
        found[rows[n]["date"]] = {
            "buy": bought,
            "oi": (2 * bought - volume) / volume if volume else None,
            "net": 2 * bought - volume,
            "volume": volume,
            "x": (2 * bought - volume) * rows[n]["close"] / 1e6,
            "r": 1e4 * math.log(closes[n] / closes[n - 1]),
        }
    done = list(found.values())
    for n, row in enumerate(done):
        near = done[max(0, n - 19) : n + 1]
        whole = sum(each["volume"] for each in near)
        row["vpin"] = (
            sum(abs(each["net"]) for each in near) / whole if len(near) >= 5 and whole else None
        )
        row["days"] = len(near) if row["vpin"] is not None else None
        line = done[max(0, n - 29) : n + 1]
        x, y = [each["x"] for each in line], [each["r"] for each in line]
        row["lambda"] = linear_regression(x, y).slope if len(line) >= 10 else None
    return found


def test_two_symbols() -> None:
    several = [*prices("XX", 90, 1), *prices("YY", 45, 2), *prices("ZZ", 20, 3)]
    found = classify_bars(pl.DataFrame(several[::-1]))
    assert found.classification.columns == [c.name for c in bars.CLASSIFICATION_COLUMNS]
    assert found.metrics.columns == [c.name for c in bars.METRICS_COLUMNS]
    keys = list(found.classification.select("symbol", "trade_date").iter_rows())
    expected = {
        (name, day): row
        for name in ("XX", "YY")
        for day, row in plain([r for r in several if r["symbol"] == name]).items()
    }
    assert keys == sorted(expected)
    rows = zip(
        found.classification.iter_rows(named=True), found.metrics.iter_rows(named=True), strict=True
    )
    for key, (own, daily) in zip(keys, rows, strict=True):
        want = expected[key]
        assert own["total_buy_volume"] == pytest.approx(want["buy"], rel=1e-12)
        assert own["total_buy_volume"] + own["total_sell_volume"] == pytest.approx(want["volume"])
        oi = want["oi"]
        assert own["order_imbalance"] == (None if oi is None else pytest.approx(oi, abs=1e-12))
        side = "neutral" if abs(oi or 0) <= 0.1 else "buy" if (oi or 0) > 0 else "sell"
        assert own["trade_direction"] == side
        assert (own["classification_method"], own["quality_flag"]) == ("BVC", "LOW")
        assert daily["daily_order_imbalance"] == own["order_imbalance"]
        vpin, lam = want["vpin"], want["lambda"]
        assert daily["vpin"] == (None if vpin is None else pytest.approx(vpin, abs=1e-12))
        assert daily["vpin_window_bars"] == want["days"]
        assert daily["vpin_quality_flag"] == (None if vpin is None else "LOW")
        assert daily["informed_trading_probability"] == daily["vpin"]
        assert daily["kyles_lambda"] == (None if lam is None else pytest.approx(lam, rel=1e-9))
        assert daily["kyles_lambda_quality_flag"] == (None if lam is None else "LOW")
        assert daily["total_volume"] == want["volume"]
        assert daily["quoted_spread_bps"] is None
        assert daily["data_completeness"] is None


def test_a_row_does_not_depend_on_what_comes_before_its_windows() -> None:
    rows = prices("XX", 200, 5)
    whole, late = (classify_bars(pl.DataFrame(part)) for part in (rows, rows[100:]))
    # 20 days for the deviation, 30 for lambda
    assert whole.metrics.tail(51).equals(late.metrics.tail(51))
    assert whole.classification.tail(79).equals(late.classification.tail(79))


def test_the_hand_case_of_lambda() -> None:
    x, r = np.array([-2.0, -1, 0, 1, 2]), np.array([-21.0, -9, 1, 11, 18])
    start = np.zeros(5, np.int64)
    slope, error, r2 = bars._lambda(x, r, start, Params(min_lambda_days=3))
    assert slope[-1] == pytest.approx(9.8, abs=1e-12)
    assert r2[-1] == pytest.approx(0.992149, abs=5e-7)
    assert error[-1] == pytest.approx(0.503322, abs=5e-7)
    assert np.isnan(slope[:2]).all()
    flat, _, none = bars._lambda(np.full(5, 0.1), r, start, Params(min_lambda_days=3))
    assert np.isnan(flat).all()
    assert np.isnan(none).all()
    still = bars._lambda(x, np.full(5, 0.3), start, Params(min_lambda_days=3))
    assert still[0][-1] == pytest.approx(0, abs=1e-15)
    assert np.isnan(still[2]).all()


def test_without_movement_half_was_bought() -> None:
    rows = [{**row, "adj_close": 7.0, "volume": 1000.0} for row in prices("XX", 30, 1)]
    found = classify_bars(pl.DataFrame(rows))
    assert found.classification["total_buy_volume"].to_list() == [500.0] * 10
    assert found.classification["order_imbalance"].to_list() == [0.0] * 10
    assert found.metrics["vpin"].to_list() == [None] * 4 + [0.0] * 6
    assert found.metrics["kyles_lambda"].to_list() == [None] * 10
    # equal steps do not vary either
    exact = [{**row, "adj_close": 100.0 + 0.5 * n} for n, row in enumerate(rows)]
    assert (
        classify_bars(pl.DataFrame(exact)).classification["order_imbalance"].to_list() == [0] * 10
    )


def test_too_short_and_nothing_at_all() -> None:
    short = classify_bars(pl.DataFrame(prices("XX", 20, 1)))
    assert short.classification.schema == bars.CLASSIFICATION
    assert short.metrics.schema == bars.METRICS
    assert len(short.metrics) == 0
    holed = prices("XX", 25, 1)
    holed[3] = {**holed[3], "close": None}
    assert len(classify_bars(pl.DataFrame(holed)).metrics) == 4
