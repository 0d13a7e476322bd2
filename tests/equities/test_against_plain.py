"""Random small markets: the frames' answers against plain Python."""

from __future__ import annotations

import random
from datetime import date
from typing import Any

import polars as pl
import pytest

from pipeline.equities import attribution, mapping, quarters, rotation
from pipeline.equities.positions import changes, resolve
from pipeline.equities.splits import factors
from tests.equities import plain
from tests.equities.worlds import World, world

SEEDS = (0, 1)
AS_OF = [date(2022, 9, 14), date(2023, 2, 20), date(2023, 5, 31)]


@pytest.fixture(scope="module", params=SEEDS)
def market(request: pytest.FixtureRequest) -> World:
    return world(request.param)


def plain_quarter(number: int) -> plain.Quarter:
    return number // 4, number % 4 + 1


@pytest.mark.parametrize("as_of", [*AS_OF, None])
def test_positions_as_known(market: World, as_of: date | None) -> None:
    found = resolve(market.frame("filings"), market.frame("filing_list"), as_of)
    expected = plain.reports(market.filings, market.filing_list, as_of)
    assert {
        (row["institution_cik"], plain_quarter(row["quarter"])): (
            row["accession"],
            row["filed_date"],
            row["known_date"],
        )
        for row in found.reports.iter_rows(named=True)
    } == {key: (one.accession, one.filed, one.known) for key, one in expected.items()}
    assert {
        (row["institution_cik"], plain_quarter(row["quarter"]), row["symbol"]): row["shares"]
        for row in found.holdings.iter_rows(named=True)
    } == {(*key, name): n for key, one in expected.items() for name, n in one.held.items() if n}
    split = factors(market.frame("prices"), found.holdings)
    moved = changes(found, split)
    assert {
        (row["institution_cik"], plain_quarter(row["quarter"]), row["symbol"]): (
            row["shares"],
            row["previous"],
            row["known_date"],
        )
        for row in moved.iter_rows(named=True)
    } == plain.position_changes(expected, plain.split_factors(market.prices))
    assert split.filter(pl.col("symbol") == "AA").rows() == [
        ("AA", quarters.number_of(date(2022, 5, 10)), 2, 1)
    ]
    assert split.filter(pl.col("symbol") == "BB").rows() == [
        ("BB", quarters.number_of(date(2022, 11, 8)), 1, 10)
    ]


def mapped(market: World, as_of: date) -> pl.DataFrame:
    return mapping.broker_map(
        market.frame("ats"),
        market.frame("filings"),
        market.frame("filing_list"),
        market.frame("affiliates"),
        market.frame("prices"),
        as_of,
    )


@pytest.mark.parametrize("as_of", AS_OF)
def test_the_map(market: World, as_of: date) -> None:
    expected = plain.broker_map(
        market.ats, market.filings, market.filing_list, market.affiliates, market.prices, as_of
    )
    found = mapped(market, as_of)
    assert found.columns == [column.name for column in mapping.COLUMNS]
    keys = list(found.select("broker_mpid", "institution_cik").iter_rows())
    assert keys == sorted(expected)
    assert max(pair.n for pair in expected.values()) >= 6
    for row in found.iter_rows(named=True):
        pair = expected[row["broker_mpid"], row["institution_cik"]]
        assert row["observation_count"] == pair.n
        assert row["rho"] == (None if pair.rho is None else pytest.approx(pair.rho, abs=1e-12))
        assert row["p_value"] == pytest.approx(pair.p, abs=1e-12)
        assert row["q_value"] == pytest.approx(pair.q, abs=1e-12)
        assert row["confidence_score"] == pytest.approx(1 - pair.q, abs=1e-12)
        assert row["relationship_strength"] == pytest.approx(pair.strength, abs=1e-12)
        assert row["first_observed_date"] == pair.first
        assert row["last_observed_date"] == pair.last
        assert row["avg_block_size"] == pair.block
        assert row["as_of"] == as_of
    ties = found.filter(pl.col("relationship_type") == "affiliate")
    assert ties.select("broker_mpid", "source", "notes").rows()[0] == (
        "OWN",
        "affiliate",
        "statistical association, not identification",
    )
    assert ties.filter(pl.col("broker_mpid") == "VNA")["notes"].to_list() == [
        "owns it; statistical association, not identification"
    ]


def attributed(market: World, as_of: date | None, least: float) -> attribution.Attributed:
    return attribution.attributed(
        market.frame("ats"),
        market.frame("off_exchange"),
        market.frame("iex"),
        market.days,
        market.frame("filings"),
        market.frame("filing_list"),
        mapped(market, as_of or date(2023, 6, 30)),
        market.frame("classes"),
        attribution.Params(as_of=as_of, min_confidence=least),
        market.frame("prices"),
    )


def expected_flows(market: World, as_of: date | None, least: float) -> Any:
    relations = mapped(market, as_of or date(2023, 6, 30))
    columns = relations.select("broker_mpid", "institution_cik", "relationship_strength")
    return plain.attribute(
        market.ats,
        market.off_exchange,
        market.iex,
        market.days,
        market.filings,
        market.filing_list,
        {(venue, manager): own for venue, manager, own in columns.iter_rows()},
        market.classes,
        market.prices,
        as_of,
        least,
    )


@pytest.mark.parametrize(("as_of", "least"), [(AS_OF[0], 0.0), (AS_OF[2], 0.2), (None, 0.05)])
def test_flows(market: World, as_of: date | None, least: float) -> None:
    found = attributed(market, as_of, least)
    expected, dropped = expected_flows(market, as_of, least)
    assert found.flows.columns == [column.name for column in attribution.COLUMNS]
    keys = list(
        found.flows.select("symbol", "trade_date", "broker_mpid", "institution_cik").iter_rows()
    )
    assert keys == sorted(expected)
    assert len(keys) > 100
    assert found.dropped == dropped
    for key, row in zip(keys, found.flows.iter_rows(named=True), strict=True):
        own = dict(expected[key])
        assert row["attribution_confidence"] == pytest.approx(
            own.pop("attribution_confidence"), abs=1e-12
        )
        assert {name: row[name] for name in own} == own
        assert row["venue_id"] == row["broker_mpid"]
        assert row["institution_id"] == row["institution_cik"]
    if not least:
        assert set(found.flows["mode"]) == {"PUBLISHED", "NOWCAST"}


@pytest.mark.parametrize("as_of", [AS_OF[1], None])
def test_rotation(market: World, as_of: date | None) -> None:
    params = rotation.Params(as_of=as_of, min_history=4, history_quarters=6)
    found = events(market, params)
    assert found.columns == [column.name for column in rotation.COLUMNS]
    expected = plain.dumps(market.filings, market.filing_list, market.prices, as_of)
    keys = [
        (plain.quarter(period), symbol, manager)
        for period, symbol, manager in found.select(
            "period", "symbol", "institution_cik"
        ).iter_rows()
    ]
    assert keys == sorted(expected)
    assert len(keys) > 10
    default = events(market, rotation.Params(as_of=as_of))
    for key, row in zip(keys, default.iter_rows(named=True), strict=True):
        own = expected[key]
        assert row["delta"] == pytest.approx(own["delta"], abs=1e-12)
        assert row["dumpz"] == pytest.approx(own["dumpz"], abs=1e-9)
        assert row["dumpz_fallback"] == own["is_fallback"]
        assert row["u_same"] == pytest.approx(own["u_same"], abs=1e-12)
        assert row["u_next"] == (
            None if own["u_next"] is None else pytest.approx(own["u_next"], abs=1e-12)
        )
        assert row["anchor_filing"] == own["accession"]
        assert row["filed_date"] == own["filed"]
        assert row["eow"] is True
        assert row["available_date"] >= own["known"]
        if row["car_m5_p20"] is None:
            assert row["available_date"] == max(own["known"], row["available_date"])


def events(market: World, params: rotation.Params) -> pl.DataFrame:
    nothing = pl.DataFrame(
        schema={
            "symbol": pl.String,
            "trade_date": pl.Date,
            "shares": pl.Int64,
            "attribution_confidence": pl.Float64,
            "mode": pl.String,
        }
    )
    entities = pl.DataFrame(schema={"kind": pl.String, "cik": pl.String, "ticker": pl.String})
    return rotation.rotation_events(
        market.frame("filings"),
        market.frame("filing_list"),
        entities,
        market.frame("prices"),
        market.frame("metrics"),
        market.frame("classes"),
        nothing,
        market.days,
        params,
    )


def test_the_order_of_rows_does_not_matter(market: World) -> None:
    rng = random.Random(1)
    mixed = World(**{name: rng.sample(rows, len(rows)) for name, rows in vars(market).items()})
    as_of = AS_OF[2]
    assert mapped(mixed, as_of).equals(mapped(market, as_of), null_equal=True)
    found = attributed(market, as_of, 0.0)
    again = attributed(mixed, as_of, 0.0)
    assert found.flows.write_csv() == again.flows.write_csv()
    assert (
        events(mixed, rotation.Params()).write_csv()
        == events(market, rotation.Params()).write_csv()
    )
