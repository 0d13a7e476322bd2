"""Which raw day files no run needs any more.

A file is consumed when every stage and instrument that reads its folder has read it to its end and
has gone on to a later day, and the generation of the state before, on which a damaged one falls
back, has read it to its end as well. It must look as it did when it was read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from pipeline import stages
from pipeline.engine import disk, lock
from pipeline.engine import state as states
from pipeline.engine.fit import fingerprint, misfit
from pipeline.engine.leftovers import waiting_swap
from pipeline.engine.paths import VaultPaths, find_instruments, instruments_of
from pipeline.engine.rawfiles import DayFile, day_files, day_of
from pipeline.engine.state import NOT_TO_THE_END, FileMark, State
from pipeline.engine.vault import Vault
from pipeline.errors import FlowvaultError
from pipeline.instrument import Instrument, contract_of
from pipeline.stage import Stage


@dataclass(frozen=True, slots=True)
class Reader:
    """A stage that reads a raw folder for an instrument."""

    stage: Stage[Any, Any]
    instrument: Instrument

    def __str__(self) -> str:
        return f"{self.stage.name} of {self.instrument.key}"


@dataclass(slots=True)
class Folder:
    """A raw folder.

    Attributes:
        kind: what its records are.
        readers: every stage and instrument that reads it.
        consumed: files that nobody needs, oldest first.
        kept: files as old that are still needed, with the reason.
    """

    path: Path
    kind: str
    readers: list[Reader]
    consumed: list[DayFile] = field(default_factory=list)
    kept: list[tuple[DayFile, str]] = field(default_factory=list)


def raw_folders(paths: VaultPaths) -> list[Folder]:
    """Every raw folder that a stage reads, with all its readers."""
    found: dict[Path, Folder] = {}
    known = set(find_instruments(paths.root))
    for stage in stages.all_stages():
        kind = stage.raw_kind
        if kind is None:
            continue
        for instrument in sorted({*known, *instruments_of(paths, stage.name)}):
            path = paths.raw(instrument, kind)
            if instrument.market in stage.markets and path.is_dir():
                folder = found.setdefault(path, Folder(path, kind, []))
                folder.readers.append(Reader(stage, instrument))
    return [found[path] for path in sorted(found)]


def judge(vault: Vault, folder: Folder, before: date) -> Folder:
    """Sort the files of days before a date into consumed and kept.

    Returns:
        A new folder. Its newest day is never consumed.
    """
    judged = Folder(folder.path, folder.kind, folder.readers)
    old = [file for file in day_files(folder.path)[:-1] if file.day < before.isoformat()]
    if not old:
        return judged
    several = _days_with_several_files(folder.path)
    history = [_history(vault, reader) for reader in folder.readers]
    for file in old:
        reasons = [f"there are several files of {file.day}"] if file.day in several else []
        reasons += [why for each in history if (why := each.objection(file, folder.kind))]
        if reasons:
            judged.kept.append((file, reasons[0]))
        else:
            judged.consumed.append(file)
    return judged


def delete(vault: Vault, folder: Folder, before: date) -> Folder:
    """Delete the consumed files of days before a date, oldest first, while nobody else is at work.

    Returns:
        What was deleted, as `consumed`, and what was not.

    Raises:
        LockedError: a stage that reads the folder is running.
        OSError: the disk failed.
    """
    with ExitStack() as held:
        for reader in folder.readers:
            path = vault.paths.lock(reader.stage.name, reader.instrument)
            held.enter_context(lock.hold(path, f"stage {reader}"))
        judged = judge(vault, folder, before)
        for file in judged.consumed:
            disk.remove(file.path)
        disk.sync_dir(folder.path)
    open_elsewhere = [file for file in judged.consumed if file.path.exists()]
    judged.kept += [(file, "another program has it open") for file in open_elsewhere]
    judged.consumed = [file for file in judged.consumed if file not in open_elsewhere]
    return judged


def day_before(today: date, keep_days: int) -> date:
    """The first day that stays when so many days before today are kept."""
    try:
        return today - timedelta(days=keep_days)
    except OverflowError:
        return date.min


@dataclass(frozen=True, slots=True)
class _History:
    """What a reader has read, by the generations of its state, newest first.

    Attributes:
        veto: why none of its files may go, if so.
    """

    reader: Reader
    known: list[State]
    veto: str | None

    def objection(self, file: DayFile, kind: str) -> str | None:
        """Why the reader still needs a file; None: it does not."""
        if self.veto is not None:
            return f"{self.reader} {self.veto}"
        marks = [state.raw.get(kind, []) for state in self.known]
        mark = next((each for each in marks[0][:-1] if each.day == file.day), None)
        if mark is None or not _is_as_read(file, mark):
            return f"{self.reader} has not read it to its end"
        whole = (file.day, mark.offset, mark.crc)
        if not all(any(whole == (m.day, m.offset, m.crc) for m in older) for older in marks[1:]):
            return f"{self.reader} may fall back on the state before it had read it"
        return None


def _history(vault: Vault, reader: Reader) -> _History:
    stage, instrument = reader.stage, reader.instrument
    path = vault.paths.state(stage.name, instrument)
    try:
        known, broken = states.generations(path)
        contract = contract_of(instrument, vault.table, vault.root)
        params = vault.settings.params(stage.name, stage.params, instrument)
    except FlowvaultError as error:
        return _History(reader, [], f"cannot run: {error.message}")
    known.sort(key=lambda state: -state.generation)
    veto = None
    if not known:
        veto = "has not run yet"
    elif broken:
        veto = f"has a damaged state: {broken[0].name}"
    elif waiting_swap(vault.paths, stage.name, instrument) or known[0].swapping:
        veto = "has a rebuild to be swapped in"
    elif changed := misfit(stage, known[0], fingerprint(stage, params, contract)):
        veto = f"is to be rebuilt: {changed}"
    return _History(reader, known, veto)


def _is_as_read(file: DayFile, mark: FileMark) -> bool:
    is_same = (file.path.name, file.size, file.mtime_ns) == (mark.name, mark.size, mark.mtime_ns)
    is_whole = bool(file.encoding) or mark.offset == file.size
    return is_same and is_whole and mark.size != NOT_TO_THE_END


def _days_with_several_files(folder: Path) -> set[str]:
    """Days of which there are two; a collector may be compressing one of them at this moment."""
    days = Counter(day_of(path.name) for path in folder.iterdir())
    return {day for day, count in days.items() if day is not None and count > 1}


def spans(days: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Days in order as runs without holes: first, last, how many."""
    first = last = ""
    count = 0
    for day in days:
        if not last or day != _day_after(last):
            if count:
                yield first, last, count
            first, count = day, 0
        last, count = day, count + 1
    if count:
        yield first, last, count


def _day_after(day: str) -> str:
    try:
        return (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    except (ValueError, OverflowError):
        return ""
