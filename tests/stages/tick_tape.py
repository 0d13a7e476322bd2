"""Trades written by hand or drawn at random, and a stage run over them in pieces."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.scale import fitting
from pipeline.calc.ticks import Ticks
from pipeline.exact import EXACT
from pipeline.instrument import BASE, Instrument
from pipeline.stage import Context, Row, Stage

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
MIDNIGHT = 19_700 * DAY_US
"""2023-12-09, 00:00 UTC."""

SIZES = ("1", "0.25", "13.5", "0.001", "700")

Trade = tuple[int, str, str]
"""Microseconds since 1970, price, size; a size with a minus was sold by the taker."""


def at(hour: int, minute: int = 0, second: float = 0, *, day: int = 0) -> int:
    """A time of day on the `day`-th day of the tape, in microseconds since 1970."""
    return MIDNIGHT + day * DAY_US + hour * HOUR_US + minute * MINUTE_US + round(second * 1e6)


def text(us: int) -> str:
    """The time as rows write it inside, milliseconds cut off."""
    moment = datetime.fromtimestamp(us // 1_000_000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{us // 1000 % 1000:03d}Z"


def ticks_of(trades: Sequence[Trade], *, notionals: Sequence[str] | None = None) -> Ticks:
    """The trades as a stage gets them; `notionals` where they are not price x size."""
    prices = [Decimal(price) for _, price, _ in trades]
    sizes = [abs(Decimal(size)) for _, _, size in trades]
    exact = [EXACT.multiply(p, s) for p, s in zip(prices, sizes, strict=True)]
    if notionals is not None:
        exact = [Decimal(value) for value in notionals]
    px, px_scale = _integers(prices)
    sz, sz_scale = _integers(sizes)
    nt, nt_scale = _integers(exact)
    frame = pl.DataFrame(
        {
            "seq": pl.Series(range(len(trades)), dtype=pl.Int64),
            "ts": pl.Series([ts for ts, _, _ in trades], dtype=pl.Int64),
            "px": px,
            "px_dp": pl.Series([px_scale] * len(trades), dtype=pl.UInt8),
            "sz": sz,
            "nt": nt,
            "side": pl.Series([-1 if "-" in s else 1 for _, _, s in trades], dtype=pl.Int8),
            "gap": pl.Series([False] * len(trades), dtype=pl.Boolean),
        }
    )
    return Ticks(frame, px_scale, sz_scale, nt_scale)


def _integers(values: Sequence[Decimal]) -> tuple[pl.Series, int]:
    scale = max((max(0, -int(value.as_tuple().exponent)) for value in values), default=0)
    whole = [int(value.scaleb(scale, EXACT)) for value in values]
    return pl.Series(whole, dtype=fitting(max(whole, default=0))), scale


def run(
    stage: Stage[Any, Any],
    ticks: Ticks,
    *,
    cuts: Iterable[int] = (),
    lateness_us: int = 0,
    until_us: int | None = None,
    **params: Any,
) -> list[Row]:
    """The rows of a stage's only layer, the trades handed over in pieces.

    A piece begins before each row of `cuts` (an empty one where a row stands twice); the watermark
    stays `lateness_us` behind the newest trade and is at last `until_us`, as if a trade of that
    time had come. The carry goes through JSON between the pieces, as it does between runs.
    """
    (layer,) = stage.layers
    context = Context(Instrument("okx", "perps", "X"), BASE, stage.params(**params))
    carry = stage.carry()
    rows: list[Row] = []
    edges = [0, *sorted(cuts), ticks.height]
    pieces = [ticks.slice(a, b - a) for a, b in pairwise(edges)]
    for index, piece in enumerate(pieces):
        if piece.height:
            newest = int(piece.frame["ts"].max()) - lateness_us  # type: ignore[arg-type]
            context.watermark_us = max(newest, context.watermark_us or newest)
        if index == len(pieces) - 1 and until_us is not None:
            context.watermark_us = until_us
        before = msgspec.json.encode(carry)
        closed = stage.fold(piece, carry, context)
        assert msgspec.json.encode(carry) == before, "a fold leaves the carry it was given alone"
        assert set(closed.rows) == {layer.name}
        for _, values in closed.rows[layer.name]:
            assert len(values) == len(layer.columns)
        rows += closed.rows[layer.name]
        carry = msgspec.convert(msgspec.json.decode(msgspec.json.encode(closed.carry)), stage.carry)
    return rows


def table(stage: Stage[Any, Any], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows by column name, with their time under `at`."""
    names = [column.name for column in stage.layers[0].columns]
    return [{"at": us} | dict(zip(names, values, strict=True)) for us, values in rows]


def walk(
    seed: int,
    count: int,
    *,
    lateness_us: int = 0,
    days: float = 2.5,
    sizes: Sequence[str] = SIZES,
) -> list[Trade]:
    """Trades over some days, out of order within the lateness, none of a closed minute."""
    rng = random.Random(seed)
    clock, price = MIDNIGHT + rng.randrange(DAY_US), rng.randrange(100, 100_000)
    found: list[Trade] = []
    newest: int | None = None
    for _ in range(count):
        clock += rng.randrange(int(2 * days * DAY_US / count))
        if rng.random() < 0.02:
            clock += rng.randrange(6 * HOUR_US)
        ts = clock - rng.randrange(lateness_us + MINUTE_US // 2)
        if newest is not None and (ts // MINUTE_US + 1) * MINUTE_US <= newest - lateness_us:
            continue
        newest = ts if newest is None else max(newest, ts)
        price = max(1, price + rng.randrange(-3, 4))
        sign = rng.choice(("", "-"))
        found.append((ts, f"{price // 10}.{price % 10}1", sign + rng.choice(sizes)))
    return found


def random_cuts(rng: random.Random, count: int) -> list[int]:
    """Where to cut `count` trades, a few pieces empty, some of one trade."""
    return [rng.randrange(count + 1) for _ in range(rng.choice((1, 3, 10, count // 2)))]


def assert_any_cutting(
    stage: Stage[Any, Any], trades: Sequence[Trade], seed: int, **options: Any
) -> list[Row]:
    """Run whole, in single trades and in random pieces; all must give the same rows."""
    rng = random.Random(seed)
    ticks = ticks_of(trades)
    whole = run(stage, ticks, **options)
    assert run(stage, ticks, cuts=range(1, ticks.height), **options) == whole
    for _ in range(4):
        assert run(stage, ticks, cuts=random_cuts(rng, ticks.height), **options) == whole
    return whole
