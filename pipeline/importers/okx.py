"""Archives of OKX: trades, cut at midnight in UTC+8, and order books of 400 levels.

Trades are tables with a header; older ones have no `instrument_name`, and Chinese names behind
the English ones. Books are lines of `{"instId","action","ts","asks","bids"}`.
"""

from __future__ import annotations

import re

from pipeline.importers.form import TAKER, Bare, Format, Seen, Where
from pipeline.importers.records import BOOKS, TRADES

EXCHANGE = "okx"
_NAME = re.compile(r"([A-Z0-9-]+?)-(?:agg)?(?:trades|L2orderbook)-", re.IGNORECASE)
_DATED = re.compile(r".+-\d{6}(-.+)?")


def market_of(inst_id: str) -> str:
    """The market of an instrument: swaps and futures, else spot."""
    return "perps" if inst_id.endswith("-SWAP") or _DATED.fullmatch(inst_id) else "spot"


def _where(seen: Seen) -> Where:
    name = _NAME.match(seen.file)
    inst_id = seen.first.get("inst") or (name[1].upper() if name else None)
    return Where(EXCHANGE, market_of(inst_id) if inst_id else None, inst_id)


_TRADE = {
    "instrument_name": "inst",
    "trade_id": "id",
    "side": "side",
    "price": "price",
    "size": "size",
    "created_time": "time",
    "source": "source",
}
_COLUMNS = ("inst", "id", "side", "price", "size", "time")
_OLD_COLUMNS = ("id", "side", "size", "price", "time")

FORMATS = (
    Format(
        name="okx-trades",
        text="trades of OKX's historical data, days cut at UTC+8",
        kind="trades",
        variant=TRADES,
        where=_where,
        header=frozenset(_TRADE) - {"instrument_name", "source"},
        roles=_TRADE,
        bare=(Bare(_COLUMNS), Bare((*_COLUMNS, "source")), Bare(_OLD_COLUMNS)),
        words=TAKER,
    ),
    Format(
        name="okx-l2",
        text="order books of OKX's historical data (L2orderbook-400lv)",
        kind="books",
        variant=BOOKS,
        where=_where,
        is_json=True,
    ),
)
