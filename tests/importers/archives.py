"""Small archives of every format, and the raw lines that a collector would have written instead.

Shares no code with the importers.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Trade:
    """A trade: texts as the exchange gives them, `us` since 1970."""

    number: int
    price: str
    size: str
    is_buy: bool
    us: int

    @property
    def day(self) -> str:
        """Its UTC day."""
        return datetime.fromtimestamp(self.us // 1_000_000, UTC).strftime("%Y-%m-%d")


def utc(text: str) -> int:
    """Microseconds of a moment such as 2025-06-01T16:00."""
    stamp = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return round(stamp.timestamp()) * 1_000_000


def walk(
    count: int,
    start_us: int,
    stop_us: int,
    *,
    first: int = 1000,
    seed: int = 5,
    step_us: int = 1000,
) -> list[Trade]:
    """Trades in order of time; `step_us` is how fine their times are."""
    rng = random.Random(seed)
    times = sorted(rng.randrange(start_us, stop_us) // step_us * step_us for _ in range(count))
    cents = 4_228_330
    found = []
    for number, us in enumerate(times):
        cents += rng.randrange(-300, 301)
        # zeros at the end are digits too
        size = rng.choice(
            (f"{rng.randrange(1, 5000) / 1000:.3f}", f"{rng.randrange(1, 90)}.00000000")
        )
        price = f"{cents // 100}.{cents % 100:02d}"
        found.append(Trade(first + number, price, size, rng.random() < 0.5, us))
    return found


def ms(us: int) -> str:
    """Milliseconds, with three decimals if they are not whole."""
    return f"{us // 1000}.{us % 1000:03d}" if us % 1000 else str(us // 1000)


# -- archives --------------------------------------------------------------


def table(header: str, rows: Iterable[Sequence[Any]]) -> bytes:
    """A table with or without a header."""
    lines = [header] if header else []
    return "".join(
        f"{line}\n" for line in [*lines, *(",".join(map(str, r)) for r in rows)]
    ).encode()


BINANCE_TRADES = "id,price,qty,quote_qty,time,is_buyer_maker"
BINANCE_AGGREGATES = (
    "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
)
OKX_TRADES = "instrument_name,trade_id,side,price,size,created_time"
TARDIS_TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
TARDIS_BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"


def binance_trades(
    trades: Iterable[Trade], *, spot: bool = False, header: bool = True, micros: bool = False
) -> bytes:
    """Rows of data.binance.vision; spot writes True, and whether the match was best."""
    rows = []
    for each in trades:
        maker = str(not each.is_buy) if spot else str(not each.is_buy).lower()
        time = each.us if micros else each.us // 1000
        quote = f"{float(each.price) * float(each.size):.8f}"
        rows.append([each.number, each.price, each.size, quote, time, maker])
    more = [[*row, "True"] for row in rows] if spot else rows
    name = BINANCE_TRADES + (",is_best_match" if spot else "")
    return table(name if header else "", more)


def binance_aggregates(
    trades: Iterable[Trade], *, spot: bool = False, header: bool = True
) -> bytes:
    """Each trade as an aggregate of three."""
    rows = [
        [
            each.number,
            each.price,
            each.size,
            3 * each.number,
            3 * each.number + 2,
            each.us // 1000,
            str(not each.is_buy) if spot else str(not each.is_buy).lower(),
            *(["True"] if spot else []),
        ]
        for each in trades
    ]
    return table(BINANCE_AGGREGATES if header else "", rows)


def okx_trades(trades: Iterable[Trade], inst_id: str, *, header: str = OKX_TRADES) -> bytes:
    """Rows of OKX's historical data."""
    rows = [
        [inst_id, each.number, side(each), each.price, each.size, each.us // 1000]
        for each in trades
    ]
    return table(header, rows)


def tardis_trades(
    trades: Iterable[Trade], exchange: str, symbol: str, delay_us: int = 30_000
) -> bytes:
    """Rows of tardis.dev, which arrived a little after they happened."""
    rows = [
        [exchange, symbol, e.us, e.us + delay_us, e.number, side(e), e.price, e.size]
        for e in trades
    ]
    return table(TARDIS_TRADES, rows)


def side(trade: Trade) -> str:
    """The taker's side."""
    return "buy" if trade.is_buy else "sell"


def zipped(folder: Path, name: str, content: bytes, *, checksum: bool = False) -> Path:
    """A zip archive of one file, perhaps with its checksum beside it."""
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name.removesuffix(".zip") + ".csv"), content)
    if checksum:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(name + ".CHECKSUM").write_text(f"{digest}  {name}\n", encoding="ascii")
    return path


def gzipped(folder: Path, name: str, content: bytes) -> Path:
    """A gzip file."""
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0))
    return path


def tarred(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    """A tar.gz archive."""
    path = folder / name
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


# -- what a collector would have written -----------------------------------


def line(row: dict[str, Any]) -> bytes:
    """A record as one line."""
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def binance_line(trade: Trade, symbol: str) -> bytes:
    """A `trade` event."""
    time = b"%s" % ms(trade.us).encode()
    row = {"e": "trade", "s": symbol, "t": trade.number, "p": trade.price, "q": trade.size}
    return line(row | {"T": 0, "m": not trade.is_buy}).replace(b'"T":0', b'"T":' + time)


def binance_aggregate_line(trade: Trade, symbol: str) -> bytes:
    """An `aggTrade` event."""
    row = {"e": "aggTrade", "s": symbol, "a": trade.number, "p": trade.price, "q": trade.size}
    row |= {"f": 3 * trade.number, "l": 3 * trade.number + 2, "T": trade.us // 1000}
    return line(row | {"m": not trade.is_buy})


def okx_line(trade: Trade, inst_id: str, **more: str) -> bytes:
    """A flat trade."""
    row = {"instId": inst_id, "tradeId": str(trade.number), "px": trade.price, "sz": trade.size}
    return line(row | {"side": side(trade), "ts": ms(trade.us)} | more)


def coinbase_line(trade: Trade, product: str) -> bytes:
    """A `match`, which tells the maker's side."""
    stamp = datetime.fromtimestamp(trade.us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    row = {"type": "match", "trade_id": trade.number, "product_id": product, "price": trade.price}
    row |= {"size": trade.size, "side": "sell" if trade.is_buy else "buy"}
    return line(row | {"time": f"{stamp}.{trade.us % 1_000_000:06d}Z"})


def plain_line(trade: Trade, name: str | None = None) -> bytes:
    """The plain format."""
    row = {"ts": 0, "price": trade.price, "size": trade.size, "side": side(trade)}
    text = line(row | {"id": str(trade.number) if name is None else name})
    return text.replace(b'"ts":0', b'"ts":' + ms(trade.us).encode())


def by_day(trades: Iterable[Trade], write: Any) -> dict[str, bytes]:
    """Day files: name -> lines."""
    found: dict[str, bytes] = {}
    for each in trades:
        name = f"{each.day}.jsonl"
        found[name] = found.get(name, b"") + write(each)
    return found
