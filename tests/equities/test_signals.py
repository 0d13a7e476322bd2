"""Period signals against plain Python, and by hand where there is little to go by."""

from __future__ import annotations

from datetime import date
from statistics import fmean
from typing import Any

import polars as pl
import pytest

from pipeline.equities import signals
from pipeline.equities.signals import period_signals
from tests.equities.worlds import CLASSES, METRICS, World, world

FLOWS = {
    "symbol": pl.String,
    "trade_date": pl.Date,
    "shares": pl.Int64,
    "attribution_confidence": pl.Float64,
    "mode": pl.String,
    "available_date": pl.Date,
}
START, END = date(2022, 2, 1), date(2022, 3, 31)
WORTH = {"HIGH": 1.0, "MEDIUM": 0.6, "LOW": 0.2, None: 0.0}


def flow(symbol: str, day: date, shares: int, sure: float, mode: str) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "trade_date": day,
        "shares": shares,
        "attribution_confidence": sure,
        "mode": mode,
        "available_date": date(2022, 5, 16),
    }


FLOW_ROWS = [
    flow("AA", date(2022, 2, 1), 100, 0.9, "PUBLISHED"),
    flow("AA", date(2022, 3, 31), 300, 0.5, "PUBLISHED"),
    flow("AA", date(2022, 4, 1), 10**6, 0.1, "PUBLISHED"),
    flow("BB", date(2022, 2, 9), 50, 0.8, "NOWCAST"),
    flow("BB", date(2022, 2, 10), 50, 0.7, "PUBLISHED"),
]


def plain(market: World, symbol: str, start: date, end: date) -> dict[str, Any]:
    days = [day for day in market.days if start <= day <= end]
    mine = {r["trade_date"]: r for r in market.metrics if r["symbol"] == symbol}
    classes = {r["trade_date"]: r for r in market.classes if r["symbol"] == symbol}
    moved = [r for r in FLOW_ROWS if r["symbol"] == symbol and start <= r["trade_date"] <= end]
    inside = [day for day in days if day in mine]

    def mean(name: str, table: dict[date, dict[str, Any]]) -> float | None:
        values = [table[day][name] for day in days if day in table]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    def grade(day: date) -> str | None:
        if mine[day]["kyles_lambda"] is None:
            return None
        place = market.days.index(day)
        used = sum(each in mine for each in market.days[max(0, place - 29) : place + 1])
        r2 = mine[day]["kyles_lambda_r2"]
        return "HIGH" if used >= 20 and r2 > 0.3 else "MEDIUM" if used >= 10 and r2 > 0.2 else "LOW"

    shares = sum(r["shares"] for r in moved)
    score = (
        sum(r["shares"] * r["attribution_confidence"] for r in moved) / shares if moved else None
    )
    vpin_q = fmean(
        WORTH[mine[day]["vpin_quality_flag"]] if mine[day]["vpin"] is not None else 0.0
        for day in inside
    )
    class_q = fmean(
        WORTH[classes[day]["quality_flag"]] if day in classes else 0.0 for day in inside
    )
    lambda_q = fmean(WORTH[grade(day)] for day in inside)
    coverage = len(inside) / len(days)
    sure = coverage * (0.4 * (score or 0) + 0.3 * vpin_q + 0.2 * class_q + 0.1 * lambda_q)
    if not moved or any(r["mode"] == "NOWCAST" for r in moved):
        sure = min(sure, 0.5)
    vpins = [mine[day]["vpin"] for day in inside if mine[day]["vpin"] is not None]
    return {
        "symbol": symbol,
        "vpin_avg": mean("vpin", mine),
        "vpin_spike": max(vpins) > 0.7 if vpins else None,
        "lambda_avg": mean("kyles_lambda", mine),
        "order_imbalance_avg": mean("order_imbalance", classes),
        "block_ratio_avg": mean("block_trade_ratio", mine),
        "flow_attribution_score": score,
        "micro_confidence": sure,
        "coverage": coverage,
        "metric_days": len(inside),
        "flow_rows": len(moved),
    }


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize(
    ("start", "end"), [(START, END), (date(2021, 1, 1), date(2021, 1, 20)), (END, END)]
)
def test_a_period(seed: int, start: date, end: date) -> None:
    market = world(seed, end=date(2022, 6, 30))
    found = period_signals(
        market.frame("metrics"),
        market.frame("classes"),
        pl.DataFrame(FLOW_ROWS, schema=FLOWS),
        market.days,
        start,
        end,
    )
    assert found.columns == [column.name for column in signals.COLUMNS]
    rows = found.to_dicts()
    names = [row["symbol"] for row in rows]
    assert names == sorted(names)
    assert names
    for row in rows:
        if not row["metric_days"]:
            assert row["micro_confidence"] == 0
            continue
        expected = plain(market, row["symbol"], start, end)
        for name, value in expected.items():
            near = pytest.approx(value, abs=1e-12) if isinstance(value, float) else value
            assert row[name] == near, name
        assert (row["from_date"], row["to_date"]) == (start, end)


def test_modes_and_when_it_was_known() -> None:
    market = world(3, end=date(2022, 6, 30))
    found = period_signals(
        market.frame("metrics"),
        market.frame("classes"),
        pl.DataFrame(FLOW_ROWS, schema=FLOWS),
        market.days,
        START,
        END,
    )
    assert found["flow_mode"].to_list() == ["PUBLISHED", "NOWCAST", None, None]
    assert found["available_date"].to_list()[:2] == [date(2022, 5, 16)] * 2
    assert found["available_date"].to_list()[2] <= END
    # the nowcast and those without flows are capped
    assert found["micro_confidence"].to_list()[1:] == [
        min(0.5, value) for value in found["micro_confidence"].to_list()[1:]
    ]


def row(day: int, **more: Any) -> dict[str, Any]:
    return {"symbol": "X", "trade_date": date(2022, 3, day), **more}


def test_with_next_to_nothing() -> None:
    nothing = pl.DataFrame(schema=FLOWS)
    metrics = pl.DataFrame([row(1, vpin=0.71, vpin_quality_flag="HIGH")], schema=METRICS)
    classes = pl.DataFrame(schema=CLASSES)
    days = [date(2022, 3, 1), date(2022, 3, 2)]
    found = period_signals(metrics, classes, nothing, days, days[0], days[1]).to_dicts()
    assert found == [
        {
            "symbol": "X", "from_date": days[0], "to_date": days[1], "vpin_avg": 0.71,
            "vpin_spike": True, "lambda_avg": None, "order_imbalance_avg": None,
            "block_ratio_avg": None, "flow_attribution_score": None,
            "micro_confidence": pytest.approx(0.5 * 0.3), "coverage": 0.5, "metric_days": 1,
            "flow_rows": 0, "flow_mode": None, "available_date": days[0],
        }
    ]  # fmt: skip
    # no session in the period: nothing that could be covered
    only = pl.DataFrame([flow("X", days[0], 5, 0.9, "PUBLISHED")], schema=FLOWS)
    found = period_signals(metrics, classes, only, [], days[0], days[1]).to_dicts()
    assert (found[0]["micro_confidence"], found[0]["coverage"]) == (None, None)
    assert found[0]["vpin_spike"] is None
    empty = period_signals(metrics.clear(), classes, nothing, days, days[0], days[1])
    assert empty.schema == signals.SCHEMA
    assert len(empty) == 0


def test_a_grade_that_is_told_counts() -> None:
    days = pl.date_range(date(2022, 1, 3), date(2022, 3, 31), "1d", eager=True)
    metrics = pl.DataFrame(
        {
            "symbol": ["X"] * len(days),
            "trade_date": days,
            "vpin": [None] * len(days),
            "vpin_quality_flag": [None] * len(days),
            "kyles_lambda": [1.0] * len(days),
            "kyles_lambda_r2": [0.9] * len(days),
            "block_trade_ratio": [None] * len(days),
        }
    )
    last = days[-1]

    def sure(frame: pl.DataFrame) -> float:
        found = period_signals(
            frame, pl.DataFrame(schema=CLASSES), pl.DataFrame(schema=FLOWS), days, last, last
        )
        return float(found["micro_confidence"].item())

    assert sure(metrics) == pytest.approx(0.1)
    told = metrics.with_columns(kyles_lambda_quality_flag=pl.lit("LOW"))
    assert sure(told) == pytest.approx(0.02)
    assert sure(metrics.tail(15)) == pytest.approx(0.06)
    assert sure(metrics.tail(9)) == pytest.approx(0.02)
