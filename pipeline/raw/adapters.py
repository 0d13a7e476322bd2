"""Which adapter reads which exchange; any name not listed here is the plain format."""

from __future__ import annotations

from pipeline.raw import binance, coinbase, okx, plain
from pipeline.raw.shape import TradeAdapter

_TRADES = {
    "okx": okx.TRADES,
    "sim": okx.TRADES,
    "binance": binance.TRADES,
    "coinbase": coinbase.TRADES,
}


def trade_adapter(exchange: str) -> TradeAdapter:
    """The adapter for the trades of an exchange folder."""
    return _TRADES.get(exchange, plain.TRADES)
