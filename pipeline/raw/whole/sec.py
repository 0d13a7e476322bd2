"""Form 13F filings, who is who, and which CUSIP belongs to whom.

A filing is a file: every line repeats what the filing says about itself (`cik`, `period`,
`filed_date`, `amendmentType`) and holds one entry of its information table. A line without an
entry stands for the filing alone, for one that holds nothing. Kept are shares (`SH`) without
`putCall`; several entries of one CUSIP are added up.

Values were reported in thousands of dollars before 2023 and in dollars since, but not by everyone
from the same day on: a filing whose median value per share is below one dollar is taken to be in
thousands.
"""

from __future__ import annotations

from functools import cache

import msgspec
import polars as pl

from pipeline.layers import Column, Layer
from pipeline.raw.whole.lines import Lines, named, padded_cik, whole_cusip
from pipeline.table import Feed

_SOURCE = Column("source", "string", "", "the raw file, below raw/")
_DATE_FORMATS = ("%Y-%m-%d", "%m-%d-%Y", "%d-%b-%Y")
"""As EDGAR's index, the filing itself and the data sets of the SEC write a day."""

AMENDMENTS = ("RESTATEMENT", "NEW HOLDINGS")
KINDS = ("issuer", "manager", "fund", "etf")
THOUSANDS_BELOW = 1.0
"""A median value per share below this says that values are in thousands."""


def _day(name: str) -> pl.Expr:
    return pl.coalesce(*(pl.col(name).str.to_date(each, strict=False) for each in _DATE_FORMATS))


def _text(name: str) -> pl.Expr:
    """An optional text; blank is none."""
    text = pl.col(name).str.strip_chars()
    return pl.when(text != "").then(text)


# -- 13F -------------------------------------------------------------------


class _Holding(msgspec.Struct):
    cik: str | int | None = None
    period: str | None = None
    filed: str | None = msgspec.field(default=None, name="filed_date")
    amendment: str | None = msgspec.field(default=None, name="amendmentType")
    issuer: str | None = msgspec.field(default=None, name="nameOfIssuer")
    cusip: str | int | None = None
    value: float | None = None
    shares: float | None = msgspec.field(default=None, name="sshPrnamt")
    kind: str | None = msgspec.field(default=None, name="sshPrnamtType")
    put_call: str | None = msgspec.field(default=None, name="putCall")


@cache
def _holdings() -> Lines:
    cik, cusip = padded_cik("cik"), whole_cusip("cusip")
    period, filed = _day("period"), _day("filed")
    amendment = _text("amendment").str.to_uppercase()
    has_entry = pl.any_horizontal(
        pl.col(name).is_not_null() for name in ("cusip", "issuer", "value", "shares", "kind")
    )
    kind = pl.col("kind").str.to_uppercase()
    rules = (
        ("cik is not the folder's", cik.is_null() | (cik != padded_cik("file_cik"))),
        ("period", period.is_null()),
        (
            "period is no quarter's end",
            period != period.dt.offset_by("1d").dt.truncate("1q").dt.offset_by("-1d"),
        ),
        ("filed_date", filed.is_null()),
        ("filed_date is not after the period", filed <= period),
        ("amendmentType", ~amendment.is_in(AMENDMENTS)),
        ("no cusip", has_entry & pl.col("cusip").is_null()),
        ("cusip", has_entry & cusip.is_null()),
        ("sshPrnamtType", has_entry & ~kind.is_in(["SH", "PRN"]).fill_null(value=False)),
        ("no value", has_entry & pl.col("value").is_null()),
        ("no sshPrnamt", has_entry & pl.col("shares").is_null()),
        ("value", pl.col("value") < 0),
        ("sshPrnamt", pl.col("shares") < 0),
    )
    is_kept = has_entry & (kind == "SH") & _text("put_call").is_null()
    return Lines(
        kind=_Holding,
        required=("cik", "period", "filed"),
        rules=rules,
        rows=(
            cik.alias("institution_cik"),
            pl.col("file_accession").alias("accession"),
            period.alias("period"),
            filed.alias("filed_date"),
            amendment.alias("amendment"),
            pl.when(is_kept).then(cusip).alias("cusip"),
            pl.when(is_kept).then("shares").alias("shares"),
            pl.when(is_kept).then("value").alias("value"),
        ),
        finish=_whole_filings,
    )


_FILING = ("institution_cik", "accession", "period", "filed_date", "amendment")


def _whole_filings(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a CUSIP, or one without any: what the first line says of a filing counts."""
    about = rows.group_by("source", maintain_order=True).agg(pl.col(_FILING).first())
    held = rows.drop_nulls("cusip").with_columns(
        per_share=pl.when(pl.col("shares") > 0, pl.col("value") > 0).then(
            pl.col("value") / pl.col("shares")
        )
    )
    is_small = pl.col("per_share").median().over("source") < THOUSANDS_BELOW
    sums = (
        held.with_columns(in_thousands=is_small.fill_null(value=False))
        .group_by("source", "cusip")
        .agg(
            # integers, so that the sum does not depend on the order it is made in
            (pl.col("shares", "value") * 100).round().cast(pl.Int64).sum() / 100,
            pl.col("in_thousands").first(),
        )
        .with_columns(
            pl.col("shares").round().cast(pl.Int64),
            value=pl.when("in_thousands").then(pl.col("value") * 1000).otherwise("value"),
        )
    )
    joined = about.join(sums, on="source", how="left").sort("source", "cusip")
    return joined.select(*_FILING, "cusip", "shares", "value", "in_thousands", "source")


HOLDINGS = Feed(
    name="sec_13f",
    folder="sec/13f",
    names=r"(?P<cik>\d{1,10})/(?P<accession>[\w.-]+)",
    spelled="{CIK}/{ACCESSION}",
    lines=_holdings,
    part=lambda facts: facts["cik"][-2:].zfill(2),
    known_on=("filed_date", 0),
    layer=Layer(
        "sec_13f",
        "sec_13f",
        "parquet",
        (
            Column("institution_cik", "string", "", "the manager's CIK, ten digits"),
            Column("accession", "string", "", "the filing's number"),
            Column("period", "date", "", "last day of the quarter reported"),
            Column("filed_date", "date", "", "day it was filed and public"),
            Column("amendment", "string", "", '"RESTATEMENT", "NEW HOLDINGS", or null'),
            Column("cusip", "string", "", "what is held; null in the one row of an empty filing"),
            Column("shares", "int", "shares", "held at the period's end, options left out"),
            Column("value", "float", "USD", "of these"),
            Column("in_thousands", "bool", "", "the filing gave values in thousands of dollars"),
            _SOURCE,
        ),
        "Holdings reported on form 13F, one row a filing and CUSIP, amendments apart.",
    ),
)


# -- who is who ------------------------------------------------------------


class _Entity(msgspec.Struct):
    cik: str | int | None = None
    kind: str | None = None
    name: str | None = None
    ticker: str | None = None
    series: str | None = msgspec.field(default=None, name="series_id")


@cache
def _entities() -> Lines:
    cik = padded_cik("cik")
    return Lines(
        kind=_Entity,
        required=("cik", "kind", "name"),
        rules=(
            ("cik", cik.is_null()),
            ("kind", ~pl.col("kind").is_in(KINDS)),
            ("name", _text("name").is_null()),
            ("ticker", _text("ticker").is_not_null() & named("ticker").is_null()),
        ),
        rows=(
            cik.alias("cik"),
            pl.col("kind"),
            _text("name").alias("name"),
            named("ticker").alias("ticker"),
            _text("series").alias("series_id"),
        ),
        unique=("cik", "kind", "series_id"),
    )


ENTITIES = Feed(
    name="sec_entities",
    folder="sec",
    names=r"entities",
    spelled="entities",
    lines=_entities,
    part=lambda _facts: "all",
    layer=Layer(
        "sec_entities",
        "sec_entities",
        "parquet",
        (
            Column("cik", "string", "", "ten digits"),
            Column("kind", "string", "", '"issuer", "manager", "fund" or "etf"'),
            Column("name", "string", "", "its name"),
            Column("ticker", "string", "", "symbol, or null"),
            Column("series_id", "string", "", "series of a fund, or null"),
            _SOURCE,
        ),
        "Issuers, managers and funds as they were told.",
    ),
)


class _Cusip(msgspec.Struct):
    cusip: str | int | None = None
    cik: str | int | None = msgspec.field(default=None, name="issuer_cik")
    ticker: str | None = None


@cache
def _cusips() -> Lines:
    cusip, cik = whole_cusip("cusip"), padded_cik("cik")
    return Lines(
        kind=_Cusip,
        required=("cusip", "cik"),
        rules=(
            ("cusip", cusip.is_null()),
            ("issuer_cik", cik.is_null()),
            ("ticker", _text("ticker").is_not_null() & named("ticker").is_null()),
        ),
        rows=(
            cusip.alias("cusip"),
            cik.alias("issuer_cik"),
            named("ticker").alias("ticker"),
        ),
        unique=("cusip",),
    )


CUSIPS = Feed(
    name="sec_cusips",
    folder="sec",
    names=r"cusip_map",
    spelled="cusip_map",
    lines=_cusips,
    part=lambda _facts: "all",
    layer=Layer(
        "sec_cusips",
        "sec_cusips",
        "parquet",
        (
            Column("cusip", "string", "", "nine characters, leading zeros kept"),
            Column("issuer_cik", "string", "", "the issuer's CIK, ten digits"),
            Column("ticker", "string", "", "symbol of this CUSIP where the line names one"),
            _SOURCE,
        ),
        "Which CUSIP is whose.",
    ),
)


# -- what the user knows ---------------------------------------------------


class _Affiliate(msgspec.Struct):
    mpid: str | None = msgspec.field(default=None, name="broker_mpid")
    cik: str | int | None = msgspec.field(default=None, name="institution_cik")
    note: str | None = None


@cache
def _affiliates() -> Lines:
    mpid, cik = named("mpid"), padded_cik("cik")
    return Lines(
        kind=_Affiliate,
        required=("mpid", "cik"),
        rules=(("broker_mpid", mpid.is_null()), ("institution_cik", cik.is_null())),
        rows=(
            mpid.alias("broker_mpid"),
            cik.alias("institution_cik"),
            _text("note").alias("note"),
        ),
        unique=("broker_mpid", "institution_cik"),
    )


AFFILIATES = Feed(
    name="affiliates",
    folder="",
    names=r"affiliates",
    spelled="affiliates",
    lines=_affiliates,
    part=lambda _facts: "all",
    layer=Layer(
        "affiliates",
        "affiliates",
        "parquet",
        (
            Column("broker_mpid", "string", "", "a venue or broker"),
            Column("institution_cik", "string", "", "an institution of the same house, ten digits"),
            Column("note", "string", "", "where that is documented"),
            _SOURCE,
        ),
        "Venues and managers of one house, as the vault's owner has documented them.",
    ),
)
