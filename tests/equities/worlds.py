"""Small random markets: every frame that the equities room reads, with holes and oddities."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

FILING = {
    "institution_cik": pl.String,
    "accession": pl.String,
    "period": pl.Date,
    "filed_date": pl.Date,
    "amendment": pl.String,
}
HOLDING = {
    **FILING,
    "cusip": pl.String,
    "issuer_cik": pl.String,
    "symbol": pl.String,
    "shares": pl.Int64,
    "value": pl.Float64,
}
ATS = {
    "week_start": pl.Date,
    "symbol": pl.String,
    "mpid": pl.String,
    "shares": pl.Float64,
    "trades": pl.Int64,
    "tier": pl.String,
    "published": pl.Date,
}
PRICES = {
    "symbol": pl.String,
    "date": pl.Date,
    "open": pl.Float64,
    "high": pl.Float64,
    "low": pl.Float64,
    "close": pl.Float64,
    "adj_close": pl.Float64,
    "volume": pl.Float64,
}
CLASSES = {
    "symbol": pl.String,
    "trade_date": pl.Date,
    "total_buy_volume": pl.Float64,
    "total_sell_volume": pl.Float64,
    "total_neutral_volume": pl.Float64,
    "order_imbalance": pl.Float64,
    "quality_flag": pl.String,
}
METRICS = {
    "symbol": pl.String,
    "trade_date": pl.Date,
    "vpin": pl.Float64,
    "vpin_quality_flag": pl.String,
    "kyles_lambda": pl.Float64,
    "kyles_lambda_r2": pl.Float64,
    "block_trade_ratio": pl.Float64,
}

COURSES: list[list[str | None]] = [
    [None],
    [None, "RESTATEMENT"],
    [None, "NEW HOLDINGS"],
    ["NEW HOLDINGS"],
    [None, "NEW HOLDINGS", "RESTATEMENT", "NEW HOLDINGS"],
]
"""What managers file for a quarter, one after the other."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class World:
    """The rows of every frame, as plain dictionaries."""

    ats: Rows
    off_exchange: Rows
    iex: Rows
    days: list[date]
    filings: Rows
    filing_list: Rows
    prices: Rows
    classes: Rows
    metrics: Rows
    affiliates: Rows

    def frame(self, name: str) -> pl.DataFrame:
        """One of them as a frame."""
        schemas: dict[str, dict[str, Any]] = {
            "ats": ATS,
            "off_exchange": {
                "date": pl.Date,
                "symbol": pl.String,
                "total_volume": pl.Float64,
                "short_volume": pl.Float64,
            },
            "iex": {"date": pl.Date, "symbol": pl.String, "matched_shares": pl.Int64},
            "filings": HOLDING,
            "filing_list": FILING,
            "prices": PRICES,
            "classes": CLASSES,
            "metrics": METRICS,
            "affiliates": {
                "broker_mpid": pl.String,
                "institution_cik": pl.String,
                "note": pl.String,
            },
        }
        return pl.DataFrame(getattr(self, name), schema=schemas[name])


def weekdays(start: date, end: date, holidays: frozenset[date]) -> list[date]:
    """Trading days."""
    several = (start + timedelta(days=n) for n in range((end - start).days + 1))
    return [day for day in several if day.weekday() < 5 and day not in holidays]


def quarter_ends(start: date, end: date) -> list[date]:
    """Ends of quarters in a span."""
    found = []
    for year in range(start.year, end.year + 1):
        for month, day in ((3, 31), (6, 30), (9, 30), (12, 31)):
            if start <= date(year, month, day) <= end:
                found.append(date(year, month, day))
    return found


def world(seed: int, *, start: date = date(2021, 1, 1), end: date = date(2023, 6, 30)) -> World:
    """A market of four symbols, four venues and six managers."""
    rng = random.Random(seed)
    symbols, venues = ["AA", "BB", "CC", "DD"], ["VNA", "VNB", "VNC", "VND"]
    days = weekdays(start, end, frozenset({date(2022, 7, 4), date(2023, 1, 2)}))
    prices = [row for name in (*symbols, "SPY") for row in _prices(rng, name, days)]
    ends = quarter_ends(start, end)
    worth = {
        (row["symbol"], end): row["close"] for row in prices for end in ends if row["date"] <= end
    }
    filings, filing_list = _filings(rng, symbols, ends, worth)
    classes, metrics = _daily(rng, symbols, days)
    affiliates: Rows = [
        {"broker_mpid": "VNA", "institution_cik": "0000000003", "note": "owns it"},
        {"broker_mpid": "OWN", "institution_cik": "0000000001", "note": None},
    ]
    return World(
        _ats(rng, symbols, venues, days),
        [
            {
                "date": day,
                "symbol": symbol,
                "total_volume": round(rng.lognormvariate(11, 0.6), rng.choice((0, 6))),
                "short_volume": 1.0,
            }
            for day in days
            for symbol in symbols
            if rng.random() < (0.995 if symbol != "CC" else 0.6)
        ],
        [
            {"date": day, "symbol": symbol, "matched_shares": rng.randrange(10**5)}
            for day in days
            for symbol in symbols
            if symbol != "DD"
        ],
        days,
        filings,
        filing_list,
        prices,
        classes,
        metrics,
        affiliates,
    )


def _ats(rng: random.Random, symbols: list[str], venues: list[str], days: list[date]) -> Rows:
    weeks = sorted({day - timedelta(days=day.weekday()) for day in days})
    rows: Rows = []
    for week in weeks:
        for symbol in symbols:
            tier = "T1" if symbol in {"AA", "BB"} else "T2"
            for venue in venues:
                is_late = venue == "VND" and week < date(2022, 1, 3)
                if is_late or rng.random() < (0.7 if symbol == "DD" and venue == "VNC" else 0.02):
                    continue
                trades = rng.randrange(1, 400)
                # DD is so thin that managers move more of it than its venues trade
                size = rng.randrange(50, 300) if symbol != "DD" else rng.randrange(1, 3)
                shares = trades * size + (0.5 if rng.random() < 0.05 else 0)
                lag = 21 if tier == "T1" else 35
                rows.append(
                    {
                        "week_start": week,
                        "symbol": symbol,
                        "mpid": venue,
                        "shares": float(shares),
                        "trades": trades,
                        "tier": tier,
                        "published": week + timedelta(days=lag),
                    }
                )
    return rows


def _prices(rng: random.Random, name: str, days: list[date]) -> Rows:
    """As traded; AA splits two for one, BB one for ten."""
    splits = {"AA": (date(2022, 5, 10), 2.0), "BB": (date(2022, 11, 8), 0.1)}
    day_of, ratio = splits.get(name, (date.max, 1.0))
    level, rows = 100.0, []
    for day in days:
        level *= 1 + rng.gauss(0, 0.015)
        close = level * (1.0 if day < day_of else 1 / ratio)
        rows.append(
            {
                "symbol": name,
                "date": day,
                "open": close,
                "high": close,
                "low": close,
                "close": close,
                "adj_close": level / ratio,
                "volume": float(rng.randrange(10**5, 10**6)),
            }
        )
    return rows


def _filings(
    rng: random.Random, symbols: list[str], ends: list[date], worth: dict[tuple[str, date], float]
) -> tuple[Rows, Rows]:
    rows: Rows = []
    listed: Rows = []
    for number in range(1, 7):
        held = {name: rng.randrange(1000, 60_000) for name in symbols if rng.random() < 0.8}
        for end in ends:
            for name in symbols:
                if rng.random() < 0.7:
                    held[name] = max(0, round(held.get(name, 5000) * rng.uniform(0.3, 1.7)))
                if rng.random() < 0.12:
                    held[name] = 0
            if rng.random() < 0.12:
                continue
            (kinds,) = rng.choices(COURSES, [8, 1, 1, 1, 1])
            filed = end + timedelta(days=rng.randrange(20, 47))
            for place, kind in enumerate(kinds):
                filing = {
                    "institution_cik": f"{number:010d}",
                    "accession": f"{number:010d}-{end:%y%m}-{rng.randrange(10**6):06d}",
                    "period": end,
                    "filed_date": filed + timedelta(days=place * rng.randrange(40)),
                    "amendment": kind,
                }
                listed.append(filing)
                part = held if kind != "NEW HOLDINGS" else dict(list(held.items())[:1])
                rows.extend(
                    {
                        **filing,
                        "cusip": f"{name}0000000",
                        "issuer_cik": f"000009999{symbols.index(name)}",
                        "symbol": name,
                        "shares": shares + 1000 * place,
                        "value": worth[name, end] * (shares + 1000 * place),
                    }
                    for name, shares in part.items()
                    if shares
                )
                if rng.random() < 0.3:
                    rows.append(
                        {
                            **filing,
                            "cusip": "UNMAPPED0",
                            "issuer_cik": None,
                            "symbol": None,
                            "shares": 5,
                            "value": 1.0,
                        }
                    )
    kept = [row for row in listed if rng.random() < 0.5 or row["amendment"] is None]
    return rows, kept


def _daily(rng: random.Random, symbols: list[str], days: list[date]) -> tuple[Rows, Rows]:
    classes: Rows = []
    metrics: Rows = []
    for day in days:
        for symbol in symbols:
            key = {"symbol": symbol, "trade_date": day}
            if rng.random() < 0.9:
                bought, sold = rng.randrange(10**6), rng.randrange(10**6)
                classes.append(
                    {
                        **key,
                        "total_buy_volume": float(bought),
                        "total_sell_volume": float(sold),
                        "total_neutral_volume": 17.0,
                        "order_imbalance": rng.choice(
                            (None, (bought - sold) / (bought + sold), 0.08, -0.08)
                        ),
                        "quality_flag": rng.choice(("HIGH", "MEDIUM", "LOW")),
                    }
                )
            if rng.random() < 0.8:
                vpin, lam = rng.random(), rng.gauss(3, 2)
                metrics.append(
                    {
                        **key,
                        "vpin": vpin if rng.random() < 0.8 else None,
                        "vpin_quality_flag": rng.choice(("HIGH", "MEDIUM", "LOW")),
                        "kyles_lambda": lam if rng.random() < 0.8 else None,
                        "kyles_lambda_r2": rng.random() / 2,
                        "block_trade_ratio": rng.random() if rng.random() < 0.9 else None,
                    }
                )
    return classes, metrics
