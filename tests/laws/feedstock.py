"""Seeded raw files with everything in them that a collector's files have.

Plain Python on purpose: nothing here knows how the pipeline decides. Lines know what they are, so
that a test can move late ones or leave the dirt out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.instrument import Instrument

MIDNIGHT_MS = int(datetime(2024, 3, 6, tzinfo=UTC).timestamp() * 1000)
MINUTE_MS = 60_000

SWAP = Instrument("okx", "perps", "BTC-USDT-SWAP")
INVERSE = Instrument("okx", "perps", "BTC-USD-SWAP")
PLAIN = Instrument("elsewhere", "spot", "ABC-XYZ")
UNTIMED = Instrument("binance", "spot", "BTCUSDT")
COIN = Instrument("coinbase", "spot", "BTC-USD")

PRICES = ("100", "100.5", "100.50", "100.500", "99.95", "101.0", "100.05", "99", "102.25")
DIRT = (
    *(b"", b"  ", b"not json", b'{"half":', b"\xff\xfe\x00", b"[1,2]", b'{"instId":"OTHER"}'),
    *(
        b"\x00" * 20,
        "\N{EURO SIGN} caf\u00e9".encode(),
        b'{"tradeId":"1","px":"NaN"}',
        b"\xef\xbb\xbf{}",
    ),
)


@dataclass(frozen=True)
class Line:
    """One raw line with its end, and what it was made as."""

    data: bytes
    kind: str = "trade"
    ts: int = 0
    number: int = 0


@dataclass
class Mix:
    """How often what occurs, per trade; whether late ones may be older than the first trade."""

    dirt: float = 0.03
    duplicate: float = 0.03
    late: float = 0.03
    future: float = 0.01
    gap: float = 0.02
    quiet: float = 0.01
    envelope: float = 0.15
    carriage: float = 0.1
    jitter: float = 0.3
    size_factor: int = 1
    before_first: bool = True


CLEAN = Mix(dirt=0, late=0, future=0, jitter=0)
"""Nothing that is refused or late: duplicates, gaps, quiet times, envelopes and CRLF remain."""


@dataclass
class Stock:
    """A collector's day files around a midnight, as lines.

    Attributes:
        days: trades.
        others: books and quotes by kind and day.
        torn: what a file ends in, by its name in `content`.
    """

    instrument: Instrument
    days: dict[str, list[Line]] = field(default_factory=dict)
    others: dict[str, dict[str, list[Line]]] = field(default_factory=dict)
    torn: dict[str, bytes] = field(default_factory=dict)

    def content(self) -> dict[str, bytes]:
        """The bytes of each day file: trades by day, others by "kind/day"."""
        return {
            name: b"".join(line.data for line in lines) + self.torn.get(name, b"")
            for name, lines in self.files().items()
        }

    def files(self) -> dict[str, list[Line]]:
        """The lines of each file by its name in `content`."""
        others = {
            f"{kind}/{day}": lines
            for kind, days in self.others.items()
            for day, lines in days.items()
        }
        return self.days | others

    def lines(self) -> list[Line]:
        """All lines of trades in file order."""
        return [line for lines in self.days.values() for line in lines]


def day_of(ms: int) -> str:
    """The UTC day of a time."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


def trade_line(
    instrument: Instrument,
    number: int,
    ts: int,
    price: str,
    size: str,
    side: str,
    *,
    wrap: bool = False,
) -> bytes:
    """One trade as the instrument's exchange writes it, without the line's end."""
    if instrument.exchange == "okx":
        row: dict[str, Any] = {"instId": instrument.inst_id, "tradeId": str(number)}
        row |= {"px": price, "sz": size}
        row |= {"side": side, "ts": str(ts)}
        whole = {"arg": {"channel": "trades"}, "data": [row]} if wrap else row
        return json.dumps(whole, separators=(",", ":")).encode()
    stamp = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ts)).isoformat()
    stamp = stamp.replace("+00:00", "Z")
    if instrument.exchange == "binance":
        row = {"e": "trade", "E": ts, "T": ts, "s": instrument.inst_id, "t": number}
        row |= {"p": price, "q": size, "m": side == "sell"}
        return json.dumps({"stream": "s", "data": row} if wrap else row).encode()
    if instrument.exchange == "coinbase":
        row = {"type": "match", "trade_id": number, "side": side, "size": size, "price": price}
        return json.dumps(row | {"product_id": instrument.inst_id, "time": stamp}).encode()
    time = stamp if wrap else ts
    return json.dumps(
        {"ts": time, "price": price, "size": size, "side": side, "id": number},
        separators=(",", ":"),
    ).encode()


def make(instrument: Instrument, seed: int, trades: int, mix: Mix | None = None) -> Stock:
    """A walk of trades from ten minutes before midnight on, in two or more day files."""
    mix = mix or Mix()
    rng = random.Random(f"{instrument.key}/{seed}")
    stock = Stock(instrument)
    number, arrival = 1_000_000, MIDNIGHT_MS - 10 * MINUTE_MS + rng.randrange(MINUTE_MS)
    step = 20 * MINUTE_MS // max(1, trades)
    sent: list[Line] = []
    while len(sent) < trades:
        number += rng.randrange(2, 6) if rng.random() < mix.gap else 1
        arrival += rng.randrange(2 * step + 1)
        if rng.random() < mix.quiet:
            arrival += rng.randrange(6, 20) * MINUTE_MS
        jitter = rng.randrange(1500) if rng.random() < mix.jitter else 0
        line = _trade(rng, stock, number, arrival - jitter, mix)
        sent.append(line)
        # a day file is named by the collector's clock, which runs two seconds late
        day = stock.days.setdefault(day_of(arrival - 2000), [])
        day.append(line)
        day.extend(_accidents(rng, stock, sent, mix))
    return stock


def _trade(rng: random.Random, stock: Stock, number: int, ts: int, mix: Mix) -> Line:
    price = rng.choice(PRICES)
    steps = rng.choice((1, 2500, 70_000, 1_234_500)) * mix.size_factor
    if rng.random() < 0.04:
        steps = 15_000_000 * mix.size_factor  # a whale
    side = rng.choice(("buy", "sell"))
    wrap = rng.random() < mix.envelope
    size = f"{steps // 100}.{steps % 100:02d}"
    data = trade_line(stock.instrument, number, ts, price, size, side, wrap=wrap)
    return Line(data + _end(rng, mix), "trade", ts, number)


def _end(rng: random.Random, mix: Mix) -> bytes:
    return b"\r\n" if rng.random() < mix.carriage else b"\n"


def _accidents(rng: random.Random, stock: Stock, sent: list[Line], mix: Mix) -> Iterable[Line]:
    newest = sent[-1]
    if rng.random() < mix.duplicate:
        yield Line(rng.choice(sent[-30:]).data, "duplicate")
    if rng.random() < mix.late:
        back = rng.randrange(60_000, 400_000)
        number = newest.number - 900_000  # never sent before, and no gap behind it
        late = _trade(rng, stock, number, newest.ts - back, mix)
        if mix.before_first or late.ts // MINUTE_MS >= sent[0].ts // MINUTE_MS:
            yield Line(late.data, "late", late.ts, number)
    if rng.random() < mix.future:
        ahead = newest.ts + rng.randrange(301_000, 9_000_000)
        yield Line(_trade(rng, stock, newest.number + 500_000, ahead, mix).data, "future", ahead)
    if rng.random() < mix.dirt:
        body = rng.choice(
            (*DIRT, newest.data.strip()[: rng.randrange(1, 60)], newest.data.strip() * 2)
        )
        yield Line(body + _end(rng, mix), "dirt")


def in_their_minutes(lines: list[Line]) -> list[Line]:
    """The lines of a stock without dirt as if nothing had come late.

    A late line stands just before the line that closed its minute; several of one minute in the
    order of the file. One trade at a time, by hand.
    """
    on_time: list[tuple[int, Line]] = []
    late: list[Line] = []
    clock = 0
    for line in lines:
        if line.kind != "duplicate" and line.ts // MINUTE_MS * MINUTE_MS + MINUTE_MS <= clock:
            late.append(line)
            continue
        if line.kind != "duplicate":
            clock = max(clock, line.ts)
        on_time.append((clock, line))
    out: list[Line] = []
    before = 0
    for now, line in on_time:
        due = [
            each for each in late if before < each.ts // MINUTE_MS * MINUTE_MS + MINUTE_MS <= now
        ]
        out += sorted(due, key=lambda each: each.ts // MINUTE_MS)
        out.append(line)
        before = now
    return out


LATE_ONLY = Mix(dirt=0, future=0, jitter=0, quiet=0, late=0.2, before_first=False)
"""Many late trades whose ids lie far below all others, so that no gap depends on them."""
