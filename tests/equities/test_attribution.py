"""Attribution by hand: parts, sides, confidence, nowcasts, and when a row could be known."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from pipeline.equities import attribution
from pipeline.equities.attribution import Attributed, Params, attributed
from tests.equities.worlds import ATS, CLASSES, FILING, HOLDING, PRICES

MONDAY = date(2023, 5, 1)
WEEK = [MONDAY + timedelta(days=n) for n in range(5)]
Q1, Q2 = date(2023, 3, 31), date(2023, 6, 30)
ONE, TWO, THREE = "0000000001", "0000000002", "0000000003"


def filing(manager: str, period: date, shares: int | None, **more: Any) -> dict[str, Any]:
    """A filing with one holding of X, or with none."""
    return {
        "institution_cik": manager,
        "accession": f"{manager}-{period:%y%m}",
        "period": period,
        "filed_date": period + timedelta(days=45),
        "amendment": None,
        "cusip": "X00000000",
        "issuer_cik": "0000000077",
        "symbol": "X",
        "shares": shares,
        "value": 10.0 * (shares or 0),
        **more,
    }


def ats(shares: float, week: date = MONDAY, **more: Any) -> dict[str, Any]:
    return {
        "week_start": week,
        "symbol": "X",
        "mpid": "VNA",
        "shares": shares,
        "trades": 10,
        "tier": "T1",
        "published": week + timedelta(days=21),
        **more,
    }


def tape(day: date, imbalance: float | None, volume: float = 100.0) -> dict[str, Any]:
    return {
        "symbol": "X",
        "trade_date": day,
        "total_buy_volume": volume,
        "total_sell_volume": 0.0,
        "total_neutral_volume": 0.0,
        "order_imbalance": imbalance,
        "quality_flag": "HIGH",
    }


def regsho(day: date, volume: float) -> dict[str, Any]:
    return {"date": day, "symbol": "X", "total_volume": volume, "short_volume": 0.0}


def ask(
    weeks: list[dict[str, Any]],
    filings: list[dict[str, Any]],
    strengths: dict[str, float],
    *,
    off: list[dict[str, Any]] | None = None,
    iex: list[dict[str, Any]] | None = None,
    classes: list[dict[str, Any]] | None = None,
    days: list[date] | None = None,
    prices: list[dict[str, Any]] | None = None,
    **settings: Any,
) -> Attributed:
    held = [row for row in filings if row["shares"] is not None]
    relations = pl.DataFrame(
        {
            "broker_mpid": ["VNA"] * len(strengths),
            "institution_cik": list(strengths),
            "relationship_strength": list(strengths.values()),
            "as_of": [date(2023, 4, 1)] * len(strengths),
        }
    )
    return attributed(
        pl.DataFrame(weeks, schema=ATS),
        pl.DataFrame(
            off or [],
            schema={
                "date": pl.Date,
                "symbol": pl.String,
                "total_volume": pl.Float64,
                "short_volume": pl.Float64,
            },
        ),
        pl.DataFrame(
            iex or [], schema={"date": pl.Date, "symbol": pl.String, "matched_shares": pl.Int64}
        ),
        WEEK if days is None else days,
        pl.DataFrame(held, schema=HOLDING),
        pl.DataFrame([{k: row[k] for k in FILING} for row in filings], schema=FILING),
        relations,
        pl.DataFrame(classes or [], schema=CLASSES),
        Params(**settings),
        None if prices is None else pl.DataFrame(prices, schema=PRICES),
    )


HOLDERS = [filing(ONE, Q1, 500), filing(TWO, Q1, 500), filing(THREE, Q1, None)]


def test_parts_of_a_venues_day() -> None:
    flows, dropped, undated = ask([ats(5000)], HOLDERS, {ONE: 0.6, TWO: 0.3, THREE: 0.9})
    # the third holds nothing, so it neither gets anything nor counts in the sum
    assert flows["institution_cik"].to_list() == [ONE, TWO] * 5
    assert flows["shares"].to_list() == [315, 157] * 5
    assert flows["trade_date"].unique().sort().to_list() == WEEK
    assert flows["flow_direction"].to_list() == ["unknown"] * 10
    assert flows["attribution_confidence"].to_list() == pytest.approx([0.21, 0.105] * 5)
    assert flows["trades"].to_list() == [0] * 10
    assert (dropped, undated) == (0, 0)
    assert flows["source"].unique().to_list() == ["finra_ats/equal"]
    assert flows["map_date"].unique().to_list() == [date(2023, 4, 1)]


def test_a_quotient_that_floats_miss_is_not_cut() -> None:
    # 0.1 x 1100 / 1.1 is 100, and 0.3 x 1300 / 1.3 is 300
    flows = ask([ats(1100)], HOLDERS[:1], {ONE: 0.1}, days=[MONDAY]).flows
    assert flows["shares"].to_list() == [100]
    flows = ask([ats(1300)], HOLDERS[:1], {ONE: 0.3}, days=[MONDAY]).flows
    assert flows["shares"].to_list() == [300]
    # less than a share is nothing
    assert len(ask([ats(1)], HOLDERS[:1], {ONE: 0.9}, days=[MONDAY]).flows) == 0


@pytest.mark.parametrize(
    ("imbalance", "before", "after", "side", "g"),
    [
        (None, 100, 200, "buy", 0.6),
        (None, 200, 0, "sell", 0.6),
        (None, 200, 200, "unknown", 0.0),
        (0.1, 100, 200, "buy", 0.8),
        (-0.2, 100, 200, "unknown", 0.2 - 1e-9),
        (-0.19, 100, 200, "buy", 0.22),
        (-0.4, 100, 50, "sell", 1.0),
        (0.4, 100, 100, "buy", 0.4),
    ],
)
def test_sides(imbalance: float | None, before: int, after: int, side: str, g: float) -> None:
    reported = [filing(ONE, Q1, before), filing(ONE, Q2, after or None)]
    classes = [tape(MONDAY, imbalance)] if imbalance is not None else []
    # the sign of 0.6 - 0.4 is told, for it is not below 0.2
    side = "buy" if g == 0.2 - 1e-9 else side
    row = ask([ats(1000)], reported, {ONE: 0.5}, classes=classes, days=[MONDAY]).flows
    assert row["flow_direction"].to_list() == [side]
    worth = 0.85 if classes else 0.7
    assert row["attribution_confidence"].item() == pytest.approx(
        0.5 * worth * (0.5 + 0.5 * g), abs=1e-8
    )


@pytest.mark.parametrize(
    ("imbalance", "side", "g"),
    [(0.08, "buy", 0.2), (0.0799, "unknown", 0.19975), (-0.3, "sell", 0.5), (None, "unknown", 0)],
)
def test_sides_before_the_13f_is_known(imbalance: float | None, side: str, g: float) -> None:
    row = ask(
        [ats(1000)],
        HOLDERS[:1],
        {ONE: 0.5},
        classes=[tape(MONDAY, imbalance)],
        days=[MONDAY],
    ).flows
    assert row["flow_direction"].to_list() == [side]
    assert row["attribution_confidence"].item() == pytest.approx(0.5 * 0.85 * (0.5 + 0.5 * g))


def test_what_a_week_is_spread_by() -> None:
    whole = [regsho(day, 100.0 * n) for n, day in enumerate(WEEK, 1)]
    known = [tape(day, None, 100.0 * n) for n, day in enumerate(reversed(WEEK), 1)]
    matched = [{"date": day, "symbol": "X", "matched_shares": n} for n, day in enumerate(WEEK)]

    def parts(**sources: Any) -> Any:
        flows = ask([ats(1500)], HOLDERS[:1], {ONE: 1.0}, **sources).flows
        worth = flows["attribution_confidence"].unique().item()
        return flows["shares"].to_list(), flows["source"].unique().item(), worth

    assert parts(off=whole, classes=known, iex=matched) == (
        [50, 100, 150, 200, 250], "finra_ats/regsho", pytest.approx(0.45))  # fmt: skip
    # a source without one of the days says nothing about the week
    assert parts(off=whole[1:], classes=known, iex=matched) == (
        [250, 200, 150, 100, 50], "finra_ats/consolidated", pytest.approx(0.425))  # fmt: skip
    assert parts(off=whole[1:], iex=matched) == (
        [75, 150, 225, 300], "finra_ats/iex", pytest.approx(0.4))  # fmt: skip
    assert parts() == ([150] * 5, "finra_ats/equal", pytest.approx(0.35))
    zeros = [regsho(day, 0.0) for day in WEEK]
    assert parts(off=zeros) == ([150] * 5, "finra_ats/equal", pytest.approx(0.35))


def test_holidays_and_weeks_without_a_day() -> None:
    flows = ask([ats(1500)], HOLDERS[:1], {ONE: 1.0}, days=WEEK[1:]).flows
    assert flows["shares"].to_list() == [187] * 4
    flows, _, undated = ask([ats(1500)], HOLDERS[:1], {ONE: 1.0}, days=[])
    assert (len(flows), undated) == (0, 1)
    assert flows.schema == attribution.SCHEMA


def test_what_is_not_sure_enough_is_counted() -> None:
    found = ask([ats(5000)], HOLDERS, {ONE: 0.6, TWO: 0.3}, min_confidence=0.2)
    assert found.flows["institution_cik"].unique().to_list() == [ONE]
    assert found.dropped == 5
    # rows are left out after the parts are made: who stays gets no more
    assert found.flows["shares"].to_list() == [315] * 5
    assert ask([ats(5000)], HOLDERS, {ONE: 0.6}, min_confidence=0.21).dropped == 0


def test_a_nowcast_until_the_week_is_public() -> None:
    later = [day + timedelta(days=21) for day in WEEK]
    off = [regsho(day, 1000.0) for day in WEEK] + [regsho(day, 500.0) for day in later]
    classes = [tape(day, 0.4) for day in later]
    weeks = [ats(2500), ats(4000, MONDAY + timedelta(days=21))]
    found = ask(
        weeks,
        [filing(ONE, Q1, 500)],
        {ONE: 1.0},
        off=off,
        classes=classes,
        days=WEEK + later,
        as_of=later[-1],
    ).flows
    recent = found.filter(pl.col("mode") == "NOWCAST")
    # Friday's volume is known on Saturday only
    assert recent["trade_date"].to_list() == later[:4]
    # 2500 of 5000 is a half, of 500 that is 250, and half of that the manager's
    assert recent["shares"].to_list() == [125] * 4
    assert recent["flow_direction"].to_list() == ["buy"] * 4
    # 1.0 x 0.9 x 0.75 is more than a nowcast may be
    assert recent["attribution_confidence"].to_list() == [0.5] * 4
    assert recent["available_date"].to_list() == [day + timedelta(days=1) for day in later[:4]]
    # once the week is public the rows are made from it
    found = ask(
        weeks,
        [filing(ONE, Q1, 500)],
        {ONE: 1.0},
        off=off,
        classes=classes,
        days=WEEK + later,
    ).flows.filter(pl.col("trade_date") >= later[0])
    assert found["mode"].unique().to_list() == ["PUBLISHED"]
    assert found["shares"].to_list() == [400] * 5
    assert found["attribution_confidence"].to_list() == pytest.approx([0.675] * 5)
    assert found["available_date"].unique().to_list() == [MONDAY + timedelta(days=42)]


def test_no_nowcast_from_an_old_or_a_holed_week() -> None:
    later = [day + timedelta(days=49) for day in WEEK]
    off = [regsho(day, 1000.0) for day in (*WEEK, *later)]

    def modes(volumes: list[dict[str, Any]]) -> set[str]:
        found = ask([ats(2500)], HOLDERS[:1], {ONE: 1.0}, off=volumes, days=WEEK + later)
        return set(found.flows["mode"])

    assert modes(off) == {"PUBLISHED"}
    near = [{**row, "date": row["date"] - timedelta(days=7)} for row in off[5:]]
    assert modes(off[:5] + near) == {"PUBLISHED", "NOWCAST"}
    assert modes(off[1:5] + near) == {"PUBLISHED"}


def test_known_only_when_all_of_it_was() -> None:
    rows = [filing(ONE, Q1, 500), filing(TWO, Q1, 500, filed_date=date(2023, 7, 2))]
    both = ask([ats(1000)], rows, {ONE: 0.5, TWO: 0.5}, days=[MONDAY]).flows
    # the second one's late filing is in the first one's denominator
    assert both["available_date"].to_list() == [date(2023, 7, 2)] * 2
    one = ask([ats(1000)], rows, {ONE: 0.5}, days=[MONDAY]).flows
    assert one["available_date"].to_list() == [MONDAY + timedelta(days=21)]
    early = ask([ats(1000)], rows, {ONE: 0.5, TWO: 0.5}, days=[MONDAY], as_of=date(2023, 7, 1))
    assert early.flows["institution_cik"].to_list() == [ONE]
    assert early.flows["shares"].to_list() == [333]
    assert len(ask([ats(1000)], rows, {ONE: 0.5}, as_of=MONDAY + timedelta(days=20)).flows) == 0


def test_who_may_have_traded() -> None:
    old, gone = filing(ONE, date(2022, 9, 30), 100), filing(TWO, date(2022, 12, 31), 100)
    rows = [old, gone, filing(THREE, date(2022, 12, 31), 100), filing(THREE, Q1, None)]
    flows = ask([ats(4000)], rows, dict.fromkeys((ONE, TWO, THREE), 0.5), days=[MONDAY]).flows
    # ONE's report is three quarters old; TWO's two; THREE has just sold out
    assert flows["institution_cik"].to_list() == [TWO, THREE]
    later = [*rows, filing(THREE, Q2, None)]
    flows = ask([ats(4000)], later, dict.fromkeys((ONE, TWO, THREE), 0.5), days=[MONDAY]).flows
    # its next report has neither the holding nor the sale any more
    assert flows["institution_cik"].to_list() == [TWO]


def test_a_split_is_no_purchase() -> None:
    rows = [filing(ONE, Q1, 100, value=2000.0), filing(ONE, Q2, 200, value=2000.0)]
    closes = [(Q1, 20.0, 10.0), (Q2, 10.0, 10.0)]
    prices = [
        {"symbol": "X", "date": day, "close": close, "adj_close": adjusted}
        for day, close, adjusted in closes
    ]
    plain = ask([ats(1000)], rows, {ONE: 0.5}, days=[MONDAY]).flows
    assert plain["flow_direction"].to_list() == ["buy"]
    adjusted = ask([ats(1000)], rows, {ONE: 0.5}, days=[MONDAY], prices=prices).flows
    assert adjusted["flow_direction"].to_list() == ["unknown"]


def test_the_frame_alone() -> None:
    empty = {name: pl.DataFrame(schema=schema) for name, schema in (
        ("ats", ATS), ("filings", HOLDING), ("list", FILING), ("classes", CLASSES))}  # fmt: skip
    volumes = pl.DataFrame(
        schema={
            "date": pl.Date,
            "symbol": pl.String,
            "total_volume": pl.Float64,
            "matched_shares": pl.Int64,
        }
    )
    relations = pl.DataFrame(
        schema={
            "broker_mpid": pl.String,
            "institution_cik": pl.String,
            "relationship_strength": pl.Float64,
        }
    )
    found = attribution.attributed(
        empty["ats"],
        volumes,
        volumes,
        pl.Series([], dtype=pl.Date),
        empty["filings"],
        empty["list"],
        relations,
        empty["classes"],
    ).flows
    assert len(found) == 0
    assert found.schema == attribution.SCHEMA
