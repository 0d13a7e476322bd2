"""Seeded book and quote feeds around the trades of a stock, with all that goes wrong in them.

A true book walks; its updates, snapshots and best levels are written in the format of the
instrument's exchange. Lost updates, repeated ones, late ones, wrong clocks, snapshots that come
late or without a time, heartbeats, silences and garbage are strewn in.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipeline.instrument import EQUITIES, Instrument

from .context import KINDS as CONTEXT
from .context import add_context
from .feedstock import DIRT, Line, Mix, Stock, day_of, make
from .tape import make_tape
from .world import kind_of, sizes

MARKET = ("trades", "books", "quotes")
KINDS = (*MARKET, *CONTEXT)
AWAITED = tuple(kind for kind in KINDS if kind != "positions")
"""The inventory is taken as it is known when a quote is made; nothing waits for it."""
_SHOWN = 14
_BOTTOM, _TOP = 9_500, 10_500

Sizes = dict[int, str]
"""Size by hundredths of price."""
Levels = list[list[str]]


def make_all(
    instrument: Instrument,
    seed: int,
    trades: int,
    mix: Mix | None = None,
    kinds: tuple[str, ...] = KINDS,
) -> Stock:
    """A stock of trades, and books and quotes of the same hours; only some kinds are kept."""
    if instrument.market == EQUITIES:
        stock = make_tape(seed, trades, mix)
    else:
        stock = make(instrument, seed, trades, mix)
        _Collector(stock, seed, mix or Mix()).collect()
        add_context(stock, seed, mix or Mix(), kinds)
    if "trades" not in kinds:
        stock.days.clear()
    stock.others = {kind: days for kind, days in stock.others.items() if kind in kinds}
    return stock


@dataclass
class _Book:
    """A true book around 100."""

    rng: random.Random
    factor: int
    bids: Sizes = field(default_factory=dict)
    asks: Sizes = field(default_factory=dict)
    mid: int = 10_000
    seq: int = 5_000

    def __post_init__(self) -> None:
        for i in range(1, 25):
            self.bids[self.mid - 2 * i], self.asks[self.mid + 2 * i] = self.size(), self.size()

    def size(self) -> str:
        """Mostly small; a wall at times, and at times a size with more decimals than any yet."""
        steps = self.rng.choice((1, 25, 900, 901, 900_000)) * 10**6
        if self.rng.random() < 0.02:
            steps += self.rng.randrange(1, 10**6)
        steps *= self.factor
        return f"{steps // 10**6}.{steps % 10**6:06d}".rstrip("0").ljust(3, "0")

    def step(self) -> tuple[Sizes, Sizes, int]:
        """Move on: what changes on both sides, and the id before."""
        rng, before = self.rng, self.seq
        self.seq += rng.randrange(1, 4)
        self.mid = min(max(self.mid + rng.choice((-2, -1, 0, 0, 1, 2)), _BOTTOM), _TOP)
        bids: Sizes = dict.fromkeys((p for p in self.bids if p >= self.mid), "0")
        asks: Sizes = dict.fromkeys((p for p in self.asks if p <= self.mid), "0.00")
        for _ in range(rng.randrange(3)):
            bids[self.mid - rng.randrange(1, 90)] = rng.choice((self.size(), self.size(), "0"))
            asks[self.mid + rng.randrange(1, 90)] = rng.choice((self.size(), self.size(), "0"))
        if rng.random() < 0.01:  # crossed
            asks[self.mid - 1] = self.size()
        if rng.random() < 0.01:  # a side is gone
            bids |= dict.fromkeys((*self.bids, *bids), "0")
        elif len(self.bids) < 5:
            bids |= {self.mid - 3 * i: self.size() for i in range(1, 9)}
        for book, changes in ((self.bids, bids), (self.asks, asks)):
            book.update(changes)
            for price in [price for price, size in book.items() if not float(size)]:
                del book[price]
        return bids, asks, before

    def best(self) -> tuple[str, str, str, str] | None:
        """The true quote."""
        if not self.bids or not self.asks:
            return None
        bid, ask = max(self.bids), min(self.asks)
        return price_text(bid), self.bids[bid], price_text(ask), self.asks[ask]

    def shown(self) -> tuple[Levels, Levels]:
        """What a snapshot holds."""
        bids, asks = sorted(self.bids)[-_SHOWN:], sorted(self.asks)[:_SHOWN]
        return levels({p: self.bids[p] for p in bids}), levels({p: self.asks[p] for p in asks})


def price_text(hundredths: int) -> str:
    """A price as a feed writes it, without zeros at the end."""
    return f"{hundredths / 100:g}"


def levels(sizes: Sizes) -> Levels:
    """Levels as a feed writes them."""
    return [[price_text(price), size] for price, size in sizes.items()]


def iso(ts: int) -> str:
    """ISO 8601."""
    return datetime.fromtimestamp(ts / 1000, UTC).isoformat().replace("+00:00", "Z")


class _Collector:
    """Writes books and quotes beside the trades."""

    def __init__(self, stock: Stock, seed: int, mix: Mix) -> None:
        self.stock, self.mix, self.seed = stock, mix, seed
        self.rng = random.Random(f"books/{stock.instrument.key}/{seed}")
        self.book = _Book(self.rng, mix.size_factor)
        self.is_silent = 0

    def collect(self) -> None:
        """Follow the clock of the trades."""
        stamps = [line.ts for line in self.stock.lines() if line.kind == "trade"]
        clock = stamps[0]
        if self.stock.instrument.exchange != "binance":
            self.put("books", self.snapshot(clock), clock)
        for number, ts in enumerate(stamps):
            clock = max(clock, ts)
            if self.rng.random() < 0.01:
                self.is_silent = 12
            if self.is_silent:
                self.is_silent -= 1
                continue
            for _ in range(self.rng.randrange(1, 4)):
                self.update(clock)
                self.quote(clock)
                clock += self.rng.randrange(60)
            if number == 1 or self.rng.random() < 0.03:
                self.put("books", self.snapshot(clock), clock)

    def put(self, kind: str, data: bytes, clock: int, name: str = "") -> None:
        """Write a line into the day of the collector's clock."""
        day = self.stock.others.setdefault(kind, {}).setdefault(day_of(clock - 2000), [])
        end = b"\r\n" if self.rng.random() < self.mix.carriage else b"\n"
        day.append(Line(data + end, name or kind, clock))

    # -- books

    def update(self, clock: int) -> None:
        """One update with its accidents."""
        rng, mix = self.rng, self.mix
        bids, asks, before = self.book.step()
        data = self.update_line(bids, asks, before, clock)
        if rng.random() < mix.gap / 2:
            return
        if rng.random() < mix.future:
            self.put("books", self.update_line(bids, asks, before, clock + 3_600_000), clock)
            if rng.random() < 0.5:  # untimed, where the feed has such: it waits behind it
                self.put("books", self.snapshot(clock), clock)
            return
        if rng.random() < mix.late:
            data = self.update_line(bids, asks, before, clock - rng.randrange(90_000))
        self.put("books", data, clock)
        if rng.random() < mix.duplicate:
            self.put("books", data, clock)
        if rng.random() < mix.dirt:
            cut = data[: rng.randrange(1, len(data))]
            self.put("books", rng.choice((*DIRT, cut, data * 2)), clock, "dirt")
        if rng.random() < 0.02 and self.stock.instrument.exchange == "okx":
            self.put(
                "books", self.okx("update", [], [], self.book.seq, self.book.seq, clock), clock
            )

    def update_line(self, bids: Sizes, asks: Sizes, before: int, ts: int) -> bytes:
        """In the exchange's format."""
        instrument, seq = self.stock.instrument, self.book.seq
        row: dict[str, Any]
        if instrument.exchange == "okx":
            return self.okx("update", levels(bids), levels(asks), seq, before, ts)
        if instrument.exchange == "binance":
            row = {"e": "depthUpdate", "E": ts, "s": instrument.inst_id, "U": before + 1, "u": seq}
            row |= {"b": levels(bids), "a": levels(asks)}
        elif instrument.exchange == "coinbase":
            changes = [["buy", *level] for level in levels(bids)]
            changes += [["sell", *level] for level in levels(asks)]
            row = {"type": "l2update", "product_id": instrument.inst_id, "changes": changes}
            row |= {"time": iso(ts)}
        else:
            shown = self.book.shown()
            row = {"ts": ts, "bids": shown[0], "asks": shown[1]}
        return text(row)

    def okx(self, action: str, bids: Levels, asks: Levels, last: int, prev: int, ts: int) -> bytes:
        """A frame of `books`."""
        entry = {"asks": asks, "bids": bids, "ts": str(ts), "prevSeqId": prev, "seqId": last}
        arg = {"channel": "books", "instId": self.stock.instrument.inst_id}
        return text({"arg": arg, "action": action, "data": [entry]})

    def snapshot(self, ts: int) -> bytes:
        """The whole book; without a time where the exchange tells none."""
        instrument, (bids, asks) = self.stock.instrument, self.book.shown()
        if instrument.exchange == "okx":
            return self.okx("snapshot", bids, asks, self.book.seq, -1, ts)
        if instrument.exchange == "binance":
            return text({"lastUpdateId": self.book.seq, "bids": bids, "asks": asks})
        if instrument.exchange == "coinbase":
            head = {"type": "snapshot", "product_id": instrument.inst_id}
            return text(head | {"bids": bids, "asks": asks})
        return text({"ts": ts, "bids": bids, "asks": asks})

    # -- quotes

    def quote(self, clock: int) -> None:
        """At times the best levels, with accidents."""
        rng, best = self.rng, self.book.best()
        if best is None or rng.random() < 0.2:
            return
        ts, luck = clock, rng.random()
        if luck < self.mix.late:
            ts -= rng.randrange(70_000)
        elif luck < self.mix.late + self.mix.future:
            ts += rng.randrange(290_000, 900_000)
        data = self.quote_line(best, ts)
        self.put("quotes", data, clock)
        if rng.random() < self.mix.dirt:
            cut = data[: rng.randrange(1, len(data))]
            self.put("quotes", rng.choice((*DIRT, cut, data * 2)), clock, "dirt")

    def quote_line(self, best: tuple[str, str, str, str], ts: int) -> bytes:
        """In the exchange's format; OKX's are tickers with every third seed."""
        instrument, (bid, bid_size, ask, ask_size) = self.stock.instrument, best
        last = self.book.seq - self.rng.randrange(3)
        row: dict[str, Any]
        if instrument.exchange == "okx":
            is_ticker = self.seed % 3 == 0
            entry: dict[str, Any] = {"bids": [[bid, bid_size]], "asks": [[ask, ask_size]]}
            if is_ticker:
                entry = {"bidPx": bid, "bidSz": bid_size, "askPx": ask, "askSz": ask_size}
            channel = "tickers" if is_ticker else "bbo-tbt"
            arg = {"channel": channel, "instId": instrument.inst_id}
            row = {"arg": arg, "data": [entry | {"ts": str(ts)}]}
        elif instrument.exchange == "binance":
            row = {"u": last, "s": instrument.inst_id, "b": bid, "B": bid_size}
            row |= {"a": ask, "A": ask_size}
        elif instrument.exchange == "coinbase":
            row = {"type": "ticker", "product_id": instrument.inst_id, "time": iso(ts)}
            row |= {"best_bid": bid, "best_ask": ask}
        else:
            row = {"ts": ts, "bid": bid, "bid_size": bid_size, "ask": ask, "ask_size": ask_size}
        return text(row)


def text(row: dict[str, Any]) -> bytes:
    """A line without its end."""
    return json.dumps(row, separators=(",", ":")).encode()


def stock_of(
    seed: int, instrument: Instrument, trades: int = 80, kinds: tuple[str, ...] = AWAITED
) -> Stock:
    """Two days with all accidents; every other first day of a feed ends in a torn line."""
    mix = Mix(dirt=0.06, late=0.06, duplicate=0.06, future=0.02)
    stock = make_all(instrument, seed, trades, mix, kinds)
    for kind in sizes(stock.content()):
        names = sorted(name for name in stock.files() if kind_of(name) == kind)
        if (seed + len(kind)) % 2 and len(names) > 1:
            stock.torn[names[0]] = b'{"instId":"BTC-USDT-SWAP","tradeId":"77"'
    return stock
