"""Imports: the rows of an archive become day files of the vault, all of them or none.

An archive is read once. Its days are written beside their places and take them, in their order,
when its end has been reached and its own checks have passed. What is about to take its place is
written down before, and what has taken it afterwards (see `ledger`), so an import that was killed
is begun again or finished by the next one, with the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine import lock
from pipeline.engine import state as states
from pipeline.engine.ahead import ahead, read_ahead
from pipeline.engine.import_result import (
    IDLE,
    DayResult,
    Options,
    Result,
    mostly_bad,
    out_of_order,
)
from pipeline.engine.ledger import ArchiveRecord, Ledger, Piece, Placing
from pipeline.engine.paths import VaultPaths
from pipeline.engine.placing import Change, placed_of, plan, put
from pipeline.engine.rawfiles import day_files
from pipeline.engine.refused import Refused
from pipeline.engine.staging import Staging, clear
from pipeline.errors import FlowvaultError, MissingInputError, guarded
from pipeline.importers.batch import Batch
from pipeline.importers.container import Archive, Identity, check_there, has_checksum
from pipeline.importers.days import NO_TIME, Calendar
from pipeline.importers.framing import Lines
from pipeline.importers.reading import contents
from pipeline.importers.recognise import Source, Wishes
from pipeline.instrument import Instrument, contract_of, load_table, unknown_contract

Report = Callable[[int, int], None]
"""Called with how many bytes of the archive have been read, and rows made of them, so far."""

_NOTHING_STANDS = "nothing of it is in place"
_ENOUGH_LINES = 1000


@dataclass(frozen=True)
class Target:
    """The vault that archives are imported to: its root and its contract table."""

    root: Path
    table: dict[str, dict[str, str]]

    @classmethod
    def open(cls, root: Path) -> Target:
        """Read the vault's contract table.

        Raises:
            UsageError: it is wrong.
        """
        return cls(root, load_table(root))

    @property
    def paths(self) -> VaultPaths:
        """Where things lie."""
        return VaultPaths(self.root)


def import_archive(
    vault: Target, path: Path, wishes: Wishes, options: Options, report: Report
) -> Iterator[Result]:
    """Import one archive; yields a result for each instrument in it.

    Raises:
        FlowvaultError: it cannot be read; nothing of it is in place.
    """
    check_there(path)
    archive = Archive(path)
    with guarded(f"import of {path.name}", _NOTHING_STANDS), ExitStack() as held:
        if has_checksum(path):
            archive.identity()
        imports: dict[tuple[Instrument, str], Import] = {}
        for source, blocks in contents(archive, wishes):
            key = source.instrument, source.format.kind
            if key not in imports:
                imports[key] = Import(vault, path, source, wishes, options)
                held.enter_context(imports[key].opened(archive))
            imports[key].read(source, blocks, lambda rows: report(archive.position, rows))
        for each in imports.values():
            try:
                yield each.finish(archive.identity())
            except FlowvaultError as error:
                each.result.rows = 0
                each.result.problems.append(error)
                yield each.result


class Import:
    """One archive on its way into the day files of one instrument."""

    def __init__(
        self, vault: Target, path: Path, source: Source, wishes: Wishes, options: Options
    ) -> None:
        self.vault = vault
        self.path = path
        self.options = options
        self.instrument, self.kind = source.instrument, source.format.kind
        self.result = Result(path.name, source.format.name, self.instrument, self.kind)
        self.how = wishes.how
        self._is_told = bool(wishes.inst_ids)
        self._folder = vault.paths.raw(self.instrument, self.kind)
        self._ledger = Ledger(vault.paths.imports(self.instrument, self.kind))
        self._staging = Staging(self._folder)
        self._calendar = Calendar()
        self._refused = Refused(
            vault.paths.quarantine(self.instrument, self.kind) / "import" / f"{path.name}.jsonl"
        )
        self._held: Batch | None = None
        self._lines = 0
        self._is_placing = False

    @property
    def what(self) -> str:
        """How messages name it."""
        return f"import of {self.path.name} to {self.instrument.key}"

    @contextmanager
    def opened(self, archive: Archive) -> Iterator[None]:
        """Hold the lock for the time of the block; what waits is removed if it ends early."""
        folder = self._ledger.folder
        with lock.hold(folder.with_name(f"{folder.name}.lock"), f"import of {self.instrument.key}"):
            started = time.perf_counter()
            with guarded(self.what, _NOTHING_STANDS):
                self._recover()
                self.result.is_known = not self.options.anew and self._is_known(archive)
            self.result.seconds += time.perf_counter() - started
            try:
                yield
            finally:
                if not self._is_placing:
                    self._staging.discard()
                    self._refused.discard()

    def read(self, source: Source, blocks: Iterator[Lines], report: Callable[[int], None]) -> None:
        """Stage the rows of one file of the archive.

        Raises:
            DataError: most of it cannot be used.
        """
        if self.result.is_known:
            return
        started = time.perf_counter()
        with guarded(self.what, _NOTHING_STANDS):
            line = source.header_lines + 1
            for batch in _batches(source, blocks):
                self.result.bad += len(batch.bad)
                self._refused.take(source.file, line, batch.bad)
                line += batch.lines
                self._lines += batch.lines
                self.result.others += batch.others
                self.result.names |= batch.names
                self._check_sense()
                self._take(batch)
                report(self.result.rows)
            self._staging.pause()  # what comes next may be another instrument's
        self.result.seconds += time.perf_counter() - started

    def finish(self, identity: Identity) -> Result:
        """Put the days in place.

        Raises:
            DataError: the rows cannot be used as they are.
            LockedError: a stage is reading the files that would change behind its back.
        """
        if self.result.is_known:
            return self.result
        started = time.perf_counter()
        with guarded(self.what, _NOTHING_STANDS):
            self._take(None)
            self._check_sense(is_all=True)
            changes = self._plan(identity)
        with ExitStack() as held:
            for stage in self._readers_to_hold(changes):
                path = self.vault.paths.lock(stage, self.instrument)
                held.enter_context(lock.hold(path, f"stage {stage} of {self.instrument.key}"))
            changes = [self._unless_read(change) for change in changes]
            changes = self._place(changes, identity)
        self.result.conclude(changes, self.path, self._folder, self.options)
        self._conclude()
        self.result.seconds += time.perf_counter() - started
        return self.result

    def _conclude(self) -> None:
        """Say what became of rows that are not in place, and what a stage will want to know."""
        result = self.result
        result.tell_bad(self.path, self._lines, self._refused)
        if result.others and not self._is_told:
            result.notes.append(
                f"{result.others:,} rows of {self.path.name} are of other instruments "
                f"({result.shown}) and were left out; import them with -i"
            )
        if not result.rows:
            result.notes.append(f"{self.path.name} has no rows of {self.instrument.inst_id}")
        elif not contract_of(self.instrument, self.vault.table, self.vault.root).value:
            error = unknown_contract(self.instrument, self.vault.root, self.path.name)
            result.notes.append(f"{error.message}\n  next: {error.hint}")

    def _recover(self) -> None:
        """Finish what a killed import has begun to put in place; remove what it left besides."""
        placing = self._ledger.placing()
        if placing is not None:
            done = [each.record for each in placing.files if put(self._folder, each)]
            self._ledger.finish(placing, done)
        clear(self._folder)

    def _is_known(self, archive: Archive) -> bool:
        """Whether the archive was imported before; fills in the result if so."""
        if not self._ledger.may_know(self.path.stat().st_size):
            return False
        found = archive.identity()
        record = self._ledger.archive(found.size, found.crc, self.how)
        if record is None:
            return False
        there = {file.day for file in day_files(self._folder)}
        gone = [day for day in record.days if day not in there]
        self.result.days = [DayResult(day, 0, 0, "same") for day in record.days if day in there]
        if gone:
            days = gone[0] if len(gone) == 1 else f"{gone[0]} … {gone[-1]} ({len(gone)} days)"
            self.result.notes.append(
                f"{self.path.name} was imported before; its day files {days} are gone since "
                "(--again writes them anew)"
            )
        return True

    def _take(self, batch: Batch | None) -> None:
        """Stage the batch before, now that it is known what follows; hold this one."""
        if batch is not None and not batch.rows:
            return
        if self._held is not None:
            after = NO_TIME if batch is None else int(batch.clock[0])
            day, high = self._calendar.days(self._held.clock, after)
            self._staging.take(self._held, day, high)
            self.result.rows += self._held.rows
        self._held = batch

    def _check_sense(self, *, is_all: bool = False) -> None:
        """Refuse an archive of which most rows are bad or out of order, or none is wanted."""
        bad, behind = self.result.bad, self._calendar.behind
        if bad * 2 > self._lines and (is_all or self._lines >= _ENOUGH_LINES):
            raise mostly_bad(self.path, bad, self._lines, self._refused)
        if is_all and behind * 100 > self.result.rows:
            raise out_of_order(self.path, behind, self.result.rows)
        if is_all and not self.result.rows and self.result.others:
            raise MissingInputError(
                f"{self.path}: no rows of {self.instrument.inst_id}; it has {self.result.shown}",
                f"flowvault import {self.path} -i NAME",
            )

    def _plan(self, identity: Identity) -> list[Change]:
        changes = []
        for staged in self._staging.finish():
            piece = Piece(
                self.path.name,
                identity.size,
                identity.crc,
                self.how,
                self.result.format,
                staged.rows,
                staged.look.size,
                staged.first_us,
                staged.last_us,
            )
            anew = self.options.anew
            changes.append(plan(self._folder, self._ledger, staged, piece, anew=anew))
        return changes

    def _readers_to_hold(self, changes: Sequence[Change]) -> list[str]:
        """Stages that must not run while the days take their places, as they could read half.

        A day behind all that are there, and bytes behind those of a file, harm no reader.
        """
        newest = max((file.day for file in day_files(self._folder)), default="")
        is_harmless = all(
            change.action in IDLE or (change.is_appending and change.staged.day >= newest)
            for change in changes
        )
        return [] if is_harmless else list(readers(self.kind))

    def _last_read(self) -> Iterator[tuple[str, str]]:
        """The stages that have read this kind, each with the last day that it has read."""
        where = f"{self.instrument.exchange}/{self.instrument.market}"
        if not any(self.vault.root.glob(f"state/*/{where}/{self.instrument.inst_id}.state.json")):
            return  # none has run: no need to load them all
        for stage in readers(self.kind):
            state, _ = states.load(self.vault.paths.state(stage, self.instrument))
            marks = state.raw.get(self.kind, []) if state is not None else []
            yield stage, marks[-1].day if marks else ""

    def _unless_read(self, change: Change) -> Change:
        """Leave a day alone that a stage has read, or passed."""
        if change.action in IDLE:
            return change
        for stage, last in self._last_read():
            day = change.staged.day
            if day > last or (day == last and change.is_appending):
                continue
            if self.options.backfill:
                self.result.notes.append(
                    f"{stage} had read {self.instrument.key} up to {last}; next: "
                    f"flowvault rebuild {stage} {self.instrument.options}"
                )
                continue
            return change.refused(f"stage {stage} has read up to {last} without it")
        return change

    def _place(self, changes: Sequence[Change], identity: Identity) -> list[Change]:
        """Put the days in place, in their order, with a record before and after."""
        files = [placed_of(change) for change in changes if change.record is not None]
        left_out = [change for change in changes if change.action == "refused"]
        record = ArchiveRecord(
            self.path.name,
            identity.size,
            identity.crc,
            self.how,
            [change.staged.day for change in changes],
            self.result.rows,
            self.result.bad,
        )
        is_done = not left_out or self.options.skip_existing
        placing = Placing(files, record if is_done else None)
        with guarded(self.what, "run the same command again: it goes on where it stopped"):
            self._refused.keep()
            self._is_placing = True
            self._ledger.begin(placing)
            done = [each.record for each in files if put(self._folder, each)]
            self._ledger.finish(placing, done)
            self._is_placing = False
        placed = {each.day for each in done}
        return [
            change.refused("something else was put there meanwhile")
            if change.record is not None and change.staged.day not in placed
            else change
            for change in changes
        ]


def readers(kind: str) -> Iterator[str]:
    """The stages that read a kind of raw data."""
    from pipeline import stages  # noqa: PLC0415  (loads them all)

    yield from (stage.name for stage in stages.all_stages() if stage.raw_kind == kind)


def _batches(source: Source, blocks: Iterator[Lines]) -> Iterator[Batch]:
    """The records of a file, block by block, read ahead where that is possible."""
    reader = source.reader(source.inst_id)
    blocks = read_ahead(blocks)
    if reader.is_pure:
        yield from (batch for batch, _ in ahead(reader.read, ((lines, None) for lines in blocks)))
    else:
        yield from map(reader.read, blocks)
    rest = reader.rest()
    if rest is not None:
        yield rest
