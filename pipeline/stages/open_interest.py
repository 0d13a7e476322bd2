"""Open interest by minute.

From the exchange's own feed, else Coinalyze's bars: the last value of the minute, of a bar its
close in its last version before a later bar comes.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.calc.observed import Feed, cells
from pipeline.exact import check_positive, nearest, ratio
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, open_interest, settle
from pipeline.raw.held import Held
from pipeline.reach import RAW, Reach
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[open_interest]`."""

    max_jump_ms: int = 300_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms)


class Carry(msgspec.Struct):
    """What outlives a run and the last row's open interest."""

    feed: Feed = msgspec.field(default_factory=Feed)
    held: list[Held] = []
    last: Decimal | None = None


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the cells that are over."""
    feed = msgspec.structs.replace(before.feed)
    jump_us = context.params.max_jump_ms * 1000
    settled = settle(
        batch,
        before.held,
        feed.clock,
        jump_us,
        open_interest(context.instrument.inst_id, context.contract),
    )
    closed, repeated = cells(feed, settled.good, MINUTE_US)
    rows: list[Row] = []
    last = before.last
    for start, values in closed:
        (value,) = values[-1]
        change = (nearest(ratio(value, last)) - 1) * 100 if last else None
        rows.append((start, (nearest(value), change)))
        last = value
    return Closed(
        Carry(feed, settled.held, last),
        {LAYER.name: rows},
        settled.rejects,
        rows_in=batch.records,
        duplicate=repeated,
        bad=len(settled.rejects),
        watermark_us=settled.clock,
    )


LAYER = Layer(
    "open_interest_1m",
    "open_interest",
    "jsonl",
    (
        Column(
            "open_interest", "float", "base", "last value of the minute; Coinalyze's as it has it"
        ),
        Column("change_pct", "float", "%", "against the row before; null in the first, or after 0"),
    ),
    "Open interest at the end of a minute in which the feed told it.",
    span_us=MINUTE_US,
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> ContextBatch:
    return decode_context(block, open_interest(instrument.inst_id, contract))


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del params, tick
    return (Reach(RAW, rows=1),)


STAGE = Stage(
    name="open_interest",
    source="raw:open_interest",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
