"""Valid raw trade lines of every shape that an exchange writes, and what goes wrong with them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.instrument import Contract

FIRST_MS = 1_709_683_200_000
"""2024-03-06T00:00:00Z."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """One layout of lines: where it is found, and how to write its i-th record."""

    name: str
    exchange: str
    inst_id: str
    contract: Contract
    record: Callable[[random.Random, int], Record]

    def line(self, rng: random.Random, number: int) -> bytes:
        """One valid line without its end; every shape has spaced and compact writers."""
        separators = (",", ":") if self.name.endswith("compact") else (", ", ": ")
        return json.dumps(self.record(rng, number), separators=separators).encode()


def iso(milliseconds: int, digits: int = 3) -> str:
    """A time as exchanges write it, with a number of decimals."""
    text = datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{milliseconds % 1000:03d}456789"[:digits]
    return f"{text}.{fraction}Z" if digits else f"{text}Z"


def _price(rng: random.Random) -> str:
    return rng.choice(("101250", "101250.5", "101250.50", "0.00012", "99.9", "7"))


def _size(rng: random.Random) -> str:
    return rng.choice(("1", "0.01", "45", "12.500", "0.00000001", "300"))


def _side(rng: random.Random) -> str:
    return rng.choice(("buy", "sell"))


def _okx(rng: random.Random, number: int) -> Record:
    return {
        "instId": "BTC-USDT-SWAP",
        "tradeId": str(number),
        "px": _price(rng),
        "sz": _size(rng),
        "side": _side(rng),
        "ts": str(FIRST_MS + number),
    }


def _okx_counted(rng: random.Random, number: int) -> Record:
    return _okx(rng, number) | {"count": str(rng.randrange(1, 4))}


def _okx_envelope(rng: random.Random, number: int) -> Record:
    arg = {"channel": "trades", "instId": "BTC-USDT-SWAP"}
    return {"arg": arg, "data": [_okx_counted(rng, number)]}


def _okx_pair(rng: random.Random, number: int) -> Record:
    arg = {"channel": "trades", "instId": "BTC-USDT-SWAP"}
    return {"arg": arg, "data": [_okx(rng, 2 * number), _okx(rng, 2 * number + 1)]}


def _okx_null_data(rng: random.Random, number: int) -> Record:
    return _okx(rng, number) | {"data": None}


def _collector(rng: random.Random, number: int) -> Record:
    return {
        "timestamp_utc": iso(FIRST_MS + number),
        "exchange": "okx",
        "market": "perp",
        "instId": "BTC-USDT-SWAP",
        "symbol_canon": "BTC/USDT",
        "trade_id": str(number),
        "side": _side(rng),
        "price": _price(rng),
        "qty_contracts": _size(rng),
        "ctVal": rng.choice(("0.01", "0.01", "0.1")),
        "ctMult": "1",
        "ctType": "linear",
    }


def _binance_trade(rng: random.Random, number: int) -> Record:
    ms = FIRST_MS + number
    row = {"e": "trade", "E": ms, "T": ms, "s": "BTCUSDT", "t": number, "p": _price(rng)}
    return row | {"q": _size(rng), "X": "MARKET", "m": rng.random() < 0.5}


def _binance_aggregate(rng: random.Random, number: int) -> Record:
    ms = FIRST_MS + number
    row = {"e": "aggTrade", "E": ms, "s": "BTCUSDT", "a": number, "p": _price(rng)}
    return row | {"q": _size(rng), "f": 1, "l": 2, "T": ms, "m": rng.random() < 0.5}


def _binance_envelope(rng: random.Random, number: int) -> Record:
    return {"stream": "btcusdt@aggTrade", "data": _binance_aggregate(rng, number)}


def _coinbase_match(rng: random.Random, number: int) -> Record:
    return {
        "type": rng.choice(("match", "match", "last_match")),
        "trade_id": number,
        "sequence": number * 3,
        "time": iso(FIRST_MS + number, 6),
        "product_id": "BTC-USD",
        "size": _size(rng),
        "price": _price(rng),
        "side": _side(rng),
    }


def _coinbase_market(rng: random.Random, number: int) -> Record:
    trade = {
        "trade_id": str(number),
        "product_id": "BTC-USD",
        "price": _price(rng),
        "size": _size(rng),
        "side": _side(rng).upper(),
        "time": iso(FIRST_MS + number, rng.choice((0, 6))),
    }
    return {"channel": "market_trades", "events": [{"type": "update", "trades": [trade]}]}


def _plain_text(rng: random.Random, number: int) -> Record:
    row = {"ts": iso(FIRST_MS + number, rng.choice((0, 3, 6))), "price": _price(rng)}
    return row | {"size": _size(rng), "side": _side(rng), "id": f"a{number}"}


def _plain_numbers(rng: random.Random, number: int) -> Record:
    row = {"ts": FIRST_MS + number, "price": float(_price(rng)), "size": 1.5}
    return row | {"side": _side(rng), "id": number}


def _plain_digits(rng: random.Random, number: int) -> Record:
    row = {"id": str(number), "ts": str(FIRST_MS + number), "price": _price(rng)}
    return row | {"size": 2, "side": _side(rng), "instId": "X-Y", "note": None, "maker": True}


_LINEAR, _BASE = Contract("linear", "0.01"), Contract()
_SWAP = ("okx", "BTC-USDT-SWAP", _LINEAR)
_USDT = ("binance", "BTCUSDT", _BASE)
_COINBASE = ("coinbase", "BTC-USD", _BASE)
_PLAIN = ("elsewhere", "X-Y", _BASE)

SHAPES = (
    Shape("okx flat", *_SWAP, _okx),
    Shape("okx flat compact", *_SWAP, _okx),
    Shape("okx counted compact", *_SWAP, _okx_counted),
    Shape("okx envelope compact", *_SWAP, _okx_envelope),
    Shape("okx pair", *_SWAP, _okx_pair),
    Shape("okx null data", *_SWAP, _okx_null_data),
    Shape("okx collector compact", *_SWAP, _collector),
    Shape("binance trade compact", *_USDT, _binance_trade),
    Shape("binance aggTrade", *_USDT, _binance_aggregate),
    Shape("binance envelope compact", *_USDT, _binance_envelope),
    Shape("coinbase match", *_COINBASE, _coinbase_match),
    Shape("coinbase market compact", *_COINBASE, _coinbase_market),
    Shape("plain text", *_PLAIN, _plain_text),
    Shape("plain numbers compact", *_PLAIN, _plain_numbers),
    Shape("plain digits", *_PLAIN, _plain_digits),
)

# -- what goes wrong -------------------------------------------------------

NUMBERS = (
    *("0", "00", "007", "01.5", "0.0", "-0", "-1", "+1", "+1.5", "1.", ".5", ".", "", " ", " 1"),
    *("1 ", "1e3", "1E3", "1e-3", "1e+3", "1e999", "1e", "e1", "1_000", "1,5", "1.2.3", "1.-5"),
    *("0x10", "NaN", "nan", "Infinity", "inf", "-Infinity", "1e-12", "1e-13", "0.000000000001"),
    *("0.0000000000001", "1.0000000000000", "1.50000000000000000000", "999999999999999"),
    *("1000000000000000", "999999999999999.999999999999", "9223372036854775807"),
    *("9223372036854775808", "18446744073709551616", "99999999999999999999999999"),
    *("123456789012345678", "1234567890123456789", "0000000000000000001", "12345678901234567.8"),
    *("1.23456789012345678", "000000000000001.5", "1.0", "1.50", "100000000000000000000e-20"),
    *("1:", "1/2", "1;", "9:9", "1\t", "\u0661", "\uff11", "true", "false", "null", "None", "[]"),
    *("0.000000000000000001", "1e-18", "0.1234567890123456789", "1.00000000000000000000"),
    *("{}", '"1"', "1d", "1f", "(1)", "--1", "-", "+", "1-", "1+"),
)
"""Texts put where a number stands, once as a JSON string and once bare."""

TIMES = (
    *("2024-03-06T12:00:00Z", "2024-03-06T12:00:00.1Z", "2024-03-06T12:00:00.12Z"),
    *("2024-03-06T12:00:00.1234Z", "2024-03-06T12:00:00.12345Z", "2024-03-06T12:00:00.123456Z"),
    *("2024-03-06T12:00:00.1234567Z", "2024-03-06T12:00:00.999999999Z", "2024-03-06T12:00:00.Z"),
    *("2024-03-06T23:59:60Z", "2024-03-06T23:59:60.5Z", "2024-03-06T24:00:00Z"),
    *("2024-03-06T25:00:00Z", "2024-03-06T12:60:00Z", "2024-03-06T12:00:61Z"),
    *("2024-03-06T12:00:00", "2024-03-06T12:00:00.5", "2024-03-06 12:00:00Z"),
    *("2024-03-06 12:00:00.5Z", "2024-03-06t12:00:00Z", "2024-03-06T12:00:00z"),
    *("2024-03-06T12:00:00+00:00", "2024-03-06T12:00:00+0000", "2024-03-06T12:00:00-05:30"),
    *("2024-03-06T12:00:00+25:00", "2024-03-06T12:00:00+00", "2024-03-06T12:00:00 Z"),
    *("2024-3-06T12:00:00Z", "2024-03-6T12:00:00Z", "2024-3-6T12:00:00.12Z"),
    *("2024-03-06T1:00:00.1Z", "2024-03-06T12:0:00.1Z", "2024-03-06T12:00:0.12Z"),
    *(" 2024-03-06T12:00:00Z", "2024-03-06T12:00:00Z ", "2024- 3-06T12:00:00Z"),
    *("2024-03-06T 2:00:00Z", "2024-03-06T12: 0:00.1Z", "+2024-03-06T12:00:00Z"),
    *("-2024-03-06T12:00:00Z", "02024-03-06T12:00:00Z", "12024-03-06T12:00:00Z"),
    *("2024-02-29T12:00:00Z", "2023-02-29T12:00:00Z", "2024-02-30T12:00:00Z"),
    *("2024-00-06T12:00:00Z", "2024-13-06T12:00:00Z", "2024-03-00T12:00:00Z"),
    *("2024-03-32T12:00:00Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"),
    *("1970-01-01T00:00:00.000001Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
    *("0000-01-01T00:00:00Z", "1000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    *("2024-03-06T12:00:00,5Z", "2024-03-06T12:00:00.5.5Z", "2024-03-06T12:00:00.+5Z"),
    *("2024-03-06T12:00:00.-5Z", "2024-03-06T12:00:00. 5Z", "2024-03-06T12:00:00.5 Z"),
    *("2024-03-06T12:00:00.1e2Z", "2024-03-06T12:00:00.\u0661Z", "2024-03-06T12.00.00Z"),
    *("20240306T120000Z", "2024-066T12:00:00Z", "2024-W10-3T12:00:00Z", "2024-03-06"),
    *("2024-03-06T12:00Z", "2024-03-06T12Z", "1709683200000", "1709683200000.5"),
    *("1709683200000.123", "1709683200000.000", "1709683200000.12a", "170968320000.1234"),
    *("17096832000000", "170968320000", "0000000000001", "1e12", "1.7e12", "-1709683200000"),
    *("+1709683200000", "+170968320000", "01709683200000", "1709683200000000"),
    *("253402300799999", "253402300800000", "9999999999999999999", "99999999999999999999"),
    *("0", "1", "0.001", "0.0001", "", " ", "now", "null", "true", "\u0661709683200000"),
)
"""Texts put where a time stands."""

WORDS = (
    *("buy", "sell", "BUY", "Sell", "BUY ", " buy", "", "b", "true", "false", "null", "0", "1"),
    *("maker", "buys", "linear", "inverse", "LINEAR", "BTC-USDT-SWAP", "btc-usdt-swap"),
    *("BTCUSDT", "BTC-USD", "X-Y", "match", "last_match", "trade", "aggTrade", "update"),
    *("b\\u0075y", "bu\\/y", "\u00e9", "\u20ac", "\\ud800", "a\\nb", "\\u0000"),
)
"""Texts put where a word stands."""

JUNK = (
    b'"""\\\\{}[]:,,,::0123456789eE+-..  tfnab\t\r\x00\x01\x0b\x0c\x1f\x7f\x80\xc3\xa9\xe2\xff/_;\''
)
"""Bytes that mean something to a parser."""

WHOLE_LINES = (
    *(b"", b" ", b"\r", b"\t", b"\x0b", b"\x00", b"{}", b"[]", b"null", b"7", b'"x"', b"{", b"}"),
    *(b"\xef\xbb\xbf", b"\xef\xbb\xbf{}", b"\xff\xfe", b"[{}]", b'{"data":[]}', b'{"data":null}'),
    *(b'{"data":{}}', b'{"data":[null]}', b'{"data":7}', b'{"events":[]}', b'{"events":[{}]}'),
    *(b'{"events":null}', b'{"events":[{"trades":[]}]}', b"#comment", b"\\", b'"', b'""', b"\r\r"),
    *(b"{" * 2000, b"[" * 2000, b'{"a":' * 1500, b"NaN", b"1" * 400),
)
"""Lines that are no records at all."""


def mutate(rng: random.Random, line: bytes) -> bytes:
    """A line with one to three small accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        line = _accident(rng, line)
    return line


def _accident(rng: random.Random, line: bytes) -> bytes:
    at = rng.randrange(len(line) + 1)
    end = min(len(line), at + rng.randrange(1, 12))
    junk = bytes(rng.choices(JUNK, k=rng.choice((1, 1, 1, 2, 5))))
    quotes = [i for i, byte in enumerate(line) if byte == ord('"')] or [at]
    quote = rng.choice(quotes)
    flipped = bytes(byte ^ (1 << rng.randrange(8)) for byte in line[at : at + 1])
    return rng.choice(
        (
            line[:at] + junk + line[at:],
            line[:at] + junk[:1] + line[at + 1 :],
            line[:at] + flipped + line[at + 1 :],
            line[:at] + line[at + 1 :],
            line[:at] + line[at:end] + line[at:end] + line[end:],
            line[:at],
            line + line[at:],
            line[:quote] + line[quote + 1 :],
            line[:quote] + junk[:1] + line[quote:],
            rng.choice((line + junk, junk + line, line + b'"', line + b'""', b" " + line)),
        )
    )


def replaced(rng: random.Random, record: Record) -> bytes:
    """A record with one value replaced by a text that looks almost right, quoted or bare."""
    places = list(_places(record))
    holder, key = rng.choice(places)
    old, marker = holder[key], "\x01here\x01"
    texts: tuple[str, ...] = TIMES if key in ("ts", "T", "E", "time", "timestamp_utc") else NUMBERS
    if isinstance(old, str) and not old[:1].isdigit():
        texts = WORDS
    text = rng.choice((*texts, *rng.sample((*NUMBERS, *TIMES, *WORDS), 3)))
    holder[key] = marker
    line = json.dumps(record, ensure_ascii=False)
    quoted = json.dumps(marker)
    new = rng.choice((f'"{text}"', f'"{text}"', text if text.strip() else '""'))
    holder[key] = old
    if rng.random() < 0.1:
        new = f'{json.dumps(old)},"{key}":{new}'  # the key twice: JSON's last one counts
    return line.replace(quoted, new).encode("utf-8", "surrogatepass").replace(b"\n", b" ")


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            found += _places(inner)
            found.append((value, key))
        else:
            found += [(value, key)] * 4
    return found
