"""Volume of venues by institution, day by day: an association, no proof.

See `pipeline.equities.attribution`. A venue's week is public three weeks after its Monday (T1) or
five (T2, OTC); before that rows say NOWCAST.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import date

import msgspec
import polars as pl

from pipeline.equities import attribution
from pipeline.layers import Layer
from pipeline.table import Frames, Made, Part, Table
from pipeline.tables import frames as own
from pipeline.tables.broker_map import NAME as MAP

NAME = "micro_institutional_flow"
PARTS = 64
"""Files of the table; symbols are dealt to them by a checksum of their names."""

Params = attribution.Params


def _compute(frames: Frames, params: Params, on: date | None) -> Made:
    chosen = params if on is None else msgspec.structs.replace(params, as_of=on)
    notes: list[str] = []
    return Made({NAME: _parts(frames, chosen, notes)}, notes)


def _parts(frames: Frames, params: Params, notes: list[str]) -> Iterator[Part]:
    """Some symbols at a time, which bounds the memory: symbols do not touch each other."""
    market = {
        "ats": own.ats(frames),
        "off_exchange": own.off_exchange(frames),
        "iex": own.iex(frames),
        "filings": own.filings(frames),
        "classification": own.classification(frames),
        "prices": own.prices(frames),
    }
    listed, days, known = own.filing_list(frames), own.calendar(frames), frames[MAP].collect()
    dropped = undated = 0
    for part, symbols in _groups(market["ats"]["symbol"]):
        is_own = pl.col("symbol").is_in(symbols)
        found = attribution.attributed(
            calendar=days,
            filing_list=listed,
            broker_map=known,
            params=params,
            **{name: rows.filter(is_own) for name, rows in market.items()},
        )
        dropped += found.dropped
        undated += found.undated
        if found.flows.height:
            yield part, found.flows
    if dropped:
        least = params.min_confidence
        notes.append(f"{dropped:,} rows below min_confidence {least:g} are left out")
    if undated:
        notes.append(f"{undated:,} weeks of venues without a trading day are left out")


def _groups(symbols: pl.Series) -> Iterator[tuple[str, list[str]]]:
    """Symbols by part: to which part one belongs does not depend on the others."""
    groups: dict[int, list[str]] = {}
    for symbol in symbols.unique().sort():
        groups.setdefault(zlib.crc32(symbol.encode()) % PARTS, []).append(symbol)
    for number in sorted(groups):
        yield f"{number:02d}", groups[number]


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
