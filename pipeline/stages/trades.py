"""Raw trades, decoded, checked and numbered (Parquet).

One row is one trade that counts, in file order. Before it counts, a record is judged, in this
order: a duplicate id among the last 100 000 is dropped; a record more than five minutes ahead of
the watermark is held until the next good one shows whether the clock really moved; a trade of a
minute that has closed is late. Late and future records go to the quarantine. Ids that jump on an
exchange that numbers its trades one by one mean trades we never received: a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl

from pipeline.calc.ticks import Ticks, join
from pipeline.exact import check_positive
from pipeline.instrument import Contract, Instrument
from pipeline.layers import Column, Layer
from pipeline.raw.adapters import trade_adapter
from pipeline.raw.block import Block, Reject
from pipeline.raw.digits import Flags, Ints
from pipeline.raw.trades import TradeBatch, decode
from pipeline.reach import RAW, Reach
from pipeline.stage import MINUTE_US, Closed, Context, Row, Stage

_KEPT = ("ts", "trade_id", "px", "px_dp", "sz", "nt", "side", "gap")
_HELD_LINE = -1
_NEVER = -(2**62)


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of `[trades]`."""

    lateness_ms: int = 0
    max_jump_ms: int = 300_000
    dedup_window: int = 100_000

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        check_positive(max_jump_ms=self.max_jump_ms, dedup_window=self.dedup_window)
        if self.lateness_ms < 0:
            raise ValueError(f"lateness_ms must not be negative, as {self.lateness_ms} is")


class Held(msgspec.Struct):
    """A record too far ahead of the watermark, waiting for the next good one."""

    source: str
    day: str
    offset: int
    raw: str
    trade_id: str
    ts: int
    count: int
    px: str
    px_dp: int
    px_scale: int
    sz: str
    sz_scale: int
    nt: str | None
    nt_scale: int
    side: int


class Carry(msgspec.Struct):
    """What outlives a run.

    `good` counts trades that were no duplicates. The ids of the last `dedup_window` of them are
    read back from the layer, except for those that were late: `late_ids` has these as runs of
    [number of the first among all good trades, its id, how many ids in a row]. `reinstated` are
    [seq, id] of rows that a rebuild put among the last rows of the layer, out of their turn.
    """

    seq: int = 0
    clock: int | None = None
    max_id: int | None = None
    good: int = 0
    late_ids: list[tuple[int, str, int]] = []
    reinstated: list[tuple[int, str]] = []
    held: Held | None = None


@dataclass(slots=True)
class _Judged:
    """Arrival-order rows that are good trades, and what became of the others.

    `future` pairs a row from the future with the row that showed it to be one.
    """

    rows: pl.DataFrame
    future: list[tuple[int, int]]
    held: int | None
    duplicate: int


def fold(batch: TradeBatch, carry: Carry, context: Context[Params]) -> Closed[Carry]:
    """Judge one block's trades and number those that count."""
    params, block = context.params, batch.block
    ticks = batch.ticks if carry.held is None else join([_release(carry.held), batch.ticks])
    if not batch.ticks.height:
        return _closed(batch, carry, [], list(batch.rejects), context, len(batch.rejects))
    frame = ticks.frame.with_row_index("row")
    judged = _judge(frame, carry, context)
    # in the order in which they were judged, so that it does not matter where a run began
    ordered = [((reject.offset, -1, 1), reject) for reject in batch.rejects]
    for index, witness in judged.future:
        reject = _reject(carry.held, block, int(frame["line"][index]), "future")
        place = (block.line_offset(int(frame["line"][witness])), witness, 0)
        ordered.append((place, reject))
    bad = len(ordered)
    held = None
    if judged.held is not None:
        line = int(frame["line"][judged.held])
        held = carry.held if line == _HELD_LINE else _hold(ticks, judged.held, batch)
    rows = judged.rows
    rows, max_id, gaps = _mark_gaps(rows, carry, context)
    clock_before, clock = _clock(rows["ts"], carry.clock)
    watermark = clock_before - params.lateness_ms * 1000
    ends = (rows["ts"].to_numpy() // MINUTE_US + 1) * MINUTE_US
    is_late = ends <= watermark
    good = carry.good + rows.height
    late_ids = [run for run in carry.late_ids if run[0] + run[2] - 1 > good - params.dedup_window]
    aside = None
    if is_late.any():
        for index in np.flatnonzero(is_late).tolist():
            line = int(rows["line"][index])
            _add_late(late_ids, carry.good + index + 1, rows["trade_id"][index])
            if context.reinstated is None:
                reject = _reject(carry.held, block, line, "late")
                ordered.append(((reject.offset, int(rows["row"][index]), 1), reject))
        aside = Ticks(rows.filter(pl.Series(is_late)), *_scales(ticks))
    late = int(is_late.sum())
    kept = Ticks(rows.filter(pl.Series(~is_late)) if late else rows, *_scales(ticks))
    reinstated = carry.reinstated
    if context.reinstated is not None:
        kept, extra = _reinstate(kept, carry.clock, context, params)
        places, ids = np.flatnonzero(extra).tolist(), kept.frame["trade_id"]
        reinstated = [*reinstated, *((carry.seq + place, ids[place]) for place in places)]
        late = 0
    oldest = carry.seq + kept.height - params.dedup_window - len(reinstated)
    following = Carry(
        seq=carry.seq + kept.height,
        clock=clock,
        max_id=max_id,
        good=good,
        late_ids=late_ids,
        reinstated=[pair for pair in reinstated if pair[0] >= oldest],
        held=held,
    )
    numbers = pl.Series("seq", np.arange(carry.seq, following.seq, dtype=np.int64))
    out = Ticks(pl.DataFrame([numbers, *(kept.frame[name] for name in _KEPT)]), *_scales(kept))
    rejects = [reject for _, reject in sorted(ordered, key=lambda pair: pair[0])]
    result = _closed(batch, following, gaps, rejects, context, bad)
    result.rows["trades"] = out if out.height else None
    result.late, result.duplicate, result.aside = late, judged.duplicate, aside
    return result


def _closed(
    batch: TradeBatch,
    carry: Carry,
    gaps: list[Row],
    rejects: list[Reject],
    context: Context[Params],
    bad: int,
) -> Closed[Carry]:
    watermark = None
    if carry.clock is not None:
        watermark = carry.clock - context.params.lateness_ms * 1000
    return Closed(
        carry,
        {"trades": None, "gaps": gaps},
        rejects,
        rows_in=batch.records,
        bad=bad,
        gaps=len(gaps),
        watermark_us=watermark,
    )


def _scales(ticks: Ticks) -> tuple[int, int, int]:
    return ticks.px_scale, ticks.sz_scale, ticks.nt_scale


def _clock(ts: pl.Series, before: int | None) -> tuple[Ints, int | None]:
    """The running maximum of event time just before each row, and after the last."""
    if not len(ts):
        return np.zeros(0, np.int64), before
    running = np.maximum.accumulate(ts.to_numpy())
    if before is not None:
        running = np.maximum(running, before)
    first = before if before is not None else _NEVER
    return np.concatenate((np.array([first]), running[:-1])), int(running[-1])


def _judge(frame: pl.DataFrame, carry: Carry, context: Context[Params]) -> _Judged:
    """Drop duplicates and settle records from the future.

    Most blocks have ids that only rise and a clock that never leaps; they pass at full speed.
    """
    params = context.params
    before, _ = _clock(frame["ts"], carry.clock)
    limit = before - params.lateness_ms * 1000 + params.max_jump_ms * 1000
    leaps = frame["ts"].to_numpy() > limit
    if carry.clock is None:
        leaps[0] = False
    is_calm = carry.held is None and not leaps.any()
    if _ids_rise(frame["trade_id"], carry):
        # an id above all others repeats none, so the window need not be looked at
        return _Judged(frame, [], None, 0) if is_calm else _judge_one_by_one(frame, carry, params)
    window = _window(carry, context)
    if is_calm and _ids_are_new(frame["trade_id"], window):
        return _Judged(frame, [], None, 0)
    return _judge_one_by_one(frame, carry, params, window)


def _ids_rise(ids: pl.Series, carry: Carry) -> bool:
    """Whether all ids are plain numbers, each above all before it."""
    numbers = ids.cast(pl.Int64, strict=False)
    if numbers.null_count() or (carry.max_id is None and carry.good):
        return False
    values = numbers.to_numpy()
    first = carry.max_id if carry.max_id is not None else -1
    if values[0] <= first or not (values[1:] > values[:-1]).all():
        return False
    # no sign and no leading zeros, or two texts could be one number
    least = ids.min()
    return isinstance(least, str) and least >= "1"


def _ids_are_new(ids: pl.Series, window: dict[str, None]) -> bool:
    """Whether no id comes twice, in these or in the window."""
    if ids.n_unique() < len(ids):
        return False
    return not ids.is_in(pl.Series(list(window), dtype=pl.String).implode()).any()


def _window(carry: Carry, context: Context[Params]) -> dict[str, None]:
    """The ids of the last `dedup_window` good trades, oldest first."""
    size = context.params.dedup_window
    start = carry.good - min(size, carry.good)
    places = {n: each for n, each in _each_late(carry.late_ids) if n > start}
    accepted = carry.good - start - len(places)
    if context.last_rows is None or accepted <= 0:
        return dict.fromkeys(places.values())
    rows: Ticks = context.last_rows("trades", accepted + len(carry.reinstated))
    ids = rows.frame["trade_id"]
    if carry.reinstated:
        moved = pl.Series([each for _, each in carry.reinstated], dtype=pl.String)
        ids = ids.filter(~ids.is_in(moved.implode()))
    own = ids.tail(accepted).to_list()
    if not places:
        return dict.fromkeys(own)
    # late trades are put back where they stood among the good ones, so that the window slides
    merged: list[str] = []
    remaining = iter(own)
    for number in range(start + 1, carry.good + 1):
        found = places.get(number)
        merged.append(found if found is not None else next(remaining, ""))
    return dict.fromkeys(merged)


def _add_late(runs: list[tuple[int, str, int]], number: int, trade_id: str) -> None:
    """Note a late trade, lengthening the last run if number and id follow on from it."""
    if runs:
        first, start, length = runs[-1]
        follows = start.isascii() and start.isdigit() and trade_id == str(int(start) + length)
        if follows and number == first + length:
            runs[-1] = (first, start, length + 1)
            return
    runs.append((number, trade_id, 1))


def _each_late(runs: list[tuple[int, str, int]]) -> Iterator[tuple[int, str]]:
    """Number and id of every late trade."""
    for first, start, length in runs:
        yield first, start
        for i in range(1, length):
            yield first + i, str(int(start) + i)


def _judge_one_by_one(
    frame: pl.DataFrame, carry: Carry, params: Params, window: dict[str, None] | None = None
) -> _Judged:
    """Judge every record in turn; without a window no id is known to repeat another."""
    known = {} if window is None else window
    jump, lateness = params.max_jump_ms * 1000, params.lateness_ms * 1000
    clock = carry.clock
    good: list[int] = []
    future: list[tuple[int, int]] = []
    held: int | None = None
    duplicate = 0
    stamps, ids = frame["ts"].to_list(), frame["trade_id"].to_list()

    def accept(index: int) -> None:
        nonlocal clock
        good.append(index)
        if window is not None:
            known[ids[index]] = None
            if len(known) > params.dedup_window:
                del known[next(iter(known))]
        clock = stamps[index] if clock is None else max(clock, stamps[index])

    for index, ts in enumerate(stamps):
        if ids[index] in known:
            duplicate += 1
            continue
        if held is not None:
            if ts >= stamps[held] - jump:
                accept(held)
            else:
                future.append((held, index))
            repeats, held = ids[held] == ids[index] and ids[index] in known, None
            if repeats:
                duplicate += 1
                continue
        if clock is not None and ts > clock - lateness + jump:
            held = index
        else:
            accept(index)
    return _Judged(frame[good], future, held, duplicate)


def _mark_gaps(
    rows: pl.DataFrame, carry: Carry, context: Context[Params]
) -> tuple[pl.DataFrame, int | None, list[Row]]:
    """Mark trades before which ids are missing; ids that are no numbers are left out."""
    if not trade_adapter(context.instrument.exchange).contiguous or not rows.height:
        numbers = rows["trade_id"].cast(pl.Int64, strict=False)
        top = numbers.max()
        known = [each for each in (carry.max_id, top) if isinstance(each, int)]
        none = pl.Series("gap", np.zeros(rows.height, np.bool_))
        return rows.hstack([none]), max(known, default=None), []
    numbers = rows["trade_id"].cast(pl.Int64, strict=False)
    values = (numbers.fill_null(-1) if numbers.null_count() else numbers).to_numpy()
    running = np.maximum.accumulate(values)
    first = -1 if carry.max_id is None else carry.max_id
    before = np.maximum(np.concatenate(([first], running[:-1])), first)
    counts = rows["count"].to_numpy()
    is_gap = (values >= 0) & (before >= 0) & (values > before + counts)
    found: list[Row] = []
    if is_gap.any():
        if context.reinstated is not None:
            is_gap &= ~_filled(before + 1, values - counts, context.reinstated)
        for index in np.flatnonzero(is_gap).tolist():
            ts = int(rows["ts"][index])
            low, high = int(before[index]) + 1, int(values[index] - counts[index])
            found.append((ts, ("trades", low, high, ts // 1000)))
    top_id = max(int(running[-1]), first)
    return rows.hstack([pl.Series("gap", is_gap)]), (top_id if top_id >= 0 else None), found


def _filled(low: Ints, high: Ints, late: Ticks) -> Flags:
    """Whether every id of [low, high] came, only too late."""
    ids = late.frame["trade_id"].cast(pl.Int64, strict=False).drop_nulls().unique().sort()
    known = ids.to_numpy()
    inside = np.searchsorted(known, high, "right") - np.searchsorted(known, low, "left")
    filled: Flags = inside == high - low + 1
    return filled


def _reinstate(
    kept: Ticks, clock: int | None, context: Context[Params], params: Params
) -> tuple[Ticks, Flags]:
    """Put late trades at the end of their minute: before the row that closed it.

    Also says which of the rows are such trades.
    """
    late: Ticks = context.reinstated
    nothing = np.zeros(kept.height, np.bool_)
    if not late.height or not kept.height:
        return kept, nothing
    wait = params.lateness_ms * 1000
    closes = (late.frame["ts"].to_numpy() // MINUTE_US + 1) * MINUTE_US + wait
    before, after = _clock(kept.frame["ts"], clock)
    running = np.append(before[1:], after if after is not None else _NEVER)
    start = int(before[0])
    due = (closes > start) & (closes <= running[-1])
    if not due.any():
        return kept, nothing
    place = np.searchsorted(running, closes[due], "left")
    columns = [c for c in kept.frame.columns if c not in ("line", "row")]
    rows = Ticks(late.frame.filter(pl.Series(due)), *_scales(late))
    mine = Ticks(kept.frame.select(columns), *_scales(kept))
    extra = Ticks(
        rows.frame.with_columns(pl.lit(value=False).alias("gap")).select(columns), *_scales(rows)
    )
    both = join([extra, mine])
    minutes = rows.frame["ts"].to_numpy() // MINUTE_US
    place_all = np.concatenate((place, np.arange(kept.height)))
    rank = np.concatenate((np.zeros(len(place), np.int64), np.ones(kept.height, np.int64)))
    minute = np.concatenate((minutes, np.zeros(kept.height, np.int64)))
    order = np.lexsort((minute, rank, place_all))
    return Ticks(both.frame[order], *_scales(both)), order < len(place)


def _hold(ticks: Ticks, index: int, batch: TradeBatch) -> Held:
    row = ticks.frame.row(index, named=True)
    reject = Reject.of(batch.block, row["line"], "future")
    return Held(
        source=reject.source,
        day=reject.day,
        offset=reject.offset,
        raw=reject.raw,
        trade_id=row["trade_id"],
        ts=row["ts"],
        count=row["count"],
        px=str(row["px"]),
        px_dp=row["px_dp"],
        px_scale=ticks.px_scale,
        sz=str(row["sz"]),
        sz_scale=ticks.sz_scale,
        nt=None if row["nt"] is None else str(row["nt"]),
        nt_scale=ticks.nt_scale,
        side=row["side"],
    )


def _release(held: Held) -> Ticks:
    """The held record as the row before the next block's first."""
    values: dict[str, Any] = {
        "line": [_HELD_LINE],
        "trade_id": [held.trade_id],
        "ts": [held.ts],
        "count": [held.count],
        "px": [int(held.px)],
        "px_dp": [held.px_dp],
        "sz": [int(held.sz)],
        "nt": [None if held.nt is None else int(held.nt)],
        "side": [held.side],
    }
    wide = {
        name: pl.Int128 if (values[name][0] or 0) >= 2**62 else pl.Int64
        for name in ("px", "sz", "nt")
    }
    schema = {
        "line": pl.Int64,
        "trade_id": pl.String,
        "ts": pl.Int64,
        "count": pl.Int64,
        "px": wide["px"],
        "px_dp": pl.UInt8,
        "sz": wide["sz"],
        "nt": wide["nt"],
        "side": pl.Int8,
    }
    frame = pl.DataFrame(values, schema=schema)
    return Ticks(frame, held.px_scale, held.sz_scale, held.nt_scale)


def _reject(held: Held | None, block: Block, line: int, reason: str) -> Reject:
    if line == _HELD_LINE and held is not None:
        return Reject(held.day, held.source, held.offset, reason, held.raw)
    return Reject.of(block, line, reason)


TRADES = Layer(
    "trades",
    "trades",
    "parquet",
    (
        Column("seq", "int64", "", "row number in file order, from 0"),
        Column("ts", "timestamp[us, UTC]", "UTC", "event time; finer stamps floored"),
        Column("trade_id", "string", "", "the exchange's id"),
        Column("price", "float64", "quote", "the double nearest to the exchange's decimal"),
        Column("size", "float64", "base", "size in base units, whatever unit the exchange uses"),
        Column("notional", "float64", "quote", "price x size (USD of the contracts if inverse)"),
        Column("side", "int8", "", "+1 the taker bought, -1 the taker sold"),
        Column("gap_before", "bool", "", "trade ids are missing just before this trade"),
    ),
    "Every trade that counts, in file order: deduplicated, late and bad records set aside.",
    stamp="ms",
)
GAPS = Layer(
    "gaps",
    "gaps",
    "jsonl",
    (
        Column("kind", "string", "", 'the feed in which something is missing: "trades"'),
        Column("from", "int", "id", "first missing id"),
        Column("to", "int", "id", "last missing id"),
        Column("ts", "int", "ms", "event time of the record behind the gap"),
    ),
    "Runs of ids that never arrived, on exchanges that number their records one by one.",
    stamp="ms",
)


def _decode(block: Block, instrument: Instrument, contract: Contract) -> TradeBatch:
    return decode(block, trade_adapter(instrument.exchange), instrument.inst_id, contract)


def reach(params: Params, tick: str | None) -> tuple[Reach, ...]:
    """See `Stage.reach`."""
    del tick
    note = (
        f"the lines before it have decided that it counts and as which: the last "
        f"{params.dedup_window} ids, the largest id, the clock, how many trades there were"
    )
    return (
        Reach(RAW, of=("trades",), note=note),
        Reach("trades", of=("gaps",), before=1),
    )


STAGE = Stage(
    name="trades",
    source="raw:trades",
    decode=_decode,
    layers=(TRADES, GAPS),
    params=Params,
    carry=Carry,
    fold=fold,
    lateness_us=lambda params: params.lateness_ms * 1000,
    reach=reach,
)
