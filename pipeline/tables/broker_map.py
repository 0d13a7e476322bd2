"""Which institution's holdings move with which venue's volume.

A statistical association, not an identification: see `pipeline.equities.mapping`. The map is that
of the newest day on which anything it is made from was published.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from pipeline.equities import mapping
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Table
from pipeline.tables import frames as own
from pipeline.tables.broker_master import NAME as MASTER

NAME = "micro_broker_institution_map"
Params = mapping.Params


def _compute(frames: Frames, params: Params, on: date | None) -> Made:
    weeks, held, listed = own.ats(frames), own.filings(frames), own.filing_list(frames)
    as_of = on or _newest(weeks["published"], listed["filed_date"])
    if as_of is None:
        return Made({NAME: pl.DataFrame(schema=mapping.SCHEMA)})
    found = mapping.broker_map(
        weeks, held, listed, own.affiliates(frames), own.prices(frames), as_of, params
    )
    names = frames[MASTER].select("broker_mpid", known="broker_name").collect()
    rows = found.join(names, on="broker_mpid", how="left", maintain_order="left").with_columns(
        broker_name=pl.coalesce("broker_name", "known")
    )
    return Made({NAME: rows}, own.nameless(held))


def _newest(*several: pl.Series) -> date | None:
    newest: date | None = pl.concat([days.alias("day") for days in several]).max()  # type: ignore[assignment]
    return newest


TABLE = Table(
    name="broker_map",
    params=Params,
    reads=(
        *("finra_ats", "sec_13f", "sec_entities", "sec_cusips", "affiliates", "prices_daily"),
        MASTER,
    ),
    compute=_compute,
    keys={NAME: ("broker_mpid", "institution_cik")},
    layers=(
        Layer(
            NAME,
            NAME,
            "parquet",
            mapping.COLUMNS,
            "Venues and institutions that move together: association, no identification.",
        ),
    ),
)
