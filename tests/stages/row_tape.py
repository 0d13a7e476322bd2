"""Trades for a stage's fold, made by hand or at random, and the fold over any cutting of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.scale import fitting
from pipeline.calc.ticks import Ticks, minimal
from pipeline.instrument import Contract, Instrument
from pipeline.stage import Context, Stage

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
MIDNIGHT = int(datetime(2024, 3, 6, tzinfo=UTC).timestamp()) * SECOND
WHERE = Instrument("okx", "perps", "BTC-USDT-SWAP")

Trade = tuple[int, str, str, str]
"""Microseconds after 2024-03-06 00:00 UTC, price, size, "buy" or "sell"."""


def tape(trades: Iterable[Trade]) -> Ticks:
    """These trades in this order, as exact columns."""
    rows = list(trades)
    px, px_scale, decimals = _integers([price for _, price, _, _ in rows])
    sz, sz_scale, _ = _integers([size for _, _, size, _ in rows])
    frame = pl.DataFrame(
        {
            "seq": pl.Series(range(len(rows)), dtype=pl.Int64),
            "ts": pl.Series([MIDNIGHT + at for at, _, _, _ in rows], dtype=pl.Int64),
            "px": pl.Series(px, dtype=fitting(max(px))),
            "px_dp": pl.Series(decimals, dtype=pl.UInt8),
            "sz": pl.Series(sz, dtype=fitting(max(sz))),
            # no stage that is tested on this tape reads notionals
            "nt": pl.Series([1] * len(rows), dtype=pl.Int64),
            "side": pl.Series([1 if side == "buy" else -1 for *_, side in rows], dtype=pl.Int8),
            "gap": pl.Series([False] * len(rows)),
        }
    )
    return Ticks(frame, px_scale, sz_scale, 0)


def _integers(texts: Sequence[str]) -> tuple[list[int], int, list[int]]:
    """Decimal texts at one scale, the scale, and how many decimals each was written with."""
    decimals = [len(text.partition(".")[2]) for text in texts]
    scale = max(decimals)
    whole = [
        int(text.replace(".", "")) * 10 ** (scale - d)
        for text, d in zip(texts, decimals, strict=True)
    ]
    return whole, scale, decimals


def run(
    stage: Stage[Any, Any],
    trades: Ticks | Iterable[Trade],
    cuts: Iterable[int] = (),
    *,
    tick: str | None = None,
    lateness: int = 0,
    **settings: Any,
) -> dict[str, list[Any]]:
    """Every row of every layer: values for Parquet, (start, *values) for JSONL.

    After each of the pieces that end at `cuts` the carry goes through JSON, and numbers come at
    the coarsest scales that hold the piece, as they do from the layer's files.
    """
    whole = trades if isinstance(trades, Ticks) else tape(trades)
    params = msgspec.convert(settings, stage.params, strict=False)
    context: Context[Any] = Context(WHERE, Contract(tick=tick), params)
    carry = stage.carry()
    found: dict[str, list[Any]] = {layer.name: [] for layer in stage.layers}
    ends = [*sorted(cuts), whole.height]
    newest = None
    for start, end in zip([0, *ends], ends, strict=False):
        piece = whole.slice(start, end - start)
        if piece.height:
            last = int(piece.frame["ts"].to_numpy().max())
            newest = last if newest is None else max(newest, last)
            piece = minimal(piece)
        context.watermark_us = None if newest is None else newest - lateness
        carry = msgspec.json.decode(msgspec.json.encode(carry), type=stage.carry)
        closed = stage.fold(piece, carry, context)
        carry = closed.carry
        for name, rows in closed.rows.items():
            found[name] += _plain(rows)
    return found


def _plain(rows: Any) -> list[Any]:
    if rows is None:
        return []
    if isinstance(rows, pl.DataFrame):
        assert rows.height
        return rows.with_columns(pl.col("ts").dt.timestamp("us") - MIDNIGHT).rows()
    assert msgspec.json.encode(rows)
    return [(start - MIDNIGHT, *values) for start, values in rows]


def named(stage: Stage[Any, Any], layer: str, row: Sequence[Any]) -> dict[str, Any]:
    """The values of a JSONL row by column."""
    columns = next(each for each in stage.layers if each.name == layer).columns
    return dict(zip((column.name for column in columns), row[1:], strict=True))


def walk(
    seed: int,
    count: int,
    *,
    hours: float = 2,
    start: int = 0,
    jitter: int = 0,
    finest: int = 2,
) -> list[Trade]:
    """A random walk of trades; `jitter` is how far one may stand behind the newest."""
    rng = random.Random(seed)
    price, clock = 10_000, start
    trades = []
    for _ in range(count):
        clock += rng.randrange(int(2 * hours * HOUR / count))
        if rng.random() < 0.02:
            clock += rng.randrange(20 * MINUTE)
        price = max(1, price + rng.randrange(-40, 41))
        decimals = rng.randrange(finest + 1)
        text = f"{price / 100:.{decimals}f}{'0' * rng.randrange(3) if decimals else ''}"
        size = f"{rng.randrange(1, 10 ** rng.randrange(1, 6))}e-3"
        at = max(start, clock - (rng.randrange(jitter) if jitter else 0))
        trades.append((at, text, _plain_size(size), rng.choice(("buy", "sell"))))
    return trades


def _plain_size(text: str) -> str:
    digits = text.removesuffix("e-3").rjust(4, "0")
    return f"{digits[:-3]}.{digits[-3:]}"


def random_cuts(seed: int, count: int, height: int) -> list[int]:
    """Places to cut a tape of that height."""
    rng = random.Random(seed)
    return [rng.randrange(height + 1) for _ in range(count)]
