"""Long/short ratio of accounts by minute.

Coinalyze's bars; a minute has the last one that begins in it, in its last version before a later
one comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.calc.observed import Values
from pipeline.exact import nearest
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, ratio
from pipeline.raw.context_cells import Carry, Params, close_cells
from pipeline.stage import MINUTE_US, Closed, Context, Stage


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the minutes that are over."""
    return close_cells(batch, before, context.params, ratio, MINUTE_US, layer=LAYER.name, row=_row)


def _row(carry: Carry, observed: Sequence[Values]) -> tuple[Any, ...]:
    del carry
    return tuple(nearest(value) for value in observed[-1])


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
