"""Binance websocket events, bare or in a combined-stream envelope.

`m` says whether the buyer was the maker, so `m: true` means that the taker sold; `T` is the
matching time.
"""

from __future__ import annotations

from pipeline.raw.shape import BUYER_IS_MAKER, Json, TradeAdapter, TradeShape, in_data


def _event(kind: str, trade_id: str) -> TradeShape:
    return TradeShape(
        trade_id=trade_id,
        price="p",
        size="q",
        side="m",
        ts="T",
        side_of=BUYER_IS_MAKER,
        time="ms",
        inst_id="s",
        one_of={"e": frozenset((kind,))},
    )


_EVENTS = {"trade": _event("trade", "t"), "aggTrade": _event("aggTrade", "a")}


def _shape_of(record: Json) -> TradeShape | None:
    kind = record.get("e")
    return _EVENTS.get(kind) if isinstance(kind, str) else None


TRADES = TradeAdapter(unwrap=in_data, shape_of=_shape_of, contiguous=True)
