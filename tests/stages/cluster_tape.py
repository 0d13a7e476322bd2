"""Small markets for the stages behind trade clusters, cut into any windows."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from pipeline.instrument import Contract, Instrument
from pipeline.stage import BEGINNING_US, Closed, Context, Joined, Stage
from pipeline.stages import clusters, maker

DAY = 86_400_000
DAY_0 = 19_788 * DAY
"""2024-03-06 00:00 UTC, milliseconds."""

WHERE = Instrument("okx", "perps", "X")
TICK = Contract(tick="0.1")
TIME = pl.Datetime("us", "UTC")
SIZES = [f"{side}_sz_{rank}" for side in ("bid", "ask") for rank in range(5)]
SCHEMAS: dict[str, dict[str, Any]] = {
    "trades": {"seq": pl.Int64, "size": pl.Float64, "side": pl.Int8},
    "quote": dict.fromkeys(("bid", "bid_size", "ask", "ask_size"), pl.Float64),
    "book": dict.fromkeys(SIZES, pl.Float64),
    "book_events": {"bid_depth": pl.Float64},
    "positions": {"position": pl.Float64},
}

Rows = list[tuple[Any, ...]]
"""Rows of a layer: time in milliseconds, then its columns."""


@dataclass
class Market:
    """What stages read, and up to when it is complete (milliseconds)."""

    trades: Rows = field(default_factory=list)
    quote: Rows = field(default_factory=list)
    book: Rows = field(default_factory=list)
    book_events: Rows = field(default_factory=list)
    positions: Rows = field(default_factory=list)
    end: int = DAY_0

    def frame(self, layer: str) -> pl.DataFrame:
        """A layer as stages are given it."""
        rows = [(round(ts * 1000), *values) for ts, *values in getattr(self, layer)]
        return pl.DataFrame(rows, schema={"ts": pl.Int64} | SCHEMAS[layer], orient="row")


@dataclass
class Made:
    """Everything that the stages wrote, and the largest carry in bytes."""

    frames: dict[str, pl.DataFrame]
    models: list[dict[str, Any]]
    seconds: list[dict[str, Any]] = field(default_factory=list)
    carry_bytes: int = 0


class _Written:
    """The rows of Parquet layers so far."""

    def __init__(self) -> None:
        self.frames: dict[str, pl.DataFrame] = {}

    def add(self, closed: Closed[Any]) -> None:
        for name, new in closed.rows.items():
            if isinstance(new, pl.DataFrame):
                assert new.height
                old = self.frames.get(name)
                self.frames[name] = new if old is None else pl.concat([old, new])

    def last_rows(self, layer: str, count: int) -> pl.DataFrame | None:
        found = self.frames.get(layer)
        return None if found is None else found.tail(count)


def run_clusters(market: Market, cuts: Iterable[int] = (), **params: Any) -> Made:
    """Stage clusters over the market, its trades cut behind these numbers of them."""
    written, models, most = _Written(), list[dict[str, Any]](), 0
    keys = [column.name for column in clusters.MODEL.columns]
    for closed, carry in _windows(clusters.STAGE, market, cuts, written, params):
        for us, values in closed.rows["model"]:
            document = dict(zip(keys, values, strict=True))
            assert us == msgspec.json.decode(msgspec.json.encode(us))
            models.append(msgspec.json.decode(msgspec.json.encode(document)))
        most = max(most, len(carry))
    return Made(written.frames, models, [], most)


def _windows(
    stage: Stage[Any, Any],
    market: Market,
    cuts: Iterable[int],
    written: _Written,
    params: dict[str, Any],
) -> Iterable[tuple[Closed[Any], bytes]]:
    own = msgspec.convert(params, stage.params)
    frames = {name: market.frame(name) for name in ("trades", "quote", "book", "book_events")}
    assert stage.select is not None
    inputs = stage.select(own, {name: {} for name in frames}) or ()
    carry, start = stage.carry(), BEGINNING_US
    context: Context[Any] = Context(WHERE, TICK, own, last_rows=written.last_rows)
    trades = frames["trades"]
    edges = [0, *sorted(cuts), trades.height]
    for low, high in pairwise(edges):
        new = trades.slice(low, high - low)
        is_last = high == trades.height and low == edges[-2]
        newest = new["ts"].max()
        assert newest is None or isinstance(newest, int)
        end = market.end * 1000 if is_last else max(start, newest or start)
        shown = {"trades": new.select("ts", *inputs[0].columns)}
        for each in inputs[1:]:
            first = start if start == BEGINNING_US else start - each.behind_us
            rows = frames[each.layer].filter(pl.col("ts") >= first, pl.col("ts") <= end)
            shown[each.layer] = rows.select("ts", *each.columns)
        before = msgspec.json.encode(carry)
        closed = stage.fold(Joined(shown, start, end), carry, context)
        assert msgspec.json.encode(carry) == before, "a fold leaves the carry it was given alone"
        written.add(closed)
        text = msgspec.json.encode(closed.carry)
        carry = msgspec.json.decode(text, type=stage.carry)
        yield closed, text
        start = end


def run_maker(
    market: Market, made: Made, cuts: Sequence[int] = (), *, tick: str | None = "0.1", **params: Any
) -> list[dict[str, Any]]:
    """Stage maker behind stage clusters, its windows ending at these times (milliseconds)."""
    own = msgspec.convert(params, maker.STAGE.params)
    names = [column.name for column in maker.LAYER.columns]
    carry, start, found = maker.Carry(), BEGINNING_US, list[dict[str, Any]]()
    needs: dict[str, int] = {}
    context = Context(WHERE, Contract(tick=tick), own)
    flow, tops = (_plain(made.frames[name]) for name in ("cluster_flow", "quote_1s"))
    models = pl.DataFrame(
        [(_midnight(m["valid_from"]), msgspec.json.encode(m).decode()) for m in made.models],
        schema={"ts": pl.Int64, "document": pl.String},
        orient="row",
    )
    positions = market.frame("positions")
    taken = 0
    for end_ms in (*sorted(cuts), market.end):
        end = end_ms * 1000
        upto = int((flow["ts"] <= end).sum())
        at = pl.col("ts")
        shown = {
            "cluster_flow": flow.slice(taken, upto - taken),
            "quote_1s": tops.filter(at >= start, at <= end),
            "model": models.filter(at <= end),
            "positions": positions.filter(at >= needs.get("positions", start), at <= end),
        }
        closed = maker.fold(Joined(shown, start, end), carry, context)
        text = msgspec.json.encode(closed.carry)
        carry, needs = msgspec.json.decode(text, type=maker.Carry), closed.needs
        for us, values in closed.rows["maker_1s"]:
            found.append({"at": us // 1000, **dict(zip(names, values, strict=True))})
        start, taken = end, upto
    return found


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("ts").dt.timestamp("us"))


def _midnight(day: str) -> int:
    stamp = pl.Series([day]).str.to_datetime("%Y-%m-%d", time_unit="us").dt.timestamp("us")
    return int(stamp[0])


def random_market(seed: int, trades: int, *, days: int = 3) -> Market:
    """A walk over some days: silences, bad quotes, lost books, trades out of order."""
    rng = random.Random(seed)
    market = Market(end=DAY_0 + days * DAY)
    step = days * DAY // trades
    clock, bid, seq = DAY_0, 10_000, 0
    while clock < market.end:
        # a burst, so that most trades have a fresh quote and book
        for _ in range(rng.randrange(1, 60)):
            clock += rng.choice((0, 1, 7, 40, 300, 2000))
            bid += rng.choice((-1, 0, 0, 0, 1))
            ask = bid + rng.choice((1, 1, 1, 2, 7, 0 if rng.random() < 0.05 else 1))
            sizes = [rng.randrange(1, 90) / 10 for _ in range(2)]
            sizes[0] *= rng.random() > 0.02
            if rng.random() < 0.02:
                market.quote.append((clock, None, None, None, None))
            market.quote.append((clock, bid / 10, sizes[0], ask / 10, sizes[1]))
            if rng.random() < 0.8:
                depth = [rng.randrange(1, 90) / 10 if rank < 4 else None for rank in range(5)] * 2
                depth[9] = rng.choice((None, 2.5))
                depth[0] = None if rng.random() < 0.02 else depth[0]
                is_after = rng.random() < 0.5
                if rng.random() < 0.05 and not is_after:
                    market.book_events.append((clock, None))
                market.book.append((clock, *depth))
                market.book_events.append((clock, 1.0))
                if rng.random() < 0.05 and is_after:
                    market.book_events.append((clock, None))
            for _ in range(rng.choice((0, 1, 1, 3))):
                late = rng.randrange(clock % 60_000 + 1) if rng.random() < 0.05 else 0
                size, side = rng.randrange(1, 400) / 100, rng.choice((-1, 1))
                market.trades.append((clock + rng.randrange(30) - late, seq, size, side))
                seq += 1
        if rng.random() < 0.5:
            market.positions.append((clock, rng.randrange(-30, 30) / 10))
        clock += rng.randrange(1, 60 * step)
    last = max(row[0] for row in market.trades)
    market.end = max(market.end, last)
    return market
