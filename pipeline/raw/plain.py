"""The plain format for any other source: base units, the taker's side, any unique id."""

from __future__ import annotations

from pipeline.raw.shape import TAKER_SIDE, Json, TradeAdapter, TradeShape, bare

TRADE = TradeShape(
    trade_id="id",
    price="price",
    size="size",
    side="side",
    ts="ts",
    side_of=TAKER_SIDE,
    time="any",
)
_NAMED = TradeShape(
    trade_id="id",
    price="price",
    size="size",
    side="side",
    ts="ts",
    side_of=TAKER_SIDE,
    time="any",
    inst_id="instId",
)


def _shape_of(record: Json) -> TradeShape:
    return _NAMED if "instId" in record else TRADE


TRADES = TradeAdapter(unwrap=bare, shape_of=_shape_of, contiguous=False)
