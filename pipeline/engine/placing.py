"""What becomes of a day that was staged, given what stands in its place.

Nobody's day file: the staged one takes the name. A file that imports have written: the new rows
go where their times belong, before, between or behind the parts that are there. Rows that are
there already stay as they are. Anything else is refused, and so is any change of a file that no
import has written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline.engine import disk
from pipeline.engine.ledger import DayRecord, Ledger, Look, Piece, Placed, look_at
from pipeline.engine.rawfiles import DayFile, chunks, day_files
from pipeline.engine.staging import JOINING, WAITING, Staged

Action = Literal["new", "extended", "replaced", "same", "refused"]
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done about one day.

    Attributes:
        record: what is there afterwards; None if nothing is written down.
        existing: the file that is there before, and what it looks like.
        is_appending: that file's bytes are the beginning of the new one's.
        why: it is refused.
    """

    staged: Staged
    action: Action
    record: DayRecord | None = None
    existing: DayFile | None = None
    before: Look | None = None
    is_appending: bool = True
    why: str = ""

    def refused(self, why: str) -> Change:
        """The same day, left alone."""
        return replace(self, action="refused", record=None, why=why)


def plan(folder: Path, ledger: Ledger, staged: Staged, piece: Piece, *, anew: bool) -> Change:
    """Decide about a day.

    Args:
        folder: of the day files.
        ledger: what imports have written.
        staged: the day's new rows.
        piece: their record.
        anew: rows that an earlier import has written may be replaced.
    """
    file = next((each for each in day_files(folder) if each.day == staged.day), None)
    if file is None:
        record = DayRecord(staged.day, staged.look, [piece])
        return Change(staged, "new", record)
    record_there = ledger.day(staged.day)
    look = look_at(file)
    change = Change(staged, "same", existing=file, before=look)
    if record_there is None or record_there.look != look:
        if _is_in(file, look.size, staged):
            # to the last byte what this import would have written: it is its own
            is_own = not file.encoding and look.size == staged.look.size
            return replace(change, record=DayRecord(staged.day, look, [piece]) if is_own else None)
        return change.refused(f"{file.path.name} is there, and no import has written it")
    return _spliced(change, record_there.pieces, piece, anew=anew)


def _spliced(change: Change, pieces: list[Piece], piece: Piece, *, anew: bool) -> Change:
    """Put new rows where they belong in a file of ours."""
    staged, file, before = change.staged, change.existing, change.before
    if file is None or before is None:
        return change
    others = [each for each in pieces if each.format != piece.format]
    if others:
        why = f"{file.path.name} has {others[0].format} of {others[0].archive}"
        return change.refused(f"{why}, other rows than {piece.format}")
    touched = [each for each in pieces if _overlaps(each, piece)]
    earlier = [each for each in pieces if each not in touched and each.last_us <= piece.first_us]
    later = [each for each in pieces if each not in touched and each not in earlier]
    start = sum(each.bytes for each in earlier)
    stop = before.size - sum(each.bytes for each in later)
    is_whole = stop - start == staged.look.size and _is_at(file, start, staged, 0, stop - start)
    if touched and (is_whole or (not anew and _is_in(file, before.size, staged))):
        return change
    is_begun = _is_at(file, start, staged, 0, stop - start)
    if touched and not anew and not is_begun and not _ends_with(staged, file, start, stop):
        names = ", ".join(dict.fromkeys(each.archive for each in touched))
        return change.refused(f"{file.path.name} has other rows of that time, from {names}")
    final = _joined(change, start, stop)
    record = DayRecord(staged.day, final.look, [*earlier, piece, *later])
    is_appending = is_begun and stop == before.size
    action: Action = "replaced" if touched and anew else "extended"
    return replace(change, staged=final, action=action, record=record, is_appending=is_appending)


def _overlaps(one: Piece, other: Piece) -> bool:
    if (one.size, one.crc, one.how) == (other.size, other.crc, other.how):
        return True
    if (one.first_us, one.last_us) == (other.first_us, other.last_us):
        return True
    return one.last_us > other.first_us and one.first_us < other.last_us


def _is_in(file: DayFile, size: int, staged: Staged) -> bool:
    """Whether a file begins or ends with the staged rows."""
    new = staged.look.size
    if new > size:
        return False
    return _is_at(file, 0, staged, 0, new) or _is_at(file, size - new, staged, 0, new)


def _ends_with(staged: Staged, file: DayFile, start: int, stop: int) -> bool:
    """Whether the staged rows end with the bytes of a part of a file."""
    surplus = staged.look.size - (stop - start)
    return surplus >= 0 and _is_at(file, start, staged, surplus, stop - start)


def _is_at(file: DayFile, start: int, staged: Staged, at: int, length: int) -> bool:
    """Whether a part of a file is the same as a part of the staged rows."""
    if at + length > staged.look.size:
        return False
    with staged.path.open("rb") as stream:
        stream.seek(at)
        for part in _part(file, start, length):
            if stream.read(len(part)) != part:
                return False
            length -= len(part)
    return length == 0


def _part(file: DayFile, start: int, length: int) -> Iterator[bytes]:
    """Decompressed bytes of a part of a file."""
    if not length:
        return
    for chunk in chunks(file, start, _CHUNK):
        yield chunk[:length]
        length -= len(chunk[:length])
        if not length:
            return


def _joined(change: Change, start: int, stop: int) -> Staged:
    """The staged rows with the file's bytes before `start` and from `stop` on around them."""
    staged, file, before = change.staged, change.existing, change.before
    if file is None or before is None or (start == 0 and stop == before.size):
        return staged
    joining = staged.path.with_name(f"{staged.day}{JOINING}")
    disk.remove(joining)
    own = DayFile(staged.day, staged.path, "", staged.look.size, 0)
    at = 0
    for source, first, last in ((file, 0, start), (own, 0, own.size), (file, stop, before.size)):
        for chunk in _part(source, first, last - first):
            disk.write_at(joining, at, chunk)
            at += len(chunk)
    disk.sync(joining)
    disk.replace(joining, staged.path)
    disk.sync_dir(staged.path.parent)
    return replace(staged, look=look_at(DayFile(staged.day, staged.path, "", at, 0)))


def placed_of(change: Change) -> Placed:
    """A change as it is written down before it is made."""
    if change.record is None:
        raise ValueError(f"nothing changes on {change.staged.day}")
    name = change.existing.path.name if change.existing is not None else None
    return Placed(change.record, change.before, name)


def put(folder: Path, placed: Placed) -> bool:
    """Put a staged day in its place, unless that has been done; False if the place has changed.

    What is there must be what was there when it was decided: nothing, or that file of ours.
    """
    record = placed.record
    waiting = folder / f"{record.day}{WAITING}"
    target = folder / f"{record.day}.jsonl"
    there = next((each for each in day_files(folder) if each.day == record.day), None)
    look = look_at(there) if there is not None else None
    is_done = there is not None and look == record.look and there.path == target
    if not is_done:
        if look != placed.before or not waiting.is_file():
            return False
        if there is None:
            try:
                disk.place(waiting, target)
            except FileExistsError:
                return False
        else:
            disk.replace(waiting, target)
    disk.sync_dir(folder)
    disk.remove(waiting)
    if placed.before_name is not None and placed.before_name != target.name:
        disk.remove(folder / placed.before_name)  # compressed; all of it is in the new file
    return True
