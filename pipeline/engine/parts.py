"""A Parquet output: immutable files of a fixed number of rows, the last one shorter.

Where files begin and end depends on row numbers alone, so any cutting of the input leaves the
same files. The last, short file is never changed: a longer one takes its place. Until the commit
new files carry the suffix `.tmp`; the commit makes them part of the layer, and only then are they
renamed and the file they replace deleted. All of that is redone on the next start if a run died
in between.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import polars as pl

from pipeline.engine import disk
from pipeline.engine.state import Parts
from pipeline.errors import StateError

SUFFIX, TEMPORARY = ".parquet", ".parquet.tmp"
_TRIES = 20

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

    def last_us(self, rows: R) -> int | None:
        """Time of the last row, microseconds; None if it carries none."""

    def newest_us(self, rows: R) -> int:
        """Largest time of any row, microseconds."""

    def runs(self, rows: R) -> Iterator[R]:
        """The same rows in pieces that a fold may add up without overflow."""

    def to_public(self, rows: R) -> tuple[pl.DataFrame, dict[str, str]]:
        """The file's columns and metadata."""

    def from_public(self, frame: pl.DataFrame, metadata: dict[str, str]) -> R:
        """The inverse of `to_public`."""


def part_name(start: int, end: int) -> str:
    """The file holding rows [start, end)."""
    return f"{start:012d}-{end:012d}{SUFFIX}"


def names(rows: int, part_rows: int, first: int = 0) -> Iterator[tuple[str, int, int]]:
    """The files that hold rows [first, rows) of a layer: name, first row, row past the last."""
    if first >= rows:
        return
    for start in range(first // part_rows * part_rows, rows, part_rows):
        end = min(start + part_rows, rows)
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
    """Committed rows [start, end) of the file that begins at `start`; see `use_listed`."""
    rows, height = use_listed(
        folder, start, end, lambda path: (read_part(path, codec, columns), _end_of(path.name))
    )
    return rows if height == end else codec.slice(rows, 0, end - start)


def use_listed(folder: Path, start: int, end: int, use: Callable[[Path], T]) -> T:
    """Use the file that holds committed rows [start, end) and begins at `start`.

    A reader may hold a state that is one commit old: then the file has its temporary name still,
    or a longer one has taken its place, which begins with the same rows.

    Raises:
        FileNotFoundError: no file holds these rows.
    """
    name = part_name(start, end)
    for suffix in ("", ".tmp"):
        with suppress(FileNotFoundError):
            return use(folder / (name + suffix))
    for _ in range(_TRIES):
        names_now = {path.name for path in folder.glob(f"{start:012d}-*")}
        for name in sorted(names_now, key=_end_of):
            if _end_of(name) < end:
                continue
            try:
                return use(folder / name)
            except FileNotFoundError:
                break
    raise FileNotFoundError(2, "committed rows are gone", str(folder / part_name(start, end)))


def _end_of(name: str) -> int:
    return int(name.partition(".")[0].partition("-")[2])


def read_rows(
    folder: Path, listing: Parts, start: int, codec: Codec[R], columns: list[str] | None
) -> Iterator[tuple[R, int]]:
    """Committed rows from `start` on, file by file, each with the row number past its end."""
    for _, low, high in names(listing.rows, listing.part_rows, start):
        rows = read_listed(folder, low, high, codec, columns)
        skip = max(0, start - low)
        yield (codec.slice(rows, skip, high - low - skip) if skip else rows), high


class PartsOutput(Generic[R]):
    """The files of one Parquet layer of one instrument."""

    def __init__(self, folder: Path, committed: Parts, codec: Codec[R]) -> None:
        self.folder = folder
        self.part_rows = committed.part_rows
        self.committed = committed.rows
        self.rows = committed.rows
        self._codec = codec
        self._tail: R | None = None
        self._new: list[str] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="parts")
        self._writing: list[Future[None]] = []

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
        for name, start, end in names(self.committed, self.part_rows):
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
        """Cut a committed file out of the longer one that has already taken its place.

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
        start = self.rows - (0 if held is None else self._codec.height(held))
        total = self._codec.height(both)
        full = total // self.part_rows * self.part_rows
        for at in range(0, full, self.part_rows):
            part = self._codec.slice(both, at, self.part_rows)
            # files that are full are written while the next rows are being computed
            self._writing.append(self._writer.submit(self._write, start + at, part))
        self._tail = self._codec.slice(both, full, total - full) if full < total else None
        self.rows += height
        return height

    @property
    def is_dirty(self) -> bool:
        """Whether there are rows behind the committed ones."""
        return self.rows > self.committed

    def write(self) -> Parts:
        """Make all rows durable under temporary names; returns what the state shall say."""
        self._wait()
        if self.is_dirty:
            tail_rows = self.rows % self.part_rows
            if tail_rows and self._tail is not None:
                self._write(self.rows - tail_rows, self._tail)
            disk.sync_dir(self.folder)
        return self.listing(self.rows)

    def _wait(self) -> None:
        for job in self._writing:
            job.result()
        self._writing.clear()

    def close(self) -> None:
        """Wait for files that are still being written; their errors no longer matter."""
        for job in self._writing:
            job.exception()
        self._writer.shutdown()

    def listing(self, rows: int) -> Parts:
        """The state's entry for a number of rows."""
        last = None
        if rows:
            start = (rows - 1) // self.part_rows * self.part_rows
            last = part_name(start, rows)
        return Parts(rows, self.part_rows, -(-rows // self.part_rows), last)

    def publish(self) -> None:
        """After the commit: give the new files their names and delete the replaced last one."""
        for name in self._new:
            disk.replace(self.folder / (name + ".tmp"), self.folder / name)
        old_tail = self.committed % self.part_rows
        if old_tail and self.rows > self.committed:
            disk.remove(self.folder / part_name(self.committed - old_tail, self.committed))
        if self._new:
            disk.sync_dir(self.folder)
        self._new.clear()
        self.committed = self.rows

    def last_rows(self, count: int) -> R | None:
        """The last `count` rows, committed or not (fewer if there are fewer)."""
        self._wait()
        if not self.rows:
            return None
        first = max(0, self.rows - count)
        found: list[R] = []
        tail_rows = self.rows % self.part_rows
        whole = self.rows - tail_rows
        for _, low, high in names(whole, self.part_rows, first):
            rows = read_listed(self.folder, low, high, self._codec)
            skip = max(0, first - low)
            found.append(self._codec.slice(rows, skip, high - low - skip))
        if tail_rows:
            held = self._load_tail()
            skip = max(0, first - whole)
            if held is not None:
                found.append(self._codec.slice(held, skip, tail_rows - skip))
        both = found[0]
        for rows in found[1:]:
            both = self._codec.join(both, rows)
        return both

    def _load_tail(self) -> R | None:
        tail_rows = self.rows % self.part_rows
        if self._tail is None and tail_rows:
            name = part_name(self.rows - tail_rows, self.rows)
            self._tail = read_part(self.folder / name, self._codec)
        return self._tail

    def _write(self, start: int, rows: R) -> None:
        disk.make_dir(self.folder)
        name = part_name(start, start + self._codec.height(rows))
        disk.write_whole(self.folder / (name + ".tmp"), to_bytes(*self._codec.to_public(rows)))
        if name not in self._new:
            self._new.append(name)
