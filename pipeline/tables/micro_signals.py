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
    metrics, classes = own.known(own.metrics(frames), on), own.known(own.classification(frames), on)
    flows, days = own.flows(frames), own.calendar(frames)
    dated = [each.lazy().select("trade_date").unique() for each in (metrics, classes, flows)]
    number = quarters.number(pl.col("trade_date"))
    several = pl.concat(dated).select(number.unique().sort()).collect().to_series()
    parts = [pl.DataFrame(schema=signals.SCHEMA)]
    for quarter in several:
        first, last = quarters.first_day(quarter), quarters.last_day(quarter)
        # a quarter's flows at a time: there may be many
        near = own.known(flows.filter(pl.col("trade_date").is_between(first, last)).collect(), on)
        parts.append(period(metrics, classes, near, days, first, last, params))
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
