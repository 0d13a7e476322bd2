"""The row about imports: an archive of an exchange to a raw day file, beside DuckDB reading it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import Instrument
from scripts.benchkit.cold import FLOWVAULT, BenchError, Cold
from scripts.benchkit.lines import beside, millions, seconds
from scripts.benchkit.outcome import Aim, Line, Outcome
from scripts.benchkit.place import Place, settle, warm

SYMBOL = Instrument("binance", "perps", "BTCUSDT")
HEADER = "id,price,qty,quote_qty,time,is_buyer_maker\n"
FIRST_ID, MIDNIGHT_MS, DAY_MS = 4_300_000_000, 1_704_067_200_000, 86_400_000
_BLOCK = 500_000


def imports(place: Place) -> Outcome:
    """A day of trades in the format of data.binance.vision, unpacked."""
    sizes = place.sizes
    large = _measure(place, sizes.import_rows, sizes.import_runs)
    small = _measure(place, sizes.import_rows // 8, 1)
    ours, peers = (median(run.seconds for run in side) for side in large[:2])
    peak, less = (max(run.peak_mb for run in each[0]) for each in (large, small))
    rows = millions(sizes.import_rows)
    text = (
        f"A cold `flowvault import` of a day of {sizes.import_rows:,} trades, {large[2]:,.0f} MB "
        "of CSV with all its columns, into an empty vault, checked row by row, written as JSON "
        "lines and synced to disk; beside a cold process in which DuckDB (default threads) reads "
        "the same file for count, least and greatest price and time. Page cache warm for both, in "
        f"turn, {sizes.import_runs} times; these five values of the imported file are DuckDB's."
    )
    lines = [
        Line(
            f"{rows} trades imported, median",
            seconds(ours),
            seconds(peers),
            f"{ours / peers:.2f} x DuckDB",
            Aim(2),
            ours / peers,
        ),
        beside(
            f"{rows} trades imported, CPU time",
            *(median(run.cpu_seconds for run in side) for side in large[:2]),
        ),
        Line("peak memory of it", f"{peak:,.0f} MB", aim=Aim(600, unit=" MB"), judged=peak),
        Line(
            "peak memory, to an eighth of it",
            f"{peak / less:.2f} x",
            aim=Aim(1.2),
            judged=peak / less,
        ),
    ]
    return Outcome("Importing an archive", text, lines)


def _measure(place: Place, rows: int, runs: int) -> tuple[list[Cold], list[Cold], float]:
    """Both sides in turn, and the megabytes of the archive."""
    file = place.scratch("archive") / f"{SYMBOL.inst_id}-trades-2024-01-01.csv"
    file.parent.mkdir()
    place.say(f"writing an archive of {rows:,} trades")
    write_archive(file, rows)
    settle(file)
    ours, peers = [], []
    for number in range(-place.sizes.warm_ups, runs):
        place.say(f"{rows:,} trades, repetition {number + 1} of {runs}")
        warm(file)
        vault = place.scratch("imported")
        words = ["--vault", str(vault), "import", str(file), "--json"]
        mine = place.starter.run([*FLOWVAULT, *words])
        peer = place.starter.script("duck_csv.py", str(file))
        compare_imported(vault, mine, json.loads(peer.output))
        place.drop(vault)
        if number >= 0:
            ours.append(mine)
            peers.append(peer)
    megabytes = file.stat().st_size / 1e6
    place.drop(file.parent)
    return ours, peers, megabytes


def write_archive(file: Path, rows: int) -> None:
    """A day of made-up trades, each with its own id, in the order of their times."""
    rng = np.random.default_rng(1)
    price = 4_228_330
    with file.open("wb") as out:
        out.write(HEADER.encode())
        for start in range(0, rows, _BLOCK):
            count = np.arange(start, min(start + _BLOCK, rows))
            cents = price + np.cumsum(rng.integers(-3, 4, len(count)))
            price = int(cents[-1])
            size = rng.integers(1, 5000, len(count))
            block = pl.DataFrame(
                {
                    "id": FIRST_ID + count,
                    "cents": cents,
                    "size": size,
                    "quote": cents * size,
                    "time": MIDNIGHT_MS + count * DAY_MS // rows,
                    "maker": rng.integers(0, 2, len(count)) > 0,
                }
            )
            line = pl.concat_str(*_columns(), separator=",").alias("line")
            block.select(line).write_csv(out, include_header=False, quote_style="never")


def _columns() -> Iterator[pl.Expr]:
    """The columns of the archive as texts."""
    yield pl.col("id")
    for name, places in (("cents", 2), ("size", 3), ("quote", 5)):
        whole, rest = pl.col(name) // 10**places, pl.col(name) % 10**places
        yield pl.concat_str(whole, pl.lit("."), rest.cast(pl.String).str.zfill(places))
    yield pl.col("time")
    yield pl.when("maker").then(pl.lit("true")).otherwise(pl.lit("false"))


def compare_imported(vault: Path, done: Cold, peer: list[float]) -> None:
    """Compare what was imported with what DuckDB found in the archive.

    Raises:
        BenchError: it is not the same.
    """
    (file,) = VaultPaths(vault).raw(SYMBOL, "trades").iterdir()
    values = pl.scan_ndjson(file, schema={"p": pl.String, "T": pl.Int64}).select(
        pl.len(),
        pl.col("p").cast(pl.Float64).min().alias("low"),
        pl.col("p").cast(pl.Float64).max().alias("high"),
        pl.col("T").min().alias("first"),
        pl.col("T").max().alias("last"),
    )
    found = list(values.collect(engine="streaming").row(0))
    told = json.loads(done.output.splitlines()[0])["rows"]
    if found != peer or told != found[0]:
        raise BenchError(f"imported {told} rows: {found}, DuckDB has {peer}")
