"""Liquidated positions by minute, longs and shorts.

Coinalyze's bars of 1 minute; a bar counts in its minute, in its last version before a later one
comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.calc.observed import Values, total
from pipeline.exact import nearest, subtract
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, liquidations
from pipeline.raw.context_cells import Carry, Params, close_cells
from pipeline.stage import MINUTE_US, Closed, Context, Stage


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the minutes that are over."""
    return close_cells(
        batch, before, context.params, liquidations, MINUTE_US, layer=LAYER.name, row=_row
    )


def _row(carry: Carry, observed: Sequence[Values]) -> tuple[Any, ...]:
    del carry
    longs, shorts = total(observed, 0), total(observed, 1)
    return nearest(longs), nearest(shorts), nearest(subtract(longs, shorts))


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
