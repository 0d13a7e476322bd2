"""Day files of a raw folder: plain, gzip or zstd, read as one stream of decompressed bytes."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

_NAME = re.compile(r"(\d{4}-\d\d-\d\d)\.jsonl(|\.gz|\.zst)")
_ORDER = {"": 0, ".gz": 1, ".zst": 2}


@dataclass(frozen=True, slots=True)
class DayFile:
    """One day's raw file as it is on disk now."""

    day: str
    path: Path
    encoding: str
    size: int
    mtime_ns: int


def day_of(name: str) -> str | None:
    """The day in the name of a day file; None if it is the name of none."""
    match = _NAME.fullmatch(name)
    return None if match is None else match[1]


def day_files(folder: Path) -> list[DayFile]:
    """The day files of a folder in order of their days.

    While a collector compresses a finished day both files exist for a moment; the plain one
    counts.
    """
    found: dict[str, DayFile] = {}
    if not folder.is_dir():
        return []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        new = DayFile(match[1], path, match[2], stat.st_size, stat.st_mtime_ns)
        old = found.get(new.day)
        if old is None or _ORDER[new.encoding] < _ORDER[old.encoding]:
            found[new.day] = new
    return [found[day] for day in sorted(found)]


class DayFolder:
    """A raw folder that is looked at again and again.

    As long as no name in it changes, only the newest file is looked at, and all of them only every
    few seconds: a look costs the same however many days there are.
    """

    _WHOLE_S = 5.0
    _FRESH_NS = 1_000_000_000
    """A folder's time is that of a clock's tick; another change may follow in the same tick."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: list[DayFile] = []
        self._names_ns = 0
        self._listed = -self._WHOLE_S

    def files(self) -> list[DayFile]:
        """As `day_files`; changes of files before the newest are seen within five seconds."""
        now = time.monotonic()
        if now - self._listed < self._WHOLE_S and self._is_unchanged():
            return self._files
        names_ns = self._changed_ns()
        self._names_ns = 0 if time.time_ns() - names_ns < self._FRESH_NS else names_ns
        self._files, self._listed = day_files(self.path), now
        return self._files

    def _is_unchanged(self) -> bool:
        """Whether the list still holds, the newest file's size and time brought up to date."""
        if not self._files or not self._names_ns or self._changed_ns() != self._names_ns:
            return False
        newest = self._files[-1]
        try:
            stat = newest.path.stat()
        except FileNotFoundError:
            return False
        if (stat.st_size, stat.st_mtime_ns) != (newest.size, newest.mtime_ns):
            newest = replace(newest, size=stat.st_size, mtime_ns=stat.st_mtime_ns)
            self._files = [*self._files[:-1], newest]
        return True

    def _changed_ns(self) -> int:
        try:
            return self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def chunks(file: DayFile, offset: int, size: int) -> Iterator[bytes]:
    """Decompressed bytes of a file from an offset to its present end, in pieces of about `size`.

    An unfinished gzip or zstd stream yields what can be decompressed so far.

    Raises:
        DataError: a compressed file is damaged.
    """
    if not file.encoding:
        with file.path.open("rb") as stream:
            stream.seek(offset)
            while piece := stream.read(size):
                yield piece
        return
    skip = offset
    reader = _gzip_chunks if file.encoding == ".gz" else _zstd_chunks
    for piece in reader(file.path, size):
        if skip >= len(piece):
            skip -= len(piece)
            continue
        yield piece[skip:] if skip else piece
        skip = 0


def is_whole(file: DayFile) -> bool:
    """Whether a file is compressed and its last stream has come to its end."""
    if file.encoding == ".gz":
        new: Callable[[], Any] = partial(zlib.decompressobj, wbits=31)
    elif file.encoding == ".zst":
        import zstandard  # noqa: PLC0415  (only where such files exist)

        new = zstandard.ZstdDecompressor().decompressobj
    else:
        return False
    member, is_begun, size = new(), False, 0
    with file.path.open("rb") as stream:
        while data := stream.read(1 << 12):
            size += len(data)
            while data:
                member.decompress(data)
                data, is_begun = member.unused_data, not member.eof
                member = member if is_begun else new()
    return size == file.size > 0 and not is_begun


def _gzip_chunks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        member = zlib.decompressobj(wbits=31)
        pending = b""
        while True:
            data = pending or stream.read(1 << 18)
            pending = b""
            if not data:
                return
            while data:
                try:
                    piece = member.decompress(data, size)
                except zlib.error as error:
                    raise DataError(
                        f"{path}: damaged gzip stream near byte {stream.tell()}: {error}",
                        "restore the file, or move it away and run again",
                    ) from error
                if piece:
                    yield piece
                if member.eof:
                    data = member.unused_data
                    member = zlib.decompressobj(wbits=31)
                else:
                    data = member.unconsumed_tail


def _zstd_chunks(path: Path, size: int) -> Iterator[bytes]:
    import zstandard  # noqa: PLC0415  (only where such files exist)

    try:
        with (
            path.open("rb") as stream,
            zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True) as reader,
        ):
            while piece := reader.read(size):
                yield piece
    except zstandard.ZstdError as error:
        raise DataError(
            f"{path}: damaged zstd stream: {error}",
            "restore the file, or move it away and run again",
        ) from error
