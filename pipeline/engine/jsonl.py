"""A JSONL output.

Rows are written over whatever a dead run may have left behind the committed length, in place, so
that a reader following the file never sees a row vanish or come twice.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.engine import disk
from pipeline.engine.disk import Unsynced
from pipeline.errors import StateError


class JsonlOutput:
    """One growing file with a committed length."""

    def __init__(self, path: Path, committed: int) -> None:
        self.path = path
        self.length = committed
        self._pending: list[bytes] = []

    def check(self) -> None:
        """Refuse to go on behind rows that are no longer there.

        Raises:
            StateError: the file is shorter than what was committed.
        """
        if not self.length:
            return
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size < self.length:
            message = f"{self.path}: {size} bytes, but {self.length} are committed"
            raise StateError(message)

    def append(self, rows: bytes) -> None:
        """Take rows (whole lines) to be written at the next commit."""
        if rows:
            self._pending.append(rows)

    @property
    def is_dirty(self) -> bool:
        """Whether rows wait to be written."""
        return bool(self._pending)

    @property
    def end(self) -> int:
        """The length once the pending rows are written."""
        return self.length + sum(map(len, self._pending))

    def read(self, start: int, end: int) -> bytes:
        """Bytes of rows, committed or not."""
        if start >= self.length:
            return b"".join(self._pending)[start - self.length : end - self.length]
        with self.path.open("rb") as stream:
            stream.seek(start)
            data = stream.read(min(end, self.length) - start)
        is_whole = start + len(data) == self.length
        return data + self.read(self.length, end) if is_whole and end > self.length else data

    def write(self, unsynced: Unsynced) -> int:
        """Write the pending rows behind the committed ones; returns the new length."""
        if self._pending:
            if not self.length:
                disk.make_dir(self.path.parent)
                unsynced.folder(self.path.parent)
            data = b"".join(self._pending)
            unsynced.write(self.path, self.length, data)
            self.length += len(data)
            self._pending.clear()
        return self.length
