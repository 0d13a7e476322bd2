"""Large transfers on chain by hour: dollars into and out of exchanges.

Whale Alert's transactions of the instrument's coin, each once.
"""

from __future__ import annotations

import msgspec

from pipeline.calc.observed import Feed, cells, total
from pipeline.exact import check_positive, nearest, subtract
from pipeline.instrument import Contract, Instrument, coin_of
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.context import ContextBatch, decode_context, settle, whale_alerts
from pipeline.raw.held import Held
from pipeline.reach import RAW, Reach
from pipeline.stage import Closed, Context, Row, Stage

HOUR_US = 3_600_000_000


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[whale_alerts]`."""

    max_jump_ms: int = 300_000
    dedup_window: int = 10_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms, dedup_window=self.dedup_window)


class Carry(msgspec.Struct):
    """What outlives a run."""

    feed: Feed = msgspec.field(default_factory=Feed)
    held: list[Held] = []


def fold(batch: ContextBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Take one block's records and close the cells that are over."""
    feed = msgspec.structs.replace(before.feed)
    jump_us = context.params.max_jump_ms * 1000
    settled = settle(
        batch, before.held, feed.clock, jump_us, whale_alerts(coin_of(context.instrument.inst_id))
    )
    closed, repeated = cells(feed, settled.good, HOUR_US, context.params.dedup_window)
    rows: list[Row] = []
    for start, values in closed:
        inflow, outflow = total(values, 0), total(values, 1)
        net = nearest(subtract(inflow, outflow))
        rows.append((start, (nearest(inflow), nearest(outflow), net, len(values))))
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
