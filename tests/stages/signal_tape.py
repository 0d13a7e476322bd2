"""Bars and what signals are made of, by hand or drawn; stages of several layers in any windows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from pipeline.calc.timeframes import TIMEFRAMES
from pipeline.instrument import BASE, Instrument
from pipeline.stage import BEGINNING_US, Context, Joined, Stage
from pipeline.stages import bars, flow, impact, ipu, micro, signals

from .joined_tape import LATEST, at, plain
from .tick_tape import MINUTE_US

Table = Mapping[int, Mapping[str, Any]]
"""Rows of a layer by their beginning; what a row does not name is null."""

Made = dict[str, list[dict[str, Any]]]
"""Rows by layer, their time under `at`."""

_TYPES = {"float": pl.Float64, "int": pl.Int64, "bool": pl.Boolean, "list": pl.String}
_VCP = {"clusters": pl.String} | dict.fromkeys(
    ("structural_bias", "runway_long", "runway_short", "vcp_combined", "atr_14"), pl.Float64
)


def _schemas() -> dict[str, tuple[int, dict[str, Any]]]:
    """Span and types of columns of every layer that these stages read."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for module in (bars, flow, impact, ipu, micro, signals):
        for layer in module.STAGE.layers:
            types = {c.name: _TYPES.get(c.dtype, pl.String) for c in layer.columns}
            found[layer.name] = (layer.span_us, types)
    return found | {f"vcp_{name}": (span, _VCP) for name, span in TIMEFRAMES.items()}


SCHEMAS = _schemas()


def frame(layer: str, rows: Table) -> pl.DataFrame:
    """A layer as stages are given it."""
    types = SCHEMAS[layer][1]
    lines = [{"ts": ts} | {n: rows[ts].get(n) for n in types} for ts in sorted(rows)]
    for line in lines:
        if isinstance(line.get("clusters"), list):
            line["clusters"] = msgspec.json.encode(line["clusters"]).decode()
    return pl.DataFrame(lines, schema={"ts": pl.Int64} | types)


def run(
    stage: Stage[Any, Any], tables: Mapping[str, Table], cuts: Iterable[int] = (), **params: Any
) -> Made:
    """The rows of a stage's layers; its windows are cut at `cuts`, its carry goes through JSON."""
    inputs = [each for each in stage.inputs if each.layer in tables]
    frames = {each.layer: frame(each.layer, tables[each.layer]) for each in inputs}
    settings = msgspec.convert(params, stage.params)
    context = Context(Instrument("okx", "perps", "X"), BASE, settings, LATEST)
    context.inputs = frozenset(frames)
    made: Made = {layer.name: [] for layer in stage.layers}
    carry = stage.carry()
    for start, end in pairwise([BEGINNING_US, *sorted(set(cuts)), LATEST]):
        shown = {}
        for each in inputs:
            known = pl.col("ts") + SCHEMAS[each.layer][0] - 1
            first = start if start == BEGINNING_US else start - each.behind_us
            given = frames[each.layer].select("ts", *each.columns)
            shown[each.layer] = given.filter((known >= first) & (known < end + each.ahead_us))
        before = msgspec.json.encode(carry)
        closed = stage.fold(Joined(shown, start, end), carry, context)
        assert msgspec.json.encode(carry) == before, "a fold leaves the carry it was given alone"
        carry = msgspec.convert(msgspec.json.decode(msgspec.json.encode(closed.carry)), stage.carry)
        for layer in stage.layers:
            names = [column.name for column in layer.columns]
            for us, values in closed.rows[layer.name]:
                assert start <= us + layer.span_us - 1 < end
                _check(layer.columns, values)
                made[layer.name].append({"at": us} | dict(zip(names, values, strict=True)))
    for rows in made.values():
        assert [row["at"] for row in rows] == sorted({row["at"] for row in rows})
    return made


def _check(columns: Sequence[Any], values: Sequence[Any]) -> None:
    """Values of the declared kinds, and nothing that JSON has not."""
    kinds: dict[str, Any] = {"float": float, "int": int, "bool": bool, "string": str, "list": list}
    for column, value in zip(columns, values, strict=True):
        assert value is None or type(value) is kinds[column.dtype], (column.name, value)
        plain(int(value) if isinstance(value, bool) else value)


def assert_any_windows(
    stage: Stage[Any, Any], tables: Mapping[str, Table], seed: int, **params: Any
) -> Made:
    """Run in one window, minute by minute and in random windows; all must give the same rows."""
    whole = run(stage, tables, **params)
    exact = msgspec.json.encode(whole)
    times = [ts for table in tables.values() for ts in table]
    first, last = min(times) // MINUTE_US, max(times) // MINUTE_US
    edges = [minute * MINUTE_US for minute in range(first - 1, last + 33)]
    rng = random.Random(seed)
    fine = [edge for edge in edges if edge < first * MINUTE_US + 300 * MINUTE_US]
    cuts = [fine, rng.sample(edges, 3), rng.sample(edges, min(150, len(edges) // 7))]
    for each in cuts:
        assert msgspec.json.encode(run(stage, tables, each, **params)) == exact
    return whole


def drawn_bars(rng: random.Random, span: int, count: int) -> dict[int, dict[str, Any]]:
    """Bars of a walk in hundredths: some missing, some without a range, some that close flat."""
    found: dict[int, dict[str, Any]] = {}
    start, price = at(0) // span * span, rng.randrange(9_000, 11_000)
    for _ in range(count):
        start += span * (1 if rng.random() < 0.95 else rng.randrange(2, 5))
        kind = rng.random()
        opened = price
        price += 0 if kind < 0.1 else rng.randrange(-40, 41)
        high, low = max(opened, price), min(opened, price)
        if kind > 0.05:
            high, low = high + rng.randrange(30), low - rng.randrange(30)
        volume = rng.randrange(1, 400) / 4
        bought = rng.choice((0.0, volume, volume / 2, volume * rng.random()))
        found[start] = {
            "open": opened / 100,
            "high": high / 100,
            "low": low / 100,
            "close": price / 100,
            "volume": volume,
            "buy_volume": bought,
            "sell_volume": volume - bought,
            "trades": rng.randrange(1, 60),
            "gaps": rng.choice((0, 0, 0, 2)),
        }
    return found


def drawn_minutes(
    rng: random.Random, last: int, names: Sequence[str], *, share: float = 0.8
) -> dict[int, dict[str, Any]]:
    """Minutes until `last`, some missing, some values null, some zero."""
    found: dict[int, dict[str, Any]] = {}
    for start in range(at(0), last, MINUTE_US):
        if rng.random() < share:
            found[start] = {
                name: rng.choice((None, 0.0, rng.uniform(-1, 1), rng.uniform(-1, 1)))
                for name in names
            }
    return found
