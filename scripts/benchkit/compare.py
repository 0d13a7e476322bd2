"""Whether the bars of the two sides agree. A benchmark of different answers says nothing."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.benchkit.cold import BenchError

MINUTE_MS = 60_000
RELATIVE = 1e-9
_FLOATS = ("open", "high", "low", "close", "volume", "notional")

Row = dict[str, Any]


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


def _compare_minute(bar: Row, minute: Row, other: Row) -> None:
    when = bar["timestamp_utc"]
    starts = {_start_ms(bar), _start_ms(minute), other["start_ms"]}
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


def _start_ms(row: Row) -> int:
    text = row["timestamp_utc"].replace("Z", "+00:00")
    return round(dt.datetime.fromisoformat(text).timestamp() * 1000)
