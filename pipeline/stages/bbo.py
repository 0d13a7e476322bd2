"""Best bids and offers as the exchange sends them (Parquet).

One row is one record of the quotes feed, in file order, at its own time or the clock's if that is
later. Binance sends those of its spot market without a time, only with an update id: such rows
have no `ts`; stage `quote` times them by the book feed. On a tape (the NBBO) a side may be missing:
from there on no quote is in force.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.clock import UNTIMED, Ints, judge
from pipeline.calc.new_york import close_of
from pipeline.calc.scales import Floats
from pipeline.exact import check_positive, parse_decimal
from pipeline.instrument import CRYPTO, TAPES, Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block, UnknownContractError
from pipeline.raw.held import Held, in_order, still_held
from pipeline.raw.quotes import QuoteBatch, decode_quotes
from pipeline.reach import RAW, Reach
from pipeline.stage import Closed, Context, Stage

_INVERSE_DECIMALS = 12
_POWERS = 10.0 ** np.arange(19)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[bbo]`."""

    max_jump_ms: int = 300_000

    def __post_init__(self) -> None:
        """Refuse a value that makes no sense."""
        check_positive(max_jump_ms=self.max_jump_ms)


class Carry(msgspec.Struct):
    """What outlives a run.

    Attributes:
        newest_id: the largest update id so far; -1 for none.
        is_ticker: whether the first record was a ticker, which does not come with every change of
            the best bid or offer; null before the first record.
        is_timed: whether it carried a time.
    """

    clock: int | None = None
    newest_id: int = -1
    is_ticker: bool | None = None
    is_timed: bool | None = None
    held: list[Held] = []


def fold(batch: QuoteBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Put one block's quotes in order."""
    held = before.held
    whole = batch
    for each in reversed(held):
        old = decode_quotes(each.block, context.instrument.exchange, context.instrument.inst_id)
        whole = _behind(old, each.record, whole)
    jump_us = context.params.max_jump_ms * 1000
    end_us = close_of(batch.block.day) if batch.block.ended else None
    judged = judge(whole.ts_us, before.clock, jump_us, end_us)
    rejects = in_order(batch, batch.rejects, judged.future, held)
    good = judged.good
    ids = np.maximum.accumulate(np.maximum(whole.update_id[good], before.newest_id))
    waiting = still_held(batch, judged.held, held)
    carry = msgspec.structs.replace(before, clock=judged.clock, held=waiting)
    if len(good):
        carry.newest_id = int(ids[-1])
        if carry.is_ticker is None:
            carry.is_ticker = bool(whole.is_ticker[good[0]])
            carry.is_timed = bool(whole.ts_us[good[0]] >= 0)
    return Closed(
        carry,
        {"bbo": _rows(whole, good, judged.times, ids, context.contract) if len(good) else None},
        [reject for _, reject in sorted(rejects, key=lambda pair: pair[0])],
        rows_in=batch.records,
        bad=len(rejects),
        watermark_us=carry.clock,
    )


def _behind(old: QuoteBatch, record: int, batch: QuoteBatch) -> QuoteBatch:
    """The batch with an older record in front of it."""
    columns = {
        name: np.concatenate((getattr(old, name)[record : record + 1], getattr(batch, name)))
        for name in QuoteBatch.__dataclass_fields__
        if name not in ("block", "rejects")
    }
    return QuoteBatch(batch.block, batch.rejects, **columns)


def _rows(
    batch: QuoteBatch, good: Ints, times: Ints, ids: Ints, contract: Contract
) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "ts": pl.Series(times).replace(UNTIMED, None).cast(pl.Datetime("us", "UTC")),
        "id": pl.Series(batch.update_id[good]).replace(-1, None),
        "reached": pl.Series(ids).replace(-1, None),
    }
    for side in ("bid", "ask"):
        digits, decimals = (getattr(batch, side)[good], getattr(batch, f"{side}_dp")[good])
        price = digits / _POWERS[decimals]
        digits, decimals = (
            getattr(batch, f"{side}_sz")[good],
            getattr(batch, f"{side}_sz_dp")[good],
        )
        size = _in_base(digits, decimals, price, contract)
        columns[side] = pl.Series(np.where(price > 0, price, np.nan)).fill_nan(None)
        columns[f"{side}_size"] = pl.Series(np.where(digits <= 0, np.nan, size)).fill_nan(None)
    is_ticker = pl.Series(batch.is_ticker[good])
    kinds = pl.select(pl.when(is_ticker).then(pl.lit("ticker")).otherwise(pl.lit("quote")))
    columns["kind"] = kinds.to_series()
    return pl.DataFrame(columns)


def _in_base(digits: Ints, decimals: Ints, price: Floats, contract: Contract) -> Floats:
    """Sizes in base units, each the nearest double."""
    value, value_dp = parse_decimal(contract.value)
    size = digits * float(value) / (_POWERS[decimals] * 10.0**value_dp)
    return np.round(size / price, _INVERSE_DECIMALS) if contract.kind == "inverse" else size


LAYER = Layer(
    "bbo",
    "bbo",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time; null if the feed tells none"),
        Column("id", "int64", "", "update id; null if the feed has none"),
        Column("reached", "int64", "", "largest update id so far"),
        Column("bid", "float64", "quote", "best bid; null where a tape has none"),
        Column("bid_size", "float64", "base", "its size; null if a ticker tells none"),
        Column("ask", "float64", "quote", "best ask; null where a tape has none"),
        Column("ask_size", "float64", "base", "its size; null if a ticker tells none"),
        Column("kind", "string", "", "quote: one for every change; ticker: now and then"),
    ),
    "Best bids and offers as the exchange sends them, in file order.",
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> QuoteBatch:
    batch = decode_quotes(block, instrument.exchange, instrument.inst_id)
    if not contract.value and (batch.bid_sz >= 0).any():
        raise UnknownContractError(block.line_offset(int(batch.line[0])), block.source)
    return batch


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del params, tick
    return (Reach(RAW, note="the largest id is that of all lines before"),)


STAGE = Stage(
    name="bbo",
    source="raw:quotes",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
    markets=CRYPTO | TAPES,
)
