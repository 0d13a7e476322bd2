"""Positions as their owner tells them, in base units (Parquet).

One row is one record {"ts":…,"position":…} of raw/{exchange}/positions_{market}/{INSTID}/, in file
order, at its own time or the clock's if that is later. Below zero is short. Nobody waits for the
next record: a position holds until then.
"""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.clock import judge
from pipeline.exact import check_positive
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block
from pipeline.raw.held import Held, by_place, in_order, still_held
from pipeline.raw.positions import PositionBatch, decode_positions
from pipeline.stage import Closed, Context, Stage


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[positions]`."""

    max_jump_ms: int = 300_000

    def __post_init__(self) -> None:
        """Refuse a value that makes no sense."""
        check_positive(max_jump_ms=self.max_jump_ms)


class Carry(msgspec.Struct):
    """What outlives a run."""

    clock: int | None = None
    held: list[Held] = []


def fold(batch: PositionBatch, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Put one block's positions in order."""
    held = carry.held
    old = [decode_positions(each.block, context.instrument.inst_id) for each in held]
    records = [(each.record, before) for each, before in zip(held, old, strict=True)]
    stamps = [before.ts_us[place : place + 1] for place, before in records]
    values = [before.position[place : place + 1] for place, before in records]
    ts_us = np.concatenate((*stamps, batch.ts_us))
    judged = judge(ts_us, carry.clock, context.params.max_jump_ms * 1000)
    rejects = in_order(batch, batch.rejects, judged.future, held)
    after = Carry(judged.clock, still_held(batch, judged.held, held))
    rows = None
    if len(judged.good):
        stamped = pl.Series(judged.times).cast(pl.Datetime("us", "UTC"))
        positions = np.concatenate((*values, batch.position))[judged.good]
        rows = pl.DataFrame({"ts": stamped, "position": positions})
    return Closed(
        after,
        {"positions": rows},
        by_place(rejects),
        rows_in=batch.records,
        bad=len(rejects),
        watermark_us=after.clock,
    )


LAYER = Layer(
    "positions",
    "positions",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time, never falling"),
        Column("position", "float64", "base", "what is held from then on; below 0: short"),
    ),
    "Positions as their owner tells them, in file order.",
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> PositionBatch:
    del contract
    return decode_positions(block, instrument.inst_id)


STAGE = Stage(
    name="positions",
    source="raw:positions",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
)
