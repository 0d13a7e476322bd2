"""A drawn market as the frames that the equities room reads, and its truth as frames."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from scripts.equitykit.draw import BENCHMARK, Drawn, published

SPLIT = 0.3
"""A logarithm of a day's change beyond this is a split."""

FILING_DAYS = (25, 46)
"""13F filings come so many days after the quarter's end."""


@dataclass(frozen=True)
class Market:
    """Everything that is published of a market, and what is not.

    Attributes:
        days: the trading days.
        routes: truth: `broker_mpid`, `institution_cik`, `share` of the manager's off-exchange
            trading, `is_home`.
        flows: truth: `symbol`, `trade_date`, `institution_cik`, `shares` through all venues,
            below 0 where sold; each venue has its `share` of them.
    """

    days: list[date]
    ats: pl.DataFrame
    off_exchange: pl.DataFrame
    iex: pl.DataFrame
    short_interest: pl.DataFrame
    prices: pl.DataFrame
    filings: pl.DataFrame
    filing_list: pl.DataFrame
    entities: pl.DataFrame
    cusips: pl.DataFrame
    routes: pl.DataFrame
    flows: pl.DataFrame


def frames(market: Drawn) -> Market:
    """All frames of a market."""
    rng = np.random.default_rng(np.random.SeedSequence([market.settings.seed, 13]))
    entities, cusips = _entities(market)
    prices = _prices(rng, market)
    filings, filing_list = _filings(rng, market, cusips)
    return Market(
        market.days,
        _ats(market),
        _daily(market, market.off_exchange).with_columns(
            short_volume=(pl.col("total_volume") * 0.45).round(6)
        ),
        _daily(market, market.volume * 0.025)
        .rename({"total_volume": "matched_shares"})
        .with_columns(pl.col("matched_shares").cast(pl.Int64)),
        _short_interest(rng, market),
        prices,
        filings,
        filing_list,
        entities,
        cusips,
        _routes(market),
        _flows(market),
    )


def _named(names: list[str], place: np.ndarray) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(place)


def _ats(market: Drawn) -> pl.DataFrame:
    """Weekly volumes of venues, as FINRA publishes them."""
    weeks = [day - timedelta(days=day.weekday()) for day in market.days]
    first = [n for n, week in enumerate(weeks) if not n or week != weeks[n - 1]]
    shares = np.round(np.add.reduceat(market.venue_volume, first, axis=0))
    week, symbol, venue = np.nonzero(shares)
    found = shares[week, symbol, venue]
    starts = [weeks[n] for n in first]
    tier = np.where(market.is_large, "T1", "T2")
    public = [
        published(start, is_large=bool(large)) for start in starts for large in market.is_large
    ]
    return pl.DataFrame(
        {
            "week_start": pl.Series(starts, dtype=pl.Date).gather(week),
            "symbol": _named(market.symbols, symbol),
            "mpid": _named(market.venues, venue),
            "shares": found,
            "trades": np.maximum(1, found / market.block[venue]).astype(np.int64),
            "tier": pl.Series(tier[symbol].tolist(), dtype=pl.String),
            "published": pl.Series(public, dtype=pl.Date).gather(
                week * len(market.symbols) + symbol
            ),
        }
    )


def _daily(market: Drawn, volume: np.ndarray) -> pl.DataFrame:
    day, symbol = np.indices(volume.shape).reshape(2, -1)
    return pl.DataFrame(
        {
            "date": pl.Series(market.days, dtype=pl.Date).gather(day),
            "symbol": _named(market.symbols, symbol),
            "total_volume": np.round(volume.ravel()),
        }
    )


def _prices(rng: np.random.Generator, market: Drawn) -> pl.DataFrame:
    names = [*market.symbols, BENCHMARK]
    day, symbol = np.indices(market.close.shape).reshape(2, -1)
    volume = np.column_stack([market.volume, 6e7 * rng.lognormal(0, 0.3, len(market.days))])
    close = market.close.ravel()
    before = np.vstack([market.close[:1], market.close[:-1]]).ravel()
    # a third of the change comes overnight; where a share has split all of it does
    is_usual = np.abs(np.log(before / close)) < SPLIT
    opened = np.where(is_usual, before + (close - before) / 3, close)
    wide = np.abs(rng.normal(0, 0.006, len(close)))
    low, high = np.minimum(opened, close), np.maximum(opened, close)
    return pl.DataFrame(
        {
            "symbol": _named(names, symbol),
            "date": pl.Series(market.days, dtype=pl.Date).gather(day),
            "open": opened.round(2),
            "high": (high * (1 + wide)).round(2),
            "low": (low * (1 - wide)).round(2),
            "close": close,
            "adj_close": market.adjusted.ravel().round(6),
            "volume": np.round(volume.ravel()),
        }
    )


def _short_interest(rng: np.random.Generator, market: Drawn) -> pl.DataFrame:
    """Twice a month, five days of volume or so."""
    settle = [
        day
        for day, after in zip(market.days, market.days[1:], strict=False)
        if day.month != after.month or day.day <= 15 < after.day  # noqa: PLR2004
    ]
    place = np.array([market.days.index(day) for day in settle])
    shares = np.round(market.volume[place] * rng.uniform(2, 8, (len(place), len(market.symbols))))
    before = np.vstack([shares[:1], shares[:-1]])
    day, symbol = np.indices(shares.shape).reshape(2, -1)
    return pl.DataFrame(
        {
            "settle": pl.Series(settle, dtype=pl.Date).gather(day),
            "symbol": _named(market.symbols, symbol),
            "shares": shares.ravel().astype(np.int64),
            "previous": before.ravel().astype(np.int64),
        }
    )


def _entities(market: Drawn) -> tuple[pl.DataFrame, pl.DataFrame]:
    issuers = [
        {
            "cik": f"{9_800_000_000 + n:010d}",
            "kind": "issuer",
            "name": f"Simulated Issuer {n:02d} Inc.",
            "ticker": symbol,
        }
        for n, symbol in enumerate(market.symbols, 1)
    ]
    managers = [
        {"cik": cik, "kind": "manager", "name": f"Simulated Manager {n:03d} LP", "ticker": None}
        for n, cik in enumerate(market.managers, 1)
    ]
    schema = dict.fromkeys(("cik", "kind", "name", "ticker"), pl.String)
    entities = pl.DataFrame([*issuers, *managers], schema=schema).with_columns(
        entity_id="cik", series_id=pl.lit(None, pl.String)
    )
    cusips = pl.DataFrame(
        {
            "cusip": [f"ZX{n:06d}0" for n in range(1, len(issuers) + 1)],
            "issuer_cik": [row["cik"] for row in issuers],
            "symbol": market.symbols,
        }
    )
    return entities, cusips


def _filings(
    rng: np.random.Generator, market: Drawn, cusips: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A 13F a quarter: two in a hundred are missing, two amended, two added to."""
    ends = market.settings.quarter_ends
    heads, parts = [], []
    closes = market.close[:, :-1]
    for quarter, end in enumerate(ends):
        last = max(n for n, day in enumerate(market.days) if day <= end)
        for manager, cik in enumerate(market.managers):
            held = market.held[quarter, manager]
            kind = rng.choice(["plain", "absent", "wrong", "late"], p=[0.94, 0.02, 0.02, 0.02])
            if kind == "absent":
                continue
            filed = end + timedelta(days=int(rng.integers(*FILING_DAYS)))
            place = np.flatnonzero(held)
            steps: list[tuple[str | None, np.ndarray, int]] = [(None, held, 0)]
            if len(place) and kind != "plain":
                one = np.arange(len(held)) == rng.choice(place)
                wrong = np.where(one, held * 10 if kind == "wrong" else 0, held)
                amended = held if kind == "wrong" else np.where(one, held, 0)
                name = "RESTATEMENT" if kind == "wrong" else "NEW HOLDINGS"
                steps = [(None, wrong, 0), (name, amended, int(rng.integers(5, 60)))]
            for number, (amendment, shares, later) in enumerate(steps):
                heads.append(
                    {
                        "institution_cik": cik,
                        "accession": f"{cik}-{end:%y}-{quarter * 10 + number:06d}",
                        "period": end,
                        "filed_date": filed + timedelta(days=later),
                        "amendment": amendment,
                    }
                )
                at = np.flatnonzero(shares)
                parts.append((len(heads) - 1, at, shares[at], shares[at] * closes[last, at]))
    schema = {
        "institution_cik": pl.String,
        "accession": pl.String,
        "period": pl.Date,
        "filed_date": pl.Date,
        "amendment": pl.String,
    }
    listed = pl.DataFrame(heads, schema=schema)
    row = np.concatenate([np.full(len(at), n) for n, at, *_ in parts])
    symbol = np.concatenate([at for _, at, *_ in parts])
    held_rows = listed[row].with_columns(
        cusips[symbol],
        shares=pl.Series(np.concatenate([n for *_, n, _ in parts])),
        value=pl.Series(np.concatenate([v for *_, v in parts])).round(0),
    )
    return held_rows, listed


def _routes(market: Drawn) -> pl.DataFrame:
    manager, venue = np.indices(market.routes.shape).reshape(2, -1)
    return pl.DataFrame(
        {
            "broker_mpid": _named(market.venues, venue),
            "institution_cik": _named(market.managers, manager),
            "share": market.routes.ravel(),
            "is_home": [
                (m, v) in market.homes
                for m, v in zip(manager.tolist(), venue.tolist(), strict=True)
            ],
        }
    )


def _flows(market: Drawn) -> pl.DataFrame:
    day, symbol, manager, shares = np.concatenate(market.flows).T
    return pl.DataFrame(
        {
            "symbol": _named(market.symbols, symbol),
            "trade_date": pl.Series(market.days, dtype=pl.Date).gather(day),
            "institution_cik": _named(market.managers, manager),
            "shares": shares,
        }
    )
