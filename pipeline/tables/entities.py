"""Issuers, managers and funds: whom a CIK stands for.

`entity_id` is the CIK where that is enough: of several entries of one CIK the manager has it, else
the issuer, the ETF, the fund; the others say their kind or series as well. Managers that filed a
13F and are in no list have a row without a name, so that their rows elsewhere find them.
"""

from __future__ import annotations

from datetime import date

import msgspec
import polars as pl

from pipeline.layers import Column, Layer
from pipeline.table import Frames, Made, Table

_RANKS = {"manager": 0, "issuer": 1, "etf": 2, "fund": 3}


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to set."""


def _compute(frames: Frames, _params: Params, _on: date | None) -> Made:
    told = frames["sec_entities"].drop("source").collect()
    filed = frames["sec_13f"].select(cik="institution_cik").unique().collect()
    unnamed = filed.join(told.filter(kind="manager"), on="cik", how="anti")
    listed = pl.concat([told, unnamed.with_columns(kind=pl.lit("manager"))], how="diagonal").sort(
        "cik",
        pl.col("kind").replace_strict(_RANKS, return_dtype=pl.Int8),
        pl.col("series_id").is_not_null(),
        "series_id",
    )
    own = pl.concat_str(["cik", pl.coalesce("series_id", "kind")], separator=":")
    is_first = pl.int_range(pl.len()).over("cik") == 0
    return Made(
        {"entities": listed.with_columns(entity_id=pl.when(is_first).then("cik").otherwise(own))}
    )


TABLE = Table(
    name="entities",
    params=Params,
    reads=("sec_entities", "sec_13f"),
    compute=_compute,
    keys={"entities": ("entity_id",)},
    layers=(
        Layer(
            "entities",
            "entities",
            "parquet",
            # names that queries over other tables use without a prefix have no place here
            (
                Column("entity_id", "string", "", "the CIK, with kind or series where it must"),
                Column("cik", "string", "", "ten digits"),
                Column("name", "string", "", "null for a filer that is in no list"),
                Column("kind", "string", "", '"issuer", "manager", "fund" or "etf"'),
                Column("ticker", "string", "", "the issuer's or fund's, or null"),
                Column("series_id", "string", "", "series of a fund, or null"),
            ),
            "Whom a CIK stands for: issuers, managers, funds.",
        ),
    ),
)
