"""The stages of one instrument, kept open between commits.

States, the tails of Parquet layers and the windows of joins stay in memory. `look` folds raw lines
that are new, `advance` carries them through a stage behind: both write nothing and hold no lock.
`commit` takes the locks of the stages that have moved, sees that nobody else has committed since,
and commits them together. Whenever anything is not as it was, everything is to be closed and
opened again from what is on disk, so that other processes may run, rebuild or die beside this one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Executor, wait
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

from pipeline import stages
from pipeline.engine.commit import waves
from pipeline.engine.presence import applies, has_data
from pipeline.engine.runner import run_stages
from pipeline.engine.stage_run import StageRun
from pipeline.engine.summary import Summary
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError, LockedError, guarded
from pipeline.instrument import Instrument
from pipeline.stage import MINUTE_US, Stage

_PATIENCE_S, _AGAIN_S = 0.2, 0.004


class MovedError(Exception):
    """Another process has committed a stage that is open here."""


class Resident:
    """One instrument with its open stages.

    Attributes:
        runs: by name, in the order in which they read each other.
        urgent: the names of those that a stage named as urgent needs, directly or not, and it.
        first: those of them that are committed first: the stages named, and those that read raw
            files which cannot be made durable from here. From raw data all else is made again.
    """

    def __init__(
        self,
        vault: Vault,
        chain: Sequence[Stage[Any, Any]],
        instrument: Instrument,
        encoder: Executor,
        urgent: Collection[str] = (),
    ) -> None:
        self.vault = vault
        self.instrument = instrument
        self.runs: dict[str, StageRun] = {}
        self.urgent: frozenset[str] = frozenset()
        self.first: frozenset[str] = frozenset()
        self._chain = list(chain)
        self._encoder = encoder
        self._asked_urgent = urgent
        self._minutes: dict[str, int | None] = {}

    # -- opening and closing -------------------------------------------------

    def catch_up(
        self, is_stopped: Callable[[], bool], names: Collection[str] | None = None
    ) -> Iterator[Summary | FlowvaultError]:
        """Run stages as `flowvault run` does, while nothing is open."""
        chosen = [
            stage
            for stage in self._chain
            if (names is None or stage.name in names)
            and applies(self.vault.paths, stage, self.instrument)
        ]
        yield from run_stages(self.vault, chosen, self.instrument, is_stopped=is_stopped)

    def open(self) -> list[FlowvaultError]:
        """Open every stage that has run before; returns why those are not open that should be."""
        errors: list[FlowvaultError] = []
        failed: set[str] = set()
        for stage in self._chain:
            if not self.has_state(stage.name):
                continue
            if any(above.name in failed for above in stages.upstreams(stage)):
                failed.add(stage.name)
                continue
            try:
                self.runs[stage.name] = self._opened(stage)
            except FlowvaultError as error:
                failed.add(stage.name)
                errors.append(error)
        self._minutes = self._now()
        self.urgent = frozenset(self._above(self._asked_urgent))
        self.first = frozenset(
            name
            for name in self.urgent
            if name in self._asked_urgent or not self.runs[name].can_sync_raw
        )
        return errors

    def _opened(self, stage: Stage[Any, Any]) -> StageRun:
        run = StageRun(self.vault, stage, self.instrument, beside=self.runs, encoder=self._encoder)
        until = time.monotonic() + _PATIENCE_S
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(run.locked())
                    break
                except LockedError:
                    if time.monotonic() > until:
                        raise
                time.sleep(_AGAIN_S)
            run.open()
        try:
            run.prepare()
            run.load()
            if stage.raw_kind:
                run.feed.unread()
        except FlowvaultError:
            run.close()
            raise
        return run

    def close(self) -> None:
        """Let go of everything; what is not committed is forgotten."""
        for run in self.runs.values():
            run.close()
        self.runs.clear()

    def drop(self, name: str) -> None:
        """Close a stage and those that read it."""
        gone = {each.name for each in stages.with_downstream(name)}
        for each in gone & set(self.runs):
            self.runs.pop(each).close()

    def absent(self, names: Collection[str]) -> list[str]:
        """The stages for which the instrument has something, but for these."""
        return [
            stage.name
            for stage in self._chain
            if stage.name not in names and has_data(self.vault.paths, stage, self.instrument)
        ]

    def raw_folders(self) -> dict[Path, str]:
        """The folders that its raw stages read or would read, with the stage."""
        return {
            self.vault.paths.raw(self.instrument, stage.raw_kind): stage.name
            for stage in self._chain
            if stage.raw_kind
        }

    def has_state(self, name: str) -> bool:
        """Whether a stage has run for the instrument."""
        return self.vault.paths.state(name, self.instrument).is_file()

    def _above(self, names: Collection[str]) -> set[str]:
        """Open stages, and the open ones they read."""
        found: set[str] = set()
        waiting = [name for name in names if name in self.runs]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                layers = self.runs[name].state.upstream
                waiting += [stages.owner(layer).name for layer in layers]
        return found

    # -- new data --------------------------------------------------------------

    @property
    def raw_runs(self) -> list[StageRun]:
        """The open stages that read raw data."""
        return [run for run in self.runs.values() if run.stage.raw_kind]

    @property
    def has_closed(self) -> bool:
        """Whether a feed has come to the end of a minute since `begin`."""
        return self._now() != self._minutes

    def begin(self) -> None:
        """What has been looked at is going to be carried through all stages."""
        self._minutes = self._now()

    def _now(self) -> dict[str, int | None]:
        marks = {run.stage.name: run.state.watermark_us for run in self.raw_runs}
        return {name: None if at is None else at // MINUTE_US for name, at in marks.items()}

    def moved(self, names: Collection[str] | None = None) -> list[StageRun]:
        """The stages that have something to commit."""
        return [
            run
            for name, run in self.runs.items()
            if (names is None or name in names) and run.has_moved
        ]

    def is_current(self) -> bool:
        """Whether nobody else has committed a stage that is open here."""
        return all(run.is_current() for run in self.runs.values())

    def committing(self, moved: Sequence[StageRun]) -> Generator[Unsettled]:
        """Commit stages.

        What is yielded must be settled, in any thread, before going on. When one is yielded that
        says so the commit is durable.

        Raises:
            MovedError: somebody else has committed; close and open again.
            LockedError: somebody else is at it; the same.
            FlowvaultError: the disk; the same, once it is mended.
        """
        with guarded(self.instrument.key), ExitStack() as held:
            encoding = Encoding(moved)
            until = time.monotonic() + _PATIENCE_S
            for run in moved:
                while not self._has_locked(run, held, until):
                    yield Pause(_AGAIN_S)
            if not self.is_current():
                raise MovedError
            yield encoding
            above = self._above([run.stage.name for run in moved])
            raw = [run for run in self.raw_runs if run.stage.name in above and run not in moved]
            try:
                yield from waves(moved, raw)
            except FileNotFoundError as error:  # a raw file may have another name by now
                raise MovedError from error

    @staticmethod
    def _has_locked(run: StageRun, held: ExitStack, until: float) -> bool:
        """Take a stage's lock, unless another run has it that may be about to let go of it."""
        try:
            is_left = held.enter_context(run.locked())
        except LockedError:
            if time.monotonic() > until:
                raise
            return False
        if is_left:
            # a process that died at it may have left files, which opening clears away
            raise MovedError
        return True

    def commit(self, moved: Sequence[StageRun]) -> None:
        """Commit stages and wait for the disk; see `committing`."""
        with guarded(self.instrument.key), closing(self.committing(moved)) as steps:
            for each in steps:
                each.settle()


class Unsettled(Protocol):
    """Something to be waited for."""

    is_durable: bool

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to wait for."""

    def settle(self) -> None:
        """Wait for it."""


class Encoding:
    """Files that are being encoded in other threads."""

    is_durable = False

    def __init__(self, runs: Sequence[StageRun]) -> None:
        self._encoded = [future for run in runs for future in run.encode()]

    @property
    def is_settled(self) -> bool:
        """Whether all have been."""
        return all(each.done() for each in self._encoded)

    def settle(self) -> None:
        """Wait."""
        wait(self._encoded)


class Pause:
    """A short while."""

    is_durable = is_settled = False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def settle(self) -> None:
        """Wait."""
        time.sleep(self._seconds)
