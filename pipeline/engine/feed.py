"""A raw folder as an endless stream of lines, read on from where the last run stopped.

Offsets count decompressed bytes. Only whole lines are handed out; what follows the last line end
of the newest file waits for the next run. Before anything is read, what was consumed earlier is
checked: a file that shrank, changed or grew after a later day began is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import msgspec

from pipeline.engine.rawfiles import DayFile, DayFolder, chunks, day_files, is_whole
from pipeline.engine.state import NOT_TO_THE_END, FileMark
from pipeline.errors import DataError
from pipeline.raw.block import Block

BLOCK_BYTES = 6 << 20
MAX_LINE_BYTES = 32 << 20
_HEAD_BYTES, _TAIL_BYTES = 4096, 256
_KEEP_OF_LONG_LINE = 4096


@dataclass
class _Progress:
    """A mark that moves over a file, with the last bytes kept for the tail checksum."""

    mark: FileMark
    recent: bytes = b""

    def consume(self, data: bytes) -> None:
        mark = self.mark
        if mark.head_length < _HEAD_BYTES:
            more = data[: _HEAD_BYTES - mark.head_length]
            mark.head = zlib.crc32(more, mark.head)
            mark.head_length += len(more)
        mark.crc = zlib.crc32(data, mark.crc)
        mark.offset += len(data)
        self.recent = (self.recent + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        mark.tail = zlib.crc32(self.recent)

    def ahead(self) -> _Progress:
        """A copy that may be moved on before it is known whether to adopt it."""
        return _Progress(msgspec.structs.replace(self.mark), self.recent)

    def adopt(self, other: _Progress) -> None:
        """Move to where a copy has got to."""
        for name in ("offset", "head", "head_length", "tail", "crc"):
            setattr(self.mark, name, getattr(other.mark, name))
        self.recent = other.recent


@dataclass
class _LongLine:
    """A line too long to hold: its beginning, and the place reached while passing over it."""

    kept: bytes
    ahead: _Progress


@dataclass(frozen=True)
class _Known:
    """How far a file had been read; `is_whole`: a later day had been begun then."""

    day: str
    offset: int
    crc: int
    is_whole: bool


@dataclass
class RawFeed:
    """The day files of one kind of one instrument, with the marks of the last commit.

    `marks` describes what has been handed out. Blocks may be decoded ahead of being committed,
    so a commit takes the copy that came with its last block, not `marks` itself.

    Attributes:
        tells_ends: behind the last line of a file that will not grow comes a block that says so.
            That is one that a later day has followed, or a compressed one that is whole.
        stood_on: how far the files had been read, beyond the marks, for rows that are committed
            already; each time in order of days. The same lines must be found again.
    """

    folder: Path
    root: Path
    rebuild_hint: str
    marks: list[FileMark] = field(default_factory=list)
    tells_ends: bool = False
    stood_on: list[list[FileMark]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look at the folder as often as blocks are asked for."""
        self._days = DayFolder(self.folder)
        last = (self.marks[-1].day, self.marks[-1].offset) if self.marks else ("", 0)
        self._known = [
            _Known(mark.day, mark.offset, mark.crc, is_whole=later is not None)
            for marks in self.stood_on
            for mark, later in zip_longest(marks, marks[1:])
            if (mark.day, mark.offset) > last or (later is not None and mark.day == last[0])
        ]
        self._needed = {known.day for known in self._known if (known.day, known.offset) > last}

    def unread(self) -> int:
        """About how many bytes of the newest file are not read; 0 if it is as it was before."""
        files = self._days.files()
        if not files:
            return 0
        newest, mark = files[-1], self.marks[-1] if self.marks else None
        if mark is None or mark.name != newest.path.name:
            return newest.size + 1
        if (mark.size, mark.mtime_ns) == (newest.size, newest.mtime_ns):
            return 0
        return max(1, newest.size - (mark.size if newest.encoding else mark.offset))

    @property
    def block_bytes(self) -> int:
        """About how many bytes are read at once."""
        return BLOCK_BYTES

    def snapshot(self) -> list[FileMark]:
        """The marks as they are now; only the last one can still change."""
        return [*self.marks[:-1], *(msgspec.structs.replace(mark) for mark in self.marks[-1:])]

    def blocks(self) -> Iterator[tuple[Block, list[FileMark]]]:
        """Whole lines not handed out before, in file order, with the marks just behind them.

        Raises:
            DataError: a consumed file is not what it was.
        """
        for block in self._blocks():
            yield block, self.snapshot()

    def _blocks(self) -> Iterator[Block]:
        """See `blocks`.

        Raises:
            DataError: a consumed file is not what it was.
        """
        files = self._days.files()
        by_day = {mark.day: mark for mark in self.marks}
        newest = files[-1].day if files else ""
        for day in self._needed - {file.day for file in files}:
            message = (
                f"{self.folder}: the raw file of {day} is gone, but committed rows stand on it"
            )
            raise DataError(message, self.rebuild_hint)
        for file in files:
            try:
                yield from self._new_in(file, by_day, is_open=file.day == newest)
            except FileNotFoundError:
                # since the folder was listed a collector has compressed it
                others = (each for each in day_files(self.folder) if each.path != file.path)
                renamed = next((each for each in others if each.day == file.day), None)
                if renamed is None:
                    raise
                yield from self._new_in(renamed, by_day, is_open=file.day == newest)

    def _new_in(
        self, file: DayFile, by_day: dict[str, FileMark], *, is_open: bool
    ) -> Iterator[Block]:
        """What of one file was not handed out before.

        Raises:
            DataError: it is not what it was.
            FileNotFoundError: it is gone; what was handed out counts.
        """
        mark = by_day.get(file.day)
        last_day = self.marks[-1].day if self.marks else ""
        looked = None if mark is None else (mark.name, mark.size, mark.mtime_ns)
        if mark is None:
            if file.day < last_day:
                raise self._refuse(file, "appeared after a later day had been read")
            mark = by_day[file.day] = FileMark(file.day, file.path.name, 0, 0, 0)
            self.marks.append(mark)
            yield from self._read(file, _Progress(mark), is_open=is_open)
        elif file.day == last_day:
            yield from self._continue(file, mark, is_open=is_open)
        else:
            self._check_finished(file, mark)
        for known in self._known:
            if known.day == file.day and mark.offset < known.offset:
                what = f"shrank to {mark.offset} bytes; {known.offset} had been read"
                raise self._refuse(file, what)
        is_new = looked != (file.path.name, file.size, file.mtime_ns)
        if self.tells_ends and self._ends(file, mark, is_open=is_open, is_new=is_new):
            mark.ended = True
            source = file.path.relative_to(self.root).as_posix()
            yield Block(b"", source, file.day, mark.offset, ended=True)

    def _ends(self, file: DayFile, mark: FileMark, *, is_open: bool, is_new: bool) -> bool:
        """Whether it has to be told now that a file will not grow."""
        if mark.ended or mark is not self.marks[-1]:
            return False
        return not is_open or (is_new and is_whole(file))

    def _continue(self, file: DayFile, mark: FileMark, *, is_open: bool) -> Iterator[Block]:
        same_look = (file.path.name, file.size, file.mtime_ns) == (
            mark.name,
            mark.size,
            mark.mtime_ns,
        )
        if same_look and (is_open or (not file.encoding and mark.offset == file.size)):
            return
        progress = self._verify(file, mark)
        yield from self._read(file, progress, is_open=is_open)

    def _verify(self, file: DayFile, mark: FileMark) -> _Progress:
        """Check that the consumed part of a file is what it was; returns the place to go on."""
        if not file.encoding and file.size < mark.offset:
            raise self._refuse(file, f"shrank to {file.size} bytes; {mark.offset} had been read")
        grew = not file.encoding and file.size > mark.size and file.path.name == mark.name
        if grew:
            with file.path.open("rb") as stream:
                head = stream.read(mark.head_length)
                recent_from = max(0, mark.offset - _TAIL_BYTES)
                stream.seek(recent_from)
                recent = stream.read(mark.offset - recent_from)
            if zlib.crc32(head) != mark.head or (mark.offset and zlib.crc32(recent) != mark.tail):
                raise self._refuse(file, f"changed before byte {mark.offset}")
            return _Progress(mark, recent)
        crc, at, recent = 0, 0, b""
        for piece in chunks(file, 0, self.block_bytes):
            part = piece[: mark.offset - at]
            crc = zlib.crc32(part, crc)
            at += len(part)
            recent = (recent + part[-_TAIL_BYTES:])[-_TAIL_BYTES:]
            if at == mark.offset:
                break
        if at < mark.offset:
            raise self._refuse(file, f"shrank to {at} bytes; {mark.offset} had been read")
        if crc != mark.crc:
            raise self._refuse(file, f"changed before byte {mark.offset}")
        return _Progress(mark, recent)

    def _check_finished(self, file: DayFile, mark: FileMark) -> None:
        if (file.path.name, file.size, file.mtime_ns) == (mark.name, mark.size, mark.mtime_ns):
            return
        progress = self._verify(file, mark)
        if next(chunks(file, progress.mark.offset, self.block_bytes), b""):
            raise self._refuse(file, "grew after a later day had been read")
        mark.name, mark.size, mark.mtime_ns = file.path.name, file.size, file.mtime_ns

    def _read(self, file: DayFile, progress: _Progress, *, is_open: bool) -> Iterator[Block]:
        source = file.path.relative_to(self.root).as_posix()
        mark = progress.mark
        mark.name, mark.size, mark.mtime_ns = file.path.name, NOT_TO_THE_END, file.mtime_ns
        rest = b""
        long: _LongLine | None = None
        for piece in chunks(file, mark.offset, self.block_bytes):
            data = rest + piece if rest else piece
            rest = b""
            if long is None and (data.find(b"\n") + 1 or len(data)) > MAX_LINE_BYTES:
                long = _LongLine(data[:_KEEP_OF_LONG_LINE], progress.ahead())
            if long is not None:
                end = data.find(b"\n") + 1
                self._consume(file, long.ahead, data[:end] if end else data)
                if not end:
                    continue
                block = Block(long.kept, source, file.day, mark.offset, too_long=True)
                progress.adopt(long.ahead)
                data, long = data[end:], None
                yield block
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if end:
                block = Block(data[:end], source, file.day, mark.offset)
                self._consume(file, progress, block.data)
                yield block
        mark.size = file.size
        if is_open:
            return
        if long is not None:
            offset = mark.offset
            progress.adopt(long.ahead)
            yield Block(long.kept, source, file.day, offset, torn=True)
        elif rest:
            block = Block(rest, source, file.day, mark.offset, torn=True)
            self._consume(file, progress, rest)
            yield block

    def _consume(self, file: DayFile, progress: _Progress, data: bytes) -> None:
        """Move on behind bytes, which must be those that committed rows stand on."""
        start, end = progress.mark.offset, progress.mark.offset + len(data)
        for known in self._known:
            if known.day != file.day:
                continue
            if start < known.offset <= end:
                crc = zlib.crc32(data[: known.offset - start], progress.mark.crc)
                if crc != known.crc:
                    raise self._refuse(file, f"changed before byte {known.offset}")
            if known.is_whole and end > known.offset:
                raise self._refuse(file, "grew after a later day had been read")
        progress.consume(data)

    def _refuse(self, file: DayFile, what: str) -> DataError:
        return DataError(f"{file.path}: raw file {what}", self.rebuild_hint)
