"""The map by hand: which quarters count, and what a single venue and manager give."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest

from pipeline.equities import mapping, quarters
from pipeline.equities.mapping import Params, broker_map
from tests.equities.worlds import ATS, FILING, HOLDING

QUARTERS = [quarters.number_of(date(2021, 1, 1)) + n for n in range(12)]
SYMBOLS = ["S0", "S1", "S2", "S3", "S4"]
MANAGER = "0000000001"


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (date(2023, 12, 31), ["2023Q1", "2023Q2", "2023Q3"]),
        # the last week of December is public 35 days later
        (date(2024, 2, 3), ["2023Q1", "2023Q2", "2023Q3"]),
        (date(2024, 2, 4), ["2023Q1", "2023Q2", "2023Q3", "2023Q4"]),
        # 365 days ago is 31 March, and that is too long
        (date(2024, 3, 29), ["2023Q1", "2023Q2", "2023Q3", "2023Q4"]),
        (date(2024, 3, 30), ["2023Q2", "2023Q3", "2023Q4"]),
    ],
)
def test_the_quarters_that_count(as_of: date, expected: list[str]) -> None:
    assert [quarters.label(each) for each in mapping._window(as_of, Params())] == expected


def market(*, moved: bool = True) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Twelve quarters; the more the manager trades of a symbol, the more HOME has of it."""
    ats, held = [], []
    position = dict.fromkeys(SYMBOLS, 10_000)
    for place, quarter in enumerate(QUARTERS):
        end = quarters.last_day(quarter)
        for number, symbol in enumerate(SYMBOLS):
            step = (place * 3 + number * 2) % 5
            position[symbol] += 1000 * step
            volume = {"HOME": 50_000 + 5000 * step * moved, "ELSE": 400_000 + number}
            week = quarters.first_day(quarter) + timedelta(days=10)
            week -= timedelta(days=week.weekday())
            ats += [
                {
                    "week_start": week,
                    "symbol": symbol,
                    "mpid": venue,
                    "shares": float(shares),
                    "trades": 7,
                    "tier": "T1",
                    "published": week + timedelta(days=21),
                }
                for venue, shares in volume.items()
            ]
            held.append(
                {
                    "institution_cik": MANAGER,
                    "accession": f"a{place}",
                    "period": end,
                    "filed_date": end + timedelta(days=40),
                    "amendment": None,
                    "cusip": symbol,
                    "issuer_cik": None,
                    "symbol": symbol,
                    "shares": position[symbol],
                    "value": 1.0,
                }
            )
    return ats, held


def ask(
    ats: list[dict[str, Any]], held: list[dict[str, Any]], as_of: date, **settings: Any
) -> dict[str, dict[str, Any]]:
    found = broker_map(
        pl.DataFrame(ats, schema=ATS),
        pl.DataFrame(held, schema=HOLDING),
        pl.DataFrame(schema=FILING),
        None,
        None,
        as_of,
        Params(**settings),
    )
    return {row["broker_mpid"]: row for row in found.iter_rows(named=True)}


AS_OF = date(2023, 12, 31)


def test_who_goes_home() -> None:
    found = ask(*market(), AS_OF)
    home, other = found["HOME"], found["ELSE"]
    # of five symbols in three quarters each did not move once
    assert home["observation_count"] == other["observation_count"] == 12
    assert home["rho"] > 0.8
    assert other["rho"] < -0.8
    assert home["relationship_strength"] == pytest.approx(home["rho"] * 12 / 32)
    assert other["relationship_strength"] == 0
    # two tests: the smaller p doubles
    assert home["q_value"] == pytest.approx(2 * home["p_value"])
    assert home["confidence_score"] == 1 - home["q_value"]
    assert (home["first_observed_date"], home["last_observed_date"]) == (
        date(2023, 3, 31),
        date(2023, 9, 30),
    )
    assert home["relationship_type"] == "inferred"
    assert home["source"] == "co_movement"
    three = ask(*market(), AS_OF, lookback_days=3 * 365)["HOME"]
    # the first quarters have not two before them
    assert three["observation_count"] == 4 * 9
    assert three["first_observed_date"] == date(2021, 9, 30)


def test_not_known_before_it_is_published_or_filed() -> None:
    ats, held = market()
    late = date(2024, 1, 2)
    shown = [
        {**row, "published": late} if row["week_start"] > date(2023, 7, 1) else row for row in ats
    ]
    assert ask(shown, held, late)["HOME"]["observation_count"] == 12
    assert ask(shown, held, late - timedelta(days=1))["HOME"]["observation_count"] == 8
    filed = [{**row, "filed_date": late} if row["accession"] == "a10" else row for row in held]
    assert ask(ats, filed, late)["HOME"]["observation_count"] == 12
    assert ask(ats, filed, late - timedelta(days=1))["HOME"]["observation_count"] == 8


def test_a_venue_that_never_moves_has_no_correlation() -> None:
    ats, held = market(moved=False)
    quiet = [{**row, "shares": 1000.0} for row in ats]
    found = ask(quiet, held, AS_OF)["HOME"]
    assert found["rho"] is None
    assert found["p_value"] == 1
    assert found["confidence_score"] == 0
    assert found["relationship_strength"] == 0


def test_too_little_is_nothing() -> None:
    ats, held = market()
    assert ask(ats, held, date(2021, 6, 30)) == {}
    assert ask([], held, AS_OF) == {}
    assert ask(ats, [], AS_OF) == {}
    # two quarters of filings make one change each, and no report makes none
    few = ask(ats, [row for row in held if row["accession"] in {"a9", "a10"}], AS_OF)["HOME"]
    assert few["observation_count"] == 4
    assert few["relationship_strength"] <= 4 / 24
    one = [row for row in held if row["accession"] in {"a9", "a10"} and row["symbol"] == "S1"]
    none = ask(ats, one, AS_OF)["HOME"]
    assert (none["observation_count"], none["rho"], none["confidence_score"]) == (1, None, 0)


def test_a_venue_that_opens() -> None:
    """It traded nothing before, which is known, and not unknown: its first quarter shows."""
    ats, held = market()
    opened = [
        row
        for row in ats
        if row["mpid"] != "HOME" or row["symbol"] == "S0" or row["week_start"] > date(2023, 4, 1)
    ]
    found = ask(opened, held, AS_OF)["HOME"]
    # S1 to S4 are there from the second quarter on; the venue reported before, for S0
    moved = [
        (place, symbol)
        for place in (8, 9, 10)
        for number, symbol in enumerate(SYMBOLS)
        if (place * 3 + number * 2) % 5 and (symbol == "S0" or place > 8)
    ]
    assert found["observation_count"] == len(moved)
