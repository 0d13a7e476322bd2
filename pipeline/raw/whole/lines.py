"""Blocks of JSON lines as typed rows: declared fields, then rules over whole columns.

Values are taken where their meaning is beyond doubt: a number written as a text is that number.
Every line ends as rows, as one that is passed over (of a kind that is not wanted), or as one
reason why it is bad. Keys that are not declared do not matter, `_src` among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl

from pipeline.raw.block import Block, Reject
from pipeline.raw.shape import BadRecordError

LARGEST = 1e15
"""No quantity, price or value is as large as this; from there on doubles lose whole numbers."""

LONGEST_LINE, KEPT_OF_LONG_LINE = 1 << 20, 4096
"""A line of more bytes is bad, and only its beginning is kept."""

CIK_DIGITS, CUSIP_LENGTH = 10, 9

_BOM = b"\xef\xbb\xbf"
_FIELD = re.compile(r"at `\$\.([^`\[]+)")
_LINE_ENDS = (ord("\n"), ord("\r"))

Rule = tuple[str, pl.Expr]
"""A reason, and where it holds."""

Piece = tuple[Block, str, Mapping[str, str]]
"""A block, its file by the path below raw/, and what the file's name says."""


@dataclass(frozen=True)
class Lines:
    """What the lines of a feed must be, and the rows they give.

    Expressions see the fields of `kind`, and what the name of a line's file says as texts: a fact
    `week` is the column `file_week`.

    Attributes:
        kind: the fields that matter, each with a default of None.
        required: fields without which a line is bad.
        rules: what else makes a line bad; the first that holds is the reason.
        wanted: which lines give rows at all, asked before any rule (all, if None).
        rows: the columns of the layer, except for `source`.
        unique: of rows of a file that agree in these the last one counts.
        finish: what is made of all rows of several files together, which stand file by file, each
            with its `source`.
    """

    kind: type[msgspec.Struct]
    required: tuple[str, ...]
    rules: Sequence[Rule]
    rows: Sequence[pl.Expr]
    wanted: pl.Expr | None = None
    unique: tuple[str, ...] = ()
    finish: Callable[[pl.DataFrame], pl.DataFrame] | None = None


@dataclass(frozen=True)
class Read:
    """What several blocks hold: rows with their `source`; by block its lines and the bad ones."""

    rows: pl.DataFrame
    lines: list[int]
    rejects: list[list[Reject]]


def read_blocks(pieces: Sequence[Piece], lines: Lines) -> Read:
    """Read blocks of one or several files; blank lines do not count."""
    frame, count, rejects = _frame(pieces, lines.kind)
    wanted = pl.lit(value=True) if lines.wanted is None else lines.wanted.fill_null(value=False)
    judged = frame.filter(wanted).with_columns(_reason=_reason(lines))
    bad = judged.filter(pl.col("_reason").is_not_null())
    for place, number, reason in bad.select("_block", "_line", "_reason").iter_rows():
        rejects[place].append(Reject.of(pieces[place][0], number, reason))
    for each in rejects:
        each.sort(key=lambda reject: reject.offset)
    good = judged.filter(pl.col("_reason").is_null())
    return Read(good.select(*lines.rows, "source"), count, rejects)


def finished(rows: pl.DataFrame, lines: Lines) -> tuple[pl.DataFrame, int]:
    """The rows of whole files, and how many were said again by a later line."""
    height = rows.height
    if lines.unique:
        rows = rows.unique([*lines.unique, "source"], keep="last", maintain_order=True)
    repeated = height - rows.height
    return (rows if lines.finish is None else lines.finish(rows)), repeated


def _frame(
    pieces: Sequence[Piece], kind: type[msgspec.Struct]
) -> tuple[pl.DataFrame, list[int], list[list[Reject]]]:
    """The records of all blocks as columns; by block the number of lines and those without one."""
    found: list[Any] = []
    numbers, count, rejects = [np.empty(0, np.int64)], [], []
    for block, _, _ in pieces:
        records, own, bad = _records(block, kind)
        found += records
        numbers.append(own)
        rejects.append(bad)
        count.append(len(own) + len(bad))
    place = np.repeat(np.arange(len(pieces)), [len(own) for own in numbers[1:]])
    facts = {f"file_{name}": [each[name] for _, _, each in pieces] for name in _facts(pieces)}
    told = pl.DataFrame({"source": [source for _, source, _ in pieces], **facts}).cast(pl.String)
    where = [pl.Series("_block", place), pl.Series("_line", np.concatenate(numbers))]
    return _columns(found, kind).with_columns(where).hstack(told[place]), count, rejects


def _facts(pieces: Sequence[Piece]) -> list[str]:
    return list(pieces[0][2]) if pieces else []


# -- lines to records ------------------------------------------------------


def _records(
    block: Block, kind: type[msgspec.Struct]
) -> tuple[list[Any], np.ndarray, list[Reject]]:
    """The records of a block, the lines they stand in, and the lines that hold none."""
    if block.too_long:
        return [], np.empty(0, np.int64), [_too_long(block, 0)]
    decoder = msgspec.json.Decoder(kind, strict=False)
    numbers = _filled(block)
    is_long = np.diff(block.ends, prepend=0) > LONGEST_LINE
    quick = None if block.torn or is_long.any() else _all_at_once(block, numbers, decoder)
    if quick is not None:
        return quick, numbers, []
    found, places, rejects = [], [], []
    for number in numbers.tolist():
        if is_long[number]:
            rejects.append(_too_long(block, number))
            continue
        data = block.line(number)
        if not block.offset and not number:
            data = data.removeprefix(_BOM)
        if not data.strip():
            continue
        try:
            found.append(_one(data, decoder))
            places.append(number)
        except BadRecordError as error:
            reason = "torn" if block.torn and str(error) == "json" else str(error)
            rejects.append(Reject.of(block, number, reason))
    return found, np.array(places, np.int64), rejects


def _too_long(block: Block, number: int) -> Reject:
    """A line of which only the beginning is kept."""
    found = Reject.of(block, number, "too long")
    raw = block.line(number)[:KEPT_OF_LONG_LINE].decode("utf-8", "backslashreplace")
    return replace(found, raw=raw)


def _filled(block: Block) -> np.ndarray:
    """The lines that have a byte besides their end."""
    text = np.frombuffer(block.data, np.uint8)
    starts = np.concatenate(([0], block.ends[:-1])).astype(np.int64)[: block.lines]
    return np.flatnonzero(~np.isin(text[starts], _LINE_ENDS))


def _all_at_once(block: Block, numbers: np.ndarray, decoder: Any) -> list[Any] | None:
    """All records, if every line is surely one object and nothing else.

    Where each line begins with { and ends with } and there are as many records as lines, no
    record can share a line with another one or go on in the next.
    """
    try:
        if not block.data.isascii():
            block.data.decode()
        found: list[Any] = decoder.decode_lines(block.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = np.frombuffer(block.data, np.uint8)
    starts = np.concatenate(([0], block.ends[:-1])).astype(np.int64)[: block.lines]
    last = block.ends - 2
    last = last - (text[last] == ord("\r"))
    is_object = (text[starts] == ord("{")) & (text[last] == ord("}"))
    return found if is_object[numbers].all() and len(found) == len(numbers) else None


def _one(data: bytes, decoder: Any) -> Any:
    """The record of one line.

    Raises:
        BadRecordError: with the reason, the field's key where it is a field.
    """
    try:
        data.decode()
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        field = _FIELD.search(str(error))
        raise BadRecordError(field[1] if field else "not an object") from error
    except UnicodeDecodeError as error:
        raise BadRecordError("encoding") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecordError("json") from error


# -- records to columns ----------------------------------------------------


def _columns(found: list[Any], kind: type[msgspec.Struct]) -> pl.DataFrame:
    """One column a field; texts and whole numbers together become texts."""
    columns = {}
    for field in msgspec.structs.fields(kind):
        dtype = _dtype(field.type)
        values = list(map(attrgetter(field.name), found))
        if dtype == pl.String and int in field.type.__args__:
            values = [str(value) if isinstance(value, int) else value for value in values]
        columns[field.name] = pl.Series(field.name, values, dtype)
    return pl.DataFrame(columns)


def _dtype(annotation: Any) -> Any:
    """The polars type of a field such as `float | None`."""
    for kind, dtype in ((str, pl.String), (float, pl.Float64)):
        if kind in annotation.__args__:
            return dtype
    return pl.Date


def _reason(lines: Lines) -> pl.Expr:
    """Why a line is bad, null where it is not."""
    keys = {field.name: field.encode_name for field in msgspec.structs.fields(lines.kind)}
    floats = [f.name for f in msgspec.structs.fields(lines.kind) if float in f.type.__args__]
    rules = [
        *((f"no {keys[name]}", pl.col(name).is_null()) for name in lines.required),
        *((keys[name], ~(pl.col(name).abs() < LARGEST)) for name in floats),
        *lines.rules,
    ]
    return pl.coalesce(
        *(pl.when(where.fill_null(value=False)).then(pl.lit(reason)) for reason, where in rules),
        pl.lit(None, pl.String),
    )


# -- values that several kinds of lines carry ------------------------------


def padded_cik(name: str) -> pl.Expr:
    """A CIK with its leading zeros; null where it is none."""
    text = pl.col(name).str.strip_chars()
    digits = rf"^[0-9]{{1,{CIK_DIGITS}}}$"
    return pl.when(text.str.contains(digits)).then(text.str.zfill(CIK_DIGITS))


def whole_cusip(name: str) -> pl.Expr:
    """A CUSIP of nine characters; null where it is none.

    A program that took it for a number has lost its leading zeros: they are put back where the
    check digit then holds.
    """
    text = pl.col(name).str.strip_chars().str.to_uppercase()
    padded = text.str.zfill(CUSIP_LENGTH)
    is_plain = text.str.contains(r"^[0-9A-Z*@#]{9}$")
    is_short = text.str.contains(r"^[0-9A-Z*@#]{6,8}$")
    fits = pl.when(is_short).then(padded).map_elements(has_check_digit, pl.Boolean)
    return pl.when(is_plain).then(text).when(fits).then(padded)


def has_check_digit(cusip: str) -> bool:
    """Whether the last of nine characters is the check digit of the others.

    Every second value is doubled and the digits of all are added up (ANSI X9.6).
    """
    signs = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ*@#"
    total = 0
    for place, sign in enumerate(cusip[:-1]):
        value = signs.find(sign) * (1 + place % 2)
        total += value // 10 + value % 10
    return cusip[-1] == str(-total % 10)


def named(name: str) -> pl.Expr:
    """A symbol or a market participant as it is told apart: no blanks around it, not empty."""
    text = pl.col(name).str.strip_chars()
    return pl.when(text.str.contains(r"^[!-~]([ -~]{0,30}[!-~])?$")).then(text)
