"""A day's trades in memory, prepared for the stages and for the libraries beside them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline import stages
from pipeline.calc.tickfile import READ_COLUMNS, TickCodec
from pipeline.calc.ticks import Ticks, join
from pipeline.engine.parts import read_part
from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Contract, contract_of, load_table
from pipeline.stage import MINUTE_US, Context
from scripts.benchkit.place import INSTRUMENT

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Rows = dict[str, list[tuple[int, tuple[Any, ...]]]]


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades as libraries take them, each column in the form that they read fastest."""

    price: array[float]
    size: array[float]
    is_buy: list[bool]
    stamp_ms: array[int]


@dataclass(frozen=True, slots=True)
class Minutes:
    """Closed minutes: last price, notional, notional bought less sold, and its last trade."""

    close: Floats
    notional: Floats
    signed: Floats
    first: Places
    last: Places


@dataclass(frozen=True, slots=True)
class Tape:
    """A day's trades for either side; `newest_us` is the time of the newest."""

    ticks: Ticks
    newest_us: int
    contract: Contract
    trades: Trades
    minutes: Minutes

    def fold(self, name: str, ticks: Ticks, settings: Mapping[str, Any]) -> Rows:
        """What a stage makes of trades in one batch, from nothing."""
        stage = stages.load(name)
        context = Context(
            INSTRUMENT, self.contract, stage.params(**settings), watermark_us=self.newest_us
        )
        rows: Rows = stage.fold(ticks, stage.carry(), context).rows
        return rows


def read_tape(root: Path) -> Tape:
    """The trades of a vault's layer `trades`, which must be in order of time."""
    folder = VaultPaths(root).derived("trades", INSTRUMENT)
    codec = TickCodec()
    ticks = join([read_part(path, codec, READ_COLUMNS) for path in sorted(folder.iterdir())])
    return tape_of(ticks, contract_of(INSTRUMENT, load_table(root), root))


def tape_of(ticks: Ticks, contract: Contract) -> Tape:
    """Prepare trades for both sides."""
    frame = ticks.frame
    stamps = frame["ts"].to_numpy()
    price = frame["px"].to_numpy() / 10**ticks.px_scale
    trades = Trades(
        array("d", price.tobytes()),
        array("d", (frame["sz"].to_numpy() / 10**ticks.sz_scale).tobytes()),
        (frame["side"] > 0).to_list(),
        array("q", (stamps // 1000).tobytes()),
    )
    newest = int(stamps[-1])
    return Tape(ticks, newest, contract, trades, _minutes(ticks, price, newest))


def _minutes(ticks: Ticks, price: Floats, newest_us: int) -> Minutes:
    starts = ticks.frame["ts"].to_numpy() // MINUTE_US * MINUTE_US
    first = np.flatnonzero(np.concatenate(([True], starts[1:] != starts[:-1])))
    last = np.concatenate((first[1:], [len(starts)])) - 1
    closed = int((starts[first] + MINUTE_US <= newest_us).sum())
    notional = ticks.frame["nt"].to_numpy()
    signed = notional * ticks.frame["side"].to_numpy().astype(np.int64)
    unit = 10**ticks.nt_scale
    return Minutes(
        price[last][:closed],
        np.add.reduceat(notional, first)[:closed] / unit,
        np.add.reduceat(signed, first)[:closed] / unit,
        first[:closed],
        last[:closed],
    )


def by_minute(ticks: Ticks) -> Ticks:
    """At most two trades for each minute, with its last price and what was bought and sold."""
    minute = (pl.col("ts") // MINUTE_US * MINUTE_US).alias("start")
    close = pl.col("px").last().over(minute)
    sums = ticks.frame.with_columns(close).group_by(minute, "side", "px", maintain_order=True)
    return _made(
        ticks,
        sums.agg(pl.col("sz").sum(), pl.col("nt").sum()).sort("start").rename({"start": "ts"}),
    )


def by_price(ticks: Ticks) -> Ticks:
    """One trade for each price, all at the time of the first one."""
    sums = ticks.frame.group_by("px").agg(pl.col("sz").sum(), pl.col("nt").sum()).sort("px")
    side = pl.lit(1, dtype=pl.Int8).alias("side")
    return _made(ticks, sums.with_columns(side, pl.lit(ticks.frame["ts"][0]).alias("ts")))


def _made(ticks: Ticks, sums: pl.DataFrame) -> Ticks:
    """Sums as trades of the same scales."""
    frame = sums.with_row_index("seq").select(
        pl.col("seq").cast(pl.Int64),
        "ts",
        "px",
        pl.lit(ticks.px_scale, dtype=pl.UInt8).alias("px_dp"),
        "sz",
        "nt",
        "side",
        pl.lit(value=False).alias("gap"),
    )
    return Ticks(frame, ticks.px_scale, ticks.sz_scale, ticks.nt_scale)
