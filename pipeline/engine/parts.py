"""A Parquet output: immutable files of a fixed number of rows, and smaller ones for the rest.

Where files begin and end depends on row numbers alone, so any cutting of the input leaves the
same files. Rows that do not fill a part yet stand in pieces, so that a few new rows cost the
writing of one piece; when the part is full it takes the place of its pieces. The last, short piece
is never changed: a longer one takes its place. Until the commit new files carry the suffix `.tmp`;
the commit makes them part of the layer, and only then are they renamed and the files they replace
deleted. All of that is redone on the next start if a run died in between.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import polars as pl

from pipeline.engine import disk
from pipeline.engine.disk import Unsynced
from pipeline.engine.state import Parts
from pipeline.errors import StateError

SUFFIX, TEMPORARY = ".parquet", ".parquet.tmp"
_TRIES, _AGAIN_S = 20, 0.0005
_NAME = re.compile(r"\d{12,}-\d{12,}\.parquet")

R = TypeVar("R")
T = TypeVar("T")


class Codec(Protocol[R]):
    """How the rows of one layer are held in memory and how they look in a file.

    `to_public` must depend on the rows alone, and `from_public` must give them back exactly.
    """

    def height(self, rows: R) -> int:
        """Number of rows."""

    def slice(self, rows: R, start: int, length: int) -> R:
        """A contiguous part."""

    def join(self, first: R, second: R) -> R:
        """`second` behind `first`."""

    def pieces(self, rows: R) -> int:
        """In how many pieces they lie in memory."""

    def compact(self, rows: R) -> R:
        """The same rows in one piece of memory."""

    def last_us(self, rows: R) -> int | None:
        """Time of the last row, microseconds; None if it carries none."""

    def newest_us(self, rows: R) -> int:
        """Largest time of any row, microseconds."""

    def runs(self, rows: R) -> Iterator[R]:
        """The same rows in pieces that a fold may add up without overflow."""

    def to_public(self, rows: R) -> tuple[pl.DataFrame, dict[str, str]]:
        """The file's columns and metadata."""

    def extend(
        self, before: tuple[pl.DataFrame, dict[str, str]], rows: R
    ) -> tuple[pl.DataFrame, dict[str, str]] | None:
        """What `to_public` gives for the rows of `before` and these; None: ask it."""

    def from_public(self, frame: pl.DataFrame, metadata: dict[str, str]) -> R:
        """The inverse of `to_public`."""


def part_name(start: int, end: int) -> str:
    """The file holding rows [start, end)."""
    return f"{start:012d}-{end:012d}{SUFFIX}"


def names(listing: Parts, first: int = 0) -> Iterator[tuple[str, int, int]]:
    """The files that hold rows of a layer from `first` on: name, first row, row past the last."""
    rows, part_rows = listing.rows, listing.part_rows
    if first >= rows:
        return
    full = rows // part_rows * part_rows
    for start in range(first // part_rows * part_rows, full, part_rows):
        yield part_name(start, start + part_rows), start, start + part_rows
    piece_rows = listing.piece_rows or part_rows
    skipped = max(0, first - full) // piece_rows * piece_rows
    for start in range(full + skipped, rows, piece_rows):
        end = min(start + piece_rows, rows)
        yield part_name(start, end), start, end


def to_bytes(frame: pl.DataFrame, metadata: dict[str, str]) -> bytes:
    """Parquet bytes that depend on the rows alone, not on how they were put together."""
    buffer = io.BytesIO()
    frame.rechunk().write_parquet(
        buffer, compression="lz4", statistics=True, row_group_size=1 << 22, metadata=metadata
    )
    return buffer.getvalue()


def read_part(path: Path, codec: Codec[R], columns: list[str] | None = None) -> R:
    """Read one file, whole or some of its columns."""
    data = io.BytesIO(path.read_bytes())
    try:
        frame = pl.read_parquet(data, columns=columns)
        data.seek(0)
        return codec.from_public(frame, pl.read_parquet_metadata(data))
    except (pl.exceptions.PolarsError, KeyError, ValueError) as error:
        raise StateError(f"{path} is damaged: {error}") from error


def read_listed(
    folder: Path, start: int, end: int, codec: Codec[R], columns: list[str] | None = None
) -> R:
    """Committed rows [start, end), which are those of one file; see `use_listed`."""

    def read(path: Path) -> R:
        rows, (low, high) = read_part(path, codec, columns), span_of(path.name)
        return rows if (low, high) == (start, end) else codec.slice(rows, start - low, end - start)

    return use_listed(folder, start, end, read)


def use_listed(folder: Path, start: int, end: int, use: Callable[[Path], T]) -> T:
    """Use the file that holds committed rows [start, end); its name says which others it holds.

    A reader may hold a state that is one commit old: then the file has its temporary name still,
    or one that holds more rows has taken its place.

    Raises:
        FileNotFoundError: no file holds these rows.
    """
    for path in places_of(folder, start, end):
        with suppress(FileNotFoundError):
            return use(path)
    raise FileNotFoundError(2, "committed rows are gone", str(folder / part_name(start, end)))


def places_of(folder: Path, start: int, end: int) -> Iterator[Path]:
    """Where rows [start, end) may stand, one place after the other, until one is used.

    A folder in which a file is being replaced may be listed with neither of the two.
    """
    name = part_name(start, end)
    for attempt in range(_TRIES):
        time.sleep(_AGAIN_S * attempt)
        yield folder / name
        yield folder / (name + ".tmp")
        path = file_with(folder, start, end)
        if path is not None:
            yield path


def file_with(folder: Path, start: int, end: int) -> Path | None:
    """The smallest file that holds rows [start, end) and perhaps more, if one is listed."""
    if not folder.is_dir():
        return None
    spans = ((span_of(path.name), path) for path in folder.iterdir() if is_part(path.name))
    found = [(high - low, path) for (low, high), path in spans if low <= start and high >= end]
    return min(found)[1] if found else None


def is_part(name: str) -> bool:
    """Whether a file of a layer's folder has such a name as its files have."""
    return _NAME.fullmatch(name) is not None


def span_of(name: str) -> tuple[int, int]:
    """The first row of a file and the one past its last, by its name."""
    start, _, end = name.partition(".")[0].partition("-")
    return int(start), int(end)


def read_rows(
    folder: Path,
    listing: Parts,
    start: int,
    codec: Codec[R],
    columns: list[str] | None,
    held: Callable[[int, int], R | None] | None = None,
) -> Iterator[tuple[R, int]]:
    """Rows from `start` on, file by file, each with the row number past its end.

    `held` gives rows [first, end) that need not be read from a file.
    """
    for _, low, high in names(listing, start):
        skip = max(0, start - low)
        rows = None if held is None else held(low + skip, high)
        if rows is None:
            rows = read_listed(folder, low, high, codec, columns)
            rows = codec.slice(rows, skip, high - low - skip) if skip else rows
        yield rows, high


_MOST_PIECES = 32


class PartsOutput(Generic[R]):
    """The files of one Parquet layer of one instrument.

    With an `encoder` nothing is written before `write`, and `encode` may prepare for that. Without
    one, files are written as soon as they are full, so that a backfill needs little memory.
    """

    def __init__(
        self, folder: Path, committed: Parts, codec: Codec[R], encoder: Executor | None = None
    ) -> None:
        self.folder = folder
        self.part_rows = committed.part_rows
        self.piece_rows = committed.piece_rows
        self.committed = committed.rows
        self.rows = committed.rows
        self._codec = codec
        self._tail: R | None = None
        self._tail_start = committed.rows
        self._full: dict[int, tuple[int, R]] = {}
        self._new: list[str] = []
        self._encoder = encoder
        self._encoded: dict[tuple[int, int], Future[bytes]] = {}
        self._writer: ThreadPoolExecutor | None = None
        self._writing: list[Future[None]] = []
        self._shown: tuple[tuple[int, int], R] | None = None
        self._public: tuple[int, pl.DataFrame, dict[str, str]] | None = None

    def recover(self) -> None:
        """Finish or undo what a dead run left: afterwards the folder holds the committed files.

        Raises:
            StateError: a committed file is gone.
        """
        if not self.folder.is_dir():
            if self.committed:
                raise StateError(f"{self.folder} is gone, but {self.committed} rows are committed")
            return
        present = {path.name for path in self.folder.iterdir()}
        listed = set()
        for name, start, end in names(self.listing(self.committed)):
            listed.add(name)
            if name in present:
                continue
            if name + ".tmp" in present:
                disk.replace(self.folder / (name + ".tmp"), self.folder / name)
            else:
                self._restore(name, start, end)
        for name in sorted(present - listed):
            if name.endswith((SUFFIX, TEMPORARY)):
                disk.remove(self.folder / name)

    def _restore(self, name: str, start: int, end: int) -> None:
        """Cut a committed file out of the one that has already taken its place.

        Happens when the newest state is damaged and the one before is used.
        """
        try:
            rows = read_listed(self.folder, start, end, self._codec)
        except FileNotFoundError:
            message = f"{self.folder / name} is gone, but its rows are committed"
            raise StateError(message) from None
        disk.write_whole(self.folder / (name + ".tmp"), to_bytes(*self._codec.to_public(rows)))
        disk.replace(self.folder / (name + ".tmp"), self.folder / name)

    def append(self, rows: R) -> int:
        """Take rows; every file they fill is written at once under its temporary name."""
        height = self._codec.height(rows)
        if not height:
            return 0
        held = self._load_tail()
        both = rows if held is None else self._codec.join(held, rows)
        start, end = self._tail_start, self.rows + height
        full = end // self.part_rows * self.part_rows
        for part in range(start // self.part_rows * self.part_rows, full, self.part_rows):
            first = max(part, start)
            rest = self._codec.slice(both, first - start, part + self.part_rows - first)
            self._fill(part, first, rest)
        self._tail_start = max(start, full)
        if full > start:
            both = self._codec.slice(both, full - start, end - full)
        self._tail = both if end > full else None
        if self._tail is not None and self._codec.pieces(self._tail) > _MOST_PIECES:
            self._tail = self._codec.compact(self._tail)
        self.rows = end
        return height

    def _pieces_on_disk(self, start: int, end: int) -> R:
        """Committed rows that begin and end with a piece."""
        listing, found = self.listing(self.committed), None
        for _, low, high in names(listing, start):
            if low == end:
                break
            piece = read_listed(self.folder, low, high, self._codec)
            found = piece if found is None else self._codec.join(found, piece)
        if found is None:
            raise StateError(f"{self.folder}: rows {start} to {end} are in no file")
        return found

    def _fill(self, start: int, first: int, rest: R) -> None:
        """Take a file that is full: its rows from `first` on, behind those of committed pieces."""
        if self._encoder is not None:
            self._full[start] = first, rest
            return
        part = self._whole(start, first, rest)
        # it is written while the next rows are being computed
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._writing.append(self._writer.submit(self._write_full, start, part))

    def _whole(self, start: int, first: int, rest: R) -> R:
        """The rows of a full file."""
        if first == start:
            return rest
        return self._codec.join(self._pieces_on_disk(start, first), rest)

    @property
    def is_dirty(self) -> bool:
        """Whether there are rows behind the committed ones."""
        return self.rows > self.committed

    def encode(self) -> list[Future[bytes]]:
        """Begin to make the bytes of the files that `write` is going to write."""
        if self._encoder is None or not self.is_dirty:
            return []
        before, self._encoded = self._encoded, {}
        for start, height, make in self._unwritten():
            key = start, height
            self._encoded[key] = before.get(key) or self._encoder.submit(make)
        return list(self._encoded.values())

    def write(self, unsynced: Unsynced) -> Parts:
        """Write all rows under temporary names; returns what the state shall say."""
        self._wait()
        if self.is_dirty:
            for start, height, make in self._unwritten():
                made = self._encoded.get((start, height))
                data = make() if made is None else made.result()
                unsynced.write(self._new_file(start, height), 0, data)
            self._full.clear()
            self._encoded.clear()
            unsynced.folder(self.folder)
        return self.listing(self.rows)

    def _unwritten(self) -> list[tuple[int, int, Callable[[], bytes]]]:
        """Files that are not written yet: number of the first row, of rows, and what makes it."""
        found: list[tuple[int, int, Callable[[], bytes]]] = [
            (start, self.part_rows, partial(self._full_bytes, start, *held))
            for start, held in self._full.items()
        ]
        make = self._bytes_of_piece if self._encoder is None else self._kept_bytes
        if self._tail is not None:
            first = max(self._tail_start, self.committed)
            for _, start, end in names(self.listing(self.rows), first):
                piece = self._codec.slice(self._tail, start - self._tail_start, end - start)
                found.append((start, end - start, partial(make, start, piece)))
        return found

    def _wait(self) -> None:
        for job in self._writing:
            job.result()
        self._writing.clear()

    def close(self) -> None:
        """Wait for files that are still being written; their errors no longer matter."""
        jobs: list[Future[Any]] = [*self._writing, *self._encoded.values()]
        for job in jobs:
            job.exception()
        if self._writer is not None:
            self._writer.shutdown()

    def listing(self, rows: int) -> Parts:
        """The state's entry for a number of rows."""
        listing = Parts(rows, self.part_rows, piece_rows=self.piece_rows)
        for name, _, _ in names(listing, rows - 1 if rows else 0):
            listing.last = name
        left = rows % self.part_rows
        listing.files = rows // self.part_rows + -(-left // (self.piece_rows or self.part_rows))
        return listing

    def publish(self, unsynced: Unsynced) -> None:
        """After the commit: give the new files their names and delete those they replace."""
        for name in self._new:
            disk.replace(self.folder / (name + ".tmp"), self.folder / name)
        for name in self._replaced():
            disk.remove(self.folder / name)
        if self._new:
            unsynced.folder(self.folder)
        self._new.clear()
        self.committed = self.rows
        self._forget()

    def _forget(self) -> None:
        """Keep in memory no more of the tail than what the next rows are written behind."""
        start = self._start_of(self.committed)
        if self._tail is not None and self._tail_start < start < self.rows:
            ahead = start - self._tail_start
            self._tail = self._codec.slice(self._tail, ahead, self.rows - start)
            self._tail_start = start

    def _start_of(self, row: int) -> int:
        """The first row of the piece in which a row stands while its part is not full."""
        inside = row % self.part_rows
        return row - inside % (self.piece_rows or self.part_rows)

    def _replaced(self) -> list[str]:
        """The files of the commit before that are no part of the layer any more."""
        before, now = self.listing(self.committed), self.listing(self.rows)
        first = self.committed // self.part_rows * self.part_rows
        if before.rows in (first, now.rows):
            return []
        left = {name for name, _, _ in names(now, first)}
        return [name for name, _, _ in names(before, first) if name not in left]

    def held(self, first: int, end: int) -> R | None:
        """Rows [first, end), committed or not; None if they have to be read from a file.

        They lie in one file. The same rows are often asked for more than once.
        """
        if self._shown is not None and self._shown[0] == (first, end):
            return self._shown[1]
        part = first // self.part_rows * self.part_rows
        start, rows = self._full.get(part, (part, None))
        if rows is not None and first < start:
            rows, start = self._whole(part, start, rows), part
            self._full[part] = part, rows
        if rows is None and part + self.part_rows > self.rows:
            rows, start = self._load_tail(), self._tail_start
        if rows is None or first < start:
            return None
        found = self._codec.compact(self._codec.slice(rows, first - start, end - first))
        self._shown = (first, end), found
        return found

    def last_rows(self, count: int) -> R | None:
        """The last `count` rows, committed or not (fewer if there are fewer)."""
        self._wait()
        both: R | None = None
        listing, first = self.listing(self.rows), max(0, self.rows - count)
        for rows, _ in read_rows(self.folder, listing, first, self._codec, None, self.held):
            both = rows if both is None else self._codec.join(both, rows)
        return both

    def load(self) -> None:
        """Bring the rows of the last, short file into memory."""
        self._load_tail()

    def _load_tail(self) -> R | None:
        """The rows from `_tail_start` on, among them all that are in no file yet."""
        if self._tail is None:
            start = self._tail_start = self._start_of(self.rows)
            if start < self.rows:
                name = part_name(start, self.rows)
                self._tail = read_part(self.folder / name, self._codec)
        return self._tail

    def _bytes(self, rows: R) -> bytes:
        return to_bytes(*self._codec.to_public(rows))

    def _bytes_of_piece(self, start: int, rows: R) -> bytes:
        del start
        return self._bytes(rows)

    def _full_bytes(self, start: int, first: int, rest: R) -> bytes:
        return self._bytes(self._whole(start, first, rest))

    def _kept_bytes(self, start: int, rows: R) -> bytes:
        """The same, with the columns of the file before it used again: few rows are new."""
        height, before = self._codec.height(rows), self._public  # another thread may set it
        public = None
        if before is not None and before[0] == start and before[1].height < height:
            known = before[1].height
            new = self._codec.slice(rows, known, height - known)
            public = self._codec.extend(before[1:], new)
        frame, metadata = public or self._codec.to_public(rows)
        frame = frame.rechunk()
        self._public = (start, frame, metadata)
        return to_bytes(frame, metadata)

    def _write_full(self, start: int, rows: R) -> None:
        data = self._bytes(rows)
        disk.write_whole(self._new_file(start, self._codec.height(rows)), data)

    def _new_file(self, start: int, height: int) -> Path:
        """Where a file is to be written that the commit will make part of the layer."""
        disk.make_dir(self.folder)
        name = part_name(start, start + height)
        if name not in self._new:
            self._new.append(name)
        return self.folder / (name + ".tmp")
