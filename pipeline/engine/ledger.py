"""What imports have written: a small record for each day file and for each archive.

    state/import/{exchange}/{kind}_{market}/{INSTID}/{YYYY-MM-DD}.json
    state/import/{exchange}/{kind}_{market}/{INSTID}/archives/{size}-{crc}.json
    state/import/{exchange}/{kind}_{market}/{INSTID}/placing.json

A day file with a record that still fits it is an import's own; any other one is a collector's and
is never touched. `placing.json` is there while the day files of an archive take their places: an
import that finds one finishes that first.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from pipeline.engine import disk
from pipeline.engine.rawfiles import DayFile, chunks

T = TypeVar("T", bound=msgspec.Struct)

SCHEMA = 1
EDGE_BYTES = 4096
_CHUNK = 1 << 20
_FRAME = b'{"crc32":"%08x","record":%b}\n'


class Look(msgspec.Struct, frozen=True):
    """What a day file's bytes are known by: their number, and CRCs of the first and last 4096."""

    size: int
    head: int
    tail: int


class Piece(msgspec.Struct):
    """The part of a day file that came from one archive.

    Attributes:
        size, crc, how: the archive, see `ArchiveRecord`.
        format: of the archive; a file has parts of one format only.
        rows, bytes: of the part.
        first_us, last_us: the times it spans.
    """

    archive: str
    size: int
    crc: int
    how: str
    format: str
    rows: int
    bytes: int
    first_us: int
    last_us: int


class DayRecord(msgspec.Struct):
    """A day file that imports have written: what it looks like, and its parts in order."""

    day: str
    look: Look
    pieces: list[Piece]
    schema: int = SCHEMA


class ArchiveRecord(msgspec.Struct):
    """An archive that was imported as a whole.

    Attributes:
        size, crc: of its bytes.
        how: how its columns were read, where the user has said so.
        days: the day files that have its rows.
        bad: rows that could not be used.
    """

    name: str
    size: int
    crc: int
    how: str
    days: list[str]
    rows: int
    bad: int
    schema: int = SCHEMA


class Placed(msgspec.Struct):
    """A day file on its way to its place: what is to be there, and what is there before."""

    record: DayRecord
    before: Look | None = None
    before_name: str | None = None


class Placing(msgspec.Struct):
    """The day files of one archive, and its record if nothing of it is left out."""

    files: list[Placed]
    archive: ArchiveRecord | None
    schema: int = SCHEMA


class Ledger:
    """The records of one kind of one instrument."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def day(self, day: str) -> DayRecord | None:
        """The record of a day file, None if there is none or it is damaged."""
        return _read(self.folder / f"{day}.json", DayRecord)

    def archive(self, size: int, crc: int, how: str) -> ArchiveRecord | None:
        """The record of an archive that was imported in that way."""
        return _read(self._archive_path(size, crc, how), ArchiveRecord)

    def may_know(self, size: int) -> bool:
        """Whether an archive of that size was imported."""
        return any((self.folder / "archives").glob(f"{size}-*.json"))

    def placing(self) -> Placing | None:
        """What was about to be put in place."""
        return _read(self._placing_path, Placing)

    def begin(self, placing: Placing) -> None:
        """Say what is about to be put in place."""
        self._write(self._placing_path, placing)

    def finish(self, placing: Placing, placed: list[DayRecord]) -> None:
        """Say what is in place; the archive is done if that is all of it."""
        for record in placed:
            self._write(self.folder / f"{record.day}.json", record)
        if placing.archive is not None and len(placed) == len(placing.files):
            done = placing.archive
            self._write(self._archive_path(done.size, done.crc, done.how), done)
        disk.remove(self._placing_path)
        disk.sync_dir(self.folder)

    @property
    def _placing_path(self) -> Path:
        return self.folder / "placing.json"

    def _archive_path(self, size: int, crc: int, how: str) -> Path:
        told = f"-{zlib.crc32(how.encode()):08x}" if how else ""
        return self.folder / "archives" / f"{size}-{crc:08x}{told}.json"

    def _write(self, path: Path, record: msgspec.Struct) -> None:
        disk.make_dir(path.parent)
        body = msgspec.json.encode(record)
        temporary = path.with_name(path.name + ".tmp")
        disk.write_whole(temporary, _FRAME % (zlib.crc32(body), body))
        disk.replace(temporary, path)
        disk.sync_dir(path.parent)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        data = path.read_bytes()
        body: bytes = bytes(msgspec.json.decode(data, type=dict[str, msgspec.Raw])["record"])
        return msgspec.json.decode(body, type=kind) if data == _frame(body) else None
    except (FileNotFoundError, msgspec.DecodeError, KeyError):
        return None


def _frame(body: bytes) -> bytes:
    return _FRAME % (zlib.crc32(body), body)


def content(file: DayFile) -> Iterator[bytes]:
    """Decompressed bytes of a day file."""
    return chunks(file, 0, _CHUNK)


def look_at(file: DayFile) -> Look:
    """What a day file looks like now; only its edges are read unless it is compressed."""
    if not file.encoding:
        with file.path.open("rb") as stream:
            head = stream.read(EDGE_BYTES)
            stream.seek(max(0, file.size - EDGE_BYTES))
            tail = stream.read(EDGE_BYTES)
        return Look(file.size, zlib.crc32(head), zlib.crc32(tail))
    looker = Looker()
    for piece in content(file):
        looker.take(piece)
    return looker.look


class Looker:
    """Makes a `Look` of bytes as they come."""

    def __init__(self) -> None:
        self.size = 0
        self._head = self._tail = b""

    def take(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        if self.size < EDGE_BYTES:
            self._head += bytes(data[: EDGE_BYTES - self.size])
        self._tail = (self._tail + bytes(data[-EDGE_BYTES:]))[-EDGE_BYTES:]
        self.size += len(data)

    @property
    def look(self) -> Look:
        """What the bytes so far look like."""
        return Look(self.size, zlib.crc32(self._head), zlib.crc32(self._tail))
