"""Bars with their price rows, and a stage with a look-back over any windows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from pipeline.instrument import BASE, Instrument
from pipeline.stage import BEGINNING_US, Context, Joined, Stage

from .joined_tape import plain
from .tick_tape import MIDNIGHT, MINUTE_US

Rows = Sequence[tuple[Any, ...]]
Layers = dict[str, Rows]
REAL = pl.Float64
LENGTHS = (5, 15, 30)
BARS = ("open", "high", "low", "close", "volume", "buy_volume", "sell_volume", "vwap")
SCHEMAS: dict[str, dict[str, Any]] = {
    **{f"bars_{length}m": dict.fromkeys(BARS, REAL) for length in LENGTHS},
    "footprint": {"price": REAL, "buy_volume": REAL, "sell_volume": REAL},
    "micro_1m": {"mid": REAL},
    "buckets_1m": {"bands": pl.String},
    "open_interest_1m": {"open_interest": REAL},
}
SPANS = {f"bars_{length}m": length * MINUTE_US for length in LENGTHS} | dict.fromkeys(
    ("micro_1m", "buckets_1m", "open_interest_1m"), MINUTE_US
)
LATEST = MIDNIGHT + 30 * 1440 * MINUTE_US
BANDS_BPS = (5, 10, 25, 50, 100)


def at(minute: int) -> int:
    """A minute of the tape, microseconds."""
    return MIDNIGHT + minute * MINUTE_US


def bands(bids: Sequence[float | None], asks: Sequence[float | None]) -> str:
    """The column `bands` as stages are given it."""
    rows = [
        {"bps": bps, "bid_notional": bid, "ask_notional": ask}
        for bps, bid, ask in zip(BANDS_BPS, bids, asks, strict=True)
    ]
    return msgspec.json.encode(rows).decode()


def frame(layer: str, rows: Rows) -> pl.DataFrame:
    """A layer as stages are given it."""
    return pl.DataFrame(list(rows), schema={"ts": pl.Int64} | SCHEMAS[layer], orient="row")


def run(
    stage: Stage[Any, Any],
    layers: Layers,
    cuts: Iterable[int] = (),
    sizes: list[int] | None = None,
    forgetful: random.Random | None = None,
    **params: Any,
) -> dict[str, list[dict[str, Any]]]:
    """The rows of a stage by layer and column name, their time under `at`.

    The windows are cut at the times `cuts`; the carry goes through JSON between them, whose
    length is noted in `sizes`. What a fold does not need any more is gone for good. Who is
    `forgetful` loses what the fold wanted to find again, now and then.
    """
    frames = {name: frame(name, rows) for name, rows in layers.items()}
    inputs = [each for each in stage.inputs if each.layer in frames]
    assert all(each.layer in frames for each in stage.inputs if each.required)
    known = frozenset(each.layer for each in inputs)
    context = Context(
        Instrument("okx", "perps", "X"), BASE, stage.params(**params), LATEST, inputs=known
    )
    carry = stage.carry()
    found: dict[str, list[dict[str, Any]]] = {layer.name: [] for layer in stage.layers}
    for start, end in pairwise([BEGINNING_US, *sorted(set(cuts)), LATEST]):
        shown = {}
        for each in inputs:
            belongs = pl.col("ts") + max(0, SPANS.get(each.layer, 0) - 1)
            shown[each.layer] = frames[each.layer].select("ts", *each.columns).filter(belongs < end)
        before = msgspec.json.encode(carry)
        if forgetful is not None and forgetful.random() < 0.5:
            context.memo.clear()
        closed = stage.fold(Joined(shown, start, end), carry, context)
        assert msgspec.json.encode(carry) == before, "a fold leaves the carry it was given alone"
        text = msgspec.json.encode(closed.carry)
        if sizes is not None:
            sizes.append(len(text))
        carry = msgspec.convert(msgspec.json.decode(text), stage.carry)
        for layer in stage.layers:
            names = [column.name for column in layer.columns]
            for us, values in closed.rows[layer.name]:
                assert start <= us + layer.span_us - 1 < end
                assert type(us) is int
                plain(values)
                found[layer.name].append({"at": us} | dict(zip(names, values, strict=True)))
        for each in inputs:
            belongs = pl.col("ts") + max(0, SPANS.get(each.layer, 0) - 1)
            low = closed.needs.get(each.layer, end - each.behind_us)
            frames[each.layer] = frames[each.layer].filter(belongs >= low)
    for rows in found.values():
        assert [row["at"] for row in rows] == sorted({row["at"] for row in rows})
    return found


def assert_any_windows(
    stage: Stage[Any, Any], layers: Layers, seed: int, **params: Any
) -> dict[str, list[dict[str, Any]]]:
    """Run in one window, cell by cell and in random windows; all must give the same rows."""
    whole = run(stage, layers, **params)
    exact = msgspec.json.encode(whole)
    times = [row[0] for rows in layers.values() for row in rows]
    grid = stage.grid_us
    edges = [cell * grid for cell in range(min(times) // grid - 2, max(times) // grid + 9)]
    assert msgspec.json.encode(run(stage, layers, edges, **params)) == exact
    rng = random.Random(seed)
    for forgetful in (None, None, rng, rng):
        cuts = rng.sample(edges, rng.randrange(1, len(edges)))
        found = run(stage, layers, cuts, forgetful=forgetful, **params)
        assert msgspec.json.encode(found) == exact
    return whole


def tape(
    seed: int, minutes: int, *, rows: int = 6, tick: Decimal = Decimal("0.1"), quiet: float = 0.1
) -> Layers:
    """Price rows drawn at random around 1000 and the bars they make, with pauses."""
    rng = random.Random(seed)
    level, still = int(1000 / tick), 0
    traded: list[tuple[int, int, Decimal, Decimal]] = []
    for minute in range(minutes):
        if still or rng.random() < quiet / 10:
            still = still - 1 if still else rng.choice((1, 6, 20, 40))
            continue
        level += rng.randrange(-4, 5)
        for row in sorted(
            rng.sample(range(level - rows, level + rows), rng.randrange(1, rows + 1))
        ):
            sizes = [Decimal(rng.choice((0, rng.randrange(1, 9_000)))) / 1000 for _ in range(2)]
            if not any(sizes):
                sizes[0] = Decimal("0.001")
            traded.append((at(minute), row, sizes[0], sizes[1]))
    layers: Layers = {
        "footprint": [(ts, float(row * tick), float(b), float(s)) for ts, row, b, s in traded]
    }
    for length in LENGTHS:
        cells: dict[int, list[tuple[int, int, Decimal, Decimal]]] = {}
        for each in traded:
            cells.setdefault(each[0] // (length * MINUTE_US) * length * MINUTE_US, []).append(each)
        layers[f"bars_{length}m"] = [_bar(rng, start, c, tick) for start, c in cells.items()]
    return layers


def _bar(
    rng: random.Random, start: int, cell: list[tuple[int, int, Decimal, Decimal]], tick: Decimal
) -> tuple[Any, ...]:
    prices = [row for _, row, _, _ in cell]
    low, high = min(prices), max(prices)
    ends = [float(rng.randrange(low, high + 1) * tick) for _ in range(2)]
    bought, sold = (sum((each[i] for each in cell), Decimal(0)) for i in (2, 3))
    paid = sum((row * tick * (b + s) for _, row, b, s in cell), Decimal(0))
    volume = bought + sold
    vwap = float(paid / volume) if rng.random() < 0.9 else None
    tops = float(high * tick), float(low * tick)
    return start, ends[0], *tops, ends[1], float(volume), float(bought), float(sold), vwap


def books(seed: int, minutes: int) -> Layers:
    """Mids and bands by minute, some missing, some null."""
    rng = random.Random(seed)
    micro: list[tuple[Any, ...]] = []
    buckets: list[tuple[Any, ...]] = []
    for minute in range(minutes):
        if rng.random() < 0.8:
            mid = None if rng.random() < 0.1 else rng.randrange(9_900, 10_100) / 10
            micro.append((at(minute), mid))
        if rng.random() < 0.4:
            sides = [
                [rng.choice((None, 0.0, rng.uniform(1, 9) * 1e5)) for _ in range(5)]
                for _ in range(2)
            ]
            buckets.append((at(minute), bands(*sides)))
    return {"micro_1m": micro, "buckets_1m": buckets}


def interest(seed: int, minutes: int) -> Layers:
    """Open interest by minute, with long pauses, nulls and zeros."""
    rng = random.Random(seed)
    found: list[tuple[Any, ...]] = []
    minute, amount = rng.randrange(60), 5_000.0
    while minute < minutes:
        amount *= rng.uniform(0.9, 1.15)
        found.append((at(minute), rng.choice((None, 0.0, amount, amount, amount))))
        minute += rng.choice((1, 1, 1, 1, 3, 70))
    return {"open_interest_1m": found}
