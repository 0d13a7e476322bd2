"""The lines that an exchange's raw files hold, to be filled from the columns of an archive.

Each exchange's own record; an exchange that is not listed has the plain format. Where there are
several, the first one counts whose places can all be filled. `layout` explains the places.
"""

from __future__ import annotations

from pipeline.raw.adapters import trade_adapter
from pipeline.raw.plain import TRADES as PLAIN

TRADES, AGGREGATES, QUOTES, BOOKS = "trades", "aggTrades", "quotes", "books"
"""Variants of records; aggregates are trades too."""

_OKX = '{"instId":"<inst>","tradeId":"<id>","px":"<price>","sz":"<size>","side":"<side buy sell>",'
_BINANCE = '"s":"<inst>",%s,"p":"<price>","q":"<size>",%s"T":<time ms>,"m":<side false true>}'
_TICKER = '"s":"<inst>","b":"<bid>","B":"<bid_size>","a":"<ask>","A":"<ask_size>","T":<time ms>}'
_MATCH = '"trade_id":<id>,"product_id":"<inst>","price":"<price>","size":"<size>"'
_PLAIN = '{"ts":<time ms>,"price":"<price>","size":"<size>","side":"<side buy sell>","id":"<%s>"}'
_PLAIN_QUOTE = '"bid":"<bid>","bid_size":"<bid_size>","ask":"<ask>","ask_size":"<ask_size>"}'

_RECORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("okx", TRADES): (
        _OKX + '"ts":"<time ms>","source":"<source>"}',
        _OKX + '"ts":"<time ms>"}',
    ),
    ("binance", TRADES): ('{"e":"trade",' + _BINANCE % ('"t":<id>', ""),),
    ("binance", AGGREGATES): (
        '{"e":"aggTrade",' + _BINANCE % ('"a":<id>', '"f":<first_id>,"l":<last_id>,'),
    ),
    ("binance", QUOTES): ('{"e":"bookTicker","u":<id>,' + _TICKER,),
    ("coinbase", TRADES): (
        '{"type":"match",' + _MATCH + ',"side":"<side sell buy>","time":"<time iso>"}',
    ),
    ("", TRADES): (_PLAIN % "id", _PLAIN % "row"),
    ("", QUOTES): ('{"ts":<time ms>,' + _PLAIN_QUOTE,),
}


def records(exchange: str, variant: str) -> tuple[str, ...]:
    """The records of an exchange folder; aggregates of an exchange without any are trades."""
    name = "" if trade_adapter(exchange) is PLAIN else exchange
    found = _RECORDS.get((name, variant))
    if found is None and variant == AGGREGATES:
        return records(exchange, TRADES)
    return found or ()
