"""Carry what a collector appends through all layers as it comes.

One thread folds; it serves whoever waits longest for a signal first. Commits, which wait for the
disk, are made in others, and so is what takes long: bringing an instrument up to date before it is
opened. Between two ends of minutes raw lines are folded in memory only.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pipeline.engine import lock
from pipeline.engine import state as states
from pipeline.engine.desk import Beat, Desk, Listener, Phase
from pipeline.engine.resident import MovedError, Resident, Unsettled
from pipeline.engine.stage_run import StageRun
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.engine.watch import Watch
from pipeline.errors import FlowvaultError, LockedError
from pipeline.instrument import CONTRACTS_FILE, Instrument
from pipeline.settings import FILE as SETTINGS_FILE
from pipeline.stage import Stage

_BEAT_S = 1.0
_TIDY_BEATS, _LATEST_TIDY_BEATS = 30, 300
"""Cycles of garbage are collected when nothing else is to be done, or after so long anyway."""
_BACKLOG_BYTES = 8 << 20
"""With more than this unread an instrument is brought up to date as `flowvault run` does it."""
_QUIET_S, _OLD_S = 5.0, 60.0
"""Rows that close nothing are committed when so long nothing has come, or after so long."""
_OWED_S = 1.0
"""Where others leave no time to commit lines as read, that is done with a signal so often."""
_REST_OF_LOOK, _LONGEST_REST_S = 3, 0.05
"""After a look a feed is left alone for three times as long as the look took."""
_GATHERED_S = 0.02
"""Instruments in which a minute has ended are carried on together if they are found so soon."""
_BUSY_S = 0.25
_COMMITTERS, _ENCODERS = 8, 2
_SWITCH_S = 0.0005


@dataclass
class _Job:
    """Something another thread has done for an instrument, and what came of it."""

    desk: Desk
    runs: list[StageRun] = field(default_factory=list)
    done: list[Summary] = field(default_factory=list)
    errors: list[FlowvaultError] = field(default_factory=list)
    is_mended: bool = False


Then = Callable[[_Job, BaseException | None], None]


class Follow:
    """Follows instruments until it is stopped.

    Args:
        root: the vault.
        find: which instruments there are; asked again and again.
        chain: the stages, in an order in which they can run.
        listener: is told what happens.
        urgent: stages that are served, with those they read, before all others, and are
            committed before these.
        poll_s: look at the raw folders this often instead of being told of changes.

    Raises:
        UsageError: a settings file is wrong.
    """

    def __init__(
        self,
        root: Path,
        find: Callable[[], Sequence[Instrument]],
        chain: Sequence[Stage[Any, Any]],
        listener: Listener,
        *,
        urgent: Collection[str] = (),
        poll_s: float | None = None,
    ) -> None:
        self._root = root
        self._find = find
        self._chain = chain
        self._listener = listener
        self._urgent = urgent
        self._settings = self._settings_now()
        self._vault = Vault.open(root)
        self._is_paused = False
        self._desks: dict[Instrument, Desk] = {}
        self._refused: set[Instrument] = set()
        self._seen: set[Path] = set()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._settled: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._stopping = threading.Event()
        self._watch = Watch(root / "raw", self._folders, self._inbox.put, self._note, poll_s)
        self._opener = ThreadPoolExecutor(1, "open")
        self._committer = ThreadPoolExecutor(_COMMITTERS, "commit")
        self._encoder = ThreadPoolExecutor(_ENCODERS, "encode")
        self._beat_at = 0.0
        self._untidy = 0
        self._is_tidy = False

    def stop(self) -> None:
        """End after the commit in hand; may be called from a signal handler."""
        self._stopping.set()
        self._inbox.put(None)

    def run(self) -> None:
        """Follow until `stop` is called.

        Raises:
            LockedError: another process follows one of the instruments.
        """
        sys.setswitchinterval(_SWITCH_S)
        gc.disable()  # it is done when nobody waits
        try:
            for instrument in self._find():
                self._take_in(instrument)
            self._watch.start()
            while not self._stopping.is_set():
                self._turn()
            self._finish()
        finally:
            self._stopping.set()
            for pool in (self._opener, self._committer, self._encoder):
                pool.shutdown()
            for desk in self._desks.values():
                desk.held.close()
            gc.unfreeze()  # or else a library tells of leaks when the process ends
            gc.enable()

    # -- the loop ------------------------------------------------------------

    def _turn(self) -> None:
        """One round: what has come in, then the most urgent thing there is to do."""
        self._receive(self._patience())
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat(now)
        self._open_due(now)
        self._serve(now)

    def _open_due(self, now: float) -> None:
        for desk in self._desks.values():
            if desk.phase is Phase.CLOSED and now >= desk.due and not self._is_paused:
                self._open(desk)

    def _serve(self, now: float) -> None:
        """New data first; then one of the stages for which nobody waits; then what is old."""
        closed = self._looked_at(now)
        if closed:
            self._carry(closed)
        for desk in self._ready():
            if desk.has_waited(now, _OLD_S):
                while desk.rest is not None and desk.phase is Phase.OPEN:
                    self._go_on(desk)
                return
        if self._on_their_way():
            return
        for desk in self._ready():
            if desk.rest is not None:
                self._go_on(desk)
                return
        for desk in self._ready():
            if desk.since is not None and (
                now - desk.since > _OLD_S or now - desk.quiet_since > _QUIET_S
            ):
                self._carry([desk])

    def _looked_at(self, now: float) -> list[Desk]:
        """Look at what is new, oldest first; returns instruments in which a minute has ended."""
        closed: list[Desk] = []
        for desk in sorted(self._ready(), key=lambda desk: desk.asked_at):
            if closed and time.monotonic() - now > _GATHERED_S:
                break
            if desk.changed and now >= desk.look_at:
                self._look(desk)
                if desk.phase is Phase.OPEN and desk.resident.has_closed:
                    closed.append(desk)
        return closed

    def _on_their_way(self) -> bool:
        """Whether urgent stages of an instrument are being committed; it takes milliseconds."""
        return any(
            desk.phase is Phase.COMMITTING and desk.rest is not None
            for desk in self._desks.values()
        )

    def _ready(self) -> list[Desk]:
        """The instruments for which something can be done in this thread."""
        return [desk for desk in self._desks.values() if desk.phase is Phase.OPEN]

    def _patience(self) -> float:
        """How long to wait for something to come in."""
        until = self._beat_at
        is_free = not self._on_their_way()
        for desk in self._desks.values():
            if is_free and desk.phase is Phase.OPEN and desk.rest is not None:
                return 0.0
            if desk.phase is Phase.OPEN and desk.changed:
                until = min(until, desk.look_at)
            if desk.phase is Phase.CLOSED and not self._is_paused:
                until = min(until, desk.due)
        return max(0.0, until - time.monotonic())

    def _receive(self, seconds: float) -> None:
        """Take what has come in, waiting if there is nothing."""
        try:
            self._take(self._inbox.get(timeout=seconds) if seconds else self._inbox.get_nowait())
            while True:
                self._take(self._inbox.get_nowait())
        except Empty:
            return

    def _take(self, what: Any) -> None:
        """Folders that have changed, or what is to be done behind another thread's work."""
        if callable(what):
            what()
        elif what:
            now = time.monotonic()
            for desk in self._desks.values():
                desk.ask(what, now)
            if not what <= self._seen:
                self._seen |= what
                self._beat_at = 0.0  # perhaps there is a new feed or instrument

    def _apart(
        self, pool: ThreadPoolExecutor, job: _Job, work: Callable[[_Job], None], then: Then
    ) -> None:
        """Do something in another thread, and what follows from it in this one."""

        def ended(future: Future[None]) -> None:
            self._inbox.put(lambda: then(job, future.exception()))

        pool.submit(work, job).add_done_callback(ended)

    def _after(self, step: Unsettled, then: Callable[[BaseException | None], None]) -> None:
        """Go on with a commit once a step of it is settled, before anything else is begun."""

        def ended(future: Future[None]) -> None:
            self._settled.put(lambda: then(future.exception()))
            self._inbox.put(self._go_on_settled)

        self._committer.submit(step.settle).add_done_callback(ended)

    def _go_on_settled(self) -> None:
        """Go on with commits that need not wait any more; asked between the folds of another."""
        with suppress(Empty):
            while True:
                self._settled.get_nowait()()

    def _note(self, text: str) -> None:
        self._inbox.put(lambda: self._listener.noted(text))

    def _folders(self) -> set[Path]:
        return {folder for desk in tuple(self._desks.values()) for folder in desk.feeds}

    # -- new data ------------------------------------------------------------

    def _look(self, desk: Desk) -> None:
        """Fold raw lines that are new."""
        started = time.monotonic()
        folders, desk.changed = desk.changed, set()
        for folder in folders:
            run = desk.resident.runs.get(desk.feeds[folder])
            if run is None:
                continue
            if run.feed.unread() > _BACKLOG_BYTES:
                desk.close(started)
                return
            self._advance(desk, run)
            if run.has_moved:
                desk.since = desk.since or started
                desk.written_ns = run.feed.marks[-1].mtime_ns
        desk.quiet_since = time.monotonic()
        took = desk.quiet_since - started
        desk.look_at = desk.quiet_since + min(_REST_OF_LOOK * took, _LONGEST_REST_S)

    def _carry(self, desks: Sequence[Desk]) -> None:
        """Carry what has been looked at through the urgent stages, and commit what is awaited.

        What it was made from is committed with the other stages: until then, and after a kill,
        the awaited one is ahead of those it reads, which make the same rows again. All that is
        folded is committed with it where nobody has come to the other stages for long.

        Of several instruments each stage is done behind each other: what it executes is still in
        the processor's cache then, and so the last one is ready much sooner.
        """
        for desk in desks:
            desk.resident.begin()
            desk.wait(time.monotonic())
            for run in desk.resident.raw_runs:
                self._encode(desk.resident, run.stage.name)
        for stage in self._chain:
            if stage.raw_kind:
                continue
            for desk in desks:
                self._carry_on(desk, stage.name)
        for desk in desks:
            self._go_on_settled()
            is_owed = desk.owes(time.monotonic(), _OWED_S)
            self._commit(desk, desk.resident.moved(None if is_owed else desk.resident.first))

    def _carry_on(self, desk: Desk, name: str) -> None:
        """Advance a stage now if it is urgent, else later."""
        resident = desk.resident
        if name not in resident.runs:
            return
        if name in resident.urgent:
            self._go_on_settled()
            self._advance(desk, resident.runs[name])
            self._encode(resident, name)
        elif desk.rest is not None:
            desk.rest.append(name)

    @staticmethod
    def _encode(resident: Resident, name: str) -> None:
        """Have the files of a stage that is committed first made while others are folded."""
        if name in resident.first and name in resident.runs:
            resident.runs[name].encode()

    def _go_on(self, desk: Desk) -> None:
        """Advance the next of the other stages; behind the last one commit everything."""
        while desk.rest:
            run = desk.resident.runs.get(desk.rest.pop(0))
            if run is not None:
                self._advance(desk, run)
                return
        desk.rest = None
        moved = desk.resident.moved()
        if moved:
            self._commit(desk, moved)
        else:
            desk.since = None

    def _advance(self, desk: Desk, run: StageRun) -> None:
        """Fold what is new; a stage that cannot is closed, with those that read it."""
        try:
            run.advance()
        except FlowvaultError as error:
            self._tell(desk, error)
            desk.resident.drop(run.stage.name)
            desk.put_off(time.monotonic(), [error])

    def _commit(self, desk: Desk, moved: list[StageRun]) -> None:
        if not moved:
            return
        desk.phase = Phase.COMMITTING
        self._go_on_committing(_Job(desk, runs=moved), desk.resident.committing(moved), None)

    def _go_on_committing(
        self, job: _Job, steps: Generator[Unsettled], error: BaseException | None
    ) -> None:
        """Do what can be done without the disk; others wait for that."""
        try:
            step = next(steps) if error is None else steps.throw(error)
            while step.is_settled:
                self._told(job, step)
                step = next(steps)
        except StopIteration:
            self._committed(job, None)
            return
        except (MovedError, FlowvaultError) as refused:
            self._committed(job, refused)
            return
        self._told(job, step)
        self._after(step, lambda error: self._go_on_committing(job, steps, error))

    def _told(self, job: _Job, step: Unsettled) -> None:
        """Tell that a commit is durable when it has come so far."""
        if step.is_durable:
            self._listener.committed(job.desk.sum_up(job.runs, time.time_ns()))

    def _committed(self, job: _Job, error: Exception | None) -> None:
        desk, now = job.desk, time.monotonic()
        desk.phase = Phase.OPEN
        if error is None:
            if any(run.stage.raw_kind for run in job.runs):
                desk.read_at = now
            if desk.rest is None:
                desk.since = desk.written_ns = None
        elif isinstance(error, MovedError):
            desk.close(now)
        elif isinstance(error, LockedError):
            desk.close(now + _BUSY_S)
        elif isinstance(error, FlowvaultError):
            self._tell(desk, error)
            desk.put_off(now, [error])
            desk.close(desk.due)

    # -- opening -------------------------------------------------------------

    def _take_in(self, instrument: Instrument) -> None:
        """Begin to follow an instrument.

        Raises:
            LockedError: another process does.
        """
        held = ExitStack()
        path = self._vault.paths.lock("follow", instrument)
        held.enter_context(lock.hold(path, f"following {instrument.key}"))
        resident = Resident(self._vault, self._chain, instrument, self._encoder, self._urgent)
        self._desks[instrument] = Desk(resident, held)

    def _open(self, desk: Desk) -> None:
        desk.phase = Phase.OPENING
        self._apart(self._opener, _Job(desk), self._bring_up, self._opened)

    def _bring_up(self, job: _Job) -> None:
        resident = job.desk.resident
        self._run(job, None)
        if not self._stopping.is_set():
            job.errors += resident.open()

    def _run(self, job: _Job, names: Collection[str] | None) -> None:
        """Run stages as `flowvault run` does."""
        for each in job.desk.resident.catch_up(self._stopping.is_set, names):
            if isinstance(each, FlowvaultError):
                job.errors.append(each)
            else:
                job.done.append(each)

    def _opened(self, job: _Job, error: BaseException | None) -> None:
        if error is not None:
            raise error
        desk, now = job.desk, time.monotonic()
        desk.opened(now)
        desk.put_off(now, job.errors)
        for each in job.errors:
            self._tell(desk, each)
        if desk.phase is Phase.OPEN:
            self._listener.caught_up(desk.instrument, job.done)
            self._listener.beat(self._beats_now())
        if not self._is_tidy and all(d.phase is Phase.OPEN for d in self._desks.values()):
            self._is_tidy = True
            gc.collect()
            gc.freeze()

    def _probe(self, desk: Desk) -> None:
        """Try the stages that are not open."""
        desk.is_probed = True
        is_open = frozenset(desk.resident.runs)

        def work(job: _Job) -> None:
            absent = desk.resident.absent(is_open)
            self._run(job, absent)
            made = {each.stage for each in job.done}
            job.is_mended = any(desk.resident.has_state(name) for name in made)

        self._apart(self._opener, _Job(desk), work, self._probed)

    def _probed(self, job: _Job, error: BaseException | None) -> None:
        if error is not None:
            raise error
        desk, now = job.desk, time.monotonic()
        desk.is_probed = False
        for each in job.errors:
            self._tell(desk, each)
        desk.put_off(now, job.errors)
        if job.is_mended and desk.phase is Phase.OPEN:
            desk.close(now)

    def _tell(self, desk: Desk, error: FlowvaultError) -> None:
        """Tell of an error, once until it has gone; a lock is nobody's fault."""
        if not isinstance(error, LockedError) and desk.is_news(error):
            self._listener.failed(error)

    # -- every second ----------------------------------------------------------

    def _beat(self, now: float) -> None:
        """See whether anything has changed of which nobody has told."""
        self._beat_at = now + _BEAT_S
        self._check_settings(now)
        self._find_new()
        for desk in self._desks.values():
            if desk.phase in (Phase.OPEN, Phase.CLOSED):
                desk.look_for_feeds(now)
            if desk.phase is not Phase.OPEN:
                continue
            if not desk.resident.is_current():
                desk.close(now)
                continue
            desk.ask(desk.unread(), now)
            if now >= desk.due and not desk.is_probed:
                self._probe(desk)
        self._listener.beat(self._beats_now())
        self._untidy += 1
        if self._untidy >= (_TIDY_BEATS if self._is_idle() else _LATEST_TIDY_BEATS):
            self._untidy = 0
            gc.collect()

    def _is_idle(self) -> bool:
        """Whether there is nothing to fold and nothing on its way to the disk."""
        return not any(
            desk.changed or desk.rest is not None or desk.phase is Phase.COMMITTING
            for desk in self._desks.values()
        )

    def _beats_now(self) -> list[Beat]:
        found = []
        for desk in self._desks.values():
            is_open = desk.phase in (Phase.OPEN, Phase.COMMITTING)
            found.append(Beat(desk.instrument, desk.watermark_us if is_open else None, is_open))
        return found

    def _find_new(self) -> None:
        for instrument in self._find():
            if instrument in self._desks or instrument in self._refused:
                continue
            try:
                self._take_in(instrument)
            except LockedError as error:
                self._refused.add(instrument)
                self._listener.failed(error)

    def _settings_now(self) -> list[Any]:
        names = (SETTINGS_FILE, CONTRACTS_FILE)
        return [states.signature(self._root / name) for name in names]

    def _check_settings(self, now: float) -> None:
        """Read the settings again when they have changed; wait while they are wrong."""
        settings = self._settings_now()
        if settings == self._settings:
            return
        if any(desk.phase in (Phase.OPENING, Phase.COMMITTING) for desk in self._desks.values()):
            return
        self._settings = settings
        for desk in self._desks.values():
            desk.close(now)
        try:
            self._vault = Vault.open(self._root)
        except FlowvaultError as error:
            self._is_paused = True
            self._listener.failed(error)
            return
        self._is_paused = False
        for desk in self._desks.values():
            desk.resident.vault = self._vault

    # -- the end ---------------------------------------------------------------

    def _finish(self) -> None:
        """Read what is there by now, and commit what has been folded."""
        self._watch.stop()
        busy = (Phase.OPENING, Phase.COMMITTING)
        while any(desk.phase in busy for desk in self._desks.values()):
            self._receive(_BEAT_S)
        for desk in self._desks.values():
            if desk.phase is not Phase.OPEN:
                continue
            for run in list(desk.resident.runs.values()):
                is_much = run.stage.raw_kind and run.feed.unread() > _BACKLOG_BYTES
                if run.stage.name in desk.resident.runs and not is_much:
                    self._advance(desk, run)
            moved = desk.resident.moved()
            try:
                desk.resident.commit(moved)
            except (MovedError, LockedError):
                continue  # somebody else is at it, and will read what this one has not committed
            except FlowvaultError as error:
                self._tell(desk, error)
                continue
            if moved:
                self._listener.committed(desk.sum_up(moved, time.time_ns()))
