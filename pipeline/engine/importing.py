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
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.engine import lock
from pipeline.engine.ahead import ahead
from pipeline.engine.ledger import ArchiveRecord, Ledger, Piece, Placing
from pipeline.engine.paths import VaultPaths
from pipeline.engine.placing import Change, placed_of, plan, put
from pipeline.engine.rawfiles import day_files
from pipeline.engine.refused import Refused
from pipeline.engine.staging import Staging, clear
from pipeline.errors import DataError, DiskError, FlowvaultError, MissingInputError
from pipeline.importers.batch import Batch
from pipeline.importers.container import Archive, Identity, check_there, has_checksum
from pipeline.importers.days import NO_TIME, Calendar
from pipeline.importers.framing import Lines
from pipeline.importers.reading import contents
from pipeline.importers.recognise import Source, Wishes
from pipeline.instrument import Instrument, contract_of, load_table, unknown_contract

Report = Callable[[int, int], None]
"""Called with how many bytes of the archive have been read, and rows made of them, so far."""

_IDLE = ("same", "refused")
_NOTHING_STANDS = "nothing of it is in place"
_ENOUGH_LINES = 1000
_NAMES_SHOWN = 5


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


@dataclass(frozen=True, slots=True)
class Options:
    """What may be done besides adding to what is there.

    Attributes:
        anew: import archives again, and replace rows that an earlier import has written.
        backfill: write days although a stage has read later ones.
        skip_existing: days that are refused because something else is there are no error.
    """

    anew: bool = False
    backfill: bool = False
    skip_existing: bool = False


@dataclass(slots=True)
class DayResult:
    """What became of one day."""

    day: str
    rows: int
    bytes: int
    action: str


@dataclass(slots=True)
class Result:
    """What became of one archive, for one instrument.

    Attributes:
        is_known: it was imported before; nothing was done.
        others: rows of other instruments, and some of their names.
        problems: errors that did not stop it.
        notes: what else the user should know.
    """

    archive: str
    format: str
    instrument: Instrument
    kind: str
    is_known: bool = False
    rows: int = 0
    bad: int = 0
    others: int = 0
    names: set[str] = field(default_factory=set)
    days: list[DayResult] = field(default_factory=list)
    problems: list[FlowvaultError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


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
                self._check_sense(source)
                self._take(batch)
                report(self.result.rows)
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
            self._check_sense(None)
            self._check_rows()
            changes = self._plan(identity)
        with ExitStack() as held:
            for stage in self._readers_to_hold(changes):
                path = self.vault.paths.lock(stage, self.instrument)
                held.enter_context(lock.hold(path, f"stage {stage} of {self.instrument.key}"))
            changes = [self._unless_read(change) for change in changes]
            changes = self._place(changes, identity)
        self._sum_up(changes)
        self.result.seconds += time.perf_counter() - started
        return self.result

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

    def _check_sense(self, source: Source | None) -> None:
        """Refuse an archive of which most rows are bad or out of order.

        Args:
            source: the file that is being read; None at the end.
        """
        bad, behind, rows = self.result.bad, self._calendar.behind, self.result.rows
        if bad * 2 > self._lines and (source is None or self._lines >= _ENOUGH_LINES):
            raise DataError(
                f"{self.path}: {bad:,} of the first {self._lines:,} rows are bad; "
                f"{self._refused.first}",
                "say what it is with --format, or which column is what with --map",
            )
        if source is None and behind * 100 > rows:
            raise DataError(
                f"{self.path}: not in order of time: {behind:,} of {rows:,} rows are more than "
                "five minutes behind the ones before them; nothing of it is in place",
                'unpack it and sort it by its time, as with: duckdb -c "copy (from '
                "read_csv('IN.csv', all_varchar = true) order by TIME) to 'OUT.csv'\"",
            )

    def _check_rows(self) -> None:
        """Refuse an archive that has no rows of the instrument that was asked for."""
        if not self.result.rows and self.result.others:
            names = ", ".join(sorted(self.result.names)[:_NAMES_SHOWN])
            raise MissingInputError(
                f"{self.path}: no rows of {self.instrument.inst_id}; it has {names}",
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
            change.action in _IDLE or (change.is_appending and change.staged.day >= newest)
            for change in changes
        )
        return [] if is_harmless else [stage for stage, _ in self._readers()]

    def _readers(self) -> Iterator[tuple[str, str]]:
        """The stages that have read this kind, each with the last day that it has read."""
        where = f"{self.instrument.exchange}/{self.instrument.market}"
        if not any(self.vault.root.glob(f"state/*/{where}/{self.instrument.inst_id}.state.json")):
            return  # none has run: no need to load them all
        from pipeline import stages  # noqa: PLC0415  (only where some have run)
        from pipeline.engine import state as states  # noqa: PLC0415

        for stage in stages.all_stages():
            if stage.raw_kind == self.kind:
                state, _ = states.load(self.vault.paths.state(stage.name, self.instrument))
                marks = state.raw.get(self.kind, []) if state is not None else []
                yield stage.name, marks[-1].day if marks else ""

    def _unless_read(self, change: Change) -> Change:
        """Leave a day alone that a stage has read, or passed."""
        if change.action in _IDLE:
            return change
        for stage, last in self._readers():
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

    def _sum_up(self, changes: Sequence[Change]) -> None:
        result, instrument = self.result, self.instrument
        for change in changes:
            action: str = change.action
            if action == "refused" and self.options.skip_existing:
                action = "kept"
            staged = change.staged
            size = change.record.look.size if change.record is not None else staged.look.size
            result.days.append(DayResult(staged.day, staged.rows, size, action))
            if action == "refused":
                result.problems.append(self._refusal(change))
        if result.bad * 100 > self._lines:
            result.problems.append(
                DataError(
                    f"{self.path}: {result.bad:,} of {self._lines:,} rows were bad (more than "
                    f"1 %); {self._refused.first}; the others are in place, the bad ones in "
                    f"{self._refused.path}",
                    "look at the reasons there; fetch the archive again if it is damaged",
                )
            )
        elif result.bad:
            result.notes.append(
                f"{result.bad:,} rows of {self.path.name} were bad; {self._refused.first}; they "
                f"are in {self._refused.path}"
            )
        if result.others and not self._is_told:
            names = ", ".join(sorted(result.names)[:_NAMES_SHOWN])
            result.notes.append(
                f"{result.others:,} rows of {self.path.name} are of other instruments ({names}) "
                "and were left out; import them with -i"
            )
        if not result.rows:
            result.notes.append(f"{self.path.name} has no rows of {instrument.inst_id}")
        elif not contract_of(instrument, self.vault.table, self.vault.root).value:
            error = unknown_contract(instrument, self.vault.root, self.path.name)
            result.notes.append(f"{error.message}\n  next: {error.hint}")

    def _refusal(self, change: Change) -> DataError:
        day, folder = change.staged.day, self._folder
        if change.why.startswith("stage "):
            hint = "the same command with --backfill, and then flowvault rebuild"
        elif "other rows" in change.why:
            hint = "the same command with --again to replace them, or --skip-existing"
        else:
            hint = "move it away and run the same command again, or leave it with --skip-existing"
        return DataError(f"{folder / day}: day refused and left as it was: {change.why}", hint)


@contextmanager
def guarded(what: str, stands: str) -> Iterator[None]:
    """Turn errors of the disk into a message that says what failed and what stands.

    Raises:
        DiskError: there was one.
    """
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        message = f"{what}: {error.strerror or error}{where}; {stands}"
        raise DiskError(message, "mend the disk, then run the same command again") from error


def _batches(source: Source, blocks: Iterator[Lines]) -> Iterator[Batch]:
    """The records of a file, block by block, read ahead where that is possible."""
    reader = source.reader(source.inst_id)
    if reader.is_pure:
        yield from (batch for batch, _ in ahead(reader.read, ((lines, None) for lines in blocks)))
    else:
        yield from map(reader.read, blocks)
    rest = reader.rest()
    if rest is not None:
        yield rest
