"""Rotation events by hand."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from pipeline.equities.rotation import Params, rotation_events
from pipeline.equities.sessions import sessions_left, trading_days
from tests.equities.worlds import CLASSES, FILING, HOLDING, METRICS, PRICES, weekdays

SELLER, BUYER, OTHER = "0000000001", "0000000002", "0000000003"
ENDS = [date(2022, 3, 31), date(2022, 6, 30), date(2022, 9, 30), date(2022, 12, 31)]
DAYS = weekdays(date(2022, 1, 3), date(2023, 3, 31), frozenset())
FLOWS = {
    "symbol": pl.String,
    "trade_date": pl.Date,
    "shares": pl.Int64,
    "attribution_confidence": pl.Float64,
    "mode": pl.String,
}


def filings(**shares: list[int | None]) -> list[dict[str, Any]]:
    """Shares of X by quarter; None: no filing, 0: a filing without X."""
    rows = []
    for manager, held in shares.items():
        for end, n in zip(ENDS, held, strict=False):
            if n is not None:
                rows.append(
                    {
                        "institution_cik": {"s": SELLER, "b": BUYER, "o": OTHER}[manager],
                        "accession": f"{manager}-{end:%y%m}",
                        "period": end,
                        "filed_date": end + timedelta(days=45),
                        "amendment": None,
                        "cusip": "X",
                        "issuer_cik": "0000000099" if manager == "s" else None,
                        "symbol": "X",
                        "shares": n,
                        "value": 10.0 * n,
                    }
                )
    return rows


def closes(*names: str) -> pl.DataFrame:
    rows = [
        {"symbol": name, "date": day, "close": 10.0, "adj_close": 10.0}
        for name in names
        for day in DAYS
    ]
    return pl.DataFrame(rows, schema=PRICES)


def ask(
    rows: list[dict[str, Any]],
    params: Params | None = None,
    *,
    prices: pl.DataFrame | None = None,
    metrics: list[dict[str, Any]] | None = None,
    classes: list[dict[str, Any]] | None = None,
    flows: list[dict[str, Any]] | None = None,
    entities: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    held = [row for row in rows if row["shares"]]
    found = rotation_events(
        pl.DataFrame(held, schema=HOLDING),
        pl.DataFrame([{k: row[k] for k in FILING} for row in rows], schema=FILING),
        pl.DataFrame(
            entities or [], schema={"kind": pl.String, "cik": pl.String, "ticker": pl.String}
        ),
        closes("SPY") if prices is None else prices,
        pl.DataFrame(metrics or [], schema=METRICS),
        pl.DataFrame(classes or [], schema=CLASSES),
        pl.DataFrame(flows or [], schema=FLOWS),
        DAYS,
        params,
    )
    return found.to_dicts()


def test_an_exit_that_a_new_holder_takes_up() -> None:
    rows = filings(s=[1000, 0, 250, 250], b=[0, 600, 600, 800], o=[500, 400, 400, 0])
    first, other = ask(rows)
    assert (first["symbol"], first["institution_cik"]) == ("X", SELLER)
    assert first["period"] == first["anchor_date"] == date(2022, 6, 30)
    assert first["delta"] == -1.0
    # 600 bought of 1000 + 100 sold; in the next quarter only the seller itself came back
    assert first["u_same"] == pytest.approx(600 / 1100)
    assert first["u_next"] == 0.0
    assert (first["dumpz"], first["dumpz_fallback"]) == (2.0, True)
    assert first["eow"] is True
    assert first["r_score"] == pytest.approx(4 + 600 / 1100)
    assert first["anchor_filing"] == "s-2206"
    assert first["issuer_cik"] == "0000000099"
    assert first["cluster_id"] == f"X-2022Q2-{SELLER}"
    # the last of what it stands on is the next quarter's filings
    assert first["available_date"] == date(2022, 9, 30) + timedelta(days=45)
    # nobody reported the quarter after yet
    assert (other["institution_cik"], other["u_next"]) == (OTHER, None)
    assert other["u_same"] == pytest.approx(200 / 400)
    assert other["car_m5_p20"] is None


def test_a_fall_of_29_per_cent_is_none_and_of_30_is() -> None:
    assert ask(filings(s=[1000, 701])) == []
    found = ask(filings(s=[1000, 700]))
    assert [row["delta"] for row in found] == [-0.3]
    # nobody took it up: no score
    assert found[0]["r_score"] == 0
    assert (found[0]["u_same"], found[0]["u_next"]) == (0.0, None)


def test_a_missing_filing_is_no_exit() -> None:
    assert ask(filings(s=[1000, None, None, 1000], b=[1, 2, 3, 4])) == []


def test_as_of_a_day() -> None:
    rows = filings(s=[1000, 500, 500], b=[100, 300, 400])
    filed = ENDS[1] + timedelta(days=45)
    assert ask(rows, Params(as_of=filed - timedelta(days=1))) == []
    (early,) = ask(rows, Params(as_of=filed))
    (late,) = ask(rows)
    assert (early["u_next"], late["u_next"]) == (None, pytest.approx(0.2))
    assert (early["available_date"], late["available_date"]) == (
        filed,
        ENDS[2] + timedelta(days=45),
    )


def test_issuers_from_entities() -> None:
    rows = [{**row, "issuer_cik": None} for row in filings(s=[1000, 500])]
    entities = [
        {"kind": "etf", "cik": "0000000001", "ticker": "X"},
        {"kind": "issuer", "cik": "0000000042", "ticker": "X"},
    ]
    assert [row["issuer_cik"] for row in ask(rows, entities=entities)] == ["0000000042"]
    assert [row["issuer_cik"] for row in ask(rows)] == [None]


def test_returns_around_the_anchor() -> None:
    rows = filings(s=[1000, 500], b=[0, 100])
    prices = closes("SPY", "X")
    (plain,) = ask(rows, prices=prices)
    assert plain["car_m5_p20"] == 0.0
    # 30 June 2022 is a Thursday; session +20 is 28 July
    assert plain["available_date"] == date(2022, 8, 14)
    (filed,) = ask(rows, Params(anchor="filed_date"), prices=prices)
    assert filed["anchor_date"] == date(2022, 8, 14)
    # session 0 is Monday 15 August
    assert filed["available_date"] == date(2022, 9, 12)
    assert filed["eow"] is False
    jump = prices.with_columns(
        pl.when(pl.col("symbol") == "X", pl.col("date") >= date(2022, 7, 28))
        .then(11.0)
        .otherwise("adj_close")
        .alias("adj_close")
    )
    assert ask(rows, prices=jump)[0]["car_m5_p20"] == pytest.approx(0.1)
    assert ask(rows, Params(as_of=date(2022, 8, 20)), prices=jump)[0]["car_m5_p20"] is not None
    gone = prices.filter(~((pl.col("symbol") == "X") & (pl.col("date") == date(2022, 7, 28))))
    assert ask(rows, prices=gone)[0]["car_m5_p20"] is None
    assert ask(rows, prices=closes("X"))[0]["car_m5_p20"] is None


def test_the_quarters_microstructure() -> None:
    rows = filings(s=[1000, 500], b=[0, 100])
    quarter = [day for day in DAYS if date(2022, 4, 1) <= day <= date(2022, 6, 30)]
    key = [{"symbol": "X", "trade_date": day} for day in quarter]
    metrics = [
        {**k, "vpin": 0.5, "vpin_quality_flag": "HIGH", "kyles_lambda": 25.0,
         "kyles_lambda_r2": 0.4, "block_trade_ratio": 0.2} for k in key
    ]  # fmt: skip
    metrics[3]["vpin"] = 0.9
    classes = [{**k, "order_imbalance": -0.5, "quality_flag": "HIGH"} for k in key]
    flows = [{**key[0], "shares": 5, "attribution_confidence": 0.6, "mode": "PUBLISHED"}]
    outside = {**key[0], "trade_date": date(2022, 7, 1)}
    (found,) = ask(
        rows,
        metrics=[*metrics, {**metrics[0], **outside, "vpin": 0.0}],
        classes=[*classes, {**classes[0], **outside}],
        flows=[*flows, {**flows[0], **outside, "attribution_confidence": 0.0}],
    )
    vpin = 0.5 + 0.4 / len(quarter)
    assert found["micro_vpin_avg"] == pytest.approx(vpin)
    assert found["micro_vpin_spike"] is True
    assert found["micro_lambda_avg"] == pytest.approx(25)
    assert found["micro_order_imbalance_avg"] == pytest.approx(-0.5)
    assert found["micro_block_ratio_avg"] == pytest.approx(0.2)
    assert found["micro_flow_attribution_score"] == pytest.approx(0.6)
    # lambda is LOW for 9 days, MEDIUM for 10, HIGH from the 20th on
    grades = (9 * 0.2 + 10 * 0.6 + (len(quarter) - 19)) / len(quarter)
    sure = 0.4 * 0.6 + 0.3 + 0.2 + 0.1 * grades
    assert found["micro_confidence"] == pytest.approx(sure)
    term = 0.6 * vpin + 0.8 + 0.3 * 0.5 + 0.4 * 0.5 + 0.5 * 0.2 + 0.7 * 0.6
    assert found["r_score"] == pytest.approx(4 + 0.2 + sure * term)
    (boosted,) = ask(rows, Params(sell_boost=1.2), metrics=metrics, classes=classes, flows=flows)
    assert boosted["r_score"] == pytest.approx(4 + 0.2 + sure * (term + 0.4 * 0.1))


def test_sessions_to_the_end_of_the_quarter() -> None:
    calendar = trading_days(weekdays(date(2022, 1, 3), date(2022, 8, 16), frozenset({ENDS[0]})))
    asked = {
        date(2022, 3, 31): 0,  # no session
        date(2022, 3, 25): 4,
        date(2022, 6, 30): 1,
        date(2022, 6, 26): 4,
        date(2022, 6, 24): 5,
        # behind the calendar weekdays count
        date(2022, 9, 28): 3,
        date(2022, 8, 16): 1 + 33,
        date(2022, 12, 31): 0,
    }
    found = sessions_left(pl.Series(list(asked)), calendar)
    assert found.to_list() == list(asked.values())
    assert sessions_left(pl.Series([date(2022, 9, 28)]), calendar.clear()).to_list() == [3]


def test_nothing() -> None:
    assert ask([]) == []
