"""The careful path of book and quote feeds: one line at a time, by the same declarations.

Every line ends as records or as one reason why it is bad. JSON numbers keep their text, so
"101250.0" stays as the exchange wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec

from pipeline.exact import NotANumberError, parse_decimal
from pipeline.raw.block import Block, Reject
from pipeline.raw.feed import (
    ASK,
    BID,
    CHANGES,
    BookShape,
    FeedAdapter,
    FeedShape,
    Id,
    QuoteShape,
    ShapeT,
)
from pipeline.raw.lines import read_time
from pipeline.raw.shape import BadRecordError, Json, bare, in_data

NONE = -1
"""Stands for a time, a sequence number or a size that a record does not carry."""

_ID = re.compile(r"\d{1,19}", re.ASCII)
_MAX_ID = 2**63 - 1
_SIDES = {"buy": BID, "sell": ASK}
_BOM = b"\xef\xbb\xbf"


class _Number(str):
    """A JSON number with a fraction as it was written, and no text."""

    __slots__ = ()


_decode = msgspec.json.Decoder(float_hook=_Number).decode
T = TypeVar("T")


class RawLevel(NamedTuple):
    """One level: 0 bid or 1 ask, price and size as digits and decimals without zeros at the end."""

    side: int
    px: int
    px_dp: int
    sz: int
    sz_dp: int


class RawBook(NamedTuple):
    """One record of a book feed; `NONE` where it does not say."""

    is_snapshot: bool
    ts_us: int
    first_id: int
    last_id: int
    prev_id: int
    levels: list[RawLevel]


class RawQuote(NamedTuple):
    """One best bid and offer; `NONE` where it does not say."""

    ts_us: int
    update_id: int
    bid: tuple[int, int]
    bid_size: tuple[int, int]
    ask: tuple[int, int]
    ask_size: tuple[int, int]
    is_ticker: bool


class Record(NamedTuple):
    """A record and the line that it stands in."""

    own: Json
    line: Json

    def get(self, key: str) -> Any:
        """The value of a declared key, None if there is none."""
        value: Any = self.line if key[0] == "/" else self.own
        for step in key.removeprefix("/").split("."):
            value = value.get(step) if isinstance(value, dict) else None
        return value

    def has(self, key: str) -> bool:
        """Whether a declared key is there, a null included."""
        *above, last = key.removeprefix("/").split(".")
        holder: Any = self.line if key[0] == "/" else self.own
        for step in above:
            holder = holder.get(step) if isinstance(holder, dict) else None
        return isinstance(holder, dict) and last in holder


def read_block(
    block: Block, lines: Iterable[int], read: Callable[[bytes], list[T]]
) -> tuple[list[tuple[int, T]], list[Reject]]:
    """Read lines of a block: the records with their line, and the bad lines; blank ones skipped."""
    found: list[tuple[int, T]] = []
    rejects: list[Reject] = []
    for line in lines:
        text = block.line(line)
        if block.offset == 0 and line == 0:
            text = text.removeprefix(_BOM)
        if not text.strip():
            continue
        try:
            found.extend((line, record) for record in read(text))
        except BadRecordError as error:
            rejects.append(Reject.of(block, line, str(error)))
    return found, rejects


def read_books(line: bytes, adapter: FeedAdapter[BookShape], inst_id: str) -> list[RawBook]:
    """Decode one line of a book feed.

    Raises:
        BadRecordError: anything in the line is not as it should be; the whole line is bad.
    """
    return [_book(record, shape, inst_id) for record, shape in records_of(line, adapter)]


def read_quotes(line: bytes, adapter: FeedAdapter[QuoteShape], inst_id: str) -> list[RawQuote]:
    """Decode one line of a quote feed.

    Raises:
        BadRecordError: anything in the line is not as it should be; the whole line is bad.
    """
    return [_quote(record, shape, inst_id) for record, shape in records_of(line, adapter)]


def records_of(line: bytes, adapter: FeedAdapter[ShapeT]) -> Iterator[tuple[Record, ShapeT]]:
    """The records of a line, each with its shape.

    Raises:
        BadRecordError: the line holds anything else.
    """
    try:
        value = _decode(line)
    except UnicodeDecodeError as error:
        raise BadRecordError("encoding") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecordError("json") from error
    if not isinstance(value, dict):
        raise BadRecordError("not an object")
    for own, _ in (in_data if adapter.is_enveloped else bare)(value):
        if not isinstance(own, dict):
            raise BadRecordError("not an object")
        record = Record(own, value)
        shape = next((each for each in adapter.shapes if _recognises(each, record)), None)
        if shape is None:
            raise BadRecordError(f"not a {adapter.what}")
        yield record, shape


def _recognises(shape: FeedShape, record: Record) -> bool:
    for key, allowed in shape.one_of.items():
        value = record.get(key)
        if not isinstance(value, str) or value not in allowed:
            return False
    return all(map(record.has, shape.has)) and not any(map(record.has, shape.lacks))


def event_us(record: Record, shape: FeedShape, inst_id: str) -> int:
    """Event time of a record of the right instrument, microseconds; `NONE` where it has none.

    Raises:
        BadRecordError: it is of another instrument, or its time is no time.
    """
    if shape.inst_id is not None and record.get(shape.inst_id) != inst_id:
        raise BadRecordError("instrument")
    if shape.named and record.has(shape.named) and record.get(shape.named) != inst_id:
        raise BadRecordError("instrument")
    for key, kind in shape.times:
        if record.has(key):
            return read_time(record.get(key), kind)
    if shape.is_timed:
        raise BadRecordError("ts")
    return NONE


def _book(record: Record, shape: BookShape, inst_id: str) -> RawBook:
    ts_us = event_us(record, shape, inst_id)
    first, last, prev = (
        sequence_number(record, each) for each in (shape.first, shape.last, shape.prev)
    )
    if first > last:
        raise BadRecordError("id")
    if shape.first is not None and shape.prev is not None and not record.has(shape.prev.key):
        prev = first - 1
    return RawBook(shape.is_snapshot, ts_us, first, last, prev, _levels(record, shape))


def _quote(record: Record, shape: QuoteShape, inst_id: str) -> RawQuote:
    ts_us = event_us(record, shape, inst_id)
    update_id = sequence_number(record, shape.update_id)
    prices, sizes = _tops(record, shape)
    return RawQuote(
        ts_us, update_id, prices[BID], sizes[BID], prices[ASK], sizes[ASK], shape.is_ticker
    )


def _tops(record: Record, shape: QuoteShape) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Prices and sizes of bid and ask."""
    if shape.prices is None or shape.sizes is None:
        levels = {level.side: level for level in _levels(record, shape)}
        if len(levels) != 2 or any(len(record.get(key)) != 1 for key in shape.sides):  # noqa: PLR2004
            raise BadRecordError("levels")
        tops = [levels[BID], levels[ASK]]
        if any(top.sz == 0 for top in tops):
            raise BadRecordError("size")
        return [(top.px, top.px_dp) for top in tops], [(top.sz, top.sz_dp) for top in tops]
    if shape.may_lack_sides:
        sides = [_side(record, *keys) for keys in zip(shape.prices, shape.sizes, strict=True)]
        return [price for price, _ in sides], [size for _, size in sides]
    prices = [positive(record.get(key), "price") for key in shape.prices]
    if not shape.is_sized and not any(map(record.has, shape.sizes)):
        return prices, [(NONE, 0), (NONE, 0)]
    return prices, [positive(record.get(key), "size") for key in shape.sizes]


def _side(record: Record, price: str, size: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Price and size of a side of a tape's quote; zeros where it has none."""
    none = (0, 0)
    worth = none if record.get(price) is None else _number(record.get(price), "price")
    amount = none if worth == none else _number(record.get(size), "size")
    return (none, none) if amount == none else (worth, amount)


def sequence_number(record: Record, declared: Id | None) -> int:
    """A sequence number, `NONE` where there is none.

    Raises:
        BadRecordError: it is no such number.
    """
    if declared is None or not (declared.is_needed or record.has(declared.key)):
        return NONE
    value = record.get(declared.key)
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadRecordError("id")
    if declared.may_be_none and text == str(NONE):
        return NONE
    if not _ID.fullmatch(text) or int(text) > _MAX_ID:
        raise BadRecordError("id")
    return int(text)


def _levels(record: Record, shape: FeedShape) -> list[RawLevel]:
    """All levels in the order in which they stand in the record."""
    if not all(map(record.has, shape.sides)):
        raise BadRecordError("levels")
    found: list[RawLevel] = []
    for key, value in record.own.items():
        if key in shape.sides:
            if not isinstance(value, list):
                raise BadRecordError("levels")
            found += [_level(level, shape.sides[key]) for level in value]
    return found


def _level(level: Any, holds: int) -> RawLevel:
    before = 1 if holds == CHANGES else 0
    if not isinstance(level, list) or len(level) < before + 2:
        raise BadRecordError("levels")
    side = holds
    if before:
        if not isinstance(level[0], str) or level[0] not in _SIDES:
            raise BadRecordError("side")
        side = _SIDES[level[0]]
    return RawLevel(side, *positive(level[before], "price"), *_number(level[before + 1], "size"))


def positive(value: Any, name: str) -> tuple[int, int]:
    """A number above 0, without zeros at the end.

    Raises:
        BadRecordError: it is none; named after the field.
    """
    number = _number(value, name)
    if number[0] == 0:
        raise BadRecordError(name)
    return number


def _number(value: Any, name: str) -> tuple[int, int]:
    """Digits and decimals of a number that is not negative, without zeros at the end."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str):
        raise BadRecordError(name)
    try:
        digits, decimals = parse_decimal(text)
    except NotANumberError as error:
        raise BadRecordError(name if str(error) == "number" else str(error)) from error
    while decimals and digits % 10 == 0:
        digits, decimals = digits // 10, decimals - 1
    return digits, decimals
