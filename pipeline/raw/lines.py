"""The careful path: one line at a time.

Every line ends as records or as one reason why it is bad. JSON numbers keep their text (a
hook hands them over unparsed), so "101250.0" stays as the exchange wrote it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from pipeline.exact import NotANumberError, parse_decimal
from pipeline.raw.shape import BadRecordError, TradeAdapter, TradeShape

MIN_TS_US, MAX_TS_US = 1, 253_402_300_799_999_999
"""Event times outside (1970, 9999] cannot be written as a timestamp and are bad."""

_DIGITS = re.compile(r"\+?\d+", re.ASCII)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)", re.ASCII)
_LONGEST_MS = 19
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_decode = msgspec.json.Decoder(float_hook=str).decode


class RawTrade(NamedTuple):
    """A trade as the exchange reported it: size still in the exchange's own unit."""

    trade_id: str
    price: tuple[int, int]
    size: tuple[int, int]
    side: int
    ts_us: int
    aggregated: int
    contract: tuple[str, str, str] | None


def read_line(
    line: bytes, adapter: TradeAdapter, inst_id: str
) -> list[tuple[RawTrade, TradeShape, str]]:
    """Decode one line into its trades, each with the shape and the place it was found in.

    Raises:
        BadRecordError: anything in the line is not as it should be; the whole line is bad.
    """
    try:
        value = _decode(line)
    except msgspec.DecodeError as error:
        raise BadRecordError("json") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(
            "encoding" if isinstance(error, UnicodeDecodeError) else "json"
        ) from error
    if not isinstance(value, dict):
        raise BadRecordError("not an object")
    found = []
    for record, prefix in adapter.unwrap(value):
        if not isinstance(record, dict):
            raise BadRecordError("not an object")
        shape = adapter.shape_of(record)
        if shape is None:
            raise BadRecordError("not a trade")
        found.append((read_trade(record, shape, inst_id), shape, prefix))
    if not found:
        raise BadRecordError("empty envelope")
    return found


def read_trade(record: dict[str, Any], shape: TradeShape, inst_id: str) -> RawTrade:
    """Read one trade record of a known shape.

    Raises:
        BadRecordError: with the reason, named after the field.
    """
    for key, allowed in shape.one_of.items():
        if record.get(key) not in allowed:
            raise BadRecordError("not a trade")
    if shape.inst_id is not None and record.get(shape.inst_id) != inst_id:
        raise BadRecordError("instrument")
    side = shape.side_of.get(_flag_or_text(record.get(shape.side)))
    if side is None:
        raise BadRecordError("side")
    count = 1 if shape.count is None or shape.count not in record else _count(record[shape.count])
    contract = None
    if shape.contract is not None:
        contract = _contract_texts(record, shape.contract)
    return RawTrade(
        trade_id=_identifier(record.get(shape.trade_id)),
        price=_positive(record.get(shape.price), "price"),
        size=_positive(record.get(shape.size), "size"),
        side=side,
        ts_us=read_time(record.get(shape.ts), shape.time),
        aggregated=count,
        contract=contract,
    )


def read_time(value: object, kind: str) -> int:
    """Event time in microseconds since 1970, finer stamps floored.

    Raises:
        BadRecordError: not a time of the given kind ("ms", "iso" or "any").
    """
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadRecordError("ts")
    ts_us = _milliseconds(text) if kind != "iso" else None
    if ts_us is None and kind != "ms":
        ts_us = _iso(text)
    if ts_us is None or not MIN_TS_US <= ts_us <= MAX_TS_US:
        raise BadRecordError("ts")
    return ts_us


def _milliseconds(text: str) -> int | None:
    if _DIGITS.fullmatch(text):
        return int(text) * 1000 if len(text) <= _LONGEST_MS else None
    try:
        digits, decimals = parse_decimal(text)
    except NotANumberError:
        return None
    return digits * 1000 // int(10**decimals)


def _iso(text: str) -> int | None:
    if not _ISO.fullmatch(text):
        return None
    try:
        stamp = datetime.fromisoformat(text)
    except ValueError:
        return None
    elapsed = stamp - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def _flag_or_text(value: object) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    return value if isinstance(value, str) and value not in ("true", "false") else ""


def _identifier(value: object) -> str:
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value:
        raise BadRecordError("id")
    return value


def _count(value: object) -> int:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not _DIGITS.fullmatch(text) or not 1 <= int(text) < 10**9:
        raise BadRecordError("count")
    return int(text)


def _positive(value: object, name: str) -> tuple[int, int]:
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadRecordError(name)
    try:
        number = parse_decimal(text)
    except NotANumberError as error:
        raise BadRecordError(name if str(error) == "number" else str(error)) from error
    if number[0] == 0:
        raise BadRecordError(name)
    return number


def _contract_texts(
    record: dict[str, Any], keys: tuple[str, str, str]
) -> tuple[str, str, str] | None:
    if keys[0] not in record:
        return None
    texts: list[str] = []
    for value in (record[keys[0]], record.get(keys[1], "1")):
        _positive(value, "contract")
        texts.append(str(value))
    kind = record.get(keys[2], "linear")
    if kind not in ("linear", "inverse"):
        raise BadRecordError("contract")
    return texts[0], texts[1], kind
