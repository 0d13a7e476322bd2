"""The records of a feed's day files once more: where their lines stand, and when they count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.calc.new_york import close_of
from pipeline.engine.paths import VaultPaths
from pipeline.engine.rawfiles import DayFile, chunks, day_files
from pipeline.engine.seek import microseconds
from pipeline.engine.spans import Ints
from pipeline.engine.state import FileMark
from pipeline.instrument import Contract, Instrument
from pipeline.raw.block import Block
from pipeline.stage import Stage

_BLOCK_BYTES = 6 << 20
_TAIL_BYTES = 1 << 18

Flags = npt.NDArray[np.bool_]
Line = tuple[str, int, int]
"""A line: the day of its file, where it starts and ends."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one block.

    Attributes:
        edges: where the block's lines start, and where the last one ends.
        line: the line of each record.
        own_us: its own time; `us` when it counts: a late one at the clock's time.
        is_good: it reached a layer, unless it is a duplicate; a late trade is no good, but
            `was_judged` all the same.
        set_by: the record of the block that set the clock last; -1 for one of an earlier block.
        setter: the line of that one.
        ids: texts of trades and transfers, all of what is known of trades of a tape (null for one
            that is like no other), numbers of updates, if records have any.
        is_once: a record counts once, by its id.
    """

    edges: Ints
    line: Ints
    own_us: Ints
    us: Ints
    is_good: Flags
    was_judged: Flags
    set_by: Ints
    setter: Line | None
    ids: Callable[[], Any] | None
    is_once: bool
    sequence: Sequence | None


class Sequence(NamedTuple):
    """The ids of updates of a book."""

    is_snapshot: Flags
    last_id: Ints
    prev_id: Ints


class _Decoded(NamedTuple):
    """What is kept of a block that has been decoded; see `Records`."""

    edges: Ints
    line: Ints
    own_us: Ints
    ids: Callable[[], Any] | None
    is_moved: Flags
    is_tape: bool
    is_once: bool
    sequence: Sequence | None


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The day files of a feed, as far as a stage has read them.

    What `keep` was said of is decoded once, however often it is read.
    """

    paths: VaultPaths
    stage: Stage[Any, Any]
    instrument: Instrument
    contract: Contract
    marks: list[FileMark]
    _kept: dict[str, tuple[list[_Decoded], Iterator[_Decoded]]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """The kind of raw data."""
        return self.stage.raw_kind or ""

    @property
    def cell_us(self) -> int:
        """How long the cells of the feed's layer are; 0 if it has none."""
        return self.stage.layers[0].span_us

    def clock(self) -> Clock:
        """A clock for the feed's records."""
        return Clock(self.cell_us)

    def there(self) -> dict[str, DayFile]:
        """The day files that are on disk."""
        folder = self.paths.raw(self.instrument, self.kind)
        return {each.day: each for each in day_files(folder)}

    def path(self, mark: FileMark, file: DayFile | None) -> str:
        """Where a file stands, or stood."""
        folder = self.paths.raw(self.instrument, self.kind)
        return self.paths.relative(folder / mark.name if file is None else file.path)

    def records(self, file: DayFile, end: int, clock: Clock) -> Iterator[Records]:
        """The records of a file's first `end` bytes."""
        refused = self._refused(file.day)
        bad = np.array(sorted(refused), np.int64)
        late = np.array(sorted(at for at, reason in refused.items() if reason == "late"), np.int64)
        for decoded in self._again(file) if file.day in self._kept else self._decode(file, end):
            yield clock.judged(file.day, decoded, (bad, late))
        if any(mark.ended for mark in self.marks if mark.day == file.day):
            clock.pass_over(close_of(file.day))

    def keep(self, file: DayFile, end: int) -> None:
        """Remember where the records of a file's first `end` bytes stand."""
        if file.day not in self._kept:
            self._kept[file.day] = [], self._decode(file, end)

    def _again(self, file: DayFile) -> Iterator[_Decoded]:
        known, rest = self._kept[file.day]
        yield from known
        for decoded in rest:
            known.append(decoded)
            yield decoded

    def _decode(self, file: DayFile, end: int) -> Iterator[_Decoded]:
        for block in self._blocks(file, end):
            if self.stage.decode is not None:
                yield _decoded(block, self.stage.decode(block, self.instrument, self.contract))

    def last_records(self, file: DayFile, end: int) -> Records | None:
        """The last records of a file's first `end` bytes, as if there were none before."""
        low = max(0, end - _TAIL_BYTES)
        data = b"".join(chunks(file, low, _BLOCK_BYTES))[: end - low]
        data = data[data.find(b"\n") + 1 if low else 0 : data.rfind(b"\n") + 1]
        if not data or self.stage.decode is None:
            return None
        block = Block(data, self.paths.relative(file.path), file.day, low)
        batch = self.stage.decode(block, self.instrument, self.contract)
        none = np.zeros(0, np.int64)
        return Clock().judged(file.day, _decoded(block, batch), (none, none))

    def _blocks(self, file: DayFile, end: int) -> Iterator[Block]:
        """Whole lines."""
        source, at, rest = self.paths.relative(file.path), 0, b""
        for piece in chunks(file, 0, _BLOCK_BYTES):
            data = rest + piece[: end - at - len(rest)]
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                yield Block(data[:cut], source, file.day, at)
            at += cut
            if at + len(rest) >= end:
                return

    def _refused(self, day: str) -> dict[int, str]:
        """Where the lines of a day file stand that are in the quarantine, and why."""
        path = self.paths.quarantine(self.instrument, self.kind) / f"{day}.jsonl"
        if not path.is_file():
            return {}
        lines = path.read_bytes().splitlines()
        rows = [msgspec.json.decode(line, type=_Refused) for line in lines]
        return {row.offset: row.reason for row in rows}


class _Refused(msgspec.Struct):
    offset: int
    reason: str


class Clock:
    """The largest time of a feed so far, and the line that told it."""

    def __init__(self, cell_us: int = 0) -> None:
        self._cell_us = cell_us
        self._us = 0
        self._line: Line | None = None

    def pass_over(self, us: int | None) -> None:
        """Time has come as far without a record, or nobody knows how far."""
        self._us = max(self._us, us or 0)

    def judged(self, day: str, found: _Decoded, refused: tuple[Ints, Ints]) -> Records:
        """The records of the next block; `refused`: the lines that are bad, and of these late."""
        edges, line, own, is_moved = found.edges, found.line, found.own_us, found.is_moved
        is_late = np.isin(edges[line], refused[1])
        is_good = ~np.isin(edges[line], refused[0])
        setter, before = self._line, self._us
        running = np.maximum.accumulate(np.maximum(np.where(is_good, own, 0), before))
        earlier = np.concatenate(([before], running[:-1]))[: len(running)]
        is_new = running > earlier
        if self._cell_us:
            # the last version of a bar is the one before a later bar comes
            is_good &= is_moved | (own >= earlier // self._cell_us * self._cell_us)
        set_by = np.maximum.accumulate(np.where(is_new, np.arange(len(line)), -1))
        if len(line) and set_by[-1] >= 0:
            at = int(line[set_by[-1]])
            self._us, self._line = int(running[-1]), (day, int(edges[at]), int(edges[at + 1]))
        counts = np.where(running > 0, running, -1)
        return Records(
            edges,
            line,
            own,
            np.where(is_moved, counts, own),
            is_good,
            # a late trade of a tape leaves its copies what they are
            is_good | (is_late & (not found.is_tape)),
            set_by,
            setter,
            found.ids,
            found.is_once,
            found.sequence,
        )


def _decoded(block: Block, batch: Any) -> _Decoded:
    edges = np.concatenate(([0], block.ends)) + block.offset
    line, own_us, ids, is_moved = _columns(batch)
    is_once = ids is not None and not hasattr(batch, "update_id")
    is_tape = getattr(batch, "keeps_times", False)
    sequence = None
    if hasattr(batch, "prev_id"):
        sequence = Sequence(batch.is_snapshot, batch.last_id, batch.prev_id)
    return _Decoded(edges, line, own_us, ids, is_moved, is_tape, is_once, sequence)


def _columns(batch: Any) -> tuple[Ints, Ints, Callable[[], Any] | None, Flags]:
    """Of each record: its line, its time, its id; and whether it counts at the clock if late."""
    if hasattr(batch, "ticks"):
        frame = batch.ticks.frame
        line, times = frame["line"].to_numpy(), frame["ts"].to_numpy()
        return line, times, lambda: frame["trade_id"], np.zeros(len(line), np.bool_)
    if hasattr(batch, "found"):
        line = np.array([each for each, _ in batch.found], np.int64)
        times = np.array([seen.time_us for _, seen in batch.found], np.int64)
        is_moved = np.array([not seen.is_bar for _, seen in batch.found], np.bool_)
        # what one line holds counts in the order of its times
        order = np.lexsort((times, line))
        keys = [batch.found[each][1].key for each in order.tolist()]
        ids = None if None in keys else lambda: pl.Series(keys, dtype=pl.String)
        return line[order], times[order], ids, is_moved[order]
    if getattr(batch, "keeps_times", False):
        return batch.line, batch.ts_us, batch.keys, np.zeros(len(batch.line), np.bool_)
    ids = (lambda: batch.update_id) if hasattr(batch, "update_id") else None
    return batch.line, batch.ts_us, ids, np.ones(len(batch.line), np.bool_)


def day_us(day: str) -> int:
    """The first moment of a day, microseconds."""
    return microseconds(f"{day}T00:00:00+00:00")
