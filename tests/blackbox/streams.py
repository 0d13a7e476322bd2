"""Seeded two-day streams of trades with everything in them that real ones have."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tests.oracle.raw import Instrument

from .vaults import okx_line, plain_line

DAYS = ("2024-03-05", "2024-03-06")
MIDNIGHT = datetime(2024, 3, 6, tzinfo=UTC)


@dataclass
class Walk:
    """A random walk of price and time; ids count up with a skip now and then."""

    rng: random.Random
    cents: int = 5_000_000
    number: int = 1_000_000
    ts: int = 0

    def step(self, ts: int) -> None:
        """Move on to a time."""
        self.ts = ts
        self.number += 1 if self.rng.random() > 0.01 else self.rng.randrange(2, 9)
        self.cents = max(100, self.cents + self.rng.randrange(-4000, 4001))

    @property
    def price(self) -> str:
        """The price as an exchange would write it."""
        return f"{self.cents / 100:.2f}"


def two_days(instrument: Instrument, seed: int, trades: int) -> dict[str, bytes]:
    """Day file contents around a midnight: `trades` trades and about two per cent of dirt.

    The first file ends with trades stamped after midnight, as a collector's may.
    """
    rng = random.Random(seed)
    walk = Walk(rng)
    start = int((MIDNIGHT - timedelta(minutes=70)).timestamp() * 1000)
    contents = {day: bytearray() for day in DAYS}
    stamps = sorted(start + rng.randrange(140 * 60_000) for _ in range(trades))
    cut = int(MIDNIGHT.timestamp() * 1000) + 2500
    recent: list[bytes] = []
    for stamp in stamps:
        walk.step(stamp - rng.choice((0, 0, 0, rng.randrange(1500))))
        line = trade_line(instrument, walk, walk.number, walk.ts)
        recent = [*recent[-50:], line]
        day = DAYS[0] if stamp < cut else DAYS[1]
        contents[day] += line + b"".join(disturbance(instrument, walk, recent))
    return {day: bytes(content) for day, content in contents.items()}


def disturbance(instrument: Instrument, walk: Walk, recent: list[bytes]) -> Iterator[bytes]:
    """Mostly nothing; else a duplicate, a late or far-ahead trade, garbage or a blank line."""
    rng = walk.rng
    if rng.random() > 0.04:
        return
    kind = rng.randrange(6)
    if kind == 0:
        yield rng.choice(recent)
    elif kind == 1:
        yield trade_line(instrument, walk, walk.number - 100_000, walk.ts - 240_000)
    elif kind == 2:
        yield trade_line(instrument, walk, walk.number + 700_000, walk.ts + 3_600_000)
    elif kind == 3:
        yield recent[-1][: rng.randrange(1, 40)] + b"\n"
    elif kind == 4:
        yield rng.choice((b"\n", b"  \r\n", b"\xff\xfe\n", "\N{EURO SIGN} caf\u00e9\n".encode()))
    else:
        yield recent[-1].rstrip() + recent[-1].rstrip() + b"\r\n"


def trade_line(instrument: Instrument, walk: Walk, number: int, ts: int) -> bytes:
    """One good trade in the format the instrument's exchange writes."""
    rng = walk.rng
    side = rng.choice(("buy", "sell"))
    size = f"{rng.randrange(1, 10_000) / 1000:.3f}"
    if rng.random() < 0.02:
        size = f"{rng.randrange(100, 900)}.5"
    if instrument.exchange == "binance":
        row = {"e": "aggTrade", "E": ts, "s": instrument.inst_id, "a": number, "p": walk.price}
        row |= {"q": size, "f": number, "l": number, "T": ts, "m": side == "sell"}
        return json.dumps(row).encode() + b"\n"
    if instrument.exchange == "coinbase":
        time = datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="microseconds")
        row = {"type": "match", "trade_id": number, "side": side, "size": size}
        row |= {"price": walk.price, "product_id": instrument.inst_id}
        return json.dumps(row | {"time": time.replace("+00:00", "Z")}).encode() + b"\n"
    if instrument.exchange == "okx":
        return okx_line(instrument.inst_id, number, ts, walk.price, size, side)
    return plain_line(number, ts, walk.price, size, side)
