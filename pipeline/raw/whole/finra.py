"""What FINRA publishes: weekly volume of trading venues, daily short volume, short interest.

Keys are FINRA's own. Where FINRA's file is a table with bars between its columns (Reg SHO, short
interest) a line here is one row of it with the names of that table's header as keys.

Weekly volume, as published: https://www.finra.org/filing-reporting/otc-transparency. Quantities
may be fractional. The week is its Monday and must be in the line: the file that FINRA's website
hands out has no week, only the day of its last update, from which the week cannot be told.
"""

from __future__ import annotations

from datetime import date
from functools import cache

import msgspec
import polars as pl

from pipeline.layers import Column, Layer
from pipeline.raw.whole.lines import Lines, named
from pipeline.table import Feed

PUBLISHED_AFTER_DAYS = {"T1": 21, "T2": 35, "OTC": 35}
"""Days from a week's Monday to its publication, by tier, where the line does not say."""

_SOURCE = Column("source", "string", "", "the raw file, below raw/")


# -- weekly volume of venues -----------------------------------------------


class _Week(msgspec.Struct):
    kind: str | None = msgspec.field(default=None, name="summaryTypeCode")
    symbol: str | None = msgspec.field(default=None, name="issueSymbolIdentifier")
    mpid: str | None = msgspec.field(default=None, name="MPID")
    participant: str | None = msgspec.field(default=None, name="marketParticipantName")
    tier: str | None = msgspec.field(default=None, name="tierIdentifier")
    week: date | None = msgspec.field(default=None, name="weekStartDate")
    shares: float | None = msgspec.field(default=None, name="totalWeeklyShareQuantity")
    trades: float | None = msgspec.field(default=None, name="totalWeeklyTradeCount")
    published: date | None = msgspec.field(default=None, name="initialPublishedDate")
    updated: date | None = msgspec.field(default=None, name="lastUpdateDate")


@cache
def _weekly() -> Lines:
    week, tier = pl.col("file_week").str.to_date(), pl.col("file_tier")
    symbol, mpid, own_tier = named("symbol"), named("mpid"), pl.col("tier").replace("OTCE", "OTC")
    in_week = pl.col("published") < pl.col("week") + pl.duration(days=5)
    # venues too small to be named stand together in one row without an MPID
    is_minor = pl.col("participant").str.to_lowercase().str.contains("de minimis")
    is_named = pl.col("mpid").str.strip_chars() != ""
    is_firm = pl.col("kind").str.ends_with("_SMBL_FIRM")
    is_rest = (is_minor & ~is_named.fill_null(value=False)).fill_null(value=False)
    no_week = "no weekStartDate: the file from FINRA's website does not say its week"
    rules = (
        (no_week, pl.col("week").is_null()),
        ("no summaryTypeCode", pl.col("kind").is_null()),
        ("issueSymbolIdentifier", symbol.is_null()),
        ("MPID", mpid.is_null()),
        ("weekStartDate is no Monday", pl.col("week").dt.weekday() != 1),
        ("weekStartDate is not the file's", pl.col("week") != week),
        ("tierIdentifier is not the file's", own_tier != tier),
        ("totalWeeklyShareQuantity", pl.col("shares") <= 0),
        ("totalWeeklyTradeCount", (pl.col("trades") <= 0) | (pl.col("trades") % 1 != 0)),
        ("initialPublishedDate is before the week's end", in_week),
    )
    later = pl.col("week") + pl.duration(
        days=tier.replace_strict(PUBLISHED_AFTER_DAYS, return_dtype=pl.Int64)
    )
    return Lines(
        kind=_Week,
        required=("symbol", "mpid", "shares", "trades"),
        wanted=pl.col("kind").is_null() | (is_firm & ~is_rest),
        rules=rules,
        rows=(
            pl.col("week").alias("week_start"),
            symbol.alias("symbol"),
            mpid.alias("mpid"),
            pl.col("shares"),
            pl.col("trades").cast(pl.Int64),
            tier.alias("tier"),
            pl.coalesce("published", later).alias("published"),
            pl.col("participant"),
            pl.col("updated"),
            pl.col("kind"),
        ),
        unique=("symbol", "mpid", "kind"),
    )


ATS = Feed(
    name="finra_ats",
    folder="finra/ats_weekly",
    names=r"(?P<week>\d{4}-\d\d-\d\d)\.(?P<tier>T1|T2|OTC)",
    spelled="{WEEK_START}.{T1,T2,OTC}",
    dated="week",
    lines=_weekly,
    part=lambda facts: facts["week"][:7],
    known_on=("published", 0),
    layer=Layer(
        "finra_ats",
        "finra_ats",
        "parquet",
        (
            Column("week_start", "date", "", "Monday of the week"),
            Column("symbol", "string", "", "issue, as FINRA names it"),
            Column("mpid", "string", "", "market participant: a venue (ATS) or a firm"),
            Column("shares", "float", "shares", "traded there in the week; may be fractional"),
            Column("trades", "int", "", "number of trades"),
            Column("tier", "string", "", "T1 or T2 (NMS stocks), or OTC"),
            Column(
                "published",
                "date",
                "",
                "first day it was public: initialPublishedDate, else 21 days after week_start "
                "(T1) or 35 (T2, OTC)",
            ),
            Column("participant", "string", "", "marketParticipantName; null where there is none"),
            Column("updated", "date", "", "lastUpdateDate; null where there is none"),
            Column("kind", "string", "", "summaryTypeCode; only those of one symbol and one firm"),
            _SOURCE,
        ),
        "FINRA's weekly volume by venue, one row a week, symbol and venue; roll-ups are left out.",
    ),
)


# -- daily short volume ----------------------------------------------------


class _ShortVolume(msgspec.Struct):
    day: str | int | None = msgspec.field(default=None, name="Date")
    symbol: str | None = msgspec.field(default=None, name="Symbol")
    short: float | None = msgspec.field(default=None, name="ShortVolume")
    total: float | None = msgspec.field(default=None, name="TotalVolume")
    market: str | None = msgspec.field(default=None, name="Market")


@cache
def _daily() -> Lines:
    day = pl.col("file_day").str.to_date()
    own = pl.coalesce(
        pl.col("day").str.to_date("%Y%m%d", strict=False),
        pl.col("day").str.to_date("%Y-%m-%d", strict=False),
    )
    symbol = named("symbol")
    return Lines(
        kind=_ShortVolume,
        required=("day", "symbol", "short", "total"),
        rules=(
            ("Date", own.is_null()),
            ("Date is not the file's", own != day),
            ("Symbol", symbol.is_null()),
            ("TotalVolume", pl.col("total") <= 0),
            ("ShortVolume", pl.col("short") < 0),
            ("ShortVolume above TotalVolume", pl.col("short") > pl.col("total")),
        ),
        rows=(
            own.alias("date"),
            symbol.alias("symbol"),
            pl.col("total").alias("total_volume"),
            pl.col("short").alias("short_volume"),
            pl.col("market"),
        ),
        unique=("symbol", "market"),
        finish=_of_all_markets,
    )


def _of_all_markets(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a symbol, also where each reporting facility has a line of its own."""
    # FINRA writes six decimals; integers add up the same in any order
    sums = {
        name: pl.when(pl.len() == 1)
        .then(pl.col(name).first())
        .otherwise((pl.col(name) * 1e6).round().cast(pl.Int64).sum() / 1e6)
        for name in ("total_volume", "short_volume")
    }
    groups = rows.group_by("source", "date", "symbol", maintain_order=True)
    return groups.agg(**sums, market=pl.col("market").drop_nulls().str.join(","))


REGSHO = Feed(
    name="finra_regsho",
    folder="finra/regsho_daily",
    names=r"(?P<day>\d{4}-\d\d-\d\d)",
    spelled="{DATE}",
    dated="day",
    lines=_daily,
    part=lambda facts: facts["day"][:7],
    known_on=("date", 0),
    layer=Layer(
        "finra_regsho",
        "finra_regsho",
        "parquet",
        (
            Column("date", "date", "", "trading day"),
            Column("symbol", "string", "", "issue, as FINRA names it"),
            Column("total_volume", "float", "shares", "traded off exchange and reported to FINRA"),
            Column("short_volume", "float", "shares", "of these sold short, exempt ones included"),
            Column("market", "string", "", "the reporting facilities"),
            _SOURCE,
        ),
        "FINRA's daily short sale volume (Reg SHO), one row a day and symbol.",
    ),
)


# -- short interest --------------------------------------------------------


class _ShortInterest(msgspec.Struct):
    symbol: str | None = msgspec.field(default=None, name="symbolCode")
    current: float | None = msgspec.field(default=None, name="currentShortPositionQuantity")
    previous: float | None = msgspec.field(default=None, name="previousShortPositionQuantity")
    settle: date | None = msgspec.field(default=None, name="settlementDate")


@cache
def _settled() -> Lines:
    settle, symbol = pl.col("file_settle").str.to_date(), named("symbol")
    return Lines(
        kind=_ShortInterest,
        required=("symbol", "current", "settle"),
        rules=(
            ("symbolCode", symbol.is_null()),
            ("settlementDate is not the file's", pl.col("settle") != settle),
            ("currentShortPositionQuantity", pl.col("current") < 0),
            ("previousShortPositionQuantity", pl.col("previous") < 0),
        ),
        rows=(
            pl.col("settle"),
            symbol.alias("symbol"),
            pl.col("current").round().cast(pl.Int64).alias("shares"),
            pl.col("previous").round().cast(pl.Int64),
        ),
        unique=("symbol",),
    )


SHORT_INTEREST = Feed(
    name="finra_short_interest",
    folder="finra/short_interest",
    names=r"(?P<settle>\d{4}-\d\d-\d\d)",
    spelled="{SETTLEMENT_DATE}",
    dated="settle",
    lines=_settled,
    part=lambda facts: facts["settle"][:4],
    # due two business days after the settlement date, published a week of business days later
    known_on=("settle", 14),
    layer=Layer(
        "finra_short_interest",
        "finra_short_interest",
        "parquet",
        (
            Column("settle", "date", "", "settlement date"),
            Column("symbol", "string", "", "issue, as FINRA names it"),
            Column("shares", "int", "shares", "sold short and not bought back"),
            Column("previous", "int", "shares", "the same at the settlement date before, or null"),
            _SOURCE,
        ),
        "Short interest as FINRA publishes it, twice a month.",
    ),
)
