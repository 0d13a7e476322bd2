"""13F positions by hand: amendments, exits, filings that are not there, splits."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from pipeline.equities import quarters
from pipeline.equities.positions import changes, resolve
from pipeline.equities.splits import RATIOS, factors, nearest
from tests.equities.worlds import FILING, HOLDING, PRICES

ONE = "0000000001"
Q3, Q4, Q1 = date(2022, 9, 30), date(2022, 12, 31), date(2023, 3, 31)


def head(accession: str, period: date, days: int, amendment: str | None = None) -> dict[str, Any]:
    return {
        "institution_cik": ONE,
        "accession": accession,
        "period": period,
        "filed_date": period + timedelta(days=days),
        "amendment": amendment,
    }


def held(filing: dict[str, Any], **shares: int) -> list[dict[str, Any]]:
    return [
        {**filing, "cusip": name, "issuer_cik": None, "symbol": name, "shares": n, "value": 1.0 * n}
        for name, n in shares.items()
    ]


def known(
    rows: list[dict[str, Any]], listed: list[dict[str, Any]], as_of: date | None = None
) -> tuple[dict[tuple[str, str], int], dict[str, tuple[str, date]]]:
    found = resolve(pl.DataFrame(rows, schema=HOLDING), pl.DataFrame(listed, schema=FILING), as_of)
    shares = {
        (quarters.label(row["quarter"]), row["symbol"]): row["shares"]
        for row in found.holdings.iter_rows(named=True)
    }
    reports = {
        quarters.label(row["quarter"]): (row["accession"], row["known_date"])
        for row in found.reports.iter_rows(named=True)
    }
    return shares, reports


def test_amendments_as_they_come() -> None:
    first, again = head("a", Q4, 40), head("b", Q4, 60, "RESTATEMENT")
    more, last = head("c", Q4, 70, "NEW HOLDINGS"), head("d", Q4, 200, "NEW HOLDINGS")
    rows = [
        *held(first, X=100, Y=50),
        *held(again, X=90),
        *held(more, Y=5, X=1),
        *held(last, Z=7),
    ]
    steps = [
        (39, {}, None),
        (40, {"X": 100, "Y": 50}, "a"),
        (59, {"X": 100, "Y": 50}, "a"),
        (60, {"X": 90}, "b"),
        (70, {"X": 91, "Y": 5}, "b"),
        (200, {"X": 91, "Y": 5, "Z": 7}, "b"),
    ]
    for days, expected, accession in steps:
        as_of = Q4 + timedelta(days=days)
        shares, reports = known(rows, [], as_of)
        assert shares == {("2022Q4", name): n for name, n in expected.items()}
        assert reports == (
            {"2022Q4": (accession, as_of)}
            if days in {40, 60, 70, 200}
            else {"2022Q4": ("a", first["filed_date"])}
            if days == 59
            else {}
        )


def test_an_addition_alone_is_no_report() -> None:
    rows = held(head("a", Q4, 40, "NEW HOLDINGS"), X=100)
    assert known(rows, []) == ({}, {})
    # and one that came before the report it is restated by is part of that
    rows += held(head("b", Q4, 50, "RESTATEMENT"), X=80)
    assert known(rows, [])[0] == {("2022Q4", "X"): 80}


def test_on_one_day_the_original_comes_first() -> None:
    rows = [
        *held(head("c", Q4, 40), X=100),
        *held(head("b", Q4, 40, "RESTATEMENT"), X=80),
        *held(head("a", Q4, 40, "NEW HOLDINGS"), Y=5),
    ]
    assert known(rows, [])[0] == {("2022Q4", "X"): 80, ("2022Q4", "Y"): 5}


def test_rows_of_a_symbol_are_added_up() -> None:
    filing = head("a", Q4, 40)
    rows = [*held(filing, X=100), *held(filing, X=23), *held(filing, Y=0)]
    rows.append({**rows[0], "symbol": None, "shares": 9})
    assert known(rows, [filing])[0] == {("2022Q4", "X"): 123}


def changed(
    rows: list[dict[str, Any]], listed: list[dict[str, Any]], prices: list[dict[str, Any]]
) -> dict[tuple[str, str], tuple[int, int, int]]:
    found = resolve(pl.DataFrame(rows, schema=HOLDING), pl.DataFrame(listed, schema=FILING), None)
    split = factors(pl.DataFrame(prices, schema=PRICES), found.holdings)
    return {
        (quarters.label(row["quarter"]), row["symbol"]): (
            row["previous"],
            row["shares"],
            row["change"],
        )
        for row in changes(found, split).iter_rows(named=True)
    }


def test_no_filing_is_not_zero_and_an_empty_one_is() -> None:
    rows = [*held(head("a", Q3, 40), X=100), *held(head("c", Q1, 40), X=70, Y=3)]
    assert changed(rows, [], []) == {}
    empty = head("b", Q4, 40)
    assert changed(rows, [empty], []) == {
        ("2022Q4", "X"): (100, 0, -100),
        ("2023Q1", "X"): (0, 70, 70),
        ("2023Q1", "Y"): (0, 3, 3),
    }


def price(day: date, close: float, adjusted: float) -> dict[str, Any]:
    return {"symbol": "X", "date": day, "close": close, "adj_close": adjusted}


HELD = [*held(head("a", Q4, 40), X=101), *held(head("b", Q1, 40), X=100)]


@pytest.mark.parametrize(
    ("closes", "previous"),
    [
        # as traded, one for two: half a share is paid out
        ([price(Q4, 10, 20), price(Q1, 20, 20)], 50),
        # two for one, and a dividend of 1 % besides
        ([price(Q4, 20, 9.9), price(Q1, 10, 10)], 202),
        # three for two
        ([price(Q4, 30, 20), price(Q1, 20, 20)], 151),
        # a fall by half is none, nor is a dividend of 10 %
        ([price(Q4, 20, 20), price(Q1, 10, 10)], 101),
        ([price(Q4, 20, 18), price(Q1, 18, 18)], 101),
        # nothing is known of the quarter before
        ([price(Q1, 18, 18)], 101),
    ],
)
def test_splits_from_closes(closes: list[dict[str, Any]], previous: int) -> None:
    assert changed(HELD, [], closes) == {("2023Q1", "X"): (previous, 100, 100 - previous)}


@pytest.mark.parametrize(("managers", "previous"), [(3, 1000), (2, 100)])
def test_splits_from_dollars_per_share(managers: int, previous: int) -> None:
    """Closes that were adjusted for the split already do not show it; filings do."""
    rows = []
    for number in range(managers):
        for accession, period, n, dollars in (("a", Q4, 100, 50_000.0), ("b", Q1, 1000, 55_000.0)):
            filing = {**head(accession, period, 40), "institution_cik": f"{number:010d}"}
            rows += [{**row, "value": dollars} for row in held(filing, X=n)]
    closes = [price(Q4, 50, 50), price(Q1, 55, 55)]
    assert changed(rows, [], closes) == {("2023Q1", "X"): (previous, 1000, 1000 - previous)}


def test_every_ratio_is_nearest_to_itself() -> None:
    import numpy as np

    exact = np.array([top / bottom for top, bottom in RATIOS])
    assert nearest(exact).tolist() == list(range(len(RATIOS)))
    assert nearest(np.array([1.0, 1.1, 0.9, np.nan, 1e6, 1e-6, 1.18])).tolist() == [-1] * 7


def test_quarters() -> None:
    number = quarters.number_of(date(2023, 12, 31))
    assert quarters.label(number) == "2023Q4"
    assert quarters.first_day(number) == date(2023, 10, 1)
    assert quarters.last_day(number) == date(2023, 12, 31)
    assert quarters.last_day(number + 1) == date(2024, 3, 31)
    days = [date(2023, 1, 1) + timedelta(days=n) for n in range(800)]
    frame = pl.DataFrame({"day": days}).select(quarters.number(pl.col("day")))
    assert frame.to_series().to_list() == [quarters.number_of(day) for day in days]
