"""Liquidity by distance from the mid, and walls, at each minute's end.

A row is one minute with a book. What lies farther away than the worst price of the last snapshot
is known only from stray updates, so each side has a reach, and beyond it there is null instead of
a small number. A wall is a level that towers over the others; how long it has stood tells a resting
order from one that is shown for a moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, pairwise
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.limits import SHARE, enough
from pipeline.calc.lists import arrays
from pipeline.calc.standing import Flags, Floats, Ints
from pipeline.exact import check_positive
from pipeline.layers import Column, Layer
from pipeline.stage import MINUTE_US, Closed, Context, Input, Joined, Row, Stage

EDGES_BPS = (5, 10, 25, 50, 100)
_CLOSE = EDGES_BPS.index(25)
_SECOND_US = 1e6
_SIDES = ("bid", "ask")
_LISTS = ("px", "sz", "since", "seen")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[buckets]`: what makes a wall, and until when it is young.

    `wall_notional` in quote currency, `wall_ratio` in medians.
    """

    wall_notional: Decimal = Decimal(250_000)
    wall_ratio: Decimal = Decimal(5)
    young_s: Annotated[int, msgspec.Meta(ge=1)] = 300

    def __post_init__(self) -> None:
        """Refuse limits that are none."""
        check_positive(wall_notional=self.wall_notional, wall_ratio=self.wall_ratio)


class Carry(msgspec.Struct):
    """Nothing: a book says all there is to say."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a book, best first.

    Attributes:
        sign: 1 for bids, -1 for asks.
        since: from when on each price has held half its size, and `seen` whether that began in
            our sight.
        reach: worst price of the last snapshot, None if it had none.
    """

    sign: int
    price: Floats
    size: Floats
    since: Ints
    seen: Flags
    reach: float | None


class Near(NamedTuple):
    """The levels of one side within 100 bps, best first.

    Attributes:
        notional: of each level.
        stops: how many of them lie within each edge.
        reach_bps: how far the side is known, None if not at all.
    """

    notional: Floats
    stops: list[int]
    reach_bps: float | None


class Wall(NamedTuple):
    """The largest wall of a side, and the largest young one; 0 where there is none."""

    notional: float = 0.0
    young: float = 0.0
    price: float | None = None
    age_s: float | None = None


def fold(joined: Joined, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Measure the book at the end of each minute."""
    rows: list[Row] = [
        (start, measure(bids, asks, start + MINUTE_US, context.params))
        for start, bids, asks in _books(joined.frames["ladder_1m"])
    ]
    return Closed(carry, {"buckets_1m": rows})


def _books(ladders: pl.DataFrame) -> Iterator[tuple[int, Side, Side]]:
    sides: list[list[Side]] = []
    for name, sign in zip(_SIDES, (1, -1), strict=True):
        columns = (arrays(ladders[f"{name}_{each}"]) for each in _LISTS)
        rows = zip(*columns, ladders[f"{name}_reach_px"].to_list(), strict=True)
        sides.append([Side(sign, *row) for row in rows])
    return zip(ladders["ts"].to_list(), *sides, strict=True)


def measure(bids: Side, asks: Side, end_us: int, params: Params) -> tuple[Any, ...]:
    """The columns of one book; nothing but empty bands where a side is empty."""
    if not (len(bids.price) and len(asks.price)):
        return [_band(edge, None, None) for edge in EDGES_BPS], *(None,) * 12
    mid = (float(bids.price[0]) + float(asks.price[0])) / 2
    bid, ask = near(bids, mid), near(asks, mid)
    close_bids, close_asks = (_total(side.notional[: side.stops[_CLOSE]]) for side in (bid, ask))
    close = close_bids + close_asks
    share = close_asks / close if close else None
    least = _least_wall(np.concatenate((bid.notional, ask.notional)), params)
    # both sides' numbers stand next to each other in a row
    walls = zip(
        _wall(bids, bid.notional, least, end_us, params.young_s),
        _wall(asks, ask.notional, least, end_us, params.young_s),
        strict=True,
    )
    return (
        list(map(_band, EDGES_BPS, _known(bid), _known(ask))),
        share,
        None if share is None else 1 - share,
        bid.reach_bps,
        ask.reach_bps,
        *chain.from_iterable(walls),
    )


def near(side: Side, mid: float) -> Near:
    """The levels of a side within 100 bps; one on the wrong side of the mid is nearest of all."""
    away = _bps(side.sign * (mid - side.price), mid)
    # rounding must not push a level that lies on an edge over it
    stops = np.searchsorted(away, np.array(EDGES_BPS) + SHARE, side="right").tolist()
    count = stops[-1]
    reach = None if side.reach is None else max(0.0, _bps(side.sign * (mid - side.reach), mid))
    return Near(side.price[:count] * side.size[:count], stops, reach)


def _bps(away: Any, mid: float) -> Any:
    return 1e4 * away / mid


def _known(side: Near) -> list[float | None]:
    """Notional of each band, None for those wholly beyond reach."""
    reach = -1.0 if side.reach_bps is None else side.reach_bps
    return [
        _total(side.notional[first:stop]) if reach > inner + SHARE else None
        for inner, (first, stop) in zip((0, *EDGES_BPS), pairwise([0, *side.stops]), strict=False)
    ]


def _band(edge: int, bid: float | None, ask: float | None) -> dict[str, float | None]:
    return {"bps": edge, "bid_notional": bid, "ask_notional": ask}


def _total(notional: Floats) -> float:
    return math.fsum(notional.tolist())


def _least_wall(notional: Floats, params: Params) -> float:
    """The notional from which on a level is a wall."""
    if not len(notional):
        return math.inf
    median = float(np.median(notional))
    return enough(max(float(params.wall_ratio) * median, float(params.wall_notional)))


def _wall(side: Side, notional: Floats, least: float, end_us: int, young_s: int) -> Wall:
    is_wall = notional >= least
    if not is_wall.any():
        return Wall()
    is_young = is_wall & _is_young(side, len(notional), end_us, young_s)
    # the first of equals is the nearest
    largest = int(np.argmax(notional))
    return Wall(
        float(notional[largest]),
        float(notional[is_young].max(initial=0.0)),
        float(side.price[largest]),
        (end_us - int(side.since[largest])) / _SECOND_US,
    )


def _is_young(side: Side, count: int, end_us: int, young_s: int) -> Flags:
    """Whether each level began in our sight, and less than so many seconds ago."""
    is_recent: Flags = end_us - side.since[:count] < young_s * _SECOND_US
    return is_recent & side.seen[:count]


def _both(name: str, unit: str, text: str, rest: str) -> tuple[Column, Column]:
    return (
        Column(f"bid_{name}", "float", unit, text),
        Column(f"ask_{name}", "float", unit, rest),
    )


BUCKETS = Layer(
    "buckets_1m",
    "buckets",
    "jsonl",
    (
        Column(
            "bands",
            "list",
            "bps, quote",
            "notional of the levels (0,5] (5,10] (10,25] (25,50] (50,100] bps from mid [{bps, "
            "bid_notional, ask_notional}], bps the upper edge; null for a band wholly beyond reach",
        ),
        Column(
            "ask_imbalance",
            "float",
            "",
            "ask / (ask + bid) notional within 25 bps of mid; null if there is none",
        ),
        Column("bid_imbalance", "float", "", "1 - ask_imbalance"),
        *_both(
            "reach_bps",
            "bps",
            "how far from mid the bids are known: the worst bid of the last snapshot, at least 0; "
            "null if it had none",
            "the same of the asks",
        ),
        *_both(
            "wall",
            "quote",
            "notional of the largest bid wall within 100 bps: a level >= 5 x the median level of "
            "both sides there and >= wall_notional (250 000); 0 if there is none",
            "the same of the asks",
        ),
        *_both(
            "young_wall",
            "quote",
            "the largest among bid walls that have stood less than 300 s and whose beginning was "
            "seen (neither in the opening snapshot nor beyond reach); 0 if there is none",
            "the same of the asks",
        ),
        *_both(
            "wall_price",
            "quote",
            "price of bid_wall, of equals the nearest to mid; null if there is none",
            "price of ask_wall",
        ),
        *_both(
            "wall_age_s",
            "s",
            "how long, at the minute's end, that price has held >= half its present size without "
            "a break; a lower bound where the beginning was not seen; null if there is no wall",
            "the same of ask_wall",
        ),
    ),
    "One row per minute with a book at its end: where liquidity lies. All but the list null where "
    "a side is empty.",
    span_us=MINUTE_US,
)

STAGE = Stage(
    name="buckets",
    inputs=(
        Input(
            "ladder_1m",
            tuple(f"{side}_{each}" for side in _SIDES for each in (*_LISTS, "reach_px")),
        ),
    ),
    layers=(BUCKETS,),
    params=Params,
    carry=Carry,
    fold=fold,
)
