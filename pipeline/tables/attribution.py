"""Volume of venues by institution, day by day: an association, no proof.

See `pipeline.equities.attribution`. A venue's week is public three weeks after its Monday (T1) or
five (T2, OTC); before that rows say NOWCAST.
"""

from __future__ import annotations

from datetime import date

import msgspec

from pipeline.equities import attribution
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Table
from pipeline.tables import frames as own
from pipeline.tables.broker_map import NAME as MAP

NAME = "micro_institutional_flow"
Params = attribution.Params


def _compute(frames: Frames, params: Params, on: date | None) -> Made:
    chosen = params if on is None else msgspec.structs.replace(params, as_of=on)
    held = own.filings(frames)
    found = attribution.attributed(
        own.ats(frames),
        own.off_exchange(frames),
        own.iex(frames),
        own.calendar(frames),
        held,
        own.filing_list(frames),
        frames[MAP].collect(),
        own.classification(frames),
        chosen,
        own.prices(frames),
    )
    return Made({NAME: found.flows}, tuple(_words(found, chosen)))


def _words(found: attribution.Attributed, params: Params) -> list[str]:
    words = []
    if found.dropped:
        least = params.min_confidence
        words.append(f"{found.dropped:,} rows below min_confidence {least:g} are left out")
    if found.undated:
        words.append(f"{found.undated:,} weeks of venues without a trading day are left out")
    return words


TABLE = Table(
    name="attribution",
    params=Params,
    reads=(
        *("finra_ats", "finra_regsho", "iex_volume", "sec_13f", "sec_entities", "sec_cusips"),
        *("prices_daily", MAP),
        *(own.CLASSIFICATION, own.CLASSIFICATION + own.BARS),
    ),
    compute=_compute,
    keys={NAME: ("symbol", "trade_date", "broker_mpid", "institution_cik")},
    layers=(
        Layer(
            NAME,
            NAME,
            "parquet",
            attribution.COLUMNS,
            "Off-exchange volume by institution and day: statistical association, no proof.",
        ),
    ),
)
