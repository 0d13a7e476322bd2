"""The rulings on book and quote records once more, on `json.loads` and `Decimal`.

Shares no code with the readers that it is to check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from pipeline.raw.block import Block, Reject

from .records import Record


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


class Bad(Exception):  # noqa: N818
    """The line is bad."""


def _parse(line: bytes) -> Any:
    def constant(text: str) -> Any:
        raise ValueError(text)

    def pairs(found: list[tuple[str, Any]]) -> Record:
        json.dumps(found, ensure_ascii=False).encode()  # half a character is not text
        return dict(found)

    try:
        return json.loads(
            line.decode(),
            parse_float=Number,
            parse_int=_whole,
            parse_constant=constant,
            object_pairs_hook=pairs,
        )
    except (ValueError, RecursionError) as error:
        raise Bad from error


def _whole(text: str) -> Number:
    return Number("0" if text == "-0" else text)


def _need(is_so: object) -> None:
    if not is_so:
        raise Bad


def number(value: Any, *, least: Decimal | None = None) -> Decimal:
    """A number of at most 18 digits, rounded half-even."""
    _need(isinstance(value, str))
    _need(re.fullmatch(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", value, re.ASCII))
    exact = Decimal(value)
    _need(exact < Decimal(10**15))
    wide = Context(prec=2000, rounding=ROUND_HALF_EVEN)
    exact = exact.quantize(Decimal(1), context=wide) if exact == 0 else exact
    digits, exponent = len(exact.as_tuple().digits), int(exact.as_tuple().exponent)
    surplus = max(-exponent - 18, digits - 18 if exponent < 0 else 0)
    if surplus > 0:
        exact = exact.quantize(Decimal(1).scaleb(exponent + surplus), context=wide)
    _need(least is None or exact > least)
    return exact


def sequence(record: Record, key: str, *, needed: bool = True, minus: bool = False) -> int:
    """A sequence number, -1 for none."""
    if key not in record and not needed:
        return -1
    text = record.get(key)
    _need(isinstance(text, str))
    if minus and text == "-1":
        return -1
    _need(re.fullmatch(r"[0-9]{1,19}", str(text)) and int(str(text)) < 2**63)
    return int(str(text))


def when(value: Any, kind: str) -> int:
    """Event time in microseconds."""
    _need(isinstance(value, str))
    micros = None
    if kind != "iso":
        if re.fullmatch(r"\+?\d+", value, re.ASCII):
            micros = int(value) * 1000 if len(value) <= 19 else None
        else:
            try:
                micros = int(number(value) * 1000)
            except Bad:
                micros = None
    if micros is None and kind != "ms":
        pattern = (
            r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|([+-])(\d\d):?(\d\d))"
        )
        match = re.fullmatch(pattern, value, re.ASCII)
        _need(match)
        assert match is not None
        try:
            stamp = datetime(*(int(match[i]) for i in range(1, 7)), tzinfo=UTC)  # type: ignore[misc,arg-type]
        except ValueError as error:
            raise Bad from error
        if match[9]:
            hours, minutes = int(match[10]), int(match[11])
            _need(hours < 24 and minutes < 60)
            shift = hours * 60 + minutes
            stamp -= timedelta(minutes=shift if match[9] == "+" else -shift)
        fraction = int(((match[7] or "") + "000000")[:6])
        micros = (stamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) + fraction
    _need(micros is not None and 1 <= micros <= 253_402_300_799_999_999)
    assert micros is not None
    return micros


def first_time(record: Record, *kinds: tuple[str, str], needed: bool = True) -> int:
    """The time under the first key that is there, -1 if none is and none need be."""
    for key, kind in kinds:
        if key in record:
            return when(record[key], kind)
    _need(not needed)
    return -1


def levels(record: Record, keys: tuple[str, ...]) -> list[tuple[int, Decimal, Decimal]]:
    """Sides, prices and sizes in the order of the record."""
    found = []
    _need(all(key in record for key in keys))
    for key in (key for key in record if key in keys):
        _need(isinstance(record[key], list))
        for level in record[key]:
            _need(isinstance(level, list))
            parts = list(level)
            side = 0 if key[0] == "b" else 1
            if key == "changes":
                _need(parts and parts[0] in ("buy", "sell") and not isinstance(parts[0], Number))
                side = ("buy", "sell").index(parts.pop(0))
            _need(len(parts) >= 2)
            found.append((side, number(parts[0], least=Decimal(0)), number(parts[1])))
    return found


def records(line: bytes, exchange: str) -> Iterator[tuple[Record, Record]]:
    """Records of a line, each with the line's object."""
    value = _parse(line)
    _need(isinstance(value, dict))
    if exchange not in ("okx", "sim", "binance") or value.get("data") is None:
        yield value, value
        return
    found = value["data"] if isinstance(value["data"], list) else [value["data"]]
    _need(found)
    for record in found:
        _need(isinstance(record, dict))
        yield record, value


def arg(line: Record, key: str) -> Any:
    """A value of an envelope's `arg`."""
    holder = line.get("arg")
    return holder.get(key) if isinstance(holder, dict) else None


def text_is(value: Any, *texts: str) -> bool:
    """Whether a value is one of some JSON strings."""
    return isinstance(value, str) and not isinstance(value, Number) and value in texts


def named(record: Record, key: str, inst_id: str) -> None:
    """A name that is there must be right."""
    _need(key not in record or text_is(record[key], inst_id))


def readable(block: Block) -> Iterator[tuple[int, bytes]]:
    """Index and text of all lines that are not blank."""
    for line in range(block.lines):
        text = block.line(line)
        if block.offset == 0 and line == 0:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text.strip():
            yield line, text


def expected(
    block: Block, exchange: str, inst_id: str, read: Callable[[Record, Record, str, str], Any]
) -> tuple[list[Any], list[int]]:
    """What a block holds by the rulings: (line, record) in order, and the bad lines."""
    good: list[Any] = []
    bad: list[int] = []
    for line, text in readable(block):
        try:
            good += [(line, read(*pair, exchange, inst_id)) for pair in [*records(text, exchange)]]
        except Bad:
            bad.append(line)
    return good, bad


def rejected(block: Block, rejects: list[Reject]) -> list[int]:
    """Indices of rejected lines."""
    line_of = {block.line_offset(line): line for line in range(block.lines)}
    return [line_of[reject.offset] for reject in rejects]
