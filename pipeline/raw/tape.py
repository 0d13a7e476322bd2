"""A block of raw lines of a consolidated tape's trades as columns.

{"ts":"2013-10-07T13:30:00.125Z","seq":0,"ex":"N","price":48.9,"size":50,"cond":"","corr":0}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from pipeline.raw.block import Block, Reject
from pipeline.raw.book_lines import (
    NONE,
    Record,
    event_us,
    positive,
    read_block,
    records_of,
    sequence_number,
)
from pipeline.raw.feed import FeedAdapter, Id, TapeShape, tape_adapter
from pipeline.raw.fields import Fields, Slots, by_shape, lines_left, read_times
from pipeline.raw.scan import Flags, Ints
from pipeline.raw.shape import BadRecordError

MAX_SHARES = 10**10
"""Of one trade; more is no trade, and sums of less cannot overflow."""

_POWERS = 10.0 ** np.arange(19)
_TEXT = re.compile(r"[ -\x7f]{0,32}", re.ASCII)
SCHEMA: dict[str, Any] = {
    "line": pl.Int64,
    "ts": pl.Int64,
    "seq": pl.Int64,
    "price": pl.Float64,
    "size": pl.Float64,
    "ex": pl.String,
    "cond": pl.String,
    "corr": pl.Int64,
}


class RawPrint(NamedTuple):
    """One trade of a tape; `NONE` for a sequence number that it does not carry."""

    ts_us: int
    sequence: int
    price: tuple[int, int]
    size: tuple[int, int]
    texts: tuple[str, str]
    correction: int


@dataclass(frozen=True)
class TapeBatch:
    """The usable trades of one block, in file order, and the lines that are not usable.

    `frame` has the columns of `SCHEMA`: the line's index in the block, microseconds, the sequence
    number or null, price, shares, place, sale conditions and correction ("" and 0 for none).
    """

    block: Block
    frame: pl.DataFrame
    rejects: list[Reject]
    keeps_times: bool = True
    """Its trades count at their own times, in whatever order they come."""

    @property
    def line(self) -> Ints:
        """Index of each trade's line in the block."""
        return self.frame["line"].to_numpy()

    @property
    def ts_us(self) -> Ints:
        """Event times, microseconds."""
        return self.frame["ts"].to_numpy()

    def keys(self) -> pl.Series:
        """What each trade is known by: all its fields; null if it carries no number."""
        fields = pl.struct(pl.exclude("line")).struct.json_encode()
        return self.frame.select(pl.when(pl.col("seq").is_not_null()).then(fields)).to_series()

    @property
    def records(self) -> int:
        """Trades and bad lines together."""
        return self.frame.height + len(self.rejects)


def decode_tape(block: Block, inst_id: str) -> TapeBatch:
    """Decode a block of lines of a tape's trades; blank lines are skipped.

    Args:
        block: whole lines.
        inst_id: the folder's symbol, which a record that names one must be of.
    """
    nothing = pl.DataFrame(schema=SCHEMA)
    if block.ended:
        return TapeBatch(block, nothing, [])
    if block.torn or block.too_long:
        reason = "torn" if block.torn else "too long"
        bad = [Reject.of(block, 0, reason)] if block.line(0).strip() else []
        return TapeBatch(block, nothing, bad)
    adapter = tape_adapter()
    parts = [
        _read_shape(fields, shape, inst_id)
        for shape, fields in by_shape(_slots().scan(block), adapter)
    ]
    fast = pl.concat([nothing, *parts])
    found, rejects = read_block(
        block,
        lines_left(block, fast["line"].to_numpy()),
        lambda line: read_prints(line, adapter, inst_id),
    )
    if not found:
        return TapeBatch(block, fast, rejects)
    frame = pl.concat([fast, _frame(found)]).sort("line", maintain_order=True)
    return TapeBatch(block, frame, rejects)


def read_prints(line: bytes, adapter: FeedAdapter[TapeShape], inst_id: str) -> list[RawPrint]:
    """Decode one line.

    Raises:
        BadRecordError: anything in it is not as it should be.
    """
    return [_print(record, shape, inst_id) for record, shape in records_of(line, adapter)]


@cache
def _slots() -> Slots:
    return Slots.of(tape_adapter())


def _print(record: Record, shape: TapeShape, inst_id: str) -> RawPrint:
    ts_us = event_us(record, shape, inst_id)
    size = positive(record.get(shape.size), "size")
    if size[0] > MAX_SHARES * 10 ** size[1]:
        raise BadRecordError("magnitude")
    return RawPrint(
        ts_us,
        _number(record, shape.sequence),
        positive(record.get(shape.price), "price"),
        size,
        (_text(record, shape.texts[0]), _text(record, shape.texts[1])),
        max(0, _number(record, shape.correction)),
    )


def _number(record: Record, declared: Id) -> int:
    if record.get(declared.key) is None:
        return NONE
    try:
        return sequence_number(record, declared)
    except BadRecordError as error:
        raise BadRecordError(declared.key) from error


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if type(value) is not str or not _TEXT.fullmatch(value):
        raise BadRecordError(key)
    return value


def _frame(found: list[tuple[int, RawPrint]]) -> pl.DataFrame:
    """Trades of the careful path as columns."""
    rows = [
        (
            *(line, seen.ts_us, None if seen.sequence == NONE else seen.sequence),
            *(seen.price[0] / _POWERS[seen.price[1]], seen.size[0] / _POWERS[seen.size[1]]),
            *(*seen.texts, seen.correction),
        )
        for line, seen in found
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _read_shape(fields: Fields, shape: TapeShape, inst_id: str) -> pl.DataFrame:
    """What is surely valid; all else is left to the careful path."""
    fits, ts_us = read_times(fields, shape, inst_id)
    sequence = _integers(fields, shape.sequence.key)
    correction = _integers(fields, shape.correction.key)
    price, price_dp = fields.decimals(shape.price)
    size, size_dp = fields.decimals(shape.size)
    shares = size / _POWERS[size_dp]
    fits &= (sequence >= NONE) & (correction >= NONE) & (price > 0) & (size > 0)
    fits &= shares < MAX_SHARES
    columns = {
        "line": fields.rows,
        "ts": ts_us,
        "seq": sequence,
        "price": price / _POWERS[price_dp],
        "size": shares,
    }
    frame = pl.DataFrame(columns).with_columns(pl.col("seq").replace(NONE, None))
    for name, key in zip(("ex", "cond"), shape.texts, strict=True):
        are_texts, which, texts = fields.texts(key)
        fits &= are_texts
        frame = frame.with_columns(pl.Series(name, texts, dtype=pl.String)[which].alias(name))
    frame = frame.with_columns(pl.Series("corr", np.maximum(correction, 0)))
    return frame.filter(pl.Series(fits)).select(list(SCHEMA))


def _integers(fields: Fields, key: str) -> Ints:
    """Integers of up to 18 digits, `NONE` where there is none; -1 itself is not sure."""
    found = fields.integers(key)
    found[found == NONE] = NONE - 1
    is_missing: Flags = ~fields.is_set(key)
    found[is_missing] = NONE
    return found
