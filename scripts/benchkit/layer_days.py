"""A day of trades to all trade layers, beside three of them and beside DuckDB, in turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import polars as pl

from pipeline.engine.paths import VaultPaths
from pipeline.instrument import contract_of, load_table
from scripts.benchkit.cold import BenchError, Cold
from scripts.benchkit.compare import (
    MINUTE_MS,
    RELATIVE,
    Columns,
    closed_minutes,
    columns_of,
    compare_columns,
    rows_of,
)
from scripts.benchkit.days import DayRuns, Side, newest_ms
from scripts.benchkit.place import INSTRUMENT, TRADE_STAGES, Place, count_lines


@dataclass(frozen=True, slots=True)
class LayerRuns(DayRuns):
    """`DayRuns` of all trade layers; `few` is the run of the first three stages alone.

    `states` has the size in bytes of each stage's state file afterwards.
    """

    few: Side
    states: dict[str, int]


@cache
def measure_layers(place: Place, speed: float, repetitions: int, warm_ups: int) -> LayerRuns:
    """Run a simulated day three ways in turn.

    Raises:
        BenchError: the values differ from DuckDB's.
    """
    file = place.market(speed=speed)[0]
    trades = count_lines(file)
    runs: list[tuple[Cold, Cold, Cold]] = []
    agreed, states = "", dict[str, int]()
    for number in range(-warm_ups, repetitions):
        place.say(f"{trades:,} trades, all layers, repetition {number + 1} of {repetitions}")
        few = _few(place, file)
        root, out = place.fresh_vault([file]), place.scratch("peer")
        ours = place.run_stages(root, TRADE_STAGES)
        peer = run_peer(place, root, file, out)
        agreed = compare_layers(root, out, newest_ms(file))
        states = state_sizes(root)
        place.drop(root)
        place.drop(out)
        if number >= 0:
            runs.append((few, ours, peer))
    sides = [Side(each) for each in zip(*runs, strict=True)]
    size = file.stat().st_size / 1e6
    return LayerRuns(trades, size, sides[1], sides[2], agreed, sides[0], states)


def state_sizes(root: Path) -> dict[str, int]:
    """The size of every trade stage's state file."""
    paths = VaultPaths(root)
    return {name: paths.state(name, INSTRUMENT).stat().st_size for name in TRADE_STAGES}


def _few(place: Place, file: Path) -> Cold:
    root = place.fresh_vault([file])
    done = place.run_stages(root)
    place.drop(root)
    return done


def run_peer(place: Place, root: Path, file: Path, out: Path) -> Cold:
    """DuckDB's three layers of a day file, in a new folder.

    Raises:
        BenchError: it failed.
    """
    out.mkdir()
    contract = contract_of(INSTRUMENT, load_table(root), root)
    if contract.tick is None:
        raise BenchError(f"the tick of {INSTRUMENT.key} is not known")
    arguments = (str(file), contract.value, contract.tick, str(out))
    return place.starter.script("duck_layers.py", *arguments)


def compare_layers(root: Path, out: Path, newest: int) -> str:
    """Compare bars, CVD and footprint of a vault with those that DuckDB wrote to `out`.

    Returns:
        What was compared, in words.

    Raises:
        BenchError: a row is missing or a value differs.
    """
    paths, found = VaultPaths(root), []
    for what, rounded in (("bars", ("vwap",)), ("cvd", ())):
        ours = rows_of(paths.derived(what, INSTRUMENT) / f"{what}_1m.jsonl")
        peers = closed_minutes(rows_of(out / f"{what}.jsonl"), newest)
        names = list(peers[0]) if peers else ["start_ms"]
        sides = columns_of(ours, names), columns_of(peers, names)
        found.append(compare_columns(f"{what}_1m", *sides, rounded))
    footprint = pl.read_parquet(paths.derived("footprint", INSTRUMENT) / "*.parquet")
    starts = footprint["ts"].dt.epoch("ms").alias("start_ms")
    peer = pl.read_parquet(out / "footprint.parquet")
    peer = peer.filter(pl.col("start_ms") + MINUTE_MS <= newest)
    ours_and_peers = _lists(footprint.with_columns(starts)), _lists(peer)
    found.append(compare_columns("footprint", *ours_and_peers))
    return f"{', '.join(found)} equal to the last digit (vwap within {RELATIVE:g})"


def _lists(frame: pl.DataFrame) -> Columns:
    return frame.to_dict(as_series=False)
