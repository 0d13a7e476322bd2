"""Signals of a period from flows, toxicity and price impact, by symbol.

A row is a symbol and a quarter of the year, the running one to its last known day. Other periods:
`flowvault equities run --from … --to …`.
"""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from pipeline.equities import quarters, signals
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Table
from pipeline.tables import frames as own
from pipeline.tables.attribution import NAME as FLOWS

NAME = "micro_signals"
Params = signals.Params


def _compute(frames: Frames, params: Params, on: date | None) -> Made:
    tables = [own.metrics(frames), own.classification(frames), frames[FLOWS].collect()]
    metrics, classes, flows = (own.known(each, on) for each in tables)
    days = own.calendar(frames)
    seen = pl.concat([each.select("trade_date") for each in (metrics, classes, flows)])
    several = seen.select(quarters.number(pl.col("trade_date")).unique().sort()).to_series()
    parts = [pl.DataFrame(schema=signals.SCHEMA)]
    for number in several:
        first, last = quarters.first_day(number), quarters.last_day(number)
        parts.append(period(metrics, classes, flows, days, first, last, params))
    return Made({NAME: pl.concat(parts)})


def period(
    metrics: pl.DataFrame,
    classes: pl.DataFrame,
    flows: pl.DataFrame,
    days: pl.Series,
    first: date,
    last: date,
    params: Params,
) -> pl.DataFrame:
    """The signals of one period; only the days that they can depend on are looked at."""
    back = first - timedelta(days=2 * params.lambda_days + 10)
    near = pl.col("trade_date").is_between(back, last)
    return signals.period_signals(
        metrics.filter(near), classes.filter(near), flows.filter(near), days, first, last, params
    )


TABLE = Table(
    name="micro_signals",
    params=Params,
    reads=(
        *("prices_daily", "finra_ats", "finra_regsho", "iex_volume", FLOWS),
        *(own.CLASSIFICATION, own.CLASSIFICATION + own.BARS),
        *(own.METRICS, own.METRICS + own.BARS),
    ),
    compute=_compute,
    keys={NAME: ("symbol", "from_date")},
    layers=(
        Layer(
            NAME,
            NAME,
            "parquet",
            signals.COLUMNS,
            "What a symbol's microstructure said over a quarter, and how far to trust it.",
        ),
    ),
)
