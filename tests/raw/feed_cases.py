"""Valid book and quote lines of every format, and the accidents that happen to lines."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pipeline.sim.lines import BookLines

from .records import FIRST_MS, Record, iso

SWAP, USDT, USD = "BTC-USDT-SWAP", "BTCUSDT", "BTC-USD"
PRICES = ("61800.30", "61800.3", "99.9", "7", "0.00000012", "101250.50", "1.000")
SIZES = ("0", "0.000", "0.00000000", "1", "12.500", "0.01", "606.675", "45")


@dataclass(frozen=True)
class Case:
    """One layout: its folder, and how to write its i-th record."""

    name: str
    exchange: str
    inst_id: str
    record: Callable[[random.Random, int], Record]

    def line(self, rng: random.Random, number: int) -> bytes:
        """One valid line without its end, compact or spaced."""
        separators = rng.choice(((",", ":"), (",", ":"), (", ", ": ")))
        return json.dumps(self.record(rng, number), separators=separators).encode()


def _price(rng: random.Random) -> Any:
    return rng.choice(PRICES)


def _levels(rng: random.Random, *more: str, number: bool = False) -> list[list[Any]]:
    count = rng.choice((0, 1, 2, 3, 8))
    if number:
        return [
            [rng.choice((61800.3, 99.9, 7, 1.0)), rng.choice((0, 1, 1.5, 0.25))]
            for _ in range(count)
        ]
    return [[_price(rng), rng.choice(SIZES), *more] for _ in range(count)]


def _depth(rng: random.Random, n: int) -> Record:
    ms = FIRST_MS + n
    head = {"e": "depthUpdate", "E": ms + 1, "T": ms, "s": USDT, "U": n, "u": n + 3, "pu": n - 1}
    return head | {"b": _levels(rng), "a": _levels(rng)}


def _depth_spot(rng: random.Random, n: int) -> Record:
    data = _depth(rng, n)
    del data["T"], data["pu"]
    return {"stream": "btcusdt@depth@100ms", "data": data}


def _rest(rng: random.Random, n: int) -> Record:
    timed = rng.random() < 0.5
    head = {"lastUpdateId": n} | ({"E": FIRST_MS + n, "T": FIRST_MS + n - 1} if timed else {})
    return head | {"bids": _levels(rng), "asks": _levels(rng)}


def _okx(rng: random.Random, n: int) -> Record:
    is_snapshot = rng.random() < 0.3
    data: Record = {"asks": _levels(rng, "0", "13"), "bids": _levels(rng, "0", "1")}
    data |= {"ts": str(FIRST_MS + n), "checksum": -855196043}
    if rng.random() < 0.7:
        data |= {"prevSeqId": -1 if is_snapshot else n - 1, "seqId": n}
    channel = rng.choice(("books", "books-l2-tbt", "books50-l2-tbt"))
    action = "snapshot" if is_snapshot else "update"
    return {"arg": {"channel": channel, "instId": SWAP}, "action": action, "data": [data]}


def _okx_pair(rng: random.Random, n: int) -> Record:
    record = _okx(rng, 2 * n)
    record["data"] += _okx(rng, 2 * n + 1)["data"]
    return record


def _okx_top(rng: random.Random, n: int) -> Record:
    record = _okx(rng, n)
    del record["action"]
    record["arg"]["channel"] = rng.choice(("books5", "bbo-tbt"))
    return record


def _okx_flat(rng: random.Random, n: int) -> Record:
    record = {"instId": SWAP, "bids": _levels(rng), "asks": _levels(rng), "seqId": str(n)}
    return record | rng.choice(({"ts": FIRST_MS + n}, {"timestamp_utc": iso(FIRST_MS + n)}))


def _l2update(rng: random.Random, n: int) -> Record:
    changes = [[rng.choice(("buy", "sell")), *level] for level in _levels(rng)]
    time = iso(FIRST_MS + n, rng.choice((0, 3, 6)))
    return {"type": "l2update", "product_id": USD, "changes": changes, "time": time}


def _coinbase_snapshot(rng: random.Random, n: int) -> Record:
    time = {"time": iso(FIRST_MS + n)} if rng.random() < 0.5 else {}
    book = {"asks": _levels(rng), "bids": _levels(rng)}
    return {"type": "snapshot", "product_id": USD, **book, **time}


def _plain(rng: random.Random, n: int) -> Record:
    ts = rng.choice((FIRST_MS + n, str(FIRST_MS + n), iso(FIRST_MS + n, 6)))
    book = {"bids": _levels(rng, number=True), "asks": _levels(rng)}
    return {"ts": ts, **book, **rng.choice(({}, {"type": "snapshot"}, {"instId": "X-Y"}))}


BOOKS = (
    Case("binance depth", "binance", USDT, _depth),
    Case("binance spot depth", "binance", USDT, _depth_spot),
    Case("binance rest", "binance", USDT, _rest),
    Case("okx books", "okx", SWAP, _okx),
    Case("okx two records", "okx", SWAP, _okx_pair),
    Case("okx books5", "sim", SWAP, _okx_top),
    Case("okx flat", "okx", SWAP, _okx_flat),
    Case("coinbase l2update", "coinbase", USD, _l2update),
    Case("coinbase snapshot", "coinbase", USD, _coinbase_snapshot),
    Case("plain", "elsewhere", "X-Y", _plain),
)


def _size(rng: random.Random) -> str:
    return rng.choice([size for size in SIZES if float(size)])


def _ticker(rng: random.Random, n: int) -> Record:
    head = {"e": "bookTicker", "u": n, "s": USDT, "b": _price(rng), "B": _size(rng)}
    return head | {"a": _price(rng), "A": _size(rng), "T": FIRST_MS + n, "E": FIRST_MS + n}


def _ticker_spot(rng: random.Random, n: int) -> Record:
    record = _ticker(rng, n)
    for key in "eTE":
        del record[key]
    return {"stream": "btcusdt@bookTicker", "data": record}


def _bbo(rng: random.Random, n: int) -> Record:
    sides = {key: [[_price(rng), _size(rng), "0", "2"]] for key in ("asks", "bids")}
    data = {**sides, "ts": str(FIRST_MS + n), "seqId": n}
    return {"arg": {"channel": "bbo-tbt", "instId": SWAP}, "data": [data]}


def _okx_ticker(rng: random.Random, n: int) -> Record:
    data = {"instType": "SWAP", "instId": SWAP, "last": "5.1", "askPx": _price(rng)}
    data |= {"askSz": _size(rng), "bidPx": _price(rng), "bidSz": _size(rng)}
    data |= {"open24h": "4.799", "vol24h": "289425", "ts": str(FIRST_MS + n)}
    return {"arg": {"channel": "tickers", "instId": SWAP}, "data": [data]}


def _coinbase_ticker(rng: random.Random, n: int) -> Record:
    record = {"type": "ticker", "sequence": n, "product_id": USD, "price": "1"}
    record |= {"best_bid": _price(rng), "best_ask": _price(rng), "time": iso(FIRST_MS + n, 6)}
    if rng.random() < 0.5:
        record |= {"best_bid_size": _size(rng), "best_ask_size": _size(rng)}
    return record


def _plain_quote(rng: random.Random, n: int) -> Record:
    ts = rng.choice((FIRST_MS + n, str(FIRST_MS + n), iso(FIRST_MS + n, 6)))
    sizes = {"bid_size": rng.choice((1, 1.5, "2.50")), "ask_size": _size(rng)}
    return {"ts": ts, "bid": rng.choice((7, 7.25, "7.5")), "ask": _price(rng), **sizes}


def _tape_quote(rng: random.Random, n: int) -> Record:
    ts = rng.choice((FIRST_MS + n, iso(FIRST_MS + n), iso(FIRST_MS + n)))
    record: Record = {"ts": ts, "seq": n, "bid": rng.choice((49.03, 49, 0, 0.0, None, 50.5))}
    record |= {"bid_size": rng.choice((100, 0, 7)), "ask": rng.choice((49.08, 0, 51, "51.00"))}
    record |= {"ask_size": rng.choice((1, 2, 0, "3"))}
    if rng.random() < 0.1:
        del record["bid"]
    return record


QUOTES = (
    Case("binance bookTicker", "binance", USDT, _ticker),
    Case("binance spot bookTicker", "binance", USDT, _ticker_spot),
    Case("okx bbo-tbt", "okx", SWAP, _bbo),
    Case("okx tickers", "okx", SWAP, _okx_ticker),
    Case("coinbase ticker", "coinbase", USD, _coinbase_ticker),
    Case("plain", "elsewhere", "X-Y", _plain_quote),
    Case("tape", "taq", "AIG", _tape_quote),
)


def simulated(rng: random.Random, count: int) -> tuple[list[bytes], list[bytes]]:
    """The simulator's own book and quote lines of some events."""
    facts: Any = SimpleNamespace(inst_id=SWAP, price_text=lambda ticks: f"{ticks / 10:.1f}")
    lines = BookLines(facts, FIRST_MS)
    books, quotes = [], []
    for n in range(count):
        sides = [
            {rng.randrange(1, 9) + at: rng.randrange(5000) for _ in range(5)} for at in (0, 10)
        ]
        top = (rng.randrange(1, 9), 1 + n, rng.randrange(10, 19), 250)
        event: Any = SimpleNamespace(
            bids=sides[0],
            asks=sides[1],
            prev_seq_id=n - 1,
            seq_id=n,
            time_ms=7 * n,
            top=top,
        )
        books.append(lines.book(event).encode().removesuffix(b"\n"))
        quotes.append(lines.quote(event).encode().removesuffix(b"\n"))
    return books, quotes


def accidents(rng: random.Random, line: bytes) -> Iterator[bytes]:
    """A line with each kind of accident that files and writers have."""
    at = rng.randrange(len(line))
    for odd in (
        b"\x00",
        b"\xef\xbb\xbf",
        b"\xff",
        b"\xc3",
        b"\xc3\xa9",
        b"\x7f",
        b"\t",
        b" ",
        b"\r",
    ):
        yield line[:at] + odd + line[at:]
        yield odd + line
        yield line + odd
    yield line[:at]
    yield line + line
    yield line + b"," + line
    yield line.replace(b'"', b"'", 2)
    yield line.replace(b":", b" : ").replace(b",", b"\t, ")
    yield line.replace(b"s", b"\\u0073", 1)
    yield line.replace(b"{", b'{"x":{"y":[1,{"z":[[["a",-0.5e3]]]}]},', 1)
    yield line.replace(b"{", b'{"x":' + b"[" * 40 + b"]" * 40 + b",", 1)
    for key in (b"asks", b"ts", b"data", b"b", b"u", b"arg", b"type", b"bid", b"time", b"instId"):
        yield line.replace(b"{", b'{"' + key + b'":null,', 1)
        yield line.replace(b"{", b'{"' + key + b'":[],', 1)
        yield line[:-1] + b',"' + key + b'":{"u":7}}'
        yield line[:-1] + b',"' + key + b'":"X"}'
