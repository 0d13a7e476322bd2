"""OKX, and `sim`, which is written in OKX's format.

`side` is the taker's, `sz` on swaps is in contracts. Three shapes of trade: flat, inside a
websocket envelope, and the rows of the common collector script, which carry their own contract
size.
"""

from __future__ import annotations

from pipeline.raw.shape import TAKER_SIDE, Json, TradeAdapter, TradeShape, in_data

EXCHANGE_RECORD = TradeShape(
    trade_id="tradeId",
    price="px",
    size="sz",
    side="side",
    ts="ts",
    side_of=TAKER_SIDE,
    time="ms",
    inst_id="instId",
    count="count",
)
COLLECTOR_ROW = TradeShape(
    trade_id="trade_id",
    price="price",
    size="qty_contracts",
    side="side",
    ts="timestamp_utc",
    side_of=TAKER_SIDE,
    time="iso",
    inst_id="instId",
    contract=("ctVal", "ctMult", "ctType"),
)


def _shape_of(record: Json) -> TradeShape:
    return COLLECTOR_ROW if "trade_id" in record else EXCHANGE_RECORD


TRADES = TradeAdapter(unwrap=in_data, shape_of=_shape_of, contiguous=True)
