"""The one loop: load the state, read what is new, fold, write, commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from pipeline import stages
from pipeline.engine import disk, lock
from pipeline.engine import state as states
from pipeline.engine.commit import commit
from pipeline.engine.disk import Unsynced
from pipeline.engine.feed import RawFeed
from pipeline.engine.fit import fingerprint, misfit
from pipeline.engine.join import Join
from pipeline.engine.outputs import Outputs
from pipeline.engine.paths import VaultPaths
from pipeline.engine.presence import has_data, is_settled
from pipeline.engine.sources import (
    Batch,
    joined_batches,
    raw_batches,
    raw_feed,
    streamed_batches,
)
from pipeline.engine.state import Ahead, Counts, FileMark, RowMark, State
from pipeline.engine.summary import Summary
from pipeline.engine.swap import finish_swap
from pipeline.engine.vault import Vault
from pipeline.errors import MissingInputError, StateError, guarded
from pipeline.instrument import Instrument, contract_of, unknown_contract
from pipeline.raw.block import UnknownContractError
from pipeline.stage import Context, Input, Stage

COMMIT_ROWS = 600_000
"""A long backfill commits about this often, so that a kill costs seconds."""

Report = Callable[[str, int], None]


class StageRun:
    """One stage of one instrument, from its committed state on.

    It is opened under the stage's lock: the state is loaded, the files are brought to what it
    says. Then `prepare` looks up the layers above, `batches` and `step` fold what is new, and
    `finish` commits it. `run` does all that once. A run that is `kept` is opened beside those of
    the stages above, takes their rows from memory, and lets go of the lock: `advance` folds what
    is new as often as wanted without touching a file, and `commit` is called under the lock again,
    after `is_current` has told that nobody else has committed meanwhile. After an error the run is
    of no more use: close it and open another.
    """

    def __init__(
        self,
        vault: Vault,
        stage: Stage[Any, Any],
        instrument: Instrument,
        *,
        base: Path | None = None,
        reinstated: Any = None,
        report: Report | None = None,
        give_up_us: int | None = None,
        beside: Mapping[str, StageRun] | None = None,
        encoder: Executor | None = None,
    ) -> None:
        self.vault = vault
        self.stage = stage
        self.instrument = instrument
        self.what = f"stage {stage.name} of {instrument.key}"
        self.base = base or vault.root
        self.is_rebuild = base is not None
        self.params = vault.settings.params(stage.name, stage.params, instrument)
        self.contract = contract_of(instrument, vault.table, vault.root)
        self.hint = f"flowvault rebuild {stage.name} {instrument.options}"
        self.summary = Summary(stage.name, instrument)
        self.asides: list[Any] = []
        self.give_up_us = give_up_us
        self._above: dict[str, State] = {}
        self._inputs: tuple[Input, ...] = ()
        self._reinstated = reinstated
        self._report = report or (lambda _what, _count: None)
        self._pending = 0
        self._beside = {} if beside is None else beside
        self._encoder = encoder
        self._feed: RawFeed | None = None
        self._join: Join | None = None
        self._has_committed = False
        self._signature: tuple[int, int, int] | None = None
        paths = VaultPaths(self.base)
        self._state_path = paths.state(stage.name, instrument)
        self._lock_path = paths.lock(stage.name, instrument)

    @property
    def is_kept(self) -> bool:
        """Whether it is opened once and advanced many times."""
        return self._encoder is not None

    def run(self) -> Summary:
        """Bring the stage's layers up to date.

        Raises:
            FlowvaultError: nothing, or only whole commits, have been written.
        """
        with self.opened():
            self.prepare()
            for batch in self.batches():
                self.step(batch)
            self.finish()
        return self.summary

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the lock, load the state and recover the files for the time of the block.

        Raises:
            FlowvaultError: the lock is held, or state and files do not fit.
        """
        with self.locked():
            self.open()
            try:
                yield
            finally:
                self.close()

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Hold the stage's lock for the time of the block; see `lock.hold`.

        Raises:
            LockedError: another process holds it.
        """
        with self._guarded(), lock.hold(self._lock_path, self.what) as is_left:
            yield is_left

    def open(self) -> None:
        """Load the state and recover the files, under the lock.

        Raises:
            FlowvaultError: state and files do not fit.
        """
        with self._guarded():
            if not self.is_rebuild:
                finish_swap(self.vault.paths, self.stage, self.instrument)
            self._signature = states.signature(self._state_path)
            self.state = self._load()
            self._before = msgspec.structs.replace(self.state.counts)
            self._outputs = Outputs(
                self.base, self.instrument, self.stage, self.state, self.hint, self._encoder
            )
            self._outputs.recover()
            self._carry = states.thaw(self.state.carry, self.stage.carry)
            self._context: Context[Any] = Context(
                self.instrument,
                self.contract,
                self.params,
                watermark_us=self.state.watermark_us,
                last_rows=self._outputs.last_rows,
                reinstated=self._reinstated,
            )

    def close(self) -> None:
        """Wait for files that are still being written; what is not committed is forgotten."""
        self._outputs.close()

    def load(self) -> None:
        """Bring into memory what the next rows will need."""
        with self._guarded():
            self._outputs.load()
            if self._inputs:
                self._opened_join().load()

    def is_current(self) -> bool:
        """Whether the committed state is still the one this run goes on from."""
        return states.signature(self._state_path) == self._signature

    def advance(self) -> None:
        """Fold what is new in the input; nothing is written."""
        for batch in self.batches():
            self.step(batch)
        self._outputs.note(self.state)

    @property
    def feed(self) -> RawFeed:
        """The raw lines of a stage that decodes them.

        Raises:
            MissingInputError: there is no such raw folder and never was.
        """
        if self._feed is None:
            self._feed = raw_feed(
                self.stage,
                self.instrument,
                self.vault.paths,
                self.state,
                self.hint,
                is_rebuild=self.is_rebuild,
            )
        return self._feed

    @cached_property
    def can_sync_raw(self) -> bool:
        """Whether the newest raw file it has read, if any, can be made durable from here."""
        newest = self._raw_marks[-1:]
        return all(disk.can_sync(self.feed.folder / mark.name) for mark in newest)

    @property
    def _raw_marks(self) -> list[FileMark]:
        return self.state.raw.get(self.stage.raw_kind or "", [])

    def sync_raw(self, unsynced: Unsynced, *, is_vital: bool) -> None:
        """Have made durable what has been read from raw files and is not committed as read.

        A collector does not do that as a rule. After a power cut lines might be gone that rows
        stand on; if they are also remembered as read, the file would be refused.

        Args:
            unsynced: takes the files.
            is_vital: whether the lines are not going to be remembered as read in the same commit.

        Raises:
            FileNotFoundError: a file is not as it was, and that `is_vital`; see `feed` when it is
                read again.
        """
        known, _, _ = self._committed
        names, places = {name for _, name, *_ in known}, {(name, at) for _, name, at, *_ in known}
        for mark in self._raw_marks:
            if (mark.name, mark.offset) in places:
                continue
            try:
                unsynced.of_another(self.feed.folder / mark.name, mark.size)
            except FileNotFoundError:
                if is_vital:
                    raise
            if mark.name not in names:
                unsynced.path(self.feed.folder, self.vault.root)

    def encode(self) -> list[Future[bytes]]:
        """Begin to make the bytes of files that the next commit will write."""
        return self._outputs.encode()

    def batches(self) -> Iterator[Batch]:
        """What is new in the input, in order."""
        source = self._batches()
        while True:
            started = time.perf_counter()
            with self._guarded():
                batch = next(source, None)
            self.summary.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    def step(self, batch: Batch) -> None:
        """Fold one batch; commit if much has come together."""
        started = time.perf_counter()
        with self._guarded():
            context, state = self._context, self.state
            if batch.watermark_us is not None:
                context.watermark_us = batch.watermark_us
            closed = self.stage.fold(batch.rows, self._carry, context)
            self._carry = closed.carry
            if closed.watermark_us is not None:
                context.watermark_us = closed.watermark_us
            written = self._outputs.add(closed.rows, closed.rejects)
            if closed.aside is not None:
                self.asides.append(closed.aside)
            batch.advance(state, closed)
            state.counts = state.counts.plus(
                Counts(
                    rows_in=closed.rows_in if self.stage.raw_kind else batch.size,
                    rows_out=written,
                    late=closed.late,
                    duplicate=closed.duplicate,
                    bad=closed.bad,
                    gaps=closed.gaps,
                )
            )
            if not closed.holds_back:
                state.watermark_us = context.watermark_us
            self._pending += max(batch.size, closed.rows_in)
            self._report(self.stage.name, max(batch.size, closed.rows_in))
            if self._pending >= COMMIT_ROWS and not self.is_kept:
                commit([self])
        self.summary.seconds += time.perf_counter() - started

    def finish(self) -> None:
        """Commit what is left, if anything moved, and sum up."""
        started = time.perf_counter()
        with self._guarded():
            if self.has_moved:
                commit([self])
        self.sum_up()
        self.summary.seconds += time.perf_counter() - started

    @property
    def has_moved(self) -> bool:
        """Whether there is anything to commit."""
        is_new = not self.state.generation and not (self.stage.inputs and not self._inputs)
        return is_new or self._outputs.is_dirty or _position(self.state) != self._committed

    def sum_up(self) -> None:
        """Count in the summary what has been done since the state was loaded."""
        after = self.state.counts
        for name in after.__struct_fields__:
            setattr(self.summary.counts, name, getattr(after, name) - getattr(self._before, name))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn errors of the disk into a message that names the stage."""
        try:
            with guarded(self.what):
                yield
        except StateError as error:
            if error.hint is not None:
                raise
            raise StateError(error.message, self.hint) from error

    @property
    def read_so_far(self) -> Ahead:
        """How far raw files have been read, committed or not; of days before, only the last."""
        known, _, _ = self._committed
        marks = self._raw_marks[max(0, len(known) - 1) :]
        return Ahead(self.state.epoch, [msgspec.structs.replace(mark) for mark in marks])

    def write(self, unsynced: Unsynced, ahead: dict[str, Ahead]) -> None:
        """Write outputs and state; see `commit` and `State`."""
        with self._guarded():
            self._check_upstream()
            if self.stage.raw_kind and self.can_sync_raw:
                self.sync_raw(unsynced, is_vital=False)
            state = self.state
            self._outputs.write(state, unsynced)
            state.carry = states.freeze(self._carry)
            state.generation += 1
            state.swapping, state.ahead = False, ahead
            states.write(self._state_path, state, unsynced)

    def adopt(self, unsynced: Unsynced) -> None:
        """Let the state that was written take its place; see `commit`."""
        with self._guarded():
            is_known = self._has_committed
            states.adopt(self._state_path, self.state, unsynced, is_known=is_known)
            self._has_committed = True
            self._signature = states.signature(self._state_path)
            self._committed = _position(self.state)
            self._pending = 0

    def publish(self, unsynced: Unsynced) -> None:
        """Give the committed files their names; see `commit`."""
        with self._guarded():
            self._outputs.publish(unsynced)

    def _check_upstream(self) -> None:
        """Refuse to commit rows that were made from files a rebuild has since replaced."""
        for name, mark in self.state.upstream.items():
            above = self._state_of(stages.owner(name))
            if above and above.epoch != mark.epoch:
                raise self._rebuilt(name)

    def _rebuilt(self, layer: str) -> StateError:
        message = f"{self.what} stands on rows of {layer} that were rebuilt since"
        return StateError(message, self.hint)

    def _load(self) -> State:
        """The committed state, or a new one.

        Raises:
            StateError: it does not fit the code or the parameters.
        """
        try:
            state, warning = states.load(self._state_path)
        except StateError as error:
            raise StateError(error.message, error.hint or self.hint) from error
        if warning:
            self.summary.notes.append(warning)
        params = fingerprint(self.stage, self.params, self.contract)
        if state is None:
            state = State(
                stage=self.stage.name,
                instrument=self.instrument.key,
                schema=states.SCHEMA,
                code_version=self.stage.version,
                params=params,
                lateness_us=self.stage.lateness_us(self.params),
            )
            self._committed = _position(state)
            return state
        self._committed = _position(state)
        changed = misfit(self.stage, state, params)
        if changed is not None:
            raise StateError(changed, self.hint)
        return state

    def prepare(self) -> None:
        """Look up the layers this stage reads, if it does not read raw data.

        Which inputs a joined stage has is settled when its state is made.

        Raises:
            StateError: a layer was rebuilt since this stage read it.
            MissingInputError: a layer it needs has never been made.
        """
        is_new = not self.state.upstream
        if self.stage.inputs and is_new and not self._is_settled():
            self.summary.notes.append("waits: which layers it can read is not clear yet")
            return
        for name in self.stage.reads:
            owner = stages.owner(name)
            if not is_new and name not in self.state.upstream:
                continue
            if self.stage.inputs and is_new and not self._has(owner):
                continue
            self._above[name] = self._look_up(name, owner)
        if self.stage.inputs:
            self._inputs = self._choose()
            self._context.inputs = frozenset(each.layer for each in self._inputs)
        for name, above in self._above.items():
            mark = self.state.upstream.setdefault(name, RowMark(0, above.epoch))
            if mark.epoch != above.epoch:
                raise self._rebuilt(name)
            self._note_missing_rows(name, above, mark)

    def _state_of(self, owner: Stage[Any, Any]) -> State | None:
        """The state of a stage above; that of one that is open too goes on with it."""
        if owner.name in self._beside:
            return self._beside[owner.name].state
        return states.read_state(self.vault.paths.state(owner.name, self.instrument))

    def _has(self, owner: Stage[Any, Any]) -> bool:
        return has_data(self.vault.paths, owner, self.instrument)

    def _is_settled(self) -> bool:
        return is_settled(self.vault.paths, self.stage, self.instrument)

    def _look_up(self, name: str, owner: Stage[Any, Any]) -> State:
        """The state of the stage behind an input."""
        command = f"flowvault {owner.name} {self.instrument.options}"
        above = self._state_of(owner)
        if above is None:
            raise MissingInputError(f"{self.what}: no layer {name} yet", command)
        if above.swapping:
            raise StateError(f"{self.what}: a rebuild of {owner.name} was interrupted", command)
        return above

    def _choose(self) -> tuple[Input, ...]:
        """The inputs of a joined stage, and only their states kept."""
        carries = {name: above.carry for name, above in self._above.items()}
        chosen = self.stage.chosen(self.params, carries)
        names = {each.layer for each in chosen} | {e.timed_by for e in chosen if e.timed_by}
        lacking = [e.layer for e in self.stage.inputs if e.required and e.layer not in names]
        if lacking:
            message = f"{self.what}: no layer {lacking[0]} yet"
            hint = f"flowvault {stages.owner(lacking[0]).name} {self.instrument.options}"
            raise MissingInputError(message, hint)
        if not names:
            self.summary.notes.append("waits: none of the layers it reads can be used yet")
        self._above = {name: self._above[name] for name in self._above if name in names}
        return chosen

    def _note_missing_rows(self, name: str, above: State, mark: RowMark) -> None:
        parts = above.parts.get(name)
        if parts is not None and parts.rows < mark.position:
            owner = stages.owner(name).name
            note = f"waits: {owner} has {parts.rows} rows, {mark.position} were read before"
            self.summary.notes.append(note)

    @property
    def group(self) -> tuple[Any, ...]:
        """Runs with the same key can be fed the same batches."""
        mark = self.state.upstream.get(self.stage.source)
        if mark is None:
            return (self.stage.name,)
        return self.stage.source, mark.position

    def _batches(self) -> Iterator[Batch]:
        """What is new, from wherever this stage reads."""
        stage, paths, state = self.stage, self.vault.paths, self.state
        if stage.raw_kind:
            rows = raw_batches(self.feed, stage, self.instrument, self.contract, state)
        elif stage.inputs:
            rows = joined_batches(self._opened_join())
        else:
            above, held = self._above[stage.source], self._held(stage.source)
            rows = streamed_batches(stage, self.instrument, paths, state, above, held)
        try:
            yield from rows
            if self.is_kept and self._join is not None:
                self._join.keep_up()
        except UnknownContractError as error:
            raise unknown_contract(self.instrument, self.vault.root, str(error)) from error
        except (StateError, FileNotFoundError) as error:
            if stage.raw_kind:
                raise
            message = (
                error.message
                if isinstance(error, StateError)
                else f"{error.filename}: committed rows are gone"
            )
            first = stages.owner(next(iter(self._above))).name
            hint = f"flowvault rebuild {first} {self.instrument.options}"
            raise StateError(message, hint) from error

    def _opened_join(self) -> Join:
        if self._join is None:
            held = {name: self._held(name) for name in self._above}
            self._join = Join(
                self.vault.paths,
                self.instrument,
                self._inputs,
                self.stage.grid_us,
                self._above,
                self.state.upstream,
                self.state.watermark_us,
                self.give_up_us,
                {name: each for name, each in held.items() if each is not None},
            )
        return self._join

    def _held(self, layer: str) -> Outputs | None:
        """What the stage behind a layer holds in memory, if it is open too."""
        above = self._beside.get(stages.owner(layer).name)
        return None if above is None else above._outputs  # noqa: SLF001  (its own kind)


def _position(state: State) -> tuple[Any, ...]:
    """What must move for a commit to be worth making."""
    raw = tuple(
        (
            *(kind, mark.name, mark.offset, mark.size < 0, mark.ended),
            0 if mark is marks[-1] else mark.mtime_ns,
        )
        for kind, marks in state.raw.items()
        for mark in marks
    )
    above = tuple((name, mark.position) for name, mark in state.upstream.items())
    return raw, above, state.watermark_us
