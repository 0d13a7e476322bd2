"""A block of raw quote lines as columns of exact numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.raw.block import Block, Reject
from pipeline.raw.book_lines import NONE, RawQuote, read_block, read_quotes
from pipeline.raw.feed import ASK, BID, FeedAdapter, QuoteShape, quote_adapter
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

_COLUMNS: dict[str, type[np.generic]] = {
    "line": np.int64,
    "ts_us": np.int64,
    "update_id": np.int64,
    "bid": np.int64,
    "bid_dp": np.int8,
    "bid_sz": np.int64,
    "bid_sz_dp": np.int8,
    "ask": np.int64,
    "ask_dp": np.int8,
    "ask_sz": np.int64,
    "ask_sz_dp": np.int8,
    "is_ticker": np.bool_,
}


@dataclass(frozen=True)
class QuoteBatch:
    """The usable quotes of one block, in file order, and the lines that are not usable.

    A number is digits / 10**decimals with at most 18 digits; the zeros at the end of its decimals
    are dropped, so that equal numbers are equal pairs. Prices and sizes are above 0; on a tape both
    are 0 for a side without a quote.

    Attributes:
        line: index of each record's line in the block; a line may hold several records.
        ts_us: event time in microseconds, -1 where the record carries none.
        update_id: its sequence number, -1 for none.
        bid: digits of the best bid; `bid_dp` its decimals.
        bid_sz: digits of its size in the exchange's own unit, -1 where a ticker carries none;
            `bid_sz_dp` its decimals.
        ask: as `bid`, of the best ask.
        is_ticker: the record does not follow every change.
    """

    block: Block
    rejects: list[Reject]
    line: Ints
    ts_us: Ints
    update_id: Ints
    bid: Ints
    bid_dp: Small
    bid_sz: Ints
    bid_sz_dp: Small
    ask: Ints
    ask_dp: Small
    ask_sz: Ints
    ask_sz_dp: Small
    is_ticker: Flags

    @property
    def records(self) -> int:
        """Quotes and bad lines together."""
        return len(self.line) + len(self.rejects)


def decode_quotes(block: Block, exchange: str, inst_id: str) -> QuoteBatch:
    """Decode a block of lines of a quote feed; blank lines are skipped.

    Args:
        block: whole lines.
        exchange: the folder's exchange; a name not known is read as the plain format.
        inst_id: the folder's instrument, which records must be of.
    """
    adapter = quote_adapter(exchange)
    if block.ended:
        return QuoteBatch(block, [], **_columns([]))
    if block.torn or block.too_long:
        reason = "torn" if block.torn else "too long"
        bad = [Reject.of(block, 0, reason)] if block.line(0).strip() else []
        return QuoteBatch(block, bad, **_columns([]))
    fast, taken = _read_columns(block, exchange, adapter, inst_id)
    found, rejects = read_block(
        block, lines_left(block, taken), lambda line: read_quotes(line, adapter, inst_id)
    )
    return QuoteBatch(block, rejects, **in_file_order([*fast, _columns(found)]))


@cache
def _slots(exchange: str) -> Slots:
    return Slots.of(quote_adapter(exchange))


def _read_columns(
    block: Block, exchange: str, adapter: FeedAdapter[QuoteShape], inst_id: str
) -> tuple[list[Columns], Ints]:
    """Read what is surely valid; also the lines it stood in."""
    fields = _slots(exchange).scan(block)
    parts = [_read_shape(own, shape, inst_id) for shape, own in by_shape(fields, adapter)]
    lines = [part["line"] for part in parts]
    return parts, np.concatenate(lines) if lines else np.zeros(0, np.int64)


def _read_shape(fields: Fields, shape: QuoteShape, inst_id: str) -> Columns:
    fits, ts_us = read_times(fields, shape, inst_id)
    are_sure, update_id = read_ids(fields, shape.update_id)
    fits &= are_sure
    if shape.prices is None or shape.sizes is None:
        are_sure, numbers = _tops(fields, shape)
    else:
        are_sure, numbers = _numbers(fields, shape, shape.prices, shape.sizes)
    fits &= are_sure
    columns = {"line": fields.rows, "ts_us": ts_us, "update_id": update_id, **numbers}
    columns["is_ticker"] = np.full(len(fields.rows), shape.is_ticker)
    return {name: columns[name][fits] for name in _COLUMNS}


def _numbers(
    fields: Fields, shape: QuoteShape, prices: tuple[str, str], sizes: tuple[str, str]
) -> tuple[Flags, Columns]:
    """Prices and sizes that stand under keys of their own."""
    fits = np.ones(len(fields.rows), np.bool_)
    columns: Columns = {}
    has_no_size = np.zeros(len(fields.rows), np.bool_)
    if not shape.is_sized:
        has_no_size = ~fields.has(sizes[0]) & ~fields.has(sizes[1])
    for side, price, size in zip(("bid", "ask"), prices, sizes, strict=True):
        worth, places = fields.decimals(price)
        amount, columns[f"{side}_sz_dp"] = fields.decimals(size)
        if shape.may_lack_sides:
            worth[~fields.is_set(price)] = 0
            amount[worth == 0] = 0
            fits &= (worth >= 0) & (amount >= 0)
            worth[amount == 0], places[amount == 0] = 0, 0
            columns[f"{side}_sz_dp"][amount == 0] = 0
        else:
            fits &= (worth > 0) & ((amount > 0) | has_no_size)
        amount[has_no_size] = NONE
        columns[side], columns[f"{side}_dp"], columns[f"{side}_sz"] = worth, places, amount
    return fits, columns


def _tops(fields: Fields, shape: QuoteShape) -> tuple[Flags, Columns]:
    """Prices and sizes that stand as one level a side."""
    rows, lines = fields.rows, fields.lines
    start = np.where(rows > 0, lines.level_end[rows - 1], 0)
    fits = lines.level_end[rows] - start == 2  # noqa: PLR2004  (a bid and an ask)
    for key in shape.sides:
        fits &= fields.kind(key) == LEVELS
    start = np.where(fits, start, 0)
    after = np.where(fits, start + 1, 0)
    fits &= lines.side[start] != lines.side[after]
    columns: Columns = {}
    for name, side in (("bid", BID), ("ask", ASK)):
        at = np.where(lines.side[start] == side, start, after)
        columns[name], columns[f"{name}_dp"] = lines.number[0, at], lines.dp[0, at]
        columns[f"{name}_sz"], columns[f"{name}_sz_dp"] = lines.number[1, at], lines.dp[1, at]
        fits &= columns[f"{name}_sz"] > 0
    return fits, columns


def _columns(found: list[tuple[int, RawQuote]]) -> Columns:
    """Quotes of the careful path as columns."""
    rows = [
        (line, q.ts_us, q.update_id, *q.bid, *q.bid_size, *q.ask, *q.ask_size, q.is_ticker)
        for line, q in found
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_COLUMNS)
    return {
        name: np.array(column, kind)
        for (name, kind), column in zip(_COLUMNS.items(), columns, strict=True)
    }
