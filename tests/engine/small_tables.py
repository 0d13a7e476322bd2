"""Two small tables over two real feeds, and raw files for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import polars as pl

from pipeline import tables
from pipeline.engine import tables as engine
from pipeline.engine.feeds import Outcome
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from pipeline.instrument import packaged_table
from pipeline.layers import Column, Layer
from pipeline.raw.whole import finra, prices
from pipeline.settings import Settings
from pipeline.table import Frames, Made, Part, Table

Tree = dict[str, bytes]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    least: float = 0.0


CALLS: list[str] = []
"""Every computation, by table."""


def _sums(frames: Frames, params: Params, _on: date | None) -> Made:
    CALLS.append("sums")
    rows = (
        frames["finra_ats"]
        .filter(pl.col("shares") >= params.least)
        .group_by("symbol")
        .agg(pl.col("shares").sum(), weeks=pl.col("week_start").n_unique())
        .collect()
    )
    return Made({"sums": rows})


def _halves(frames: Frames, _params: Params, _on: date | None) -> Made:
    CALLS.append("halves")
    sums = frames["sums"].with_columns(half=pl.col("shares") / 2).collect()
    last = frames["prices_daily"].group_by("symbol").agg(pl.col("close").last()).collect()
    words: list[str] = []

    def parts() -> Iterator[Part]:
        for symbol, rows in sums.sort("symbol").join(last, "symbol", how="left").group_by("symbol"):
            yield str(symbol[0]), rows
        words.append("a word")

    return Made({"halves": parts(), "few": sums.head(0)}, words)


def _layer(name: str, *columns: tuple[str, str]) -> Layer:
    return Layer(name, name, "parquet", tuple(Column(n, t, "", "x") for n, t in columns), "x.")


_SUMS = _layer("sums", ("symbol", "string"), ("shares", "float"), ("weeks", "int"))
_HALVES = _layer("halves", ("symbol", "string"), ("half", "float"), ("close", "float"))
_FEW = _layer("few", ("symbol", "string"), ("half", "float"))
SUMS = Table("sums", (_SUMS,), {"sums": ("symbol",)}, Params, ("finra_ats",), _sums)
HALVES = Table(
    "halves",
    (_HALVES, _FEW),
    {"halves": ("symbol",), "few": ("symbol",)},
    Params,
    ("sums", "prices_daily"),
    _halves,
)
CHAIN = (SUMS, HALVES)
FEEDS = {feed.name: feed for feed in (finra.ATS, prices.PRICES)}


@contextmanager
def small_tables(chain: Sequence[Table[Any]] = CHAIN) -> Iterator[None]:
    """Let the engine know these feeds and tables and no others."""
    layers = {layer.name: (layer, table) for table in chain for layer in table.layers}
    with (
        mock.patch.object(tables, "feeds", return_value=FEEDS),
        mock.patch.object(tables, "layers", return_value=layers),
        mock.patch.object(tables, "all_tables", return_value=tuple(chain)),
    ):
        yield


def run(
    vault: Path, settings: dict[str, Any] | None = None, chain: Sequence[Table[Any]] = CHAIN
) -> dict[str, Outcome]:
    """Bring both tables up to date.

    Raises:
        FlowvaultError: the first that was met.
    """
    opened = Vault(vault, Settings(vault / "flowvault.toml", settings or {}), packaged_table())
    with small_tables(chain):
        done = list(engine.update(opened, chain))
    for each in done:
        if isinstance(each, FlowvaultError):
            raise each
    return {each.name: each for each in done if isinstance(each, Outcome)}


def ats_line(symbol: str, shares: float, week: str, **more: Any) -> bytes:
    """One line of FINRA's weekly volume."""
    record = {
        "summaryTypeCode": "ATS_W_SMBL_FIRM",
        "issueSymbolIdentifier": symbol,
        "MPID": "UBSA",
        "weekStartDate": week,
        "totalWeeklyShareQuantity": shares,
        "totalWeeklyTradeCount": 7,
    }
    return json.dumps({**record, **more}).encode() + b"\n"


def bar_line(day: str, close: float) -> bytes:
    """One daily bar."""
    names = ("open", "high", "low", "close", "adj_close")
    return json.dumps({"date": day, **dict.fromkeys(names, close), "volume": 1}).encode() + b"\n"


def write(vault: Path, files: dict[str, bytes]) -> None:
    """Put raw files in place as a download does: whole, under a name that was not there."""
    for name, data in files.items():
        path = vault / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tree(vault: Path) -> Tree:
    """Every output file."""
    return {
        path.relative_to(vault).as_posix(): path.read_bytes()
        for top in ("derived", "quarantine")
        for path in (vault / top).rglob("*")
        if path.is_file()
    }


def everything(vault: Path) -> dict[str, tuple[int, bytes]]:
    """Every file outside raw/, with the time of its last change."""
    return {
        path.relative_to(vault).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for path in vault.rglob("*")
        if path.is_file() and "raw" not in path.parts and path.suffix != ".lock"
    }


def table(vault: Path, layer: str) -> pl.DataFrame:
    """The committed rows of a table."""
    with small_tables():
        return engine.frame(vault, layer).collect()
