"""Liquidated positions by minute, longs and shorts.

Coinalyze's bars of 1 minute; a bar counts in its minute, in its last version before a later one
comes.
"""

from __future__ import annotations

import msgspec

from pipeline.calc.observed import Feed, cells, total
from pipeline.exact import check_positive, nearest, subtract
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, liquidations, settle
from pipeline.raw.held import Held
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[liquidations]`."""

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
    settled = settle(batch, before.held, feed.clock, jump_us, liquidations)
    closed, repeated = cells(feed, settled.good, MINUTE_US)
    rows: list[Row] = []
    for start, values in closed:
        longs, shorts = total(values, 0), total(values, 1)
        rows.append((start, (nearest(longs), nearest(shorts), nearest(subtract(longs, shorts)))))
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
    "liquidations_1m",
    "liquidations",
    "jsonl",
    (
        Column(
            "long_liquidations", "float", "as the feed has it", "long positions closed by force"
        ),
        Column(
            "short_liquidations", "float", "as the feed has it", "short positions closed by force"
        ),
        Column("net", "float", "as the feed has it", "long_liquidations - short_liquidations"),
    ),
    "Positions closed by force in a minute with a bar of the feed.",
    span_us=MINUTE_US,
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> ContextBatch:
    del instrument, contract
    return decode_context(block, liquidations)


STAGE = Stage(
    name="liquidations",
    source="raw:liquidations",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
)
