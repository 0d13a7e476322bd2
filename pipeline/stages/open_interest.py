"""Open interest by minute.

From the exchange's own feed, else Coinalyze's bars: the last value of the minute, of a bar its
close in its last version before a later bar comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.calc.observed import Values
from pipeline.exact import nearest, ratio
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw import context_cells
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, open_interest
from pipeline.raw.context_cells import Params, close_cells
from pipeline.reach import RAW, Reach
from pipeline.stage import MINUTE_US, Closed, Context, Stage


class Carry(context_cells.Carry):
    """What outlives a run and the last row's open interest."""

    last: Decimal | None = None


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the minutes that are over."""
    read = open_interest(context.instrument.inst_id, context.contract)
    return close_cells(batch, before, context.params, read, MINUTE_US, layer=LAYER.name, row=_row)


def _row(carry: Carry, observed: Sequence[Values]) -> tuple[Any, ...]:
    """The last value, and its change against the row before."""
    (value,) = observed[-1]
    change = (nearest(ratio(value, carry.last)) - 1) * 100 if carry.last else None
    carry.last = value
    return nearest(value), change


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
