"""Whether the values of the two sides agree. A benchmark of different answers says nothing."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchkit.cold import BenchError

MINUTE_MS = 60_000
RELATIVE = 1e-9
_FLOATS = ("open", "high", "low", "close", "volume", "notional")

Row = dict[str, Any]
Columns = Mapping[str, Sequence[Any]]


def rows_of(path: Path) -> list[Row]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def closed_minutes(peer: Iterable[Row], newest_ms: int) -> list[Row]:
    """The peer's bars that have ended by the newest trade: those that the pipeline may write."""
    return [row for row in peer if row["start_ms"] + MINUTE_MS <= newest_ms]


def compare_bars(bars: list[Row], volume: list[Row], peer: list[Row]) -> str:
    """Compare bars_1m and the delta of volume_1m with the peer's closed minutes.

    Returns:
        What was compared, in words.

    Raises:
        BenchError: a minute is missing or a value differs.
    """
    if not peer or not len(bars) == len(volume) == len(peer):
        counts = f"{len(bars)} bars, {len(volume)} volume rows, {len(peer)} minutes of the peer"
        raise BenchError(f"the minutes differ: {counts}")
    for bar, minute, other in zip(bars, volume, peer, strict=True):
        _compare_minute(bar, minute, other)
    return f"{len(peer):,} closed minutes equal (floats within {RELATIVE:g})"


def compare_columns(what: str, ours: Columns, peers: Columns, rounded: Sequence[str] = ()) -> str:
    """Compare tables: all columns that the peer has, to the last digit unless `rounded`.

    Returns:
        What was compared, in words.

    Raises:
        BenchError: a row is missing or a value differs.
    """
    heights = {len(column) for table in (ours, peers) for column in table.values()}
    if len(heights) != 1 or heights == {0}:
        counts = [len(next(iter(table.values()))) for table in (ours, peers)]
        raise BenchError(f"{what}: {counts[0]} rows, the peer has {counts[1]}")
    for name, column in peers.items():
        for row, (own, other) in enumerate(zip(ours[name], column, strict=True)):
            if own == other or (name in rounded and math.isclose(own, other, rel_tol=RELATIVE)):
                continue
            raise BenchError(f"{what}, row {row}: {name} {own!r}, the peer has {other!r}")
    return f"{heights.pop():,} rows of {what}"


def compare_numbers(
    what: str,
    ours: Sequence[float | None],
    peers: Sequence[float],
    sizes: Sequence[float] | None = None,
) -> None:
    """Compare numbers within `RELATIVE` of their size.

    Args:
        what: how the message names them.
        ours: must all be there.
        peers: as many.
        sizes: what was added up to get them, where it may have cancelled; else they themselves.

    Raises:
        BenchError: one is missing or differs.
    """
    if not len(ours) or len(ours) != len(peers):
        raise BenchError(f"{what}: {len(ours)} values, the peer has {len(peers)}")
    for place, (own, other) in enumerate(zip(ours, peers, strict=True)):
        size = abs(other) if sizes is None else sizes[place]
        # a number that is none compares as false, so it differs
        if own is None or not abs(own - other) <= RELATIVE * size:
            raise BenchError(f"{what}, number {place}: {own!r}, the peer has {other!r}")


def columns_of(rows: Sequence[Row], names: Iterable[str]) -> dict[str, list[Any]]:
    """Some columns of JSONL rows; ours get their start in milliseconds."""
    wanted = {name: [row[name] for row in rows] for name in names if name != "start_ms"}
    return {"start_ms": [start_ms(row) for row in rows], **wanted}


def _compare_minute(bar: Row, minute: Row, other: Row) -> None:
    when = bar["timestamp_utc"]
    starts = {start_ms(bar), start_ms(minute), other["start_ms"]}
    if len(starts) > 1:
        raise BenchError(f"{when}: the minutes differ: {sorted(starts)}")
    if bar["trades"] != other["trades"]:
        raise BenchError(f"{when}: {bar['trades']} trades, the peer has {other['trades']}")
    for name in _FLOATS:
        if not math.isclose(bar[name], other[name], rel_tol=RELATIVE):
            raise BenchError(f"{when}: {name} {bar[name]!r}, the peer has {other[name]!r}")
    # buys and sells cancel, so what matters is the error beside what was added up
    if abs(float(minute["delta"]) - other["delta"]) > RELATIVE * other["notional"]:
        raise BenchError(f"{when}: delta {minute['delta']}, the peer has {other['delta']!r}")


def start_ms(row: Row) -> int:
    """When a row of either side begins."""
    if "start_ms" in row:
        return int(row["start_ms"])
    text = row["timestamp_utc"].replace("Z", "+00:00")
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)
