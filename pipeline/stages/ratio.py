"""Long/short ratio of accounts by minute.

Coinalyze's bars; a minute has the last one that begins in it, in its last version before a later
one comes.
"""

from __future__ import annotations

import msgspec

from pipeline.calc.observed import Feed, cells
from pipeline.exact import check_positive, nearest
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, ratio, settle
from pipeline.raw.held import Held
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[ratio]`."""

    max_jump_ms: int = 300_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms)


class Carry(msgspec.Struct):
    """What outlives a run."""

    feed: Feed = msgspec.field(default_factory=Feed)
    held: list[Held] = []


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the cells that are over."""
    feed = msgspec.structs.replace(before.feed)
    jump_us = context.params.max_jump_ms * 1000
    settled = settle(batch, before.held, feed.clock, jump_us, ratio)
    closed, repeated = cells(feed, settled.good, MINUTE_US)
    rows: list[Row] = [
        (start, tuple(nearest(value) for value in values[-1])) for start, values in closed
    ]
    return Closed(
        Carry(feed, settled.held),
        {LAYER.name: rows},
        settled.rejects,
        rows_in=batch.records,
        duplicate=repeated,
        bad=len(settled.rejects),
        watermark_us=settled.clock,
    )


LAYER = Layer(
    "ratio_1m",
    "ratio",
    "jsonl",
    (
        Column("long_short_ratio", "float", "", "accounts that are long / accounts that are short"),
        Column("long_pct", "float", "%", "share of accounts that are long"),
        Column("short_pct", "float", "%", "share of accounts that are short"),
    ),
    "The long/short ratio of accounts in a minute with a bar of the feed.",
    span_us=MINUTE_US,
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> ContextBatch:
    del instrument, contract
    return decode_context(block, ratio)


STAGE = Stage(
    name="ratio",
    source="raw:ratio",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
)
