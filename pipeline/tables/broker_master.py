"""Who is behind the MPID of a venue: 25 of them, with the evidence.

The list ships with flowvault. It holds what was found stated somewhere, and says where; an MPID
that is not in it is none the worse for that.
"""

from __future__ import annotations

import tomllib
import zlib
from datetime import date
from importlib import resources

import msgspec
import polars as pl

from pipeline.layers import Column, Layer
from pipeline.table import Frames, Made, Table

NAME = "micro_broker_master"
FILE = "brokers.toml"


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """There is nothing to set."""


def _text() -> str:
    return resources.files("pipeline").joinpath(FILE).read_text(encoding="utf-8")


def _compute(_frames: Frames, _params: Params, _on: date | None) -> Made:
    listed = tomllib.loads(_text())["broker"]
    columns = {
        "broker_mpid": "mpid",
        "broker_name": "name",
        "broker_cik": "cik",
        "broker_type": "type",
        "parent_company": "parent",
        "is_active": "is_active",
        "notes": "notes",
        "ats_name": "ats_name",
        "evidence": "evidence",
    }
    rows = pl.DataFrame(
        {
            name: pl.Series([each.get(key) for each in listed], dtype=_dtype(key))
            for name, key in columns.items()
        }
    )
    return Made({NAME: rows})


def _dtype(key: str) -> type[pl.DataType]:
    return pl.Boolean if key == "is_active" else pl.String


TABLE = Table(
    name="broker_master",
    params=Params,
    reads=(),
    compute=_compute,
    keys={NAME: ("broker_mpid",)},
    # the list is part of the code: another one makes another table
    version=zlib.crc32(_text().encode()),
    layers=(
        Layer(
            NAME,
            NAME,
            "parquet",
            (
                Column("broker_mpid", "string", "", "market participant id, four letters"),
                Column("broker_name", "string", "", "the firm"),
                Column("broker_cik", "string", "", "its CIK; null: none has been checked"),
                Column("broker_type", "string", "", "DARK_POOL or PRIME_BROKER"),
                Column("parent_company", "string", "", "null: none has been checked"),
                Column("is_active", "bool", "", "false if the venue is known to have closed"),
                Column("notes", "string", "", "what one must know about it, or null"),
                Column("ats_name", "string", "", "name of the venue; null for a broker's MPID"),
                Column(
                    "evidence",
                    "string",
                    "",
                    "A: FINRA's own list or data; B: list of market codes or repositories; C: weak",
                ),
            ),
            "Who is behind the MPID of a venue, with the evidence for it.",
        ),
    ),
)
