"""Write a simulated market's publications into a vault's raw folder, and its truth beside it.

Records have the fields of their sources and what readers must pass over as well: roll-ups among
FINRA's rows, options and bonds among 13F rows, a position split into two rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from scripts.equitykit.draw import BENCHMARK, Drawn
from scripts.equitykit.frames import Market

NOTICE = "simulated: nothing in it happened"
FOLDERS = (
    "finra/ats_weekly",
    "finra/regsho_daily",
    "finra/short_interest",
    "iex/volume_daily",
    "sec/13f",
    "prices/daily",
)
_encode = msgspec.json.Encoder().encode


def write(vault: Path, drawn: Drawn, market: Market) -> list[Path]:
    """Write everything; returns the files.

    Raises:
        FileExistsError: one of the folders holds something; nothing was written.
    """
    raw = vault / "raw"
    several = [raw / name for name in FOLDERS]
    singles = [raw / "sec" / "entities.jsonl", raw / "sec" / "cusip_map.jsonl"]
    for path in [*several, *singles]:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise FileExistsError(f"{path} is there already; simulated data goes into a new vault")
    return [
        *_ats(raw, market),
        *_by_day(raw / "finra" / "regsho_daily", market.off_exchange, "date", _regsho),
        *_by_day(raw / "finra" / "short_interest", market.short_interest, "settle", _interest),
        *_by_day(raw / "iex" / "volume_daily", market.iex, "date", _iex),
        *_filings(raw / "sec" / "13f", market),
        _lines(singles[0], _entities(market)),
        _lines(singles[1], _cusips(market)),
        *_prices(raw / "prices" / "daily", market),
        *_truth(vault / "truth", drawn, market),
    ]


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """A file that takes its name only when all of it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(b"".join(_encode(row) + b"\n" for row in rows))
    os.replace(part, path)  # noqa: PTH105  (replaces on Windows too)
    return path


def _src(day: date) -> dict[str, Any]:
    return {"_src": {"file": NOTICE, "sha256": None, "fetched_at": f"{day}T22:00:00Z"}}


def _ats(raw: Path, market: Market) -> Iterable[Path]:
    names = dict(market.entities.drop_nulls("ticker").select("ticker", "name").iter_rows())
    folder = raw / "finra" / "ats_weekly"
    for (week, tier), rows in market.ats.group_by("week_start", "tier", maintain_order=True):
        yield _lines(folder / f"{week}.{tier}.jsonl", _week(rows, names))


def _week(rows: pl.DataFrame, names: dict[str, str]) -> Iterable[dict[str, Any]]:
    total: dict[str, list[float]] = {}
    common: dict[str, Any] = {}
    for row in rows.iter_rows(named=True):
        common = {
            "tierIdentifier": row["tier"],
            "weekStartDate": row["week_start"],
            "totalNotionalSum": None,
            "initialPublishedDate": row["published"],
            "lastUpdateDate": row["published"],
            **_src(row["published"]),
        }
        whole = total.setdefault(row["symbol"], [0, 0])
        whole[0] += row["shares"]
        whole[1] += row["trades"]
        yield {
            "summaryTypeCode": "ATS_W_SMBL_FIRM",
            "issueSymbolIdentifier": row["symbol"],
            "issueName": names[row["symbol"]],
            "MPID": row["mpid"],
            "marketParticipantName": f"SIMULATED VENUE {row['mpid'][-2:]}",
            "firmCRDNumber": None,
            "totalWeeklyShareQuantity": row["shares"],
            "totalWeeklyTradeCount": row["trades"],
            **common,
        }
    for symbol, (shares, trades) in total.items():
        yield {
            "summaryTypeCode": "ATS_W_SMBL",
            "issueSymbolIdentifier": symbol,
            "issueName": names[symbol],
            "MPID": None,
            "totalWeeklyShareQuantity": shares,
            "totalWeeklyTradeCount": trades,
            **common,
        }


def _by_day(folder: Path, frame: pl.DataFrame, name: str, record: Any) -> Iterable[Path]:
    for (day,), rows in frame.group_by(name, maintain_order=True):
        several = (record(row) for row in rows.iter_rows(named=True))
        yield _lines(folder / f"{day}.jsonl", several)


def _regsho(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "Date": f"{row['date']:%Y%m%d}",
        "Symbol": row["symbol"],
        "ShortVolume": row["short_volume"],
        "ShortExemptVolume": 0,
        "TotalVolume": row["total_volume"],
        "Market": "B,Q,N",
        **_src(row["date"]),
    }


def _interest(row: dict[str, Any]) -> dict[str, Any]:
    change = row["shares"] - row["previous"]
    return {
        "accountingYearMonthNumber": f"{row['settle']:%Y%m%d}",
        "symbolCode": row["symbol"],
        "issueName": f"Simulated {row['symbol']}",
        "issuerServicesGroupExchangeCode": "A",
        "marketClassCode": "NYSE",
        "currentShortPositionQuantity": row["shares"],
        "previousShortPositionQuantity": row["previous"],
        "stockSplitFlag": None,
        "averageDailyVolumeQuantity": None,
        "daysToCoverQuantity": None,
        "revisionFlag": None,
        "changePercent": round(100 * change / row["previous"], 2) if row["previous"] else None,
        "changePreviousNumber": change,
        "settlementDate": row["settle"],
        **_src(row["settle"]),
    }


def _iex(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "symbol": row["symbol"],
        "trade_date": row["date"],
        "matched_shares": row["matched_shares"],
        **_src(row["date"]),
    }


def _filings(folder: Path, market: Market) -> Iterable[Path]:
    names = dict(market.entities.drop_nulls("ticker").select("ticker", "name").iter_rows())
    keys = ["institution_cik", "accession"]
    held = dict(market.filings.partition_by(keys, as_dict=True, maintain_order=True).items())
    for filing in market.filing_list.iter_rows(named=True):
        rows = held.get((filing["institution_cik"], filing["accession"]))
        path = folder / filing["institution_cik"] / f"{filing['accession']}.jsonl"
        yield _lines(path, _filing(filing, rows, names))


def _filing(
    filing: dict[str, Any], rows: pl.DataFrame | None, names: dict[str, str]
) -> Iterable[dict[str, Any]]:
    """One line an entry; one line without any for a filing that holds nothing."""
    head = {
        "cik": filing["institution_cik"],
        "period": filing["period"],
        "filed_date": filing["filed_date"],
        "amendmentType": filing["amendment"],
    }
    source = _src(filing["filed_date"])
    if rows is None:
        yield {**head, **source}
        return
    for number, row in enumerate(rows.iter_rows(named=True)):
        # every seventh position is held in two accounts
        parts = [row["shares"]] if number % 7 else [row["shares"] // 3, -(-2 * row["shares"] // 3)]
        for part in parts:
            entry = {
                "nameOfIssuer": names[row["symbol"]].upper(),
                "titleOfClass": "COM",
                "cusip": row["cusip"],
                "value": round(row["value"] * part / row["shares"]),
                "sshPrnamt": part,
                "sshPrnamtType": "SH",
                "putCall": None,
                "investmentDiscretion": "SOLE",
                "otherManager": None,
                "votingSole": part,
                "votingShared": 0,
                "votingNone": 0,
            }
            yield {**head, **entry, **source}
            if number == 0:
                yield {**head, **entry, "putCall": "Put", **source}
                yield {**head, **entry, "sshPrnamtType": "PRN", **source}


def _entities(market: Market) -> Iterable[dict[str, Any]]:
    for row in market.entities.iter_rows(named=True):
        yield {name: row[name] for name in ("cik", "kind", "name", "ticker")}


def _cusips(market: Market) -> Iterable[dict[str, Any]]:
    yield from market.cusips.select("cusip", "issuer_cik").iter_rows(named=True)


def _prices(folder: Path, market: Market) -> Iterable[Path]:
    names = ("date", "open", "high", "low", "close", "adj_close", "volume")
    for (symbol,), rows in market.prices.group_by("symbol", maintain_order=True):
        yield _lines(folder / f"{symbol}.jsonl", rows.select(names).iter_rows(named=True))


def _truth(folder: Path, drawn: Drawn, market: Market) -> Iterable[Path]:
    """What a mapping is to find; not below raw/, where nothing must know it."""
    about = {"about": NOTICE, "benchmark": BENCHMARK, "settings": asdict(drawn.settings)}
    rows = market.routes.iter_rows(named=True)
    yield _lines(folder / "equities.jsonl", [about, *rows])
    path = folder / "equities_flows.parquet"
    market.flows.write_parquet(path)
    yield path
