"""Order books rebuilt from snapshots and updates, checked by sequence ids (Parquet).

A record counts, at its own time or the clock's if that is later. A snapshot begins a book, with
the updates that had come before it and belong behind it; updates must follow on from each other.
Where a number is missing there is no book until the next snapshot, and the hole is written down.
Five layers: `book` has the twenty best levels of each side at the end of every 100 ms with an
event, `book_events` the touch and the order-flow imbalance by rank after every event,
`book_clock` when each update came, `ladder_1m` every minute's full book, and `book_gaps` the holes.

Order-flow imbalance: Cont, Kukanov and Stoikov (2014), equation 4; by rank: Xu, Gould and Howison
(2019).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.book_rows import Last, Units, book_rows, event_rows, ladder_rows
from pipeline.calc.clock import UNTIMED, Ints, judge
from pipeline.calc.ladder import Ladder
from pipeline.calc.ladder_loops import NO_LEVEL, RANKS, TOP, Changes
from pipeline.calc.replay import Records, Replay
from pipeline.calc.scales import Numbers, Scale
from pipeline.calc.sequence import Sequence
from pipeline.exact import check_positive, parse_decimal
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.block import Block, UnknownContractError
from pipeline.raw.books import BookBatch, decode_books
from pipeline.raw.held import Held, by_place, in_order, reject_of, still_held
from pipeline.reach import RAW, Reach, Told
from pipeline.stage import Closed, Context, Row, Stage

Flags = npt.NDArray[np.bool_]
_MOST_DIGITS = 2**62


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[book]`.

    `book_ms`: length of a cell of `book`; 0 writes the book after every event. `ladder_1m` keeps
    the levels within `ladder_bps` of the mid and as many beyond as hold `ladder_notional` (quote
    currency) in all.
    """

    book_ms: int = 100
    max_jump_ms: int = 300_000
    keep_updates: int = 1000
    ladder_bps: Decimal = Decimal(100)
    ladder_notional: Decimal = Decimal(10_000_000)

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(
            max_jump_ms=self.max_jump_ms,
            keep_updates=self.keep_updates,
            ladder_bps=self.ladder_bps,
            ladder_notional=self.ladder_notional,
        )
        if self.book_ms < 0:
            raise ValueError(f"book_ms must not be negative, as {self.book_ms} is")


class Carry(msgspec.Struct):
    """What outlives a run.

    Attributes:
        price, size: the scales of the book's integers; sizes are base units, or US dollars for
            inverse contracts.
        first_us: the clock's first time.
        row_us: time of the last row of `book_events`; `top` its best levels, none without a book.
        event_us: time of the last event, if the book of its minute is still to be written.
        crossed: events so far that left the book crossed or locked.
    """

    clock: int | None = None
    sequence: Sequence = msgspec.field(default_factory=Sequence)
    price: Scale = msgspec.field(default_factory=Scale)
    size: Scale = msgspec.field(default_factory=Scale)
    book: Ladder = msgspec.field(default_factory=Ladder)
    held: list[Held] = []
    first_us: int | None = None
    row_us: int = 0
    top: list[int] | None = None
    event_us: int | None = None
    crossed: int = 0


def fold(batch: BookBatch, before: Carry, context: Context[Params]) -> Closed[Carry]:
    """Replay one block's records onto the book."""
    params, held, whole = context.params, before.held, batch
    for each in reversed(held):
        whole = _behind(each, whole, context.instrument)
    judged = judge(whole.ts_us, before.clock, params.max_jump_ms * 1000)
    ordered = in_order(batch, batch.rejects, judged.future, held)
    carry = msgspec.structs.replace(
        before,
        clock=judged.clock,
        sequence=msgspec.structs.replace(before.sequence),
        book=before.book.copy(),
        held=still_held(batch, judged.held, held),
    )
    fits, changes = _at_scales(whole, judged.good, carry, context.contract)
    for index in judged.good[~fits].tolist():
        shown = max(index - len(held), 0)
        place = (batch.block.line_offset(int(batch.line[shown])), shown, 0)
        ordered.append((place, reject_of(batch, held, index, "magnitude")))
    good, times = judged.good[fits], judged.times[fits]
    if carry.first_us is None and (times != UNTIMED).any():
        carry.first_us = int(times[times != UNTIMED][0])
    replay = Replay(
        carry.sequence,
        carry.book,
        carry.event_us,
        _records(whole, good, times, changes),
        params.book_ms * 1000,
        params.keep_updates,
    )
    replay.run(carry.clock)
    carry.event_us = replay.event_us
    rows = _rows(replay, carry, context)
    return Closed(
        carry,
        rows,
        by_place(ordered),
        rows_in=batch.records,
        duplicate=replay.repeated,
        bad=len(ordered),
        gaps=len(replay.holes),
        watermark_us=carry.clock,
    )


def _behind(held: Held, batch: BookBatch, instrument: Instrument) -> BookBatch:
    """The batch with a record held over from earlier in front of it."""
    old = decode_books(held.block, instrument.exchange, instrument.inst_id)
    low, high = int(old.level_start[held.record]), int(old.level_end[held.record])
    found: dict[str, Any] = {"block": batch.block, "rejects": batch.rejects}
    for name in ("line", "is_snapshot", "ts_us", "first_id", "last_id", "prev_id"):
        own = getattr(old, name)[held.record : held.record + 1]
        found[name] = np.concatenate((own, getattr(batch, name)))
    for name, own_level in (("level_start", 0), ("level_end", high - low)):
        own = np.array([own_level], np.int64)
        found[name] = np.concatenate((own, getattr(batch, name) + high - low))
    for name in ("side", "px", "px_dp", "sz", "sz_dp"):
        found[name] = np.concatenate((getattr(old, name)[low:high], getattr(batch, name)))
    return BookBatch(**found)


def _at_scales(
    batch: BookBatch, good: Ints, carry: Carry, contract: Contract
) -> tuple[Flags, Changes]:
    """The levels as integers, the book brought to the same scales; which good records fit."""
    value, value_dp = parse_decimal(contract.value)
    prices = Numbers(batch.px, batch.px_dp)
    sizes = Numbers(batch.sz * value, (batch.sz_dp + value_dp).astype(np.int8))
    chosen = np.zeros(len(batch.line), np.bool_)
    chosen[good] = True
    every = slice(None)
    used = every if chosen.all() else np.repeat(chosen, batch.level_end - batch.level_start)
    price, size = (
        carry.price.with_values(prices.where(used)),
        carry.size.with_values(sizes.where(used)),
    )
    fits = np.ones(len(good), np.bool_)
    overflows = batch.sz > _MOST_DIGITS // value
    if price is None or size is None or overflows.any():
        price, size, fits = _one_by_one(batch, good, carry, prices, sizes, overflows)
    _rescale(carry, carry.price.factor_to(price), carry.size.factor_to(size))
    carry.price, carry.size = price, size
    return fits, Changes(batch.side.astype(np.int64), price.integers(prices), size.integers(sizes))


def _rescale(carry: Carry, price: int, size: int) -> None:
    """Multiply all that is carried."""
    if (price, size) == (1, 1):
        return
    carry.book.rescale(price, size)
    carry.sequence.kept = [
        msgspec.structs.replace(
            update, price=[x * price for x in update.price], size=[x * size for x in update.size]
        )
        for update in carry.sequence.kept
    ]
    if carry.top is not None:
        top = np.array(carry.top).reshape(4, RANKS)
        for block in (0, 2):
            top[block, top[block] != NO_LEVEL] *= price
        top[1::2] *= size
        carry.top = top.ravel().tolist()


def _one_by_one(
    batch: BookBatch, good: Ints, carry: Carry, prices: Numbers, sizes: Numbers, overflows: Flags
) -> tuple[Scale, Scale, Flags]:
    """Which records' numbers are not too large or too fine beside those before them."""
    price, size = carry.price, carry.size
    fits = np.ones(len(good), np.bool_)
    for at, index in enumerate(good.tolist()):
        span = slice(int(batch.level_start[index]), int(batch.level_end[index]))
        new_price = price.with_values(prices.where(span))
        new_size = size.with_values(sizes.where(span))
        if new_price is None or new_size is None or overflows[span].any():
            fits[at] = False
        else:
            price, size = new_price, new_size
    return price, size, fits


def _records(batch: BookBatch, good: Ints, times: Ints, changes: Changes) -> Records:
    return Records(
        times.tolist(),
        batch.is_snapshot[good].tolist(),
        batch.last_id[good].tolist(),
        batch.prev_id[good].tolist(),
        batch.level_start[good].tolist(),
        batch.level_end[good].tolist(),
        changes,
    )


def _rows(replay: Replay, carry: Carry, context: Context[Params]) -> dict[str, Any]:
    """The rows of all layers; `carry` is moved on to the last of them."""
    params = context.params
    units = Units(carry.price, carry.size, context.contract.kind == "inverse")
    found: dict[str, Any] = {}
    if replay.noted:
        last = Last(carry.row_us, None if carry.top is None else np.array(carry.top))
        found["book_events"], last, crossed = event_rows(replay.noted, replay.tops, last, units)
        carry.row_us, carry.top = last.time, None if last.top is None else last.top.tolist()
        carry.crossed += crossed
    cells, times = _ended_cells(replay, carry.clock)
    if sum(map(len, times)):
        found["book"] = book_rows(cells, times, units)
    if replay.updates:
        stamps, ids = np.concatenate(replay.updates).T
        moments = pl.Series(stamps).cast(pl.Datetime("us", "UTC"))
        found["book_clock"] = pl.DataFrame({"ts": moments, "last_id": ids})
    if replay.ladders:
        found["ladder_1m"] = ladder_rows(
            replay.ladders,
            units,
            carry.first_us or 0,
            float(params.ladder_bps),
            float(params.ladder_notional),
        )
    holes: list[Row] = [
        (hole.time, ("books", hole.last_id, hole.prev_id, hole.time // 1000))
        for hole in replay.holes
    ]
    return {**found, "book_gaps": holes}


def _ended_cells(replay: Replay, clock: int | None) -> tuple[list[Ints], list[Ints]]:
    """The books at the ends of cells, also of the last one if the clock has left it."""
    cells, times, pending = list(replay.cells), list(replay.cell_times), replay.book.pending
    length = max(replay.cell_us, 1)
    if pending[0] >= 0 and (clock or 0) // length > int(pending[0]) // length:
        cells.append(pending[None, 1:].copy())
        times.append(pending[:1].copy())
        pending[0] = -1
    return cells, times


def _level_columns() -> tuple[Column, ...]:
    found = [Column("ts", "timestamp[us, UTC]", "UTC", "time of the cell's last event")]
    for side in ("bid", "ask"):
        for what, unit, text in (("px", "quote", "price"), ("sz", "base", "size")):
            found += [
                Column(f"{side}_{what}_{i}", "float64", unit, f"{text} of {side} {i} (0: the best)")
                for i in range(TOP)
            ]
    return tuple(found)


BOOK = Layer(
    "book",
    "book",
    "parquet",
    _level_columns(),
    "The twenty best levels of each side after the last event of every 100 ms that has one "
    "(book_ms; 0: after every event); null where there is no such level.",
    part_rows=16_384,
)
EVENTS = Layer(
    "book_events",
    "book_events",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time, never falling"),
        Column(
            "last_id", "int64", "", "sequence number behind the event; null if the feed has none"
        ),
        Column("bid", "float64", "quote", "best bid; null where there is no book"),
        Column("bid_size", "float64", "base", "its size"),
        Column("ask", "float64", "quote", "best ask"),
        Column("ask_size", "float64", "base", "its size"),
        Column("bid_depth", "float64", "base", "sum of the sizes of the five best bids"),
        Column("ask_depth", "float64", "base", "sum of the sizes of the five best asks"),
        *(
            Column(
                f"ofi_{rank}",
                "float64",
                "base",
                f"order-flow imbalance e_n at rank {rank} against the row before; null if there is "
                "no book in one of them, more than 60 s lie between, or a side lacks that rank",
            )
            for rank in range(1, RANKS + 1)
        ),
        Column("crossed", "bool", "", "best bid at or above best ask"),
    ),
    "The touch, depth and order-flow imbalance after every book event; a row without prices where "
    "a record left no valid book.",
)
CLOCK = Layer(
    "book_clock",
    "book_clock",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "event time, never falling"),
        Column("last_id", "int64", "", "last sequence id of the update"),
    ),
    "When every update of the book feed came, whatever became of it: the clock of quotes that "
    "carry an id and no time.",
)
LADDER = Layer(
    "ladder_1m",
    "ladder_1m",
    "parquet",
    (
        Column("ts", "timestamp[us, UTC]", "UTC", "start of the minute"),
        Column("at", "timestamp[us, UTC]", "UTC", "time of the last event, when the book was so"),
        *(
            column
            for side in ("bid", "ask")
            for column in (
                Column(f"{side}_px", "list[float64]", "quote", f"{side} prices, best first"),
                Column(f"{side}_sz", "list[float64]", "base", "their sizes"),
                Column(
                    f"{side}_since",
                    "list[int64]",
                    "us",
                    "since when each price has held at least half its present size",
                ),
                Column(f"{side}_seen", "list[bool]", "", "whether that beginning was seen"),
            )
        ),
        Column("bid_reach_px", "float64", "quote", "worst bid of the last snapshot"),
        Column("ask_reach_px", "float64", "quote", "worst ask of the last snapshot"),
    ),
    "The full book at the end of every minute with an event, if it is valid then: levels within "
    "100 bps of the mid, and beyond them as many as hold 10 M of quote currency.",
    span_us=0,
    part_rows=64,  # a minute's book has thousands of levels
)
BOOK_GAPS = Layer(
    "book_gaps",
    "gaps",
    "jsonl",
    (
        Column("kind", "string", "", 'the feed in which something is missing: "books"'),
        Column("from", "int", "id", "sequence number of the last record before the hole"),
        Column("to", "int", "id", "number that the first record behind it says it follows on"),
        Column("ts", "int", "ms", "event time of the record behind the hole"),
    ),
    "Holes in the sequence numbers of a book feed; until the next snapshot there is no book.",
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> BookBatch:
    batch = decode_books(block, instrument.exchange, instrument.inst_id)
    if not contract.value and len(batch.sz):
        raise UnknownContractError(block.line_offset(int(batch.line[0])), block.source)
    return batch


def _oldest(ladders: pl.DataFrame) -> int:
    """Since when the level of some full books has stood that has stood longest."""
    times = [ladders["ts"].dt.timestamp("us").min()]
    times += [ladders[name].list.min().min() for name in _STANDING.columns[1:]]
    return min(int(each) for each in times if isinstance(each, int))


_STANDING = Told(("ts", "bid_since", "ask_since"), _oldest)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`.

    The order-flow imbalance needs the event before; how long levels have stood may be older than
    the last snapshot.
    """
    del tick
    note = f"with those of the {params.keep_updates} updates in front of it that belong behind it"
    return (
        Reach(RAW, of=("book",), is_replay=True, note=note),
        Reach(RAW, of=("book_events",), rows=1, is_replay=True, note=note),
        Reach(RAW, of=("ladder_1m",), told=_STANDING, is_replay=True, note=note),
        Reach(RAW, of=("book_clock",)),
        Reach(RAW, of=("book_gaps",), before=1),
    )


STAGE = Stage(
    name="book",
    source="raw:books",
    decode=_decode,
    layers=(BOOK, EVENTS, CLOCK, LADDER, BOOK_GAPS),
    params=Params,
    carry=Carry,
    fold=fold,
    reach=reach,
)
