"""Large transfers on chain by hour: dollars into and out of exchanges.

Whale Alert's transactions of the instrument's coin, each once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.calc.observed import Values, total
from pipeline.exact import check_positive, nearest, subtract
from pipeline.instrument import Contract, Instrument, coin_of
from pipeline.layers import Column, Layer
from pipeline.raw import context_cells
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, whale_alerts
from pipeline.raw.context_cells import Carry, close_cells
from pipeline.reach import RAW, Reach
from pipeline.stage import HOUR_US, Closed, Context, Stage


class Params(context_cells.Params, frozen=True, forbid_unknown_fields=True):
    """Settings of `[whale_alerts]`."""

    dedup_window: int = 10_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms, dedup_window=self.dedup_window)


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the hours that are over."""
    return close_cells(
        batch,
        before,
        context.params,
        whale_alerts(coin_of(context.instrument.inst_id)),
        HOUR_US,
        layer=LAYER.name,
        row=_row,
        remembered=context.params.dedup_window,
    )


def _row(carry: Carry, observed: Sequence[Values]) -> tuple[Any, ...]:
    del carry
    inflow, outflow = total(observed, 0), total(observed, 1)
    return nearest(inflow), nearest(outflow), nearest(subtract(inflow, outflow)), len(observed)


LAYER = Layer(
    "whale_alerts_1h",
    "whale_alerts",
    "jsonl",
    (
        Column("exchange_inflow_usd", "float", "USD", "sent to exchanges"),
        Column("exchange_outflow_usd", "float", "USD", "sent from exchanges"),
        Column("net_usd", "float", "USD", "exchange_inflow_usd - exchange_outflow_usd"),
        Column("count", "int", "", "transactions of the coin, all kinds"),
    ),
    "Large transfers of the instrument's coin in an hour with at least one.",
    span_us=HOUR_US,
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> ContextBatch:
    del contract
    return decode_context(block, whale_alerts(coin_of(instrument.inst_id)))


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del tick
    note = f"one whose id is among the {params.dedup_window} before it was left out"
    return (Reach(RAW, note=note),)


STAGE = Stage(
    name="whale_alerts",
    source="raw:whale_alerts",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
