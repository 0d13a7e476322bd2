"""Judging: which good records count, in file order, one after another.

A record is, in this order, a duplicate; the witness for a record held back
before it; itself held back because it is far ahead; late; or accepted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from .raw import CONTIGUOUS_IDS, BadLineError, Instrument, Line, Trade, decode, read_folder

MINUTE_US = 60_000_000
MAX_JUMP_US = 5 * MINUTE_US
WINDOW = 100_000


@dataclass(frozen=True)
class Accepted:
    """A trade that reaches the layers."""

    trade: Trade
    gap_before: bool


@dataclass(frozen=True)
class Gap:
    """Trade ids `first`..`last` were never seen before the trade at `ts_us`."""

    first: int
    last: int
    ts_us: int


@dataclass(frozen=True)
class Refused:
    """A line for quarantine; `reason` is None where any words will do."""

    line: Line
    reason: str | None


@dataclass
class Judge:
    """The carry of one instrument, and all that was decided so far."""

    instrument: Instrument
    lateness_us: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    duplicates: int = 0
    late: int = 0
    bad: int = 0
    lines: int = 0
    held: tuple[Trade, Line] | None = None
    newest_us: int | None = None
    largest_id: int | None = None
    recent: deque[str] = field(default_factory=deque)
    recent_set: set[str] = field(default_factory=set)

    @property
    def watermark_us(self) -> int | None:
        """Largest accepted event time less the lateness; None before the first."""
        return None if self.newest_us is None else self.newest_us - self.lateness_us

    def read(self, line: Line) -> None:
        """Take in one raw line."""
        self.lines += 1
        if line.torn:
            self.refuse(line, "torn")
            return
        try:
            trades = decode(line.data, self.instrument)
        except BadLineError:
            self.refuse(line, None)
            return
        for trade in trades:
            self.judge(trade, line)

    def refuse(self, line: Line, reason: str | None) -> None:
        """Count a bad line and keep it for quarantine."""
        self.bad += 1
        self.refused.append(Refused(line, reason))

    def judge(self, trade: Trade, line: Line) -> None:
        """Decide on one good record, and on the one held back before it."""
        if trade.trade_id in self.recent_set:
            self.duplicates += 1
            return
        if self.held is not None:
            self.resolve_held(trade)
            if trade.trade_id in self.recent_set:  # the record just let in, once more
                self.duplicates += 1
                return
        watermark = self.watermark_us
        if watermark is not None and trade.ts_us > watermark + MAX_JUMP_US:
            self.held = (trade, line)
            return
        self.settle(trade, line)

    def resolve_held(self, witness: Trade) -> None:
        """The held record counts if the witness is at most five minutes behind it."""
        assert self.held is not None
        trade, line = self.held
        self.held = None
        if witness.ts_us >= trade.ts_us - MAX_JUMP_US:
            self.settle(trade, line)
        else:
            self.refuse(line, "future")

    def settle(self, trade: Trade, line: Line) -> None:
        """A good, new record that is not too far ahead: note its id, then late or accepted."""
        self.remember(trade.trade_id)
        watermark = self.watermark_us
        minute_end = trade.ts_us // MINUTE_US * MINUTE_US + MINUTE_US
        is_late = watermark is not None and minute_end <= watermark
        gap = self.gap_before(trade)
        if gap is not None:
            self.gaps.append(gap)
        if is_late:
            self.late += 1
            self.refused.append(Refused(line, "late"))
            return
        self.accepted.append(Accepted(trade, gap is not None))
        self.newest_us = max(trade.ts_us, self.newest_us or trade.ts_us)

    def remember(self, trade_id: str) -> None:
        """Keep the last hundred thousand ids."""
        self.recent.append(trade_id)
        self.recent_set.add(trade_id)
        if len(self.recent) > WINDOW:
            self.recent_set.discard(self.recent.popleft())

    def gap_before(self, trade: Trade) -> Gap | None:
        """The ids missing just below this one, where ids are contiguous."""
        if self.instrument.exchange not in CONTIGUOUS_IDS or not trade.trade_id.isdecimal():
            return None
        number, largest = int(trade.trade_id), self.largest_id
        self.largest_id = number if largest is None else max(number, largest)
        if largest is None or number <= largest + trade.count:
            return None
        return Gap(largest + 1, number - trade.count, trade.ts_us)


def judge_folder(vault: Path, instrument: Instrument) -> Judge:
    """Judge everything under the instrument's raw trades folder."""
    judge = Judge(instrument)
    for line in read_folder(instrument.raw_folder(vault)):
        judge.read(line)
    return judge
