"""Plain readers of simulated files; they share no code with the simulator."""

from __future__ import annotations

import datetime as dt
import statistics
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INST_ID = "BTC-USDT-SWAP"
DAY = dt.date(2025, 1, 6)
CONTRACT = Decimal("0.01")
FULL_DAY: dict[str, Any] = {"start": DAY, "speed": 1.0, "book_ms": 5000}

Row = dict[str, Any]


def path_of(vault: Path, kind: str, day: dt.date = DAY, inst_id: str = INST_ID) -> Path:
    """Return where a kind of file of one day is."""
    return vault / "raw" / "sim" / f"{kind}_perps" / inst_id / f"{day}.jsonl"


def rows_of(path: Path) -> list[Row]:
    """Return a file's objects."""
    return list(each_row(path))


def each_row(path: Path) -> Iterator[Row]:
    """Yield a file's objects; a day of books held at once is slow to collect."""
    decode = msgspec.json.Decoder().decode
    with path.open("rb") as lines:
        for line in lines:
            yield decode(line)


def to_ms(text: str) -> int:
    """Return a truth time as ms since the epoch."""
    time = dt.datetime.fromisoformat(text)
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade; notional in quote currency, exact."""

    trade_id: int
    ts: int
    price: Decimal
    notional: Decimal
    is_buy: bool

    @property
    def signed(self) -> Decimal:
        """Notional, negative where the taker sold."""
        return self.notional if self.is_buy else -self.notional


def trades_of(path: Path) -> list[Trade]:
    """Return a file's trades."""
    trades = []
    for row in each_row(path):
        price = Decimal(row["px"])
        notional = price * Decimal(row["sz"]) * CONTRACT
        trades.append(
            Trade(int(row["tradeId"]), int(row["ts"]), price, notional, row["side"] == "buy")
        )
    return trades


@dataclass(slots=True)
class Standing:
    """What a rebuilt book showed at one price."""

    first_ts: int | None = None
    gone_ts: int | None = None
    sizes: set[float] = field(default_factory=set)
    median_notional: float = 0.0
    breaks: int = 0


@dataclass(slots=True)
class BookReplay:
    """A day's book rebuilt with plain dicts.

    `tops` holds (ts, seqId, bid, bid size, ask, ask size) after every event,
    `faults` what no book may do, `walls` what stood at each watched price.
    """

    tops: list[tuple[int, int, float, str, float, str]]
    faults: list[str]
    walls: dict[tuple[str, float], Standing]


class BookRebuilder:
    """Applies envelopes to dicts and checks them on the way."""

    def __init__(self, watched: dict[tuple[str, float], float]) -> None:
        """Watch (side, price) for sizes of at least half the given contracts."""
        self._watched = watched
        self._levels: dict[str, dict[float, str]] = {"bid": {}, "ask": {}}
        self._best = {"bid": 0.0, "ask": 0.0}
        self._seq = 0
        self.result = BookReplay([], [], {key: Standing() for key in watched})

    def apply(self, row: Row) -> None:
        """Apply one envelope."""
        data = row["data"][0]
        ts = int(data["ts"])
        self._chain(ts, row["action"], data["prevSeqId"], data["seqId"])
        if row["action"] == "snapshot":
            self._levels = {"bid": {}, "ask": {}}
        for side in ("bid", "ask"):
            self._change(ts, side, data[f"{side}s"])
        bid, ask = self._best["bid"], self._best["ask"]
        if bid >= ask:
            self.result.faults.append(f"{ts}: crossed, {bid} >= {ask}")
        sizes = (self._levels["bid"][bid], self._levels["ask"][ask])
        self.result.tops.append((ts, self._seq, bid, sizes[0], ask, sizes[1]))
        for (side, price), contracts in self._watched.items():
            self._watch(ts, side, price, contracts)

    def _chain(self, ts: int, action: str, prev: int, seq: int) -> None:
        wanted = -1 if action == "snapshot" else self._seq
        if prev != wanted:
            self.result.faults.append(f"{ts}: prevSeqId {prev}, not {wanted}")
        if seq <= self._seq:
            self.result.faults.append(f"{ts}: seqId {seq} does not grow")
        self._seq = seq

    def _change(self, ts: int, side: str, changes: list[list[str]]) -> None:
        """Apply a side's changes; the best is searched anew only if it may have gone."""
        levels, better = self._levels[side], max if side == "bid" else min
        best = self._best[side] if self._best[side] in levels else None
        for price_text, size, _, _ in changes:
            price = float(price_text)
            if size != "0":
                levels[price] = size
                best = price if best is None else better(best, price)
            elif levels.pop(price, None) is None:
                self.result.faults.append(f"{ts}: deletes unknown {side} {price}")
        if best not in levels or self._best[side] not in levels:
            best = better(levels)
        self._best[side] = float(best)

    def _watch(self, ts: int, side: str, price: float, contracts: float) -> None:
        standing = self.result.walls[side, price]
        size = float(self._levels[side].get(price, "0"))
        if size >= contracts / 2:
            if standing.first_ts is None:
                standing.first_ts = ts
                standing.median_notional = self._median_notional()
            elif standing.gone_ts is not None:
                standing.breaks += 1
            standing.sizes.add(size)
        elif standing.first_ts is not None and standing.gone_ts is None:
            standing.gone_ts = ts

    def _median_notional(self) -> float:
        bids, asks = self._levels["bid"], self._levels["ask"]
        mid = (max(bids) + min(asks)) / 2
        return statistics.median(
            price * float(size) * float(CONTRACT)
            for levels in (bids, asks)
            for price, size in levels.items()
            if abs(price / mid - 1) <= 0.01
        )


@dataclass(frozen=True, slots=True)
class Market:
    """One simulated day, read back."""

    vault: Path
    seed: int
    trades: list[Trade]
    book: BookReplay
    quotes: list[Row]
    truth: list[Row]

    def events(self, name: str) -> list[Row]:
        """Return the truth rows of one kind of event."""
        return [row for row in self.truth if row["event"] == name]


def read_market(vault: Path, seed: int) -> Market:
    """Read one day back."""
    truth = rows_of(path_of(vault, "truth"))
    watched = {
        (row["side"], row["price"]): row["contracts"]
        for row in truth
        if row["event"].startswith("wall")
    }
    rebuilder = BookRebuilder(watched)
    for row in each_row(path_of(vault, "books")):
        rebuilder.apply(row)
    return Market(
        vault,
        seed,
        trades_of(path_of(vault, "trades")),
        rebuilder.result,
        rows_of(path_of(vault, "quotes")),
        truth,
    )
