"""What the product makes of recorded feeds: quotes, books and trades of one instrument."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl

from pipeline.calc.touch import COLUMNS, Touch
from pipeline.engine.paths import VaultPaths, find_instruments
from pipeline.instrument import Instrument
from pipeline.stages.flow import terms
from scripts.ofikit.windows import Events, Ints, Trades

ROOT = Path(__file__).resolve().parents[2]
EXCHANGES = ("binance", "okx")
_STAGES = ("trades", "book", "quote")
_KINDS = ("trades", "books", "quotes")


class ReportError(Exception):
    """The report cannot be made."""


def instruments(captures: Path) -> list[Instrument]:
    """Those of Binance and OKX with recorded trades and books."""
    paths = VaultPaths(captures)
    return [
        each
        for each in find_instruments(captures)
        if each.exchange in EXCHANGES
        and all(paths.raw(each, kind).is_dir() for kind in ("trades", "books"))
    ]


def run(captures: Path, instrument: Instrument, root: Path) -> None:
    """Make the layers of an instrument in a new vault.

    Raises:
        ReportError: the product did not.
    """
    for kind in _KINDS:
        source = VaultPaths(captures).raw(instrument, kind)
        if source.is_dir():
            shutil.copytree(source, VaultPaths(root).raw(instrument, kind))
    named = [word for name in _STAGES for word in ("--stage", name)]
    command = ["--vault", str(root), "run", *instrument.options.split(), *named]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pipeline", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReportError(f"{instrument.key}: status {done.returncode}\n{done.stderr}")


def quotes(root: Path, instrument: Instrument) -> Events | None:
    """Events of the quote layer, if it is made of raw quotes."""
    frame = _rows(root, "quote", instrument)
    frame = frame.filter(pl.col("source") == "quotes")
    if not frame.height:
        return None
    touch = Touch.of(frame.select(COLUMNS))
    ts = _times(frame)
    return Events(ts, touch.mid, terms(ts, touch))


def depth(root: Path, instrument: Instrument) -> Events:
    """Events of the book."""
    frame = _rows(root, "book_events", instrument)
    mid = (frame["bid"] + frame["ask"]) / 2
    return Events(_times(frame), mid.to_numpy(), frame["ofi_1"].to_numpy())


def trades(root: Path, instrument: Instrument) -> Trades:
    """Trades, signed by the taker."""
    frame = _rows(root, "trades", instrument)
    signed = frame["size"].cast(pl.Float64) * frame["side"]
    return Trades(_times(frame), signed.to_numpy())


def _rows(root: Path, layer: str, instrument: Instrument) -> pl.DataFrame:
    return pl.read_parquet(VaultPaths(root).derived(layer, instrument) / "*.parquet")


def _times(frame: pl.DataFrame) -> Ints:
    stamps: Ints = frame["ts"].dt.timestamp("us").to_numpy()
    return stamps
