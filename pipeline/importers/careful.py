"""The careful path: one row at a time, which has the last word on what is good.

A row that it takes becomes the line that the compiled loop would have written for it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from pipeline.exact import NotANumberError, parse_decimal
from pipeline.importers import convert
from pipeline.importers.layout import Layout, Part
from pipeline.raw.lines import MAX_TS_US
from pipeline.raw.shape import BadRecordError

EARLIEST_US = 315_532_800_000_000
"""1980: what is stamped earlier was stamped by no clock."""

_UNITS = {10: convert.SECONDS, 13: convert.MILLIS, 16: convert.MICROS, 19: convert.NANOS}
_PER_UNIT = {
    convert.SECONDS: 10**6,
    convert.MILLIS: 10**3,
    convert.MICROS: 1,
    convert.NANOS: -(10**3),
}
_DIGITS = re.compile(r"[1-9]\d{0,19}(?:\.\d{1,30})?", re.ASCII)
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(?:Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_INTEGER = re.compile(r"0|[1-9]\d{0,17}", re.ASCII)
_TEXTS = (convert.SKIP, convert.TEXT, convert.SAME)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = len(".123456")


class OtherInstrumentError(Exception):
    """The row is of another instrument; the message is its name."""


class Row(NamedTuple):
    """A row that was taken: its line, and the values to be given back."""

    line: bytes
    kept: tuple[int, ...]


def read_row(text: bytes, place: int, layout: Layout) -> Row | None:
    """Convert one row; None if the line is empty.

    Args:
        text: the row's line with or without its end.
        place: where it starts in the source.
        layout: what it should be.

    Raises:
        BadRecordError: it is not as it should be; the message is the short reason.
        OtherInstrumentError: it is of another instrument.
    """
    written = _fields(text)
    if not written:
        return None
    if len(written) != len(layout.kinds):
        raise BadRecordError("columns")
    fields = [
        field if kind in _TEXTS else field.strip()
        for field, kind in zip(written, layout.kinds, strict=True)
    ]
    values = [
        _value(field, kind, layout, role)
        for field, kind, role in zip(fields, layout.kinds, layout.roles, strict=True)
    ]
    for field, kind in zip(fields, layout.kinds, strict=True):
        if kind == convert.SAME and field != layout.inst_id:
            raise OtherInstrumentError(field)
    line = b"".join(_text(part, fields, values, place) for part in layout.parts)
    return Row(line, tuple(values[column] for column in layout.kept_columns))


def _text(part: Part, fields: list[str], values: list[int], place: int) -> bytes:
    """A part of a line."""
    value, behind = values[part.column], b""
    if part.kind == convert.COPY:
        behind = msgspec.json.encode(fields[part.column])[1:-1]
    elif part.kind == convert.MS:
        behind = ms_text(value).encode()
    elif part.kind == convert.ISO:
        behind = iso_text(value).encode()
    elif part.kind == convert.CHOICE:
        behind = part.texts[0 if value > 0 else 1]
    elif part.kind == convert.ROW:
        behind = f"{value}-{place}".encode()
    return part.text + behind


def _fields(text: bytes) -> list[str]:
    """The fields of a row; none if it is empty."""
    try:
        line = text.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadRecordError("encoding") from error
    if not line.strip():
        return []
    if "\x00" in line:
        raise BadRecordError("columns")
    try:
        return next(csv.reader([line], strict=True))
    except (csv.Error, StopIteration) as error:
        raise BadRecordError("columns") from error


def _value(field: str, kind: int, layout: Layout, role: str) -> int:
    """What a field means, if it means anything; 0 otherwise."""
    if kind in (convert.DECIMAL, convert.AMOUNT):
        _check_decimal(field, role, may_be_zero=kind == convert.AMOUNT)
    elif kind == convert.INTEGER:
        if not _INTEGER.fullmatch(field):
            raise BadRecordError(role)
    elif kind == convert.TEXT:
        if not field:
            raise BadRecordError(role)
    elif kind == convert.TIME:
        return read_time(field, layout.unit, role)
    elif kind in (convert.SIDE, convert.FLAG):
        return _meaning(field, layout.words, role, 1 if kind == convert.SIDE else 2)
    elif kind == convert.SAME and not field:
        raise BadRecordError("instrument")
    return 0


def _check_decimal(field: str, role: str, *, may_be_zero: bool) -> None:
    try:
        digits, _ = parse_decimal(field)
    except NotANumberError as error:
        raise BadRecordError(role if str(error) == "number" else str(error)) from error
    if digits == 0 and not may_be_zero:
        raise BadRecordError(role)


def _meaning(field: str, words: Mapping[str, int], role: str, size: int) -> int:
    meaning = words.get(field.lower(), 0)
    if abs(meaning) != size:
        raise BadRecordError(role)
    return meaning


def read_time(field: str, unit: int, role: str = "time") -> int:
    """A time in microseconds since 1970, finer ones floored; one without a zone is UTC.

    Raises:
        BadRecordError: it is none, or before 1980 or after 9999.
    """
    micros = _of_digits(field, unit) if _DIGITS.fullmatch(field) else _of_iso(field)
    if micros is None or not EARLIEST_US <= micros <= MAX_TS_US:
        raise BadRecordError(role)
    return micros


def _of_digits(field: str, unit: int) -> int | None:
    whole, _, fraction = field.partition(".")
    if unit == convert.AUTO:
        if len(whole) not in _UNITS:
            return None
        unit = _UNITS[len(whole)]
    scale = _PER_UNIT[unit]
    if scale < 0:
        return int(whole) // -scale
    places = len(str(scale)) - 1
    return int(whole) * scale + int(fraction[:places].ljust(places, "0") or "0")


def _of_iso(field: str) -> int | None:
    match = _ISO.fullmatch(field)
    if match is None:
        return None
    if match[1] and len(match[1]) > _MICROSECOND:
        field = field.replace(match[1], match[1][:_MICROSECOND], 1)
    try:
        stamp = datetime.fromisoformat(field)
    except ValueError:
        return None
    elapsed = (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)) - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds


def ms_text(micros: int) -> str:
    """A time in milliseconds, with three decimals where it is finer than that."""
    whole, rest = divmod(micros, 1000)
    return f"{whole}.{rest:03d}" if rest else str(whole)


def iso_text(micros: int) -> str:
    """A time as 2024-03-06T12:00:00.123456Z."""
    stamp = datetime.fromtimestamp(micros // 1_000_000, UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{micros % 1_000_000:06d}Z"
