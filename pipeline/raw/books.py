"""A block of raw book lines as columns of exact numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.raw.block import Block, Reject
from pipeline.raw.book_lines import RawBook, read_block, read_books
from pipeline.raw.feed import BookShape, FeedAdapter, book_adapter
from pipeline.raw.fields import (
    Columns,
    Fields,
    Slots,
    by_shape,
    in_file_order,
    lines_left,
    read_ids,
    read_times,
)
from pipeline.raw.scan import LEVELS, Flags, Ints

Small = npt.NDArray[np.int8]

_RECORD: dict[str, type[np.generic]] = {
    "line": np.int64,
    "is_snapshot": np.bool_,
    "ts_us": np.int64,
    "first_id": np.int64,
    "last_id": np.int64,
    "prev_id": np.int64,
    "level_start": np.int64,
    "level_end": np.int64,
}
_LEVEL: dict[str, type[np.generic]] = {
    "side": np.int8,
    "px": np.int64,
    "px_dp": np.int8,
    "sz": np.int64,
    "sz_dp": np.int8,
}


@dataclass(frozen=True)
class BookBatch:
    """The usable book records of one block, in file order, and the lines that are not usable.

    A number is digits / 10**decimals with at most 18 digits; the zeros at the end of its decimals
    are dropped, so that equal numbers are equal pairs.

    Attributes:
        line: index of each record's line in the block; a line may hold several records.
        is_snapshot: whether the record is a whole book rather than changes to one.
        ts_us: event time in microseconds, -1 where the record carries none.
        first_id: first sequence number that an update covers, -1 for none.
        last_id: the last one, -1 for none.
        prev_id: the sequence number it follows on, -1 for none.
        level_start: first of the record's levels; they follow on those of the record before.
        level_end: just past its last one.
        side: by level, 0 bid, 1 ask; levels stand as in the record.
        px: by level, digits of the price, above 0.
        px_dp: its decimals.
        sz: by level, digits of the size in the exchange's own unit; 0 deletes the level.
        sz_dp: its decimals.
    """

    block: Block
    rejects: list[Reject]
    line: Ints
    is_snapshot: Flags
    ts_us: Ints
    first_id: Ints
    last_id: Ints
    prev_id: Ints
    level_start: Ints
    level_end: Ints
    side: Small
    px: Ints
    px_dp: Small
    sz: Ints
    sz_dp: Small

    @property
    def records(self) -> int:
        """Book records and bad lines together."""
        return len(self.line) + len(self.rejects)


def decode_books(block: Block, exchange: str, inst_id: str) -> BookBatch:
    """Decode a block of lines of a book feed; blank lines are skipped.

    Args:
        block: whole lines.
        exchange: the folder's exchange; a name not known is read as the plain format.
        inst_id: the folder's instrument, which records must be of.
    """
    adapter = book_adapter(exchange)
    if block.torn or block.too_long:
        reason = "torn" if block.torn else "too long"
        bad = [Reject.of(block, 0, reason)] if block.line(0).strip() else []
        return _batch(block, bad, [_columns([])])
    fast, taken = _read_columns(block, exchange, adapter, inst_id)
    found, rejects = read_block(
        block, lines_left(block, taken), lambda line: read_books(line, adapter, inst_id)
    )
    return _batch(block, rejects, [*fast, _columns(found)])


Part = tuple[Columns, Columns]
"""Columns of records, their levels counted from 0, and columns of levels."""


@cache
def _slots(exchange: str) -> Slots:
    return Slots.of(book_adapter(exchange))


def _read_columns(
    block: Block, exchange: str, adapter: FeedAdapter[BookShape], inst_id: str
) -> tuple[list[Part], Ints]:
    """Read what is surely valid; also the lines it stood in."""
    fields = _slots(exchange).scan(block)
    parts = [_read_shape(own, shape, inst_id) for shape, own in by_shape(fields, adapter)]
    if not parts:
        return [], np.zeros(0, np.int64)
    records = in_file_order(parts)
    lines, count = fields.lines, fields.levels
    columns = (lines.side, lines.number[0], lines.dp[0], lines.number[1], lines.dp[1])
    levels = {name: column[:count] for name, column in zip(_LEVEL, columns, strict=True)}
    return [(records, levels)], records["line"]


def _read_shape(fields: Fields, shape: BookShape, inst_id: str) -> Columns:
    fits, ts_us = read_times(fields, shape, inst_id)
    for key in shape.sides:
        fits &= fields.kind(key) == LEVELS
    ids = [read_ids(fields, declared) for declared in (shape.first, shape.last, shape.prev)]
    for are_sure, _ in ids:
        fits &= are_sure
    first, last, prev = (values for _, values in ids)
    fits &= first <= last
    if shape.first is not None and shape.prev is not None:
        prev = np.where(fields.has(shape.prev.key), prev, first - 1)
    rows, ends = fields.rows, fields.lines.level_end
    return {
        "line": rows[fits],
        "is_snapshot": np.full(int(fits.sum()), shape.is_snapshot),
        "ts_us": ts_us[fits],
        "first_id": first[fits],
        "last_id": last[fits],
        "prev_id": prev[fits],
        "level_start": np.where(rows > 0, ends[rows - 1], 0)[fits],
        "level_end": ends[rows][fits],
    }


def _columns(found: list[tuple[int, RawBook]]) -> Part:
    """Records of the careful path as columns."""
    counts = np.array([len(book.levels) for _, book in found], np.int64)
    ends = np.cumsum(counts)
    rows = [
        (line, *book[:5], start, end)
        for (line, book), start, end in zip(found, ends - counts, ends, strict=True)
    ]
    levels = [level for _, book in found for level in book.levels]
    return _arrays(rows, _RECORD), _arrays(levels, _LEVEL)


def _arrays(rows: Sequence[tuple[int, ...]], types: dict[str, type[np.generic]]) -> Columns:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(types)
    return {
        name: np.array(column, kind)
        for (name, kind), column in zip(types.items(), columns, strict=True)
    }


def _batch(block: Block, rejects: list[Reject], parts: list[Part]) -> BookBatch:
    """Put parts together in file order, with their levels one after the other."""
    passed = 0
    for records, levels in parts:
        records["level_start"] += passed
        records["level_end"] += passed
        passed += len(levels["side"])
    records = in_file_order([records for records, _ in parts])
    filled = [levels for _, levels in parts if len(levels["side"])] or [parts[0][1]]
    levels = {
        name: np.concatenate([part[name] for part in filled])
        if len(filled) > 1
        else filled[0][name]
        for name in _LEVEL
    }
    starts, counts = records["level_start"], records["level_end"] - records["level_start"]
    ends = np.cumsum(counts)
    if not (starts == ends - counts).all() or len(levels["side"]) > int(counts.sum()):
        where = np.repeat(starts - (ends - counts), counts) + np.arange(int(counts.sum()))
        levels = {name: column[where] for name, column in levels.items()}
    records |= {"level_start": ends - counts, "level_end": ends}
    return BookBatch(block, rejects, **records, **levels)
