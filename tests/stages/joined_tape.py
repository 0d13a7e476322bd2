"""Rows of layers written by hand or drawn at random, and a joined stage over any windows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from pipeline.instrument import BASE, Instrument
from pipeline.stage import BEGINNING_US, Context, Joined, Stage

from .tick_tape import MIDNIGHT, MINUTE_US

SECOND = 1_000_000
LATEST = MIDNIGHT + 10_000 * MINUTE_US
REAL, WHOLE, TEXT, FLAG = pl.Float64, pl.Int64, pl.String, pl.Boolean

LADDER = {
    f"{side}_{name}": kind
    for side in ("bid", "ask")
    for name, kind in (
        ("px", pl.List(REAL)),
        ("sz", pl.List(REAL)),
        ("since", pl.List(WHOLE)),
        ("seen", pl.List(FLAG)),
        ("reach_px", REAL),
    )
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "quote": {"bid": REAL, "bid_size": REAL, "ask": REAL, "ask_size": REAL, "source": TEXT},
    "book_events": {"bid_depth": REAL, "ask_depth": REAL} | {f"ofi_{m}": REAL for m in range(1, 6)},
    "trades": {"price": REAL, "size": REAL, "notional": REAL, "side": pl.Int8},
    "ladder_1m": LADDER,
    "bars_1m": {"volume": REAL, "buy_volume": REAL},
    "vwap_1m": {"deviation_pct": REAL},
    "flow_1m": {
        "imbalance": REAL,
        "ofi_momentum": REAL,
        "whale_buy_trades": WHOLE,
        "whale_sell_trades": WHOLE,
    },
    "micro_1m": {"depth_imbalance": REAL},
    "profile_session": {"bias": TEXT},
}
SPANS = dict.fromkeys(("bars_1m", "vwap_1m", "flow_1m", "micro_1m"), MINUTE_US) | {
    "profile_session": 5 * MINUTE_US
}

Rows = Sequence[tuple[Any, ...]]
"""Rows of a layer: time in microseconds, then its columns."""


def at(minute: int, second: float = 0) -> int:
    """A time of the tape, microseconds."""
    return MIDNIGHT + minute * MINUTE_US + round(second * SECOND)


def frame(layer: str, rows: Rows) -> pl.DataFrame:
    """A layer as stages are given it."""
    return pl.DataFrame(list(rows), schema={"ts": WHOLE} | SCHEMAS[layer], orient="row")


def run(
    stage: Stage[Any, Any], layers: dict[str, Rows], cuts: Iterable[int] = (), **params: Any
) -> list[dict[str, Any]]:
    """The rows of a stage's only layer by column name, their time under `at`.

    The windows are cut at the times `cuts`; the carry goes through JSON between them.
    """
    (layer,) = stage.layers
    names = [column.name for column in layer.columns]
    frames = {name: frame(name, rows) for name, rows in layers.items()}
    carry = stage.carry()
    found: list[dict[str, Any]] = []
    inputs = [each for each in stage.inputs if each.layer in frames]
    known = frozenset(each.layer for each in inputs)
    context = Context(
        Instrument("okx", "perps", "X"), BASE, stage.params(**params), LATEST, inputs=known
    )
    for start, end in pairwise([BEGINNING_US, *sorted(set(cuts)), LATEST]):
        shown = {}
        for each in inputs:
            belongs = pl.col("ts") + max(0, SPANS.get(each.layer, 0) - 1)
            first = start if start == BEGINNING_US else start - each.behind_us
            is_shown = (belongs >= first) & (belongs < end + each.ahead_us)
            shown[each.layer] = frames[each.layer].select("ts", *each.columns).filter(is_shown)
        before = msgspec.json.encode(carry)
        closed = stage.fold(Joined(shown, start, end), carry, context)
        assert msgspec.json.encode(carry) == before, "a fold leaves the carry it was given alone"
        carry = msgspec.convert(msgspec.json.decode(msgspec.json.encode(closed.carry)), stage.carry)
        for us, values in closed.rows[layer.name]:
            assert start <= us < end
            assert type(us) is int
            plain(values)
            found.append({"at": us} | dict(zip(names, values, strict=True)))
    assert [row["at"] for row in found] == sorted({row["at"] for row in found})
    return found


def plain(value: Any) -> None:
    """Only what JSON has: no numbers of other libraries, no NaN, no infinity, no -0."""
    if isinstance(value, list | tuple):
        for each in value:
            plain(each)
    elif isinstance(value, dict):
        plain(list(value.values()))
    else:
        assert type(value) in (float, int, str, type(None)), repr(value)
        if type(value) is float:
            assert abs(value) < 1e300
            assert repr(value) != "-0.0"


def assert_any_windows(
    stage: Stage[Any, Any], layers: dict[str, Rows], seed: int, **params: Any
) -> list[dict[str, Any]]:
    """Run in one window, minute by minute and in random windows; all must give the same rows."""
    whole = run(stage, layers, **params)
    exact = msgspec.json.encode(whole)
    times = [row[0] for rows in layers.values() for row in rows]
    first, last = min(times) // MINUTE_US, max(times) // MINUTE_US
    edges = [minute * MINUTE_US for minute in range(first - 2, last + 4)]
    assert msgspec.json.encode(run(stage, layers, edges, **params)) == exact
    rng = random.Random(seed)
    for _ in range(4):
        cuts = rng.sample(edges, rng.randrange(1, len(edges)))
        assert msgspec.json.encode(run(stage, layers, cuts, **params)) == exact
    return whole


def clock(rng: random.Random, count: int, *, pause: float = 0.02) -> list[int]:
    """Times that never fall: some equal, most near, a few after exactly or more than a minute."""
    ts, found = at(0, rng.uniform(0, 90)), []
    for _ in range(count):
        if rng.random() < pause:
            ts += rng.choice((MINUTE_US, MINUTE_US + 1, 2 * MINUTE_US, 7 * MINUTE_US))
            ts = ts // MINUTE_US * MINUTE_US if rng.random() < 0.3 else ts
        elif rng.random() < 0.8:
            ts += rng.randrange(8 * SECOND)
        found.append(ts)
    return found


def random_quotes(rng: random.Random, count: int) -> list[tuple[Any, ...]]:
    """Quotes around 100, some lost, some without sizes."""
    found: list[tuple[Any, ...]] = []
    bid = 10_000
    for ts in clock(rng, count):
        bid += rng.choice((-2, -1, 0, 0, 0, 1, 2))
        ask = bid + rng.choice((0, 1, 1, 1, 5, 30))
        sizes = [rng.randrange(1, 50) / 10 for _ in range(2)]
        kind = rng.random()
        if kind < 0.05:
            found.append((ts, None, None, None, None, "book"))
        elif kind < 0.1:
            found.append((ts, bid / 100, None, ask / 100, None, "book"))
        else:
            found.append((ts, bid / 100, sizes[0], ask / 100, sizes[1], "book"))
    return found


def random_trades(rng: random.Random, count: int) -> list[tuple[Any, ...]]:
    """Trades around 100, up to 90 s out of order."""
    found: list[tuple[Any, ...]] = []
    for ts in clock(rng, count):
        price, size = rng.randrange(9_900, 10_100) / 100, rng.choice((0.1, 3, 1000.5))
        found.append((ts, price, size, price * size, rng.choice((-1, 1))))
    return sorted(found, key=lambda row: row[0] + rng.randrange(90 * SECOND))


def random_events(rng: random.Random, count: int) -> list[tuple[Any, ...]]:
    """Book events: depths and terms by rank, some without a book."""
    found: list[tuple[Any, ...]] = []
    for ts in clock(rng, count):
        if rng.random() < 0.05:
            found.append((ts, *(None,) * 7))
            continue
        depths = [rng.choice((0.0, rng.randrange(1, 90) / 10)) for _ in range(2)]
        ranks = rng.randrange(6)
        terms = [rng.randrange(-30, 30) / 10 if m < ranks else None for m in range(5)]
        found.append((ts, *depths, *terms))
    return found


def minutes_of(rows: Rows) -> dict[int, list[tuple[Any, ...]]]:
    """Rows by the minute of their time."""
    found: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        found.setdefault(row[0] // MINUTE_US * MINUTE_US, []).append(row)
    return found


def time_mean(points: Sequence[tuple[int, float | None]], minute: int) -> float | None:
    """Mean in a minute of values that stand until the next one, at most 60 s; microsecond sums."""
    total, weight = 0.0, 0
    for index, (ts, value) in enumerate(points):
        end = ts + MINUTE_US
        if index + 1 < len(points):
            end = min(end, points[index + 1][0])
        length = min(end, minute + MINUTE_US) - max(ts, minute)
        if value is not None and length > 0:
            total += value * length
            weight += length
    return total / weight if weight else None
