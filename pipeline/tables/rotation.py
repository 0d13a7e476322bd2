"""Large holders leaving a stock, scored.

See `pipeline.equities.rotation`.
"""

from __future__ import annotations

from datetime import date

import msgspec

from pipeline.equities import rotation
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Table
from pipeline.tables import frames as own
from pipeline.tables.attribution import NAME as FLOWS

NAME = "rotation_events"
Params = rotation.Params


def _compute(frames: Frames, params: Params, on: date | None) -> Made:
    chosen = params if on is None else msgspec.structs.replace(params, as_of=on)
    held = own.filings(frames)
    rows = rotation.rotation_events(
        held,
        own.filing_list(frames),
        own.entities(frames),
        own.prices(frames),
        own.metrics(frames),
        own.classification(frames),
        own.flows(frames).collect(),
        own.calendar(frames),
        chosen,
    )
    return Made({NAME: rows}, own.nameless(held))


TABLE = Table(
    name="rotation",
    params=Params,
    reads=(
        *("sec_13f", "sec_entities", "sec_cusips", "prices_daily", FLOWS),
        *("finra_ats", "finra_regsho", "iex_volume"),
        *(own.CLASSIFICATION, own.CLASSIFICATION + own.BARS),
        *(own.METRICS, own.METRICS + own.BARS),
    ),
    compute=_compute,
    keys={NAME: ("period", "symbol", "institution_cik")},
    layers=(
        Layer(
            NAME,
            NAME,
            "parquet",
            rotation.COLUMNS,
            "Managers that sold 30 % or more of a position, and who took it up.",
        ),
    ),
)
