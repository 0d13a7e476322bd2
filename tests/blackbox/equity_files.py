"""Raw files of a small US market: venues, managers, prices, a tape. Everything is invented."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

DAY = timedelta(days=1)
SYMBOLS = {"AAA": "T1", "BBB": "T1", "CCC": "T2", "DDD": "T2", "EEE": "T1", "FFF": "T2"}
VENUES = ("UBSA", "MSPL", "SGMT", "JPMX", "XXXX")
MANAGERS = tuple(f"{number:010d}" for number in (1000097, 1167483, 1350694, 1423053, 102909))
SRC = {"_src": {"file": "made up", "sha256": "0" * 64, "fetched_at": "2026-11-21T00:00:00Z"}}


@dataclass
class Market:
    """A market from one Monday on, for some weeks.

    Manager 0 trades through venue 0: where its position changes much, that venue's share rises.
    """

    first: date = date(2024, 1, 1)
    weeks: int = 110
    seed: int = 1
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make all files."""
        self._rng = random.Random(self.seed)
        self.days = [
            self.first + n * DAY
            for n in range(7 * self.weeks)
            if (self.first + n * DAY).weekday() < 5
        ]
        self._positions()
        self._venues()
        self._daily()
        self._who()

    def _quarters(self) -> list[date]:
        """The last days of the market's quarters, and of one before."""
        ends = [
            date(y, m, d)
            for y in range(2023, 2028)
            for m, d in ((3, 31), (6, 30), (9, 30), (12, 31))
        ]
        return [end for end in ends if self.first - 100 * DAY < end < self.days[-1]]

    def _positions(self) -> None:
        held = {(m, s): 1_000_000 for m in MANAGERS for s in SYMBOLS}
        self.moves: dict[tuple[str, str, date], int] = {}
        for number, end in enumerate(self._quarters()):
            for manager in MANAGERS:
                lines = []
                for place, symbol in enumerate(SYMBOLS):
                    step = self._rng.choice((-400_000, -50_000, 0, 60_000, 300_000))
                    if number and (manager, symbol) != (MANAGERS[1], "AAA"):
                        step = max(step, -held[manager, symbol])
                        self.moves[manager, symbol, end] = step
                        held[manager, symbol] += step
                    if number == 6 and (manager, symbol) == (MANAGERS[1], "AAA"):
                        held[manager, symbol] = 100_000
                    if held[manager, symbol]:
                        shares = held[manager, symbol]
                        lines.append(
                            {
                                "cik": manager,
                                "period": end.isoformat(),
                                "filed_date": (end + 44 * DAY).isoformat(),
                                "amendmentType": None,
                                "nameOfIssuer": symbol,
                                "titleOfClass": "COM",
                                "cusip": cusip_of(place),
                                "value": shares * 50,
                                "sshPrnamt": shares,
                                "sshPrnamtType": "SH",
                                "putCall": None,
                                "investmentDiscretion": "SOLE",
                            }
                        )
                self._put(f"sec/13f/{manager}/{manager}-{end:%y}-{end.month:06d}.jsonl", lines)

    def _venues(self) -> None:
        for week in range(self.weeks):
            monday = self.first + 7 * week * DAY
            by_tier: dict[str, list[dict[str, Any]]] = {"T1": [], "T2": []}
            end = next((each for each in self._quarters() if each >= monday), None)
            for symbol, tier in SYMBOLS.items():
                for number, venue in enumerate(VENUES):
                    shares = 100_000 * (1 + number / 3) * self._rng.uniform(0.95, 1.05)
                    if number == 0 and end is not None:
                        shares *= 1 + abs(self.moves.get((MANAGERS[0], symbol, end), 0)) / 150_000
                    by_tier[tier].append(
                        {
                            "summaryTypeCode": "ATS_W_SMBL_FIRM",
                            "issueSymbolIdentifier": symbol,
                            "issueName": symbol,
                            "MPID": venue,
                            "marketParticipantName": f"{venue} VENUE",
                            "firmCRDNumber": number,
                            "tierIdentifier": tier,
                            "weekStartDate": monday.isoformat(),
                            "totalWeeklyShareQuantity": round(shares),
                            "totalWeeklyTradeCount": round(shares / 180),
                            "initialPublishedDate": None,
                            "lastUpdateDate": None,
                        }
                    )
                by_tier[tier].append(
                    {**by_tier[tier][-1], "summaryTypeCode": "ATS_W_SMBL", "MPID": None}
                )
            for tier, lines in by_tier.items():
                self._put(f"finra/ats_weekly/{monday}.{tier}.jsonl", lines)

    def _daily(self) -> None:
        for symbol in (*SYMBOLS, "SPY"):
            price, lines = 50.0, []
            for day in self.days:
                price *= 1 + self._rng.gauss(0, 0.01)
                bar = dict.fromkeys(("open", "high", "low", "close", "adj_close"), round(price, 2))
                lines.append({"date": day.isoformat(), **bar, "volume": 3_000_000})
            self._put(f"prices/daily/{symbol}.jsonl", lines)
        for day in self.days[-60:]:
            self._put(
                f"finra/regsho_daily/{day}.jsonl",
                (
                    {
                        "Date": f"{day:%Y%m%d}",
                        "Symbol": symbol,
                        "ShortVolume": 100.25,
                        "ShortExemptVolume": 1,
                        "TotalVolume": round(self._rng.uniform(1e5, 3e5), 6),
                        "Market": "B,Q,N",
                    }
                    for symbol in SYMBOLS
                ),
            )
        day = self.days[-40]
        matched = ({"symbol": s, "trade_date": f"{day}", "matched_shares": 6123} for s in SYMBOLS)
        self._put(f"iex/volume_daily/{day}.jsonl", matched)
        short = (
            {
                "symbolCode": symbol,
                "currentShortPositionQuantity": 4824122,
                "previousShortPositionQuantity": 4481687,
                "settlementDate": f"{day}",
            }
            for symbol in SYMBOLS
        )
        self._put(f"finra/short_interest/{day}.jsonl", short)

    def _who(self) -> None:
        issuers = [
            {"cik": f"{320193 + place:010d}", "kind": "issuer", "name": f"{s} Inc.", "ticker": s}
            for place, s in enumerate(SYMBOLS)
        ]
        managers = [
            {"cik": cik, "kind": "manager", "name": f"Manager {number}"}
            for number, cik in enumerate(MANAGERS[:-1])
        ]
        self._put("sec/entities.jsonl", [*issuers, *managers])
        cusips = [
            {"cusip": cusip_of(place), "issuer_cik": f"{320193 + place:010d}"}
            for place in range(len(SYMBOLS))
        ]
        self._put("sec/cusip_map.jsonl", cusips)
        tie = {"broker_mpid": "MSPL", "institution_cik": MANAGERS[2], "note": "one house"}
        self._put("affiliates.jsonl", [tie])

    def _put(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        self.files[name] = b"".join(json.dumps({**each, **SRC}).encode() + b"\n" for each in lines)

    def write(self, vault: Path, *starts: str) -> None:
        """Write the files whose names begin like one of these (all, if none is given)."""
        chosen = (name for name in self.files if not starts or name.startswith(starts))
        write_files(vault, {name: self.files[name] for name in chosen})


def write_files(vault: Path, files: Mapping[str, bytes]) -> None:
    """Put raw files where they belong."""
    for name, data in files.items():
        path = vault / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def cusip_of(place: int) -> str:
    """A CUSIP with leading zeros and a check digit."""
    head = f"0378331{place}"
    total = 0
    for at, sign in enumerate(head):
        value = int(sign) * (1 + at % 2)
        total += value // 10 + value % 10
    return head + str(-total % 10)
