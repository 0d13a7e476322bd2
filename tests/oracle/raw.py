"""Raw trade files: framing into lines, and decoding of every trade format.

`read_folder` yields the lines of one instrument's raw folder in day order.
`decode` turns one line into its trades or raises `BadLineError`. Sizes come back in
base units, all numbers as exact decimals, times as whole microseconds.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

EXACT = Context(prec=2000, traps=[Inexact, InvalidOperation])
"""Arithmetic that raises instead of rounding."""

BOM = b"\xef\xbb\xbf"
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
CONTIGUOUS_IDS = ("okx", "binance", "coinbase", "sim")
CONTRACT_EXCHANGES = ("okx", "sim")

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"[0-9]+")
_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadLineError(Exception):
    """The line is not a good record: it belongs in quarantine."""


class UnknownContractError(Exception):
    """A size in contracts whose contract size is nowhere given."""


class Number(str):
    """The source text of a JSON number, told apart from a JSON string."""

    __slots__ = ()


@dataclass(frozen=True)
class Contract:
    """What one contract is worth: base units (linear) or US dollars (inverse)."""

    value: Decimal
    multiplier: Decimal = Decimal(1)
    inverse: bool = False


@dataclass(frozen=True)
class Instrument:
    """One raw trades folder, `raw/{exchange}/trades_{market}/{inst_id}`."""

    exchange: str
    market: str
    inst_id: str
    contract: Contract | None = None

    @property
    def row_market(self) -> str:
        """The market as rows spell it."""
        return "perp" if self.market == "perps" else self.market

    @property
    def in_contracts(self) -> bool:
        """Whether the exchange counts this instrument's sizes in contracts."""
        return self.exchange in CONTRACT_EXCHANGES and self.market == "perps"

    def raw_folder(self, vault: Path) -> Path:
        """Where this instrument's raw trades lie."""
        return vault / "raw" / self.exchange / f"trades_{self.market}" / self.inst_id


@dataclass(frozen=True)
class Line:
    """One non-blank line: where it starts (decompressed) and its bytes without the end."""

    file: Path
    offset: int
    data: bytes
    torn: bool = False


@dataclass(frozen=True)
class Trade:
    """One decoded trade in base units."""

    ts_us: int
    trade_id: str
    price: Decimal
    size: Decimal
    notional: Decimal
    side: int
    count: int = 1


# -- framing ---------------------------------------------------------------


def day_of(file: Path) -> str:
    """The day a raw file is named after."""
    return file.name.split(".", 1)[0]


def read_folder(folder: Path) -> Iterator[Line]:
    """Every non-blank line of the folder, oldest day first.

    The unterminated end of the newest file is not yielded; of an older file it
    is yielded with `torn` set.
    """
    files = sorted((f for f in folder.iterdir() if f.name.endswith(SUFFIXES)), key=day_of)
    for file in files:
        yield from split_lines(file, decompressed(file), is_newest=file == files[-1])


def decompressed(file: Path) -> bytes:
    """The file's content, unpacked by its suffix."""
    content = file.read_bytes()
    if file.suffix == ".gz":
        return gzip.decompress(content)
    if file.suffix == ".zst":
        import zstandard  # the standard library cannot unpack it

        with zstandard.ZstdDecompressor().stream_reader(
            io.BytesIO(content), read_across_frames=True
        ) as reader:
            return bytes(reader.read())
    return content


def split_lines(file: Path, content: bytes, *, is_newest: bool) -> Iterator[Line]:
    """Cut at line feeds; drop one carriage return; skip blank lines and a leading BOM."""
    position = len(BOM) if content.startswith(BOM) else 0
    while position < len(content):
        end = content.find(b"\n", position)
        torn = end < 0
        if torn and is_newest:
            return
        data = content[position : len(content) if torn else end]
        if data.endswith(b"\r") and not torn:
            data = data[:-1]
        if data.strip():
            yield Line(file, position, data, torn)
        position = len(content) if torn else end + 1


# -- decoding --------------------------------------------------------------


def decode(data: bytes, instrument: Instrument) -> list[Trade]:
    """The trades of one line, in their order; all of them good, or `BadLineError`."""
    document = parse_object(data)
    try:
        with localcontext(EXACT):
            return [decode_record(r, instrument) for r in records_of(document)]
    except (KeyError, TypeError, ValueError, InvalidOperation) as problem:
        raise BadLineError(str(problem)) from problem


def parse_object(data: bytes) -> dict[str, Any]:
    """Exactly one JSON object in valid UTF-8, its numbers kept as text."""
    try:
        document = json.loads(
            data.decode("utf-8"),
            parse_float=Number,
            parse_int=Number,
            parse_constant=refuse_constant,
        )
    except (ValueError, RecursionError) as problem:
        raise BadLineError(str(problem)) from problem
    if not isinstance(document, dict):
        raise BadLineError("not an object")
    return document


def refuse_constant(name: str) -> None:
    """NaN and the infinities are not JSON."""
    raise BadLineError(name)


def records_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The records inside a websocket envelope, or the bare record itself."""
    inner = document.get("data", document)
    records = inner if isinstance(inner, list) else [inner]
    if not records or not all(isinstance(r, dict) for r in records):
        raise BadLineError("envelope without records")
    return records


def decode_record(record: dict[str, Any], instrument: Instrument) -> Trade:
    """One record, by the format of the instrument's exchange."""
    if instrument.exchange in ("okx", "sim"):
        return decode_okx(record, instrument)
    if instrument.exchange == "binance":
        return decode_binance(record, instrument)
    if instrument.exchange == "coinbase":
        return decode_coinbase(record, instrument)
    return decode_plain(record, instrument)


def decode_okx(record: dict[str, Any], instrument: Instrument) -> Trade:
    """A websocket trade, or a collector row with its own field names."""
    require_instrument(record["instId"], instrument)
    if "tradeId" in record:
        trade_id, price, quantity = (record[name] for name in ("tradeId", "px", "sz"))
        ts_us = milliseconds_us(record["ts"])
    else:
        trade_id, price, quantity = (record[n] for n in ("trade_id", "price", "qty_contracts"))
        ts_us = iso_us(record["timestamp_utc"])
    px, qty = positive(price), positive(quantity)
    size, notional = in_base_units(px, qty, contract_of(record, instrument))
    return Trade(
        ts_us=ts_us,
        trade_id=identity(trade_id),
        price=px,
        size=size,
        notional=notional,
        side=taker_side(record["side"]),
        count=int(record.get("count", "1")),
    )


def decode_binance(record: dict[str, Any], instrument: Instrument) -> Trade:
    """`trade` (id `t`) or `aggTrade` (id `a`); `m` true means the taker sold."""
    require_instrument(record["s"], instrument)
    names = {"trade": "t", "aggTrade": "a"}
    if record["m"] not in (True, False) or isinstance(record["m"], str):
        raise BadLineError("m is not a boolean")
    return spot_like(
        ts_us=milliseconds_us(record["T"]),
        trade_id=record[names[record["e"]]],
        price=record["p"],
        size=record["q"],
        side=-1 if record["m"] else 1,
    )


def decode_coinbase(record: dict[str, Any], instrument: Instrument) -> Trade:
    """`match` or `last_match`; the side written down is the maker's."""
    require_instrument(record["product_id"], instrument)
    if record["type"] not in ("match", "last_match"):
        raise BadLineError("not a match")
    return spot_like(
        ts_us=iso_us(record["time"]),
        trade_id=record["trade_id"],
        price=record["price"],
        size=record["size"],
        side=-taker_side(record["side"]),
    )


def decode_plain(record: dict[str, Any], instrument: Instrument) -> Trade:
    """The format of any other exchange; an `instId` is optional but must fit."""
    if "instId" in record:
        require_instrument(record["instId"], instrument)
    return spot_like(
        ts_us=either_us(record["ts"]),
        trade_id=record["id"],
        price=record["price"],
        size=record["size"],
        side=taker_side(record["side"]),
    )


def spot_like(*, ts_us: int, trade_id: Any, price: Any, size: Any, side: int) -> Trade:
    """A trade whose size is in base units already."""
    px, base = positive(price), positive(size)
    return Trade(ts_us, identity(trade_id), px, base, px * base, side)


# -- fields ----------------------------------------------------------------


def require_instrument(name: Any, instrument: Instrument) -> None:
    """The record must be of the folder it lies in."""
    if name != instrument.inst_id or isinstance(name, Number):
        raise BadLineError("another instrument's record")


def positive(value: Any) -> Decimal:
    """A decimal string or JSON number above zero."""
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise BadLineError(f"not a decimal: {value!r}")
    number = Decimal(value)
    if number <= 0:
        raise BadLineError("not positive")
    return number


def identity(value: Any) -> str:
    """A trade id: a non-empty string or a whole JSON number."""
    if not isinstance(value, str) or not value:
        raise BadLineError("no id")
    if isinstance(value, Number) and not _WHOLE.fullmatch(value):
        raise BadLineError("id is not whole")
    return str(value)


def taker_side(value: Any) -> int:
    """+1 where the taker bought, -1 where the taker sold."""
    if not isinstance(value, str) or value not in ("buy", "sell"):
        raise BadLineError("unknown side")
    return 1 if value == "buy" else -1


def milliseconds_us(value: Any) -> int:
    """Microseconds since 1970 from whole milliseconds, a number or text."""
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise BadLineError("not a time in milliseconds")
    return int(value) * 1000


def iso_us(value: Any) -> int:
    """Microseconds since 1970 from ISO 8601 text, finer digits cut off."""
    parts = None if isinstance(value, Number) else _ISO.fullmatch(value)
    if parts is None:
        raise BadLineError("not a time in ISO 8601")
    day, clock, fraction, zone = parts.groups()
    offset = "+00:00" if zone == "Z" else zone
    whole = datetime.fromisoformat(f"{day}T{clock}{offset}") - _EPOCH
    return whole // timedelta(microseconds=1) + int((fraction or "")[:6].ljust(6, "0"))


def either_us(value: Any) -> int:
    """Milliseconds or ISO 8601: the plain format takes both."""
    is_whole = isinstance(value, str) and _WHOLE.fullmatch(value)
    return milliseconds_us(value) if is_whole else iso_us(value)


def contract_of(record: dict[str, Any], instrument: Instrument) -> Contract | None:
    """The record's own contract size, else the instrument's; None for base units."""
    if not instrument.in_contracts:
        return None
    if "ctVal" in record:
        return Contract(
            positive(record["ctVal"]),
            positive(record.get("ctMult", "1")),
            record.get("ctType") == "inverse",
        )
    if instrument.contract is None:
        raise UnknownContractError(instrument.inst_id)
    return instrument.contract


def in_base_units(
    price: Decimal, quantity: Decimal, contract: Contract | None
) -> tuple[Decimal, Decimal]:
    """(base size, quote notional) of a quantity in contracts, or in base units."""
    if contract is None:
        return quantity, price * quantity
    worth = quantity * contract.value * contract.multiplier
    if not contract.inverse:
        return worth, worth * price
    twelfth_places = round(Fraction(worth) / Fraction(price) * 10**12)  # half to even
    return Decimal(twelfth_places).scaleb(-12), worth
