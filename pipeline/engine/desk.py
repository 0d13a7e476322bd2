"""One instrument that is being followed, and what is to be done for it."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

import msgspec

from pipeline.engine.resident import Resident
from pipeline.engine.stage_run import StageRun
from pipeline.engine.state import Counts
from pipeline.engine.summary import Summary
from pipeline.errors import FlowvaultError, LockedError
from pipeline.instrument import Instrument

SOON_S, _LONGEST_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Committed:
    """What one commit has made.

    Attributes:
        stages: by name, what was counted since the commit before.
        closed: by layer, the time of the last row, of layers that have new ones; microseconds.
        watermark_us: up to which event time the raw data had been read.
        latency_s: since the raw file was written that has led to it; None if none has.
    """

    instrument: Instrument
    stages: dict[str, Counts]
    closed: dict[str, int | None]
    watermark_us: int | None
    latency_s: float | None


@dataclass(frozen=True, slots=True)
class Beat:
    """How an instrument is doing.

    Attributes:
        watermark_us: up to which event time its raw data has been read.
        is_open: whether it is followed right now.
    """

    instrument: Instrument
    watermark_us: int | None
    is_open: bool


class Listener(Protocol):
    """Whom `Follow` tells what happens, always in the thread that runs it."""

    def caught_up(self, instrument: Instrument, done: Sequence[Summary]) -> None:
        """An instrument has been brought up to date and is followed from now on."""

    def committed(self, what: Committed) -> None:
        """Something has been committed and is durable."""

    def failed(self, error: FlowvaultError) -> None:
        """Something cannot go on; it is tried again from time to time."""

    def noted(self, text: str) -> None:
        """Something that is not as one would expect, and no error."""

    def beat(self, beats: Sequence[Beat]) -> None:
        """About every second."""


class Phase(Enum):
    """Who may touch the open stages of an instrument."""

    CLOSED = "nothing is open"
    OPENING = "another thread brings it up to date and opens it"
    OPEN = "the folding thread alone"
    COMMITTING = "the thread that commits it"


@dataclass
class Desk:
    """See the module.

    Attributes:
        held: the lock that says that this process follows the instrument.
        feeds: by raw folder, the stage that reads it.
        changed: raw folders in which something has happened, `asked_at` the first time.
        look_at: not to be looked at before.
        rest: stages to be advanced before all is committed; None if nothing is to be committed.
        due: when to open it, or to try those of its stages that are not open.
        is_probed: whether another thread is trying these.
        tried: raw folders of which no stage has been made yet, as they were when last tried.
        written_ns: when the raw file was written that is being carried through.
        since: since when something is folded and not committed; None if nothing is.
        rest_since: since when `rest` waits; what it was then may have been added to.
        read_at: when lines were committed as read the last time.
        quiet_since: since when nothing new has come.
    """

    resident: Resident
    held: ExitStack
    phase: Phase = Phase.CLOSED
    feeds: dict[Path, str] = field(default_factory=dict)
    changed: set[Path] = field(default_factory=set)
    asked_at: float = 0.0
    look_at: float = 0.0
    rest: list[str] | None = None
    due: float = 0.0
    is_probed: bool = False
    tried: dict[Path, int] = field(default_factory=dict)
    written_ns: int | None = None
    since: float | None = None
    rest_since: float = 0.0
    read_at: float = 0.0
    quiet_since: float = 0.0
    _delay: float = SOON_S
    _counts: dict[str, Counts] = field(default_factory=dict)
    _rows: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    @property
    def instrument(self) -> Instrument:
        """Which one."""
        return self.resident.instrument

    @property
    def watermark_us(self) -> int | None:
        """Up to which event time its raw data has been read."""
        marks = [run.state.watermark_us for run in self.resident.raw_runs]
        return max((at for at in marks if at is not None), default=None)

    def close(self, due: float) -> None:
        """Let go of what is open, to open it again at some time."""
        self.resident.close()
        self.phase, self.due = Phase.CLOSED, due
        self.rest = self.since = self.written_ns = None

    def opened(self, now: float) -> None:
        """Its stages are open now."""
        self.phase = Phase.OPEN if self.resident.runs else Phase.CLOSED
        self.feeds = {run.feed.folder: run.stage.name for run in self.resident.raw_runs}
        self.ask(set(self.feeds), now)
        self.quiet_since = now
        self._counts.clear()
        self._rows.clear()
        for run in self.resident.runs.values():
            self._remember(run)

    def ask(self, folders: AbstractSet[Path], now: float) -> None:
        """Some of its raw folders are to be looked at."""
        asked = folders & self.feeds.keys()
        if asked and not self.changed:
            self.asked_at = now
        self.changed |= asked

    def unread(self) -> set[Path]:
        """The raw folders that are not as they were when they were looked at."""
        return {run.feed.folder for run in self.resident.raw_runs if run.feed.unread()}

    def look_for_feeds(self, now: float) -> None:
        """Try at once when something comes into a raw folder that no stage has read yet."""
        for folder, name in self.resident.raw_folders().items():
            if folder in self.feeds or self.resident.has_state(name) or not folder.is_dir():
                continue
            stamp = folder.stat().st_mtime_ns
            if any(folder.iterdir()) and self.tried.get(folder) != stamp:
                self.tried[folder] = stamp
                self.due = min(self.due, now)

    def put_off(self, now: float, errors: Sequence[FlowvaultError]) -> None:
        """When to try again what is not open: later every time, if that went wrong.

        Who is only locked out will not be for long.
        """
        if not errors:
            self._told.clear()
            self._delay, self.due = SOON_S, now + _LONGEST_S
        elif all(isinstance(error, LockedError) for error in errors):
            self.due = now + SOON_S
        else:
            self.due = now + self._delay
            self._delay = min(_LONGEST_S, 2 * self._delay)

    def is_news(self, error: FlowvaultError) -> bool:
        """Whether an error has not been told yet."""
        is_known = str(error) in self._told
        self._told.add(str(error))
        return not is_known

    def wait(self, now: float) -> None:
        """The stages that nobody waits for are to be advanced some time from now on."""
        if self.rest is None:
            self.rest_since = now
        self.rest = []

    def has_waited(self, now: float, seconds: float) -> bool:
        """Whether they wait for so long."""
        return self.rest is not None and now - self.rest_since > seconds

    def owes(self, now: float, seconds: float) -> bool:
        """Whether they do, and lines have not been committed as read for so long either."""
        return self.has_waited(now, seconds) and now - self.read_at > seconds

    def sum_up(self, runs: Sequence[StageRun], at_ns: int) -> Committed:
        """What a commit of these stages, durable at some time, has made."""
        stages: dict[str, Counts] = {}
        closed: dict[str, int | None] = {}
        for run in runs:
            name, counts = run.stage.name, run.state.counts
            stages[name] = counts.minus(self._counts.get(name, Counts()))
            for layer, mark in run.state.layers.items():
                if mark.rows > self._rows.get(layer, 0):
                    closed[layer] = mark.last_us
            self._remember(run)
        latency = None if self.written_ns is None else (at_ns - self.written_ns) / 1e9
        return Committed(self.instrument, stages, closed, self.watermark_us, latency)

    def _remember(self, run: StageRun) -> None:
        self._counts[run.stage.name] = msgspec.structs.replace(run.state.counts)
        self._rows |= {layer: mark.rows for layer, mark in run.state.layers.items()}
