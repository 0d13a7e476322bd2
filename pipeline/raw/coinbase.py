"""Coinbase: `match` and `last_match` of the Exchange feed, `market_trades` of the Advanced feed.

`side` is the *maker's*, so it is inverted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.raw.shape import (
    MAKER_SIDE,
    BadRecordError,
    Json,
    TradeAdapter,
    TradeShape,
)


def _shape(one_of: dict[str, frozenset[str]]) -> TradeShape:
    return TradeShape(
        trade_id="trade_id",
        price="price",
        size="size",
        side="side",
        ts="time",
        side_of=MAKER_SIDE,
        time="iso",
        inst_id="product_id",
        one_of=one_of,
    )


_MATCH = _shape({"type": frozenset(("match", "last_match"))})
_MARKET_TRADE = _shape({})


def _unwrap(line: Json) -> Iterator[tuple[Any, str]]:
    events = line.get("events")
    if events is None:
        if "type" not in line:
            raise BadRecordError("not a trade")
        yield line, ""
        return
    if not isinstance(events, list):
        raise BadRecordError("envelope")
    for event in events:
        if not isinstance(event, dict) or not isinstance(event.get("trades"), list):
            raise BadRecordError("envelope")
        for record in event["trades"]:
            yield record, "events[].trades[]."


def _shape_of(record: Json) -> TradeShape:
    return _MATCH if "type" in record else _MARKET_TRADE


TRADES = TradeAdapter(unwrap=_unwrap, shape_of=_shape_of, contiguous=True)
