"""From raw files to the frames that are calculated with: nothing is lost on the way.

A simulated market is written the way FINRA, the SEC and others publish it and read back.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from pipeline import tables
from pipeline.engine import tables as engine
from pipeline.engine.vault import Vault
from pipeline.equities import mapping
from pipeline.errors import FlowvaultError
from pipeline.tables import frames as own
from pipeline.tables.broker_map import NAME as MAP
from scripts.equitykit.draw import Settings, draw
from scripts.equitykit.frames import Market, frames
from scripts.equitykit.raw import write

SMALL = Settings(years=2, symbols=5, venues=4, managers=6)


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault with the market, its feeds read and its map made."""
    root = tmp_path_factory.mktemp("vault")
    drawn = draw(SMALL)
    write(root, drawn, frames(drawn))
    update(root, "broker_map", "attribution", "entities")
    return root


def update(root: Path, *names: str) -> None:
    """Bring tables up to date.

    Raises:
        FlowvaultError: the first that was met.
    """
    for done in engine.update(Vault.open(root), tables.with_upstream(names)):
        if isinstance(done, FlowvaultError):
            raise done


@pytest.fixture(scope="module")
def market() -> Market:
    """The same market."""
    return frames(draw(SMALL))


def read(vault: Path, *names: str) -> dict[str, pl.LazyFrame]:
    return {name: engine.frame(vault, name) for name in names}


def same(found: pl.DataFrame, wanted: pl.DataFrame, *key: str) -> None:
    """Equal rows in the columns of the market."""
    columns = [name for name in wanted.columns if name in found.columns]
    assert len(columns) == wanted.width
    left, right = (each.select(columns).sort(key) for each in (found, wanted))
    assert left.equals(right.cast(left.schema))


def test_volumes_and_prices(vault: Path, market: Market) -> None:
    """Roll-ups are not counted, fractions are kept."""
    names = ("finra_ats", "finra_regsho", "iex_volume", "prices_daily")
    lazy = read(vault, *names)
    same(own.ats(lazy), market.ats, "week_start", "symbol", "mpid")
    same(own.off_exchange(lazy), market.off_exchange, "date", "symbol")
    same(own.iex(lazy), market.iex, "date", "symbol")
    same(own.prices(lazy), market.prices, "date", "symbol")
    assert market.ats["shares"].sum() > 0


def test_filings(vault: Path, market: Market) -> None:
    """Split entries are added up, options and bonds left out, empty filings there."""
    lazy = read(vault, "sec_13f", "sec_entities", "sec_cusips")
    columns = ["institution_cik", "accession", "period", "filed_date", "amendment"]
    same(own.filing_list(lazy), market.filing_list.select(columns), "accession")
    found = own.filings(lazy)
    wanted = market.filings.select(
        *columns, "cusip", "issuer_cik", "symbol", pl.col("shares").cast(pl.Int64)
    )
    same(found.filter(pl.col("shares") > 0), wanted, "accession", "cusip")
    assert own.nameless(found) == ()


def test_the_map_is_that_of_the_frames(vault: Path, market: Market) -> None:
    """Made through files and commits, or from the frames: the same rows."""
    day = max(market.ats["published"].max(), market.filing_list["filed_date"].max())  # type: ignore[type-var]
    assert isinstance(day, date)
    wanted = mapping.broker_map(
        market.ats, market.filings, market.filing_list, None, market.prices, day
    )
    found = engine.frame(vault, MAP).collect()
    assert found.height > 5
    assert found.drop("broker_name").equals(wanted.drop("broker_name"))


def test_entities(vault: Path, market: Market) -> None:
    """One row each; whoever filed has one."""
    rows = engine.frame(vault, "entities").collect()
    assert rows["entity_id"].is_unique().all()
    managers = market.filing_list["institution_cik"].unique()
    assert set(managers) <= set(rows["entity_id"])


def write_lines(path: Path, *records: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")


def test_one_cik_several_entities(tmp_path: Path) -> None:
    """The manager has the CIK itself, the others say more; a join never doubles a row."""
    bank = {"cik": "886982", "name": "A Bank"}
    write_lines(
        tmp_path / "raw" / "sec" / "entities.jsonl",
        {**bank, "kind": "issuer", "ticker": "BNK"},
        {**bank, "kind": "manager"},
        {**bank, "kind": "etf", "series_id": "S000000002", "ticker": "ETFB"},
        {**bank, "kind": "etf", "series_id": "S000000001", "ticker": "ETFA"},
    )
    update(tmp_path, "entities")
    rows = engine.frame(tmp_path, "entities").select("entity_id", "kind", "ticker").collect()
    assert rows.rows() == [
        ("0000886982", "manager", None),
        ("0000886982:S000000001", "etf", "ETFA"),
        ("0000886982:S000000002", "etf", "ETFB"),
        ("0000886982:issuer", "issuer", "BNK"),
    ]


def test_symbols_of_cusips(tmp_path: Path) -> None:
    """The map's own ticker, else the issuer's; of several nobody guesses one."""
    trust = {"cik": "36405", "kind": "etf", "name": "A Trust"}
    write_lines(
        tmp_path / "raw" / "sec" / "entities.jsonl",
        {"cik": "320193", "kind": "issuer", "name": "Apple Inc.", "ticker": "AAPL"},
        {**trust, "series_id": "S1", "ticker": "ETFA"},
        {**trust, "series_id": "S2", "ticker": "ETFB"},
    )
    write_lines(
        tmp_path / "raw" / "sec" / "cusip_map.jsonl",
        {"cusip": "037833100", "issuer_cik": "320193"},
        {"cusip": "02079K305", "issuer_cik": "36405", "ticker": "ETFB"},
        {"cusip": "02079K107", "issuer_cik": "36405"},
    )
    filing = {"cik": "1", "period": "2024-03-31", "filed_date": "2024-05-01"}
    entry = {"nameOfIssuer": "x", "value": 100, "sshPrnamt": 2, "sshPrnamtType": "SH"}
    cusips = ("037833100", "02079K305", "02079K107", "002824100")
    path = tmp_path / "raw" / "sec" / "13f" / "0000000001" / "a.jsonl"
    write_lines(path, *({**filing, **entry, "cusip": cusip} for cusip in cusips))
    update(tmp_path, "broker_map")
    found = own.filings(read(tmp_path, "sec_13f", "sec_entities", "sec_cusips"))
    symbols = dict(found.select("cusip", "symbol").iter_rows())
    assert [symbols[cusip] for cusip in cusips] == ["AAPL", "ETFB", None, None]
    assert "2 of 4 holdings do not count" in own.nameless(found)[0]


def calendar(prices: dict[str, list[str]], regsho: list[str]) -> list[str]:
    """Trading days between 1 and 12 July 2024 from days on which something is known."""
    rows = [(symbol, day) for symbol, days in prices.items() for day in days]
    lazy = {
        "prices_daily": pl.LazyFrame(rows, {"symbol": pl.String, "date": pl.String}, orient="row"),
        "finra_regsho": pl.LazyFrame({"date": regsho}, schema={"date": pl.String}),
    }
    lazy = {name: each.with_columns(pl.col("date").str.to_date()) for name, each in lazy.items()}
    return [str(day) for day in own.calendar(lazy, date(2024, 7, 1), date(2024, 7, 12))]


def test_calendar() -> None:
    """The exchange's rules; the benchmark may know better, but a hole in it alone does not."""
    week = [f"2024-07-{day:02d}" for day in (1, 2, 3, 5, 8, 9, 10, 11, 12)]
    assert calendar({}, []) == week
    assert calendar({"SPY": week}, []) == week
    with_holiday = sorted([*week, "2024-07-04"])
    assert calendar({"SPY": with_holiday}, []) == with_holiday
    without = [day for day in week if day != "2024-07-09"]
    assert calendar({"SPY": without}, []) == without
    assert calendar({"SPY": without, "A": ["2024-07-09"]}, []) == week
    assert calendar({"SPY": without}, ["2024-07-09"]) == week
    assert calendar({"SPY": [*week, "2024-07-06"]}, []) == week
