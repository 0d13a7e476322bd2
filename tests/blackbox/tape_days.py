"""Days of a US equity tape written by hand, in New York time, and what becomes of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from tests.laws.tape import TAPE
from tests.laws.world import World

NEW_YORK = ZoneInfo("America/New_York")
MONDAY = "2013-10-07"

Trade = tuple[Any, ...]
"""Time, price, size and, where they are not "" and 0, conditions and correction."""
Quote = tuple[str, float | None, float | None]
"""Time, bid and ask."""
Row = dict[str, Any]


def stamp(day: str, clock: str) -> str:
    """`10:00:00.125` of a day in New York as UTC in ISO 8601; `+1 08:00` is on the next day."""
    plus, _, clock = clock.rpartition(" ")
    moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK)
    moment += timedelta(days=int(plus or 0))
    utc = moment.astimezone(ZoneInfo("UTC"))
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def trade_lines(day: str, trades: Sequence[Trade]) -> bytes:
    """A day file of trades."""
    lines = []
    for seq, (clock, price, size, *rest) in enumerate(trades):
        cond, corr = [*rest, "", 0][:2] if len(rest) != 1 else [*rest, 0]
        row = {"ts": stamp(day, clock), "seq": seq, "ex": "N", "price": price, "size": size}
        lines.append(json.dumps(row | {"cond": cond, "corr": corr}).encode() + b"\n")
    return b"".join(lines)


def quote_lines(day: str, quotes: Sequence[Quote]) -> bytes:
    """A day file of quotes."""
    lines = []
    for seq, (clock, bid, ask) in enumerate(quotes):
        row = {"ts": stamp(day, clock), "seq": seq, "bid": bid, "bid_size": 2}
        lines.append(json.dumps(row | {"ask": ask, "ask_size": 3}).encode() + b"\n")
    return b"".join(lines)


Days = Mapping[str, tuple[Sequence[Trade], Sequence[Quote] | None]]


def world_of(root: Path, days: Days, settings: str = "", *, packed: bool = True) -> World:
    """A vault with these days, whole and compressed or plain; not run yet."""
    world = World(root / "vault", TAPE)
    world.settings(settings)
    for day, (trades, quotes) in days.items():
        put(world, f"trades/{day}", trade_lines(day, trades), packed=packed)
        if quotes is not None:
            put(world, f"quotes/{day}", quote_lines(day, quotes), packed=packed)
    return world


def put(world: World, name: str, data: bytes, *, packed: bool) -> None:
    """Write one day file."""
    path = world.file(name)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


def rows(world: World, layer: str) -> list[Row]:
    """The rows of a layer, times as microseconds."""
    folder = world.root / "derived" / layer / "taq" / "equities" / "AIG"
    parts = sorted(folder.glob("*.parquet"))
    if not parts:
        return []
    frame = pl.concat([pl.read_parquet(part) for part in parts])
    return frame.with_columns(pl.col("ts").dt.timestamp("us")).to_dicts()


def daily(world: World) -> list[Row]:
    """The rows of both daily tables, those of a day as one."""
    first, second = (
        rows(world, name) for name in ("micro_trade_classification", "micro_metrics_daily")
    )
    assert [row["trade_date"] for row in first] == [row["trade_date"] for row in second]
    return [{**a, **b} for a, b in zip(first, second, strict=True)]


def signs(world: World) -> list[tuple[int, str | None]]:
    """Side and rule of every classified trade."""
    return [(row["side"], row["rule"]) for row in rows(world, "classified")]
