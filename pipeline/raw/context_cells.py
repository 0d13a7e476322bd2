"""What the stages of context feeds have in common: a feed's observations, closed cell by cell.

No stage itself. Each of them says how a line is read, how long a cell is, and what row a cell
makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from pipeline.calc.observed import Feed, Values, cells
from pipeline.exact import check_positive
from pipeline.raw.context import ContextBatch, Read, settle
from pipeline.raw.held import Held
from pipeline.stage import Closed, Row


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a context feed: how far a record may run ahead before it must be confirmed."""

    max_jump_ms: int = 300_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms)


class Carry(msgspec.Struct):
    """What outlives a run."""

    feed: Feed = msgspec.field(default_factory=Feed)
    held: list[Held] = []


class HasJump(Protocol):
    """Settings that hold `max_jump_ms`."""

    @property
    def max_jump_ms(self) -> int:
        """How far a record may run ahead of the one before it, milliseconds."""


C = TypeVar("C", bound=Carry)


def close_cells(
    batch: ContextBatch,
    before: C,
    params: HasJump,
    read: Read,
    span_us: int,
    *,
    layer: str,
    row: Callable[[C, Sequence[Values]], tuple[Any, ...]],
    remembered: int = 0,
) -> Closed[C]:
    """Take one block's records and close the cells that are over.

    Args:
        batch: the block.
        before: the carry, not changed.
        params: the stage's settings.
        read: makes observations of one line's object.
        span_us: length of a cell, microseconds.
        layer: what the rows belong to.
        row: a row's values from the new carry, which it may move on, and what a cell observed.
        remembered: how many ids of records are known again.
    """
    carry = msgspec.structs.replace(before, feed=msgspec.structs.replace(before.feed))
    jump_us = params.max_jump_ms * 1000
    settled = settle(batch, before.held, carry.feed.clock, jump_us, read)
    closed, repeated = cells(carry.feed, settled.good, span_us, remembered)
    carry.held = settled.held
    rows: list[Row] = [(start, row(carry, values)) for start, values in closed]
    return Closed(
        carry,
        {layer: rows},
        settled.rejects,
        rows_in=batch.records,
        duplicate=repeated,
        bad=len(settled.rejects),
        watermark_us=settled.clock,
    )
