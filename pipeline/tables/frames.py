"""The frames of `pipeline.equities`, from the rows of feeds and layers."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from pipeline.calc import nyse
from pipeline.equities import bars
from pipeline.table import Frames

CLASSIFICATION, METRICS = "micro_trade_classification", "micro_metrics_daily"
"""Layers of the tape; of symbols without one the tables of the same name with `_BARS`."""

TAPE_STAGES = {CLASSIFICATION: "classify", METRICS: "metrics_daily"}
"""The stages that write them, by layer."""

BARS = "_bars"
BENCHMARK = "SPY"
_DAYS_OF_A_WEEK = 5


def ats(frames: Frames) -> pl.DataFrame:
    """Weekly volume by venue; of what was published more than once the last update counts."""
    return (
        frames["finra_ats"]
        .sort("week_start", "symbol", "mpid", "kind", "updated", "source", nulls_last=False)
        .unique(["week_start", "symbol", "mpid", "kind"], keep="last", maintain_order=True)
        .select("week_start", "symbol", "mpid", "shares", "trades", "tier", "published")
        .collect()
    )


def off_exchange(frames: Frames) -> pl.DataFrame:
    """Daily volume off exchange."""
    return frames["finra_regsho"].select("date", "symbol", "total_volume", "short_volume").collect()


def iex(frames: Frames) -> pl.DataFrame:
    """Daily volume on IEX."""
    return frames["iex_volume"].select("date", "symbol", "matched_shares").collect()


def prices(frames: Frames) -> pl.DataFrame:
    """Daily bars."""
    return frames["prices_daily"].drop("source").collect()


def affiliates(frames: Frames) -> pl.DataFrame:
    """Documented ties."""
    return frames["affiliates"].drop("source").collect()


def entities(frames: Frames) -> pl.DataFrame:
    """Who is who."""
    return frames["sec_entities"].drop("source").collect()


_FILING = ("institution_cik", "accession", "period", "filed_date", "amendment")


def filing_list(frames: Frames) -> pl.DataFrame:
    """Every filing, those that hold nothing among them."""
    return frames["sec_13f"].select(_FILING).unique().sort(_FILING).collect()


def filings(frames: Frames) -> pl.DataFrame:
    """Holdings, each with its issuer and symbol; null where the CUSIP is nobody's.

    The symbol is that of the CUSIP where the map names one, else the issuer's, if it has but one.
    """
    known = frames["sec_entities"].drop_nulls("ticker").collect()
    tickers = (
        known.with_columns(is_issuer=pl.col("kind") == "issuer")
        .filter(pl.col("is_issuer") | ~pl.col("is_issuer").any().over("cik"))
        .group_by(issuer_cik="cik")
        .agg(pl.col("ticker").unique())
        .filter(pl.col("ticker").list.len() == 1)
        .select("issuer_cik", only=pl.col("ticker").list.first())
    )
    cusips = frames["sec_cusips"].drop("source").collect().join(tickers, "issuer_cik", how="left")
    named = cusips.select("cusip", "issuer_cik", symbol=pl.coalesce("ticker", "only"))
    return (
        frames["sec_13f"]
        .drop_nulls("cusip")
        .select(*_FILING, "cusip", "shares", "value")
        .collect()
        .join(named, on="cusip", how="left", maintain_order="left")
    )


def nameless(held: pl.DataFrame) -> tuple[str, ...]:
    """A word about holdings that could not be counted."""
    number = held["symbol"].null_count()
    if not number:
        return ()
    where = "raw/sec/cusip_map.jsonl and raw/sec/entities.jsonl"
    return (
        f"{number:,} of {held.height:,} holdings do not count: {where} name no symbol for them",
    )


def classification(frames: Frames) -> pl.DataFrame:
    """Buyers and sellers by symbol and day, from tapes and daily bars."""
    return _both(frames, CLASSIFICATION, bars.CLASSIFICATION)


def metrics(frames: Frames) -> pl.DataFrame:
    """Daily metrics, from tapes and daily bars."""
    return _both(frames, METRICS, bars.METRICS)


def _both(frames: Frames, name: str, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    parts = []
    for layer in (name, name + BARS):
        columns = frames[layer].collect_schema().names()
        parts.append(
            frames[layer].select(
                (pl.col(each) if each in columns else pl.lit(None)).cast(dtype).alias(each)
                for each, dtype in schema.items()
            )
        )
    return pl.concat(parts).sort("symbol", "trade_date").collect()


def flows(frames: Frames) -> pl.LazyFrame:
    """Institutional flows, as far as period signals look at them; not collected."""
    columns = ("symbol", "trade_date", "shares", "attribution_confidence", "mode")
    return frames["micro_institutional_flow"].select(*columns, "available_date")


def known(rows: pl.DataFrame, on: date | None) -> pl.DataFrame:
    """Of dated rows those that could be known on the evening of a day."""
    if on is None:
        return rows
    return rows.filter(pl.coalesce("available_date", "trade_date") <= on)


def calendar(frames: Frames, first: date | None = None, last: date | None = None) -> pl.Series:
    """Trading days, from a quarter before the first day of any data (or `first`) to the last.

    They follow from the rules of the New York Stock Exchange. Where the benchmark's bars show
    another day it is one too, and one on which nothing at all is known in their midst is none.
    """
    several = [
        frames[name].select(pl.col(column).alias("date"))
        for name, column in (
            ("prices_daily", "date"),
            ("finra_regsho", "date"),
            ("iex_volume", "date"),
            (CLASSIFICATION, "trade_date"),
        )
        if name in frames
    ]
    seen = set(pl.concat(several).unique().collect()["date"]) if several else set()
    shown = (
        {
            day
            for day in frames["prices_daily"].filter(symbol=BENCHMARK).collect()["date"]
            if day.weekday() < _DAYS_OF_A_WEEK
        }
        if "prices_daily" in frames
        else set()
    )
    ends = set(seen)
    if "finra_ats" in frames:
        weeks = frames["finra_ats"].select("week_start").unique().collect()["week_start"]
        ends |= {each + timedelta(days=days) for each in weeks for days in (0, 4)}
    if first is None and not ends:
        return pl.Series("date", [], pl.Date)
    low = first or min(ends) - timedelta(days=92)
    high = last or max(ends)
    low_shown, high_shown = min(shown, default=high), max(shown, default=low)
    days = {
        day
        for day in nyse.trading_days(low, high)
        if day in seen or not low_shown <= day <= high_shown
    }
    days |= {day for day in shown if low <= day <= high}
    return pl.Series("date", sorted(days), pl.Date)
