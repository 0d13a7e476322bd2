"""Trades of a consolidated tape, decoded and checked (US equities, Parquet).

One row is one trade, in file order, at its own time. Records are judged as those of `trades` are:
one that repeats another of the last 100 000 (the same in every field, its number on the tape
included) is dropped; one more than five minutes ahead of the watermark waits for the next good
one; a trade of a minute that has closed is late. When a day's file has ended (a later day's is
there, or it is compressed and whole) the watermark is no earlier than that day's 16:00 New York
time: a quote or trade that never comes is not waited for.
"""

from __future__ import annotations

from itertools import count
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.clock import Ints, judge
from pipeline.calc.new_york import close_of
from pipeline.exact import check_positive
from pipeline.instrument import TAPES, Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block, Reject
from pipeline.raw.held import Held, in_order, still_held
from pipeline.raw.tape import TapeBatch, decode_tape
from pipeline.reach import RAW, Reach
from pipeline.stage import BEGINNING_US, MINUTE_US, Closed, Context, Stage

_STAMP = pl.col("ts").cast(pl.Datetime("us", "UTC"))
_FIELDS = ("ts", "seq", "price", "size", "ex", "cond", "corr")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[tape]`."""

    lateness_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_jump_ms: int = 300_000
    dedup_window: int = 100_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms, dedup_window=self.dedup_window)


class Carry(msgspec.Struct):
    """What outlives a run: the clock, the newest (time, number), and a record that must wait."""

    clock: int | None = None
    newest: tuple[int, int] | None = None
    held: list[Held] = []


class _Judged(NamedTuple):
    """What became of records, by their indices; see `pipeline.calc.clock.Judged`."""

    kept: Ints
    late: Ints
    future: list[tuple[int, int]]
    held: list[int]
    clock: int | None
    duplicate: int = 0


def fold(batch: TapeBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Judge one block's trades."""
    params, held = context.params, before.held
    frame = pl.concat([*(_again(each, context) for each in held), batch.frame])
    end_us = close_of(batch.block.day) if batch.block.ended else None
    judged = _judge(frame, before, context, end_us)
    ordered = in_order(batch, batch.rejects, judged.future, held)
    bad = len(ordered)
    if context.reinstated is None:
        for index in judged.late.tolist():
            reject = Reject.of(batch.block, int(frame["line"][index]), "late")
            ordered.append(((reject.offset, index, 1), reject))
    kept = frame[judged.kept].select(_FIELDS)
    after = Carry(judged.clock, _newest(kept, before), still_held(batch, judged.held, held))
    late = frame[judged.late].select(_FIELDS)
    if context.reinstated is not None:
        kept = _reinstate(kept, before.clock, judged.clock, context)
    lateness_us = params.lateness_ms * 1000
    return Closed(
        after,
        {"tape": kept.with_columns(_STAMP) if kept.height else None},
        [reject for _, reject in sorted(ordered, key=lambda pair: pair[0])],
        rows_in=batch.records,
        late=late.height if context.reinstated is None else 0,
        duplicate=judged.duplicate,
        bad=bad,
        watermark_us=None if judged.clock is None else judged.clock - lateness_us,
        aside=late if late.height else None,
    )


def _again(held: Held, context: Context[Params]) -> pl.DataFrame:
    """A record that waited, decoded once more."""
    return decode_tape(held.block, context.instrument.inst_id).frame[held.record : held.record + 1]


def _newest(kept: pl.DataFrame, before: Carry) -> tuple[int, int] | None:
    """The largest (time, number) so far."""
    pairs = kept.select("ts", "seq").drop_nulls().sort("ts", "seq")
    known = [] if before.newest is None else [before.newest]
    return max([*known, *pairs.tail(1).rows()], default=None)


def _judge(
    frame: pl.DataFrame, before: Carry, context: Context[Params], end_us: int | None
) -> _Judged:
    """Drop repeated records, settle those from the future, and find late ones."""
    params = context.params
    known = _known(frame, before, context)
    if known is not None:
        return _one_by_one(frame, before, params, known, end_us)
    stamps = frame["ts"].to_numpy()
    judged = judge(stamps, before.clock, params.max_jump_ms * 1000, end_us)
    first = BEGINNING_US if before.clock is None else before.clock
    clock = np.concatenate(([first], judged.times[:-1]))[: len(judged.good)]
    is_late = _minute_ends(stamps[judged.good]) <= clock - params.lateness_ms * 1000
    good, late = judged.good[~is_late], judged.good[is_late]
    return _Judged(good, late, judged.future, judged.held, judged.clock)


def _minute_ends(us: Ints) -> Ints:
    ends: Ints = (us // MINUTE_US + 1) * MINUTE_US
    return ends


def _known(frame: pl.DataFrame, before: Carry, context: Context[Params]) -> Known | None:
    """The last trades, oldest first, if a record may repeat one of them or of this block."""
    numbered = frame.select(_FIELDS).filter(pl.col("seq").is_not_null())
    if not numbered.height or _rises(numbered, before.newest):
        return None
    size = context.params.dedup_window
    past = None
    if before.newest is not None and context.last_rows is not None:
        past = context.last_rows("tape", size)
    if past is None:
        return {} if numbered.is_duplicated().any() else None
    past = past.select(_FIELDS).with_columns(pl.col("ts").dt.timestamp("us"))
    if not pl.concat([past.filter(pl.col("seq").is_not_null()), numbered]).is_duplicated().any():
        return None
    return dict.fromkeys(_keys(past, -past.height))


def _rises(numbered: pl.DataFrame, newest: tuple[int, int] | None) -> bool:
    """Whether each (time, number) is above all before it."""
    ts, seq = (numbered[name].to_numpy() for name in ("ts", "seq"))
    if newest is not None and (int(ts[0]), int(seq[0])) <= newest:
        return False
    is_later = ts[1:] > ts[:-1]
    return bool((is_later | ((ts[1:] == ts[:-1]) & (seq[1:] > seq[:-1]))).all())


Key = tuple[Any, ...]
Known = dict[Key, None]


def _keys(rows: pl.DataFrame, first: int) -> list[Key]:
    """What a record is known by; one without a number is like no other."""
    numbers = count(first)
    return [(*row, next(numbers)) if row[1] is None else row for row in rows.rows()]


class _InTurn:
    """Judges every record in turn, by what came before it alone."""

    def __init__(self, keys: list[Key], known: Known, clock: int | None, params: Params) -> None:
        self.kept: list[int] = []
        self.late: list[int] = []
        self.future: list[tuple[int, int]] = []
        self.held: int | None = None
        self.clock, self.duplicate = clock, 0
        self._keys, self._known, self._window = keys, known, params.dedup_window
        self._jump_us, self._lateness_us = params.max_jump_ms * 1000, params.lateness_ms * 1000

    def take(self, index: int) -> None:
        """Judge the next record."""
        key = self._keys[index]
        if key in self._known or (self.held is not None and key == self._keys[self.held]):
            self.duplicate += 1
            return
        self._settle(key[0], index)
        if self.clock is not None and key[0] > self.clock + self._jump_us:
            self.held = index
        else:
            self._accept(index)

    def end(self, us: int) -> None:
        """The file has ended, and with it the day's session."""
        if self.held is not None and us >= self._keys[self.held][0] - self._jump_us:
            self._settle(us, self.held)
        self.clock = us if self.clock is None else max(self.clock, us)

    def _settle(self, us: int, witness: int) -> None:
        """Let a time decide about the record that waits."""
        held, self.held = self.held, None
        if held is None:
            return
        if us >= self._keys[held][0] - self._jump_us:
            self._accept(held)
        else:
            self.future.append((held, witness))

    def _accept(self, index: int) -> None:
        ts, clock = self._keys[index][0], self.clock
        if clock is not None and (ts // MINUTE_US + 1) * MINUTE_US <= clock - self._lateness_us:
            self.late.append(index)
            return
        self.clock = ts if clock is None else max(clock, ts)
        self.kept.append(index)
        self._known[self._keys[index]] = None
        if len(self._known) > self._window:
            del self._known[next(iter(self._known))]


def _one_by_one(
    frame: pl.DataFrame, before: Carry, params: Params, known: Known, end_us: int | None
) -> _Judged:
    """Judge records of which some may repeat others."""
    keys = _keys(frame.select(_FIELDS), 0)
    turn = _InTurn(keys, known, before.clock, params)
    for index in range(len(keys)):
        turn.take(index)
    if end_us is not None:
        turn.end(end_us)
    kept, late = (np.array(each, np.int64) for each in (turn.kept, turn.late))
    waiting = [] if turn.held is None else [turn.held]
    return _Judged(kept, late, turn.future, waiting, turn.clock, turn.duplicate)


def _reinstate(
    kept: pl.DataFrame, before: int | None, clock: int | None, context: Context[Params]
) -> pl.DataFrame:
    """Put late trades at the end of their minute: before the row that closed it."""
    late: pl.DataFrame = context.reinstated
    if clock is None:
        return kept
    late = _without_copies(late)
    closes = _minute_ends(late["ts"].to_numpy()) + context.params.lateness_ms * 1000
    start = BEGINNING_US if before is None else before
    due = (closes > start) & (closes <= clock)
    running = np.maximum.accumulate(np.maximum(kept["ts"].to_numpy(), start))
    place = np.concatenate((np.searchsorted(running, closes[due]), np.arange(kept.height)))
    minute = late["ts"].to_numpy()[due] // MINUTE_US
    minute = np.concatenate((minute, np.full(kept.height, np.iinfo(np.int64).max)))
    return pl.concat([late.filter(pl.Series(due)), kept])[np.lexsort((minute, place))]


def _without_copies(late: pl.DataFrame) -> pl.DataFrame:
    """Late trades, each once: their copies were late as well and had no row to repeat."""
    rows, is_numbered = late.with_row_index("row"), pl.col("seq").is_not_null()
    once = rows.filter(is_numbered).unique(subset=_FIELDS, keep="first")
    return pl.concat([once, rows.filter(~is_numbered)]).sort("row").drop("row")


LAYER = Layer(
    "tape",
    "tape",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time; finer stamps floored"),
        Column("seq", "int64", "", "number on the tape, as it says; null if it says none"),
        Column("price", "float64", "quote", "price"),
        Column("size", "float64", "shares", "shares"),
        Column("ex", "string", "", "place of the trade, as the tape says"),
        Column("cond", "string", "", "sale conditions, as the tape says"),
        Column("corr", "int64", "", "0: the trade stands as it was reported"),
    ),
    "Every trade of a consolidated tape, in file order: repeated, late and bad records set aside.",
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> TapeBatch:
    del contract
    return decode_tape(block, instrument.inst_id)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del tick
    note = f"one that repeats another of the {params.dedup_window} before it was left out"
    return (Reach(RAW, note=note),)


STAGE = Stage(
    name="tape",
    source="raw:trades",
    decode=_decode,
    layers=(LAYER,),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
    lateness_us=lambda params: params.lateness_ms * 1000,
    markets=TAPES,
)
