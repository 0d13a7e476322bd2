"""The hand cases of the specification, to their printed digits."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.equities import signals
from pipeline.equities.allocation import largest_remainder
from pipeline.equities.bars import bulk_buy
from pipeline.equities.event_study import abnormal_returns
from pipeline.equities.mapping import Params, strength
from pipeline.equities.rotation import dump_z
from pipeline.equities.score import micro_term, rotation_score
from pipeline.equities.significance import false_discovery, one_sided
from scripts.equitykit.page import INTRO


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values)


def test_bulk_volume_of_one_sigma() -> None:
    bought = bulk_buy(floats(1000, 1000, 1000), floats(0.5, -0.5, 0.7), floats(0.5, 0.5, 0))
    assert bought.round(3).tolist() == [841.345, 158.655, 500.0]


def test_a_week_is_spread_to_the_share() -> None:
    parts = largest_remainder(ints(*[1000] * 5), ints(*[0] * 5), ints(10, 20, 30, 20, 20))
    assert parts.tolist() == [100, 200, 300, 200, 200]
    parts = largest_remainder(ints(*[1001] * 3), ints(*[0] * 3), ints(1, 1, 1))
    assert parts.tolist() == [334, 334, 333]


def strengths(rho: float | None, count: int, q: float, prior: float) -> float:
    row = pl.DataFrame(
        {"rho": [rho], "n": [count], "q": [q], "prior": [prior]},
        schema={"rho": pl.Float64, "n": pl.Int64, "q": pl.Float64, "prior": pl.Float64},
    )
    made = strength(pl.col("rho"), pl.col("n"), pl.col("q"), pl.col("prior"), Params())
    return float(row.select(made).item())


def test_strength_of_a_relationship() -> None:
    assert strengths(0.8, 60, 0.01, 0.0) == pytest.approx(0.6, abs=1e-15)
    assert strengths(0.8, 60, 0.01, 0.5) == pytest.approx(0.8, abs=1e-15)
    assert strengths(0.8, 60, 0.11, 0.0) == pytest.approx(0.3, abs=1e-15)
    assert strengths(0.8, 60, 0.10, 0.0) == pytest.approx(0.6, abs=1e-15)
    assert strengths(-0.8, 60, 0.01, 0.5) == 0.5
    assert strengths(None, 2, 1.0, 0.0) == 0.0
    # one symbol for a year
    assert strengths(1.0, 4, 0.0, 0.0) == pytest.approx(4 / 24, abs=1e-15)


def test_p_values_and_what_is_left_of_them() -> None:
    p = one_sided(floats(0.5, 1.0, -1.0, np.nan, 0.9), ints(10, 5, 5, 30, 2))
    assert p[0] == pytest.approx(0.0705566, abs=5e-8)
    assert p[1:].tolist() == [0.0, 1.0, 1.0, 1.0]
    q = false_discovery(floats(0.01, 0.04, 0.03, 0.5))
    assert q.round(4).tolist() == [0.04, 0.0533, 0.0533, 0.5]


def test_how_unusual_a_dump_is() -> None:
    history = [0.02, -0.01, 0.03, -0.04, 0.0, 0.01, -0.02, 0.05]
    row = pl.DataFrame({"history": [history], "delta": [-0.08]})
    found = row.select(dump_z(pl.col("history"), pl.col("delta"), 0.02)).item()
    assert found == pytest.approx(2.86659, abs=5e-6)


SEED = {
    "micro_vpin_avg": 0.74,
    "micro_vpin_spike": True,
    "micro_lambda_avg": 22.1,
    "micro_order_imbalance_avg": -0.38,
    "micro_block_ratio_avg": 0.21,
    "micro_flow_attribution_score": 0.79,
    "micro_confidence": 0.87,
}


def term(sell_boost: float = 1.0, **changed: float) -> float:
    return float(pl.DataFrame([{**SEED, **changed}]).select(micro_term(sell_boost)).item())


def test_what_the_microstructure_adds() -> None:
    assert term() == pytest.approx(1.902342, abs=5e-7)
    assert term(1.2) == pytest.approx(1.92879, abs=5e-6)
    assert term(micro_confidence=0.41) == 0
    # the gate is open above a half, not at it
    assert term(micro_confidence=0.5) == 0
    assert term(micro_confidence=0.5000001) > 0
    # buying counts like selling, and is never boosted
    assert term(micro_order_imbalance_avg=0.38) == pytest.approx(1.902342, abs=5e-7)
    assert term(1.2, micro_order_imbalance_avg=0.38) == pytest.approx(1.902342, abs=5e-7)
    assert term(1.2, micro_order_imbalance_avg=-0.9) == pytest.approx(
        term(micro_order_imbalance_avg=-1.0), abs=1e-12
    )
    assert term(micro_lambda_avg=-5.0) == pytest.approx(term(micro_lambda_avg=0.0), abs=1e-15)
    # the most there can be at the example's confidence of 0.87, and with its price impact
    full = {name: 1.0 for name in SEED if name not in {"micro_confidence", "micro_lambda_avg"}}
    assert term(**full, micro_lambda_avg=1e9) == pytest.approx(0.87 * 3.3, abs=1e-12)
    most = {"micro_lambda_avg": 22.1, "micro_order_imbalance_avg": -1.0}
    assert term(**most) < 2.3


def test_the_page_tells_what_the_example_adds() -> None:
    told = re.search(r"above (\S+)\. The recipe's own example adds (\S+) points", INTRO)
    assert told is not None
    gate, points = told.groups()
    assert points == f"{term():.2f}"
    assert term(micro_confidence=float(gate)) == 0
    assert term(micro_confidence=float(gate) + 0.01) > 0
    page = Path(__file__).resolve().parents[2] / "docs" / "equities.md"
    assert page.read_text(encoding="utf-8").startswith(INTRO)


EMPTY = dict.fromkeys(
    (
        "uhf_same", "uhf_next", "opt_same", "opt_next", "shortrelief_v2", "index_penalty",
        "micro_vpin_avg", "micro_vpin_spike", "micro_lambda_avg", "micro_order_imbalance_avg",
        "micro_block_ratio_avg", "micro_flow_attribution_score", "micro_confidence",
    )
)  # fmt: skip


def score(**parts: float | bool | None) -> float:
    row = {"dumpz": 2.0, "u_same": 0.5, "u_next": 0.4, "eow": False, **EMPTY, **parts}
    return float(pl.DataFrame([row]).select(rotation_score(1.0)).item())


def test_the_rotation_score_and_its_gates() -> None:
    assert score() == pytest.approx(2 * 2 + 0.5 + 0.85 * 0.4)
    assert score(eow=True) == pytest.approx(2 * 2 + 0.5 + 0.85 * 0.4 * 1.05)
    assert score(**SEED) == pytest.approx(4.84 + 1.902342, abs=5e-7)
    assert score(dumpz=1.4999, **SEED) == 0
    assert score(dumpz=1.5) == pytest.approx(3.84)
    assert score(u_same=0.0, u_next=None, **SEED) == 0
    assert score(u_same=0.0, u_next=None, uhf_next=0.1) == pytest.approx(4.06)
    every = {
        "uhf_same": 0.1, "uhf_next": 0.2, "opt_same": 0.3, "opt_next": 0.4,
        "shortrelief_v2": 0.5, "index_penalty": 0.6,
    }  # fmt: skip
    assert score(eow=True, **every) == pytest.approx(
        4 + 0.5 + 0.85 * 0.4 * 1.05 + 0.07 + 0.12 * 1.1 + 0.15 + 0.16 * 1.25 + 0.2 - 0.6
    )


def test_micro_confidence() -> None:
    def one(
        coverage: float, flow: float, vpin: float, kind: float, lam: float, *, capped: bool = False
    ) -> float:
        values = (floats(v) for v in (coverage, flow, vpin, kind, lam))
        found = signals.confidence_of(*values, np.array([capped]), signals.Params())  # type: ignore[call-arg, arg-type]
        return float(found[0])

    assert one(0.95, 0.79, 1, 1, 0.6) == pytest.approx(0.8322, abs=1e-12)
    assert one(0.95, 0.79, 1, 1, 0.6, capped=True) == 0.5
    assert one(1, np.nan, np.nan, 0.2, np.nan) == pytest.approx(0.04)


def sessions(count: int) -> list[date]:
    found: list[date] = []
    day = date(2024, 1, 2)
    while len(found) < count:
        if day.weekday() < 5:
            found.append(day)
        day += timedelta(days=1)
    return found


def test_car_is_the_sum_of_26_days() -> None:
    days = sessions(40)
    stock = np.cumprod([100.0] + [1.002] * 39)
    market = np.cumprod([400.0] + [1.001] * 39)
    prices = pl.concat(
        pl.DataFrame({"symbol": name, "date": days, "adj_close": closes})
        for name, closes in (("X", stock), ("SPY", market))
    )
    anchor = days[6]
    events = pl.DataFrame({"symbol": ["X", "X", "X"], "anchor_date": [anchor, days[5], days[20]]})
    car, until = abnormal_returns(events, prices, "SPY")
    assert car[0] == pytest.approx(0.026, abs=1e-12)
    assert until[0] == days[26]
    # session -6 is needed, and session +20
    assert car[1:].to_list() == [None, None]
    assert until[1:].to_list() == [None, None]
    holed = prices.filter(~((pl.col("symbol") == "X") & (pl.col("date") == days[0])))
    assert abnormal_returns(events, holed, "SPY")[0].to_list() == [None, None, None]
    # session 0 is the first one on or after the anchor
    weekend = pl.DataFrame({"symbol": ["X"], "anchor_date": [date(2024, 1, 13)]})
    assert abnormal_returns(weekend, prices, "SPY")[1].to_list() == [
        days[days.index(date(2024, 1, 15)) + 20]
    ]
