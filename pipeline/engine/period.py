"""The signals of one symbol over a period, from all that is known or was known on a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeVar

import msgspec
import polars as pl

from pipeline import tables
from pipeline.engine.tables import frame, in_parts, nothing
from pipeline.engine.vault import Vault
from pipeline.table import Table
from pipeline.tables import frames as own
from pipeline.tables import micro_signals
from pipeline.tables.attribution import NAME as FLOWS
from pipeline.tables.broker_map import NAME as MAP

_TRIES = 20
_DATED = (own.CLASSIFICATION, own.METRICS)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Period:
    """What is asked for. `on`: only what could be known on the evening of this day counts."""

    symbol: str
    first: date
    last: date
    min_confidence: float
    on: date | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The signals, and what they stand on.

    Attributes:
        signals: the row of the period, None if nothing at all is known of the symbol in it.
        trading_days: of the period.
        flags: by quality of VPIN the days that have one.
        lambda_days: days with a lambda.
        below: flows left out because they are less sure than asked for.
        nowcasts: of these, nowcasts.
        map_date: the day whose knowledge the map of brokers stands on; None without a map.
        notes: words of the tables that were computed for this.
    """

    signals: dict[str, Any] | None
    trading_days: int
    flags: dict[str, int]
    lambda_days: int
    below: int
    nowcasts: int
    map_date: date | None
    notes: tuple[str, ...] = ()


def answer(vault: Vault, period: Period) -> Answer:
    """The signals of a period.

    Tables are read as they are committed; with `period.on` they are computed for this question
    from the part of the feeds that was public by then, and nothing is written.
    """
    return _steadily(lambda: _answer(vault, period))


def _answer(vault: Vault, period: Period) -> Answer:
    frames, notes = _frames(vault, period)
    params = vault.settings.table_params(micro_signals.TABLE.name, micro_signals.Params)
    is_own = pl.col("symbol") == period.symbol
    metrics, classes = own.metrics(frames).filter(is_own), own.classification(frames).filter(is_own)
    flows = own.flows(frames).filter(is_own).collect()
    inside = pl.col("trade_date").is_between(period.first, period.last)
    is_sure = pl.col("attribution_confidence") >= period.min_confidence - 1e-12
    below = flows.filter(inside & ~is_sure)
    back = period.first - timedelta(days=2 * params.lambda_days + 10)
    days = own.calendar(frames, back, period.last)
    rows = micro_signals.period(
        metrics, classes, flows.filter(is_sure), days, period.first, period.last, params
    )
    graded = metrics.filter(inside)
    flags = graded.drop_nulls("vpin")["vpin_quality_flag"].value_counts(sort=False)
    return Answer(
        signals=rows.row(0, named=True) if rows.height else None,
        trading_days=int(days.is_between(period.first, period.last).sum()),
        flags=dict(sorted(flags.iter_rows())),
        lambda_days=graded.height - graded["kyles_lambda"].null_count(),
        below=below.height,
        nowcasts=below.filter(mode="NOWCAST").height,
        map_date=frames[MAP].select(pl.col("as_of").max()).collect().item(),
        notes=notes,
    )


def _frames(vault: Vault, period: Period) -> tuple[dict[str, pl.LazyFrame], tuple[str, ...]]:
    """All that the signals are made from."""
    names = {*micro_signals.TABLE.reads, MAP}
    if period.on is None:
        return {name: frame(vault.root, name) for name in names}, ()
    chain = [each for each in tables.with_upstream(["attribution"]) if each.name != "entities"]
    several = {name for table in chain for name in table.reads} | names
    made = {layer.name for table in chain for layer in table.layers}
    frames = {name: _known(vault, name, period.on) for name in several - made}
    notes: tuple[str, ...] = ()
    for table in chain:
        notes += _compute(vault, table, frames, period)
    return frames, notes


def _compute(
    vault: Vault, table: Table[Any], frames: dict[str, pl.LazyFrame], period: Period
) -> tuple[str, ...]:
    """Add what a table was on the day that is asked about."""
    given = {name: frames[name] for name in table.reads}
    if FLOWS in {layer.name for layer in table.layers}:
        # symbols do not touch each other here
        given["finra_ats"] = given["finra_ats"].filter(symbol=period.symbol)
    params: msgspec.Struct = vault.settings.table_params(table.name, table.params)
    done = table.compute(given, params, period.on)
    for layer in table.layers:
        parts = [rows for _, rows in in_parts(done, layer, table.keys[layer.name])]
        frames[layer.name] = pl.concat([nothing(layer.name), *parts]).lazy()
    return tuple(done.notes)


def _known(vault: Vault, name: str, on: date) -> pl.LazyFrame:
    """The rows of a feed or layer that were public on the evening of a day."""
    rows = frame(vault.root, name)
    if name in _DATED:
        return rows.filter(pl.coalesce("available_date", "trade_date") <= on)
    feed = tables.feeds().get(name)
    if feed is None or feed.known_on is None:
        return rows
    column, days = feed.known_on
    return rows.filter(pl.col(column) + pl.duration(days=days) <= on)


def _steadily(read: Callable[[], T]) -> T:
    """Read tables; a run may replace one while it is being read, and then all is read again."""
    for attempt in range(_TRIES):
        try:
            return read()
        except FileNotFoundError:
            if attempt == _TRIES - 1:
                raise
    raise AssertionError
